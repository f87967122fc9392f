"""Before anything is changed a chapter says whose deployment this is, whether it is a rehearsal, and which chapter it lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.chapters.base import announced, banner
from runbook_lib.chapters.deployment import Deployment, open_deployment
from runbook_lib.chapters.status_board import proofs_of, store_applied, store_verification
from runbook_lib.launch.cloud import Cloud

pytest_plugins = ["tests.support.aws_endpoint"]


@pytest.fixture
def deployment(make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deployment:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    return open_deployment(make_cloud().spec)


def test_the_banner_tells_a_rehearsal_from_production(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    name, endpoint = deployment.spec.deployment, deployment.cloud.aws.endpoint
    assert banner(deployment).text == f"REHEARSAL: {name} (greg-single) at {endpoint}"
    monkeypatch.setitem(deployment.cloud.aws.settings, "endpoint_url", None)
    assert banner(deployment).text == f"PRODUCTION: {name} (greg-single) at AWS us-east-1"
    assert "rb-production" in banner(deployment).markup


def test_a_chapter_names_the_first_chapter_before_it_that_is_not_verified(deployment: Deployment) -> None:
    def said() -> list[str]:
        return [notice.text for notice in deployment.greg.lacking()]

    assert deployment.launch.lacking() == []
    assert said()[0].startswith("△ chapter 01_launch_ec2 is not verified (○ to do): run it first")
    store_verification(deployment, "01_launch_ec2", True)
    store_verification(deployment, "02_install_mysql", False)
    assert said()[0].startswith("△ chapter 02_install_mysql is not verified (✘ failed 20")
    store_verification(deployment, "02_install_mysql", True)
    assert said() == []


def test_a_change_after_the_proof_makes_it_a_proof_of_another_system(deployment: Deployment) -> None:
    def proof() -> str:
        return str(proofs_of(deployment)["07_verify_sso_separation"].state)

    store_applied(deployment, "05_configure_nginx")
    assert "07_verify_sso_separation" not in proofs_of(deployment), "there is no proof yet"
    store_verification(deployment, "05_configure_nginx", True)
    store_verification(deployment, "07_verify_sso_separation", True)
    assert proof() == "✔ verified"
    store_applied(deployment, "05_configure_nginx")
    store_verification(deployment, "05_configure_nginx", True)
    assert proof() == "△ changed since" and not proofs_of(deployment)["07_verify_sso_separation"].ok
    store_verification(deployment, "07_verify_sso_separation", True)
    assert proof() == "✔ verified", "until it is proven again"


def test_the_top_of_a_chapter_and_its_apply_say_so(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    deployment.vault.put("ssh-private-key", "none")
    with announced():  # by a verb that is made of others, such as a drill
        deployment.greg.announce()
    assert capsys.readouterr().out == ""
    deployment.greg.announce()
    first, second, *rest = str(deployment.greg).splitlines()
    assert capsys.readouterr().out.splitlines() == [first, second]
    assert first.startswith("REHEARSAL: ") and second.startswith("△ chapter 01_launch_ec2 is not verified") and rest
    shown = deployment.greg._repr_mimebundle_()["text/html"]
    assert shown.index("rb-banner") < shown.index("rb-notice") < shown.index("rb-picture")
