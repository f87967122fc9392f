"""A deployment that is reached by Session Manager alone: chapters, hosts and tear-down with no port 22 open anywhere."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from runbook_lib.errors import CloudError, HostError
from runbook_lib.evidence import manifest, runs
from tests.support import ssm_agent
from tests.support.deployments import Deployed, in_lab, made, network, verify_evidence
from tests.support.lab_fixtures import LabClient, eventually

THIRD = 50  # of its network in the lab's range


@pytest.fixture(scope="module")
def agent(lab: LabClient, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return ssm_agent.published(lab, tmp_path_factory.mktemp("agent"))


def by_session(lab: LabClient, name: str, third: int, agent: dict[str, str], **more: Any) -> Deployed:
    settings = {"cloud__connect_via": "session-manager", "cloud__ssm_agent__url": agent["url"], "cloud__ssm_agent__sha256": agent["sha256"]}
    visitors = network(lab, 0)  # whose address no service of AWS tells in the lab
    return in_lab(lab, "greg-single", name, third, **settings, cloud__operator_cidr=visitors, **more)


@pytest.fixture(scope="module")
def deployed(lab: LabClient, agent: dict[str, str]) -> Iterator[Deployed]:
    """Launched, with its database: chapters 01 and 02, headless."""
    with made(by_session(lab, "by-session", THIRD, agent), "--to", "02") as done:
        yield done


def test_the_chapters_ran_and_their_checks_passed(deployed: Deployed) -> None:
    result = deployed.result
    assert [(chapter["name"][:2], chapter["ok"]) for chapter in result["chapters"] if chapter["changed"]] == [("01", True), ("02", True)]
    states = {check["id"]: check["status"] for check in result["checks"]}
    assert states["launch-agents-online"] == "pass" and set(states.values()) == {"pass"}


def test_no_group_lets_anybody_to_port_22_and_a_direct_connection_gets_no_answer(deployed: Deployed, lab: LabClient) -> None:
    opened = deployed.open()
    groups = lab.ec2.describe_security_groups(Filters=[{"Name": "tag:runbook:deployment", "Values": [deployed.name]}])["SecurityGroups"]
    ways = [rule for group in groups for rule in group["IpPermissions"]]
    assert ways and not [rule for rule in ways if rule["IpProtocol"] == "-1" or rule["FromPort"] <= 22 <= rule["ToPort"]]
    for machine in opened.instances().values():
        with pytest.raises(TimeoutError):
            socket.create_connection((machine.address, 22), timeout=1)
    answers = opened.fleet().each(lambda host: host.run("hostname; echo $SSH_CONNECTION").stdout.split()[:2])
    assert answers == {name: [name, "127.0.0.1"] for name in opened.instances()}
    opened.close()


@pytest.mark.full
def test_a_second_run_changes_nothing(deployed: Deployed) -> None:
    done = deployed.cli("run", "--to", "02")
    assert done.returncode == 0, done.stdout[-3000:]
    assert [chapter["changed"] for chapter in deployed.result["chapters"]] == [0] * len(deployed.result["chapters"])


def test_a_machine_that_was_restarted_is_reached_again(deployed: Deployed) -> None:
    opened = deployed.open()
    host = opened.fleet()["greg-1"]
    began = host.run("cat /proc/1/stat").stdout.split()[21]
    opened.cloud.stop("greg-1")
    eventually(lambda: opened.cloud.instance("greg-1").state == "stopped", "greg-1 stops")
    with pytest.raises(HostError, match="greg-1"):
        host.run("true")
    opened.cloud.start("greg-1")
    eventually(lambda: opened.cloud.instance("greg-1").running, "greg-1 runs")
    opened.fleet().wait_for_ssh(["greg-1"], 120)
    assert opened.fleet()["greg-1"].run("cat /proc/1/stat").stdout.split()[21] != began
    opened.close()


def test_the_tear_down_is_signed_and_leaves_neither_profile_nor_role(deployed: Deployed, lab: LabClient) -> None:
    signed = json.loads((deployed.latest / "manifest.json").read_text())["signed_by"]
    done = deployed.cli("destroy", "--yes")
    assert done.returncode == 0, done.stdout[-3000:]
    assert any(entry["verb"] == "destroy" for entry in runs.read(deployed.latest))
    found = manifest.verify(deployed.latest)
    assert found.problems == () and found.public_key == signed
    asked = verify_evidence(deployed.latest, deployed)
    assert asked.returncode == 0 and "there is no such key, as after a teardown" in asked.stdout
    iam = lab.boto3_client("iam")
    assert not [role["RoleName"] for role in iam.list_roles()["Roles"] if deployed.name in role["RoleName"]]
    assert not [one for one in iam.list_instance_profiles()["InstanceProfiles"] if deployed.name in one["InstanceProfileName"]]


@pytest.mark.full
def test_an_agent_that_is_not_the_one_of_the_checksum_is_not_installed_and_the_launch_says_what_is_missing(lab: LabClient, agent: dict[str, str]) -> None:
    wrong = by_session(lab, "no-agent", THIRD + 1, {**agent, "sha256": "0" * 64}, timeouts__agent=15)
    opened = wrong.open()
    try:
        with pytest.raises(CloudError, match=r"timeouts\.agent.*db-1 .*not registered") as told:
            opened.launch.apply(opened.launch.plan())
        assert "cloud.ssm_agent" in (told.value.next_step or "")
    finally:
        opened.close()
        assert wrong.cli("destroy", "--yes").returncode == 0
