"""docs/iam/watcher.json is enough to watch with, no more than is needed, and lets nobody change anything."""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ec2lab.api.policies import Question, allowed, as_list, statements

from runbook_lib.aws import packs, session_manager
from runbook_lib.aws.lock import Lock, holder
from runbook_lib.aws.s3 import staging
from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.errors import CloudError, HostError
from runbook_lib.launch import instance_profile
from runbook_lib.launch.cloud import Cloud
from runbook_lib.spec.loader import load_spec
from tests.conftest import ROOT
from tests.support.existing_network import Account
from tests.support.iam_user import EVERYTHING, recorded, user_with, words_of
from tests.support.sessions import data_channels

pytest_plugins = ["tests.support.aws_endpoint", "tests.support.aws_account"]
POLICY: dict[str, Any] = json.loads((ROOT / "docs/iam/watcher.json").read_text())
OPERATOR = {"cloud.operator_cidr": "198.51.100.7/32"}
AGENT = {"url": "https://agents.example.com/agent.deb", "sha256": "AB" * 32}
READS = ("Get", "List", "Describe", "Decrypt", "Head")
SESSIONS = ("ssm:StartSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel")  # a way in, as SSH is


def clouds(config: Path, name: str, key: str, network: Account) -> Iterator[Cloud]:
    """Three deployments: one as ever, one in a network that was there before, one by Session Manager with a key of the account's own."""
    settings = {"deployment": name, "cloud.aws_config": str(config), **OPERATOR, "cloud.termination_protection": True}
    yield Cloud(load_spec(ROOT / "params/greg-separated.lab.yaml", settings))
    yield Cloud(load_spec(ROOT / "params/greg-single.lab.yaml", {"deployment": f"{name}-3", "cloud.aws_config": str(config), **network.parameters}))
    yield by_sessions(config, f"{name}-2", key)


def by_sessions(config: Path, name: str, key: str | None) -> Cloud:
    settings = {"deployment": name, "cloud.aws_config": str(config), **OPERATOR, "cloud.network": "10.213.9.0/24"}
    sessions = {"cloud.connect_via": "session-manager", "cloud.ssm_agent": AGENT, "cloud.kms_key": key}
    return Cloud(load_spec(ROOT / "params/greg-single.lab.yaml", settings | sessions))


@contextmanager
def online() -> Iterator[None]:
    """Every agent is online: moto has none, nor this question."""
    asked = instance_profile.states

    def states(inventory: Any) -> dict[str, str]:
        with suppress(CloudError):
            asked(inventory)
        return dict.fromkeys(inventory.here, "Online")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_profile, "states", states)
        yield


def look(config: Path, name: str, key: str, network: Account, pack: str) -> None:
    """What a pass asks the cloud for."""
    for cloud in clouds(config, name, key, network):
        cloud.refuse_other_pattern()
        assert holder(cloud.vault) is None
        assert not cloud.plan(), str(cloud.plan())
        checks = cloud.verify()
        assert checks.ok, str(checks)
        assert cloud.host_keys("db-1") and cloud.vault.read_all()
        assert BackupStore(cloud.aws, cloud.spec.deployment).begun() is None
        for url in ("s3://runbook-packs/pack.zip", pack):
            staging.stage(packs.fetch(url, None, cloud.aws), cloud.aws, cloud.spec.deployment)
    assert by_sessions(config, f"{name}-lost", None).plan().of("machine", "instance profile"), "what is gone is drift, as well as what is changed"
    with data_channels(), pytest.raises(HostError):  # admitted, to an end without an agent
        session_manager.connect(cloud.aws, "db-1", cloud.instance("db-1").dial, 22, 1)


NUMBERS = itertools.count()


class Standing:
    """Deployments that stand, and what a look at them asks of the policies."""

    def __init__(self, account: Any, endpoint: str, folder: Path):
        self.name = f"watched-{next(NUMBERS)}"  # the account keeps what an earlier one of this process made
        self.key, everything = f"alias/{self.name}", user_with(EVERYTHING, endpoint, folder)
        self.network = Account(account["ec2"])
        account["kms"].create_alias(AliasName=self.key, TargetKeyId=account["kms"].create_key()["KeyMetadata"]["KeyId"])
        path = folder / "watched.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x", "x")
        self.pack = f"file://{path}"
        with online():
            for cloud in clouds(everything, self.name, self.key, self.network):
                cloud.apply()
                staging.stage(packs.fetch(self.pack, None, cloud.aws), cloud.aws, cloud.spec.deployment)
            with recorded() as questions:
                look(everything, self.name, self.key, self.network, self.pack)
        self.asked = list({str(question): question for question in questions}.values())


@pytest.fixture(scope="module")
def standing(account: Any, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    folder = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield Standing(account, endpoint, folder)


def test_a_pass_asks_for_nothing_that_the_policy_lacks_and_changes_nothing(standing: Standing) -> None:
    assert not sorted({str(each) for each in standing.asked if not allowed([POLICY], each)}), "docs/iam/watcher.json lacks these"
    verbs = {each.action for each in standing.asked} - {*SESSIONS}
    assert verbs and not [verb for verb in verbs if not verb.partition(":")[2].startswith(READS)]


@pytest.mark.parametrize("less", [pytest.param(less, id=word) for word, less in words_of(POLICY)])
def test_a_pass_needs_every_word_of_the_policy(standing: Standing, less: dict[str, Any]) -> None:
    assert any(not allowed([less], question) for question in standing.asked), "a pass succeeds without it: take it out"


def test_a_user_with_this_policy_sees_all_and_can_change_nothing(standing: Standing, endpoint: str, tmp_path: Path) -> None:
    config = user_with(POLICY, endpoint, tmp_path)
    with online():
        look(config, standing.name, standing.key, standing.network, standing.pack)
    cloud = next(clouds(config, standing.name, standing.key, standing.network))
    refused = [
        lambda: Lock(cloud.vault, "a watcher").__enter__(),
        lambda: cloud.tag("db-1", "runbook:role", "store"),
        lambda: cloud.stop("db-1"),
        lambda: cloud.vault.delete("ca-key"),
        lambda: staging.unstage(cloud.aws, standing.name),
    ]
    for change in refused:
        with pytest.raises(CloudError, match=r"UnauthorizedOperation|AccessDenied|may not do this"):
            change()


def test_every_action_of_the_policy_reads_or_leads_in() -> None:
    actions = {action for statement in statements(POLICY) for action in as_list(statement["Action"])} - {*SESSIONS}
    assert not [action for action in actions if not action.partition(":")[2].startswith(READS)]
    assert not allowed([POLICY], Question("ssm:GetParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/others/password"))
