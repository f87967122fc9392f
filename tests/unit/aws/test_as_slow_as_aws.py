"""What AWS refuses while it is not done with an earlier change, by the lab's rules, and what the library makes of it: it waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ec2lab.api import pace as lab_pace
from ec2lab.api import patches, server
from ec2lab.api.pace import Pace
from ec2lab.api.patches import conflicts

from runbook_lib.aws import client, parameter_store
from runbook_lib.aws.lock import Lock, holder
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.aws.s3.buckets import OwnBucket
from runbook_lib.errors import CloudError
from runbook_lib.launch import instance_profile, inventory
from runbook_lib.launch.cloud import Cloud

pytest_plugins = ["tests.support.aws_endpoint"]
MakeCloud = Callable[..., Cloud]
BUCKET = "runbook-123456789012-us-east-1"
SESSIONS = {"cloud.connect_via": "session-manager", "cloud.ssm_agent": {"url": "https://agents.example.com/agent.deb", "sha256": "AB" * 32}}


@pytest.fixture(autouse=True)
def slow_endpoint(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The endpoint keeps the lab's rules from now on, on a shorter scale. Returns the refusals."""
    from moto.core.responses import BaseResponse
    from moto.ssm.responses import SimpleSystemManagerResponse

    refused: list[str] = []
    monkeypatch.setattr(lab_pace, "SETTLED", 0.8)
    monkeypatch.setitem(lab_pace.SSM_RATES, "PutParameter", (99, 99))
    for module in (client, parameter_store, inventory):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
        monkeypatch.setattr(module, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(patches, "_pace", slow := Pace())
    for owner, method, things, refusal in conflicts.TABLE:
        monkeypatch.setattr(owner, method, patches._bind(conflicts._held(things, refusal and noting(refused, refusal)), getattr(owner, method)))
    ssm_refusal = slow.ssm_refusal

    def noted(action: str) -> tuple[str, str] | None:
        found = ssm_refusal(action)
        refused.extend([found[0]] if found else [])
        return found

    monkeypatch.setattr(slow, "ssm_refusal", noted)
    monkeypatch.setattr(SimpleSystemManagerResponse, "call_action", BaseResponse.call_action)
    server._throttle_ssm(slow)
    return refused


def noting(refused: list[str], refusal: Callable[[], Exception]) -> Callable[[], Exception]:
    def made() -> Exception:
        error: Any = refusal()
        refused.append(error.code)
        return error  # type: ignore[no-any-return]

    return made


def test_values_that_are_stored_side_by_side_are_all_stored(make_cloud: MakeCloud, slow_endpoint: list[str]) -> None:
    vault = make_cloud().vault
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: vault.put(f"host-keys/store-{number}", "ssh-ed25519 x"), range(8)))
    assert len(vault.names()) == 8 and "TooManyUpdates" in slow_endpoint


def test_a_lock_is_taken_again_right_after_it_was_released(make_cloud: MakeCloud, slow_endpoint: list[str]) -> None:
    vault = make_cloud().vault
    for _ in range(2):
        with Lock(vault, "anna"):
            assert holder(vault)
    assert holder(vault) is None and "ParameterAlreadyExists" in slow_endpoint


def test_a_value_of_a_deployment_that_was_just_torn_down_is_made_again(make_cloud: MakeCloud, slow_endpoint: list[str]) -> None:
    vault = make_cloud().vault
    vault.ensure("ca.pem", lambda: "first")
    vault.delete_all()
    assert Vault(vault.ssm, vault.deployment).ensure("ca.pem", lambda: "second") == "second"
    assert "ParameterAlreadyExists" in slow_endpoint


def test_a_name_that_stays_taken_without_a_value_is_told(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = make_cloud().vault
    monkeypatch.setattr(parameter_store, "DELETED", 0.1)
    monkeypatch.setattr(lab_pace, "SETTLED", 60.0)
    with Lock(vault, "anna"):
        pass
    with pytest.raises(CloudError, match="is there, and has no value of it") as told, Lock(vault, "anna"):
        pass
    assert told.value.transient and "wait a minute" in (told.value.next_step or "")


def test_the_account_s_bucket_is_made_by_runs_that_need_it_at_once_and_after_somebody_deleted_it(make_cloud: MakeCloud, slow_endpoint: list[str]) -> None:
    cloud = make_cloud()
    s3 = cloud.aws.client("s3")
    own = [OwnBucket(make_cloud().aws) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(OwnBucket.ensure, own))
    s3.delete_bucket(Bucket=BUCKET)
    own[0].ensure()
    assert own[0].exists() and "OperationAborted" in slow_endpoint
    s3.delete_bucket(Bucket=BUCKET)


def test_the_bucket_that_another_run_made_meanwhile_is_there(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everywhere but in us-east-1 the second CreateBucket is refused."""
    clouds = [make_cloud(overrides={"cloud.region": "eu-central-1"}) for _ in range(2)]
    first, second = (OwnBucket(cloud.aws) for cloud in clouds)
    monkeypatch.setattr(second, "exists", lambda: first.ensure())
    second.ensure()
    assert first.exists()
    first.s3.delete_bucket(Bucket=first.name)


def test_an_instance_profile_goes_although_iam_sees_its_role_for_some_time(
    make_cloud: MakeCloud, slow_endpoint: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_profile, "FIRST_PAUSE", 0.05)
    site = make_cloud(overrides=SESSIONS).observe()
    instance_profile.apply(site)
    instance_profile.remove(site)
    assert not list(instance_profile._left(site)) and slow_endpoint.count("DeleteConflict") >= 2
