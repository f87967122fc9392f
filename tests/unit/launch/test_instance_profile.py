"""connect_via: session-manager at launch: the instance profile, the machines that have it, and its end."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runbook_lib.aws.client import translate
from runbook_lib.changes import Reporter
from runbook_lib.errors import CloudError
from runbook_lib.launch import instance_profile, teardown
from runbook_lib.launch.cloud import Cloud

pytest_plugins = ["tests.support.aws_endpoint"]
AGENT = {"cloud.ssm_agent": {"url": "https://agents.example.com/agent.deb", "sha256": "AB" * 32}}
SESSIONS = {"cloud.connect_via": "session-manager", **AGENT}


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What Systems Manager says of the machines' agents, by node; every other is Online. The endpoint of these tests knows none."""
    told: dict[str, str] = {}
    monkeypatch.setattr(instance_profile, "states", lambda inventory: dict.fromkeys(inventory.here, "Online") | told)
    return told


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud], agents: dict[str, str]) -> Cloud:
    return make_cloud(overrides=SESSIONS)


def told(cloud: Cloud) -> list[str]:
    return [f"{p.change.verb} {p.change.key}" for p in cloud.plan().pending]


def machines(cloud: Cloud) -> list[dict[str, Any]]:
    ids = [machine.id for machine in cloud.describe().values()]
    return [item for r in cloud.aws.client("ec2").describe_instances(InstanceIds=ids)["Reservations"] for item in r["Instances"]]


def test_a_deployment_by_session_manager_from_its_launch_to_its_end(cloud: Cloud, agents: dict[str, str]) -> None:
    iam, ec2 = cloud.aws.client("iam"), cloud.aws.client("ec2")
    name = f"runbook-{cloud.spec.deployment}-us-east-1"
    assert f"create instance profile {name}" in told(cloud)
    cloud.apply()
    assert not cloud.plan()

    made = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    assert made["Path"] == "/runbook/" and [role["RoleName"] for role in made["Roles"]] == [name]
    for tags in (iam.list_role_tags(RoleName=name)["Tags"], made["Tags"]):
        assert {"Key": "runbook:deployment", "Value": cloud.spec.deployment} in tags
    assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []
    [statement] = iam.get_role_policy(RoleName=name, PolicyName="session-manager")["PolicyDocument"]["Statement"]
    assert statement["Action"] == [
        "ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
    ]  # fmt: skip

    for machine in machines(cloud):
        assert machine["IamInstanceProfile"]["Arn"] == made["Arn"]
        data = ec2.describe_instance_attribute(InstanceId=machine["InstanceId"], Attribute="userData")["UserData"]["Value"]
        assert data
    assert {machine.dial for machine in cloud.describe().values()} == {machine["InstanceId"] for machine in machines(cloud)}
    groups = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [machines(cloud)[0]["VpcId"]]}])["SecurityGroups"]
    ports = [permission.get("FromPort") for group in groups if group["GroupName"] != "default" for permission in group["IpPermissions"]]
    assert ports and 22 not in ports

    row = next(check for check in cloud.verify() if check.id == "launch-agents-online")
    assert row.status == "pass"
    agents["db-1"] = "ConnectionLost"
    row = next(check for check in cloud.verify() if check.id == "launch-agents-online")
    assert row.status == "fail" and "db-1" in row.observed

    wider = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ssm:*", "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="session-manager", PolicyDocument=json.dumps(wider))
    assert told(cloud) == [f"modify instance profile {name}"]
    agents.clear()
    cloud.apply()
    assert not cloud.plan()

    gone = teardown.destroy(cloud)
    assert gone.ok and "gone-instance-profile" in [check.id for check in gone]
    for call, key in ((iam.get_role, "RoleName"), (iam.get_instance_profile, "InstanceProfileName")):
        with pytest.raises(CloudError) as caught:
            call(**{key: name})
        assert caught.value.code == "NoSuchEntity"


def ports(cloud: Cloud) -> set[str]:
    return {permission.ports for group in cloud.observe().groups.values() for permission in group.permissions}


def test_a_live_deployment_goes_over_to_session_manager_and_back(
    make_cloud: Callable[..., Cloud], agents: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_cloud(overrides=AGENT)
    plain.apply()
    assert "iam" not in {service for service, _ in plain.aws._clients}, "who does not use Session Manager needs no right in IAM"
    by_session = make_cloud(overrides=SESSIONS)
    planned = told(by_session)
    assert "modify machine db-1" in planned and "delete rule db" in planned and not [one for one in planned if one.startswith("replace")]
    happened = seen(by_session, monkeypatch, "not registered", "ConnectionLost")
    by_session.apply()
    assert happened[:3] == ["not registered", "ConnectionLost", "Online"] and "closes 22" in happened, "SSH closes when there is another way in"
    assert not by_session.plan() and all("IamInstanceProfile" in machine for machine in machines(plain))
    back = make_cloud(overrides=AGENT)
    assert any(one.startswith("delete instance profile") for one in told(back))
    back.apply()
    assert not back.plan() and not any("IamInstanceProfile" in machine for machine in machines(plain))
    with pytest.raises(CloudError):
        back.aws.client("iam").get_role(RoleName=f"runbook-{back.spec.deployment}-us-east-1")
    assert teardown.destroy(back).ok


def seen(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, *states: str) -> list[str]:
    """What happens from now on, in order: what Systems Manager says of all agents (`states` one after the other, then Online), and which ports close."""
    happened, left, ec2 = list[str](), list(states), cloud.aws.client("ec2").client
    revoke = ec2.revoke_security_group_ingress

    def say(inventory: Any) -> dict[str, str]:
        happened.append(left.pop(0) if left else "Online")
        return dict.fromkeys(inventory.here, happened[-1])

    def close(**options: Any) -> Any:
        happened.extend(f"closes {permission['FromPort']}" for permission in options["IpPermissions"])
        return revoke(**options)

    monkeypatch.setattr(instance_profile, "states", say)
    monkeypatch.setattr(ec2, "revoke_security_group_ingress", close)
    return happened


def test_where_the_agents_do_not_come_ssh_stays_open_and_other_ways_in_close_at_once(make_cloud: Callable[..., Cloud], agents: dict[str, str]) -> None:
    plain = make_cloud(overrides=AGENT)
    plain.apply()
    [group] = plain.instance("db-1").groups
    door = {"IpProtocol": "tcp", "FromPort": 9763, "ToPort": 9763, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    plain.aws.client("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=[door])
    agents["db-1"] = "not registered"
    with pytest.raises(CloudError, match="SSM Agent of db-1") as caught:
        make_cloud(overrides={**SESSIONS, "timeouts.agent": 1}).apply()
    assert "up to an hour" in (caught.value.next_step or "") and "port 22 stays open" in (caught.value.next_step or "")
    assert "22" in ports(plain) and "9763" not in ports(plain)
    plain.apply()
    assert not plain.plan()


def test_machines_whose_agent_nobody_installed_are_to_be_replaced_first(make_cloud: Callable[..., Cloud], agents: dict[str, str]) -> None:
    make_cloud().apply()
    with pytest.raises(CloudError, match="no SSM Agent was installed at the first boot of lb-1, db-1, greg-1") as caught:
        make_cloud(overrides=SESSIONS).apply()
    assert "./runbook replace PARAMS lb-1 db-1 greg-1" in (caught.value.next_step or "")
    assert "22" in ports(make_cloud()) and not make_cloud().plan()
    make_cloud(overrides=AGENT).apply(renew=["lb-1", "db-1", "greg-1"])
    make_cloud(overrides=SESSIONS).apply()
    assert not make_cloud(overrides=SESSIONS).plan()


def test_an_agent_that_does_not_come_is_an_error_with_the_way_out(cloud: Cloud, agents: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = make_inventory(cloud, timeout=0)
    monkeypatch.setattr(instance_profile, "_offline", lambda inventory: ["db-1 (i-1): not registered"])
    with pytest.raises(CloudError, match=r"timeouts.agent.*db-1 \(i-1\): not registered") as caught:
        instance_profile.wait_online(inventory)
    assert "cloud.ssm_agent" in (caught.value.next_step or "") and "443" in (caught.value.next_step or "")


def make_inventory(cloud: Cloud, timeout: int) -> Any:
    """An inventory for the waiting alone."""
    spec = cloud.spec.model_copy(update={"timeouts": cloud.spec.timeouts.model_copy(update={"agent": timeout})})
    inventory = cloud.inventory(type(cloud.topology)(spec, cloud.topology.nodes, cloud.topology.rules))
    inventory.say = Reporter(None, "", 0)
    return inventory


NOT_YET = (
    "Value (arn:x) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN",
    'IAM Instance Profile "arn:x" has no associated IAM Roles',
)


@pytest.mark.parametrize("words", NOT_YET)
def test_a_profile_that_ec2_does_not_know_yet_is_waited_for_and_another_wrong_value_is_not(words: str) -> None:
    tries: list[dict[str, Any]] = []

    def refusal(message: str) -> CloudError:
        return translate(ClientError({"Error": {"Code": "InvalidParameterValue", "Message": message}}, "RunInstances"), "ec2:run_instances", "AWS")

    def run(**options: Any) -> str:
        tries.append(options)
        if len(tries) < 3:
            raise refusal(words)
        return "made"

    assert instance_profile.once_known(run, IamInstanceProfile={"Arn": "arn:x"}) == "made" and len(tries) == 3

    def wrong(**options: Any) -> str:
        tries.append(options)
        raise refusal("Address 10.9.9.9 is not in the subnet's range")

    with pytest.raises(CloudError, match=r"10\.9\.9\.9"):
        instance_profile.once_known(wrong, IamInstanceProfile={"Arn": "arn:x"})
    assert len(tries) == 4


def test_user_data_fetches_the_agent_and_compares_its_checksum_before_it_is_installed(cloud: Cloud) -> None:
    [command] = instance_profile.at_first_boot(cloud.inventory())
    fetch, compare, install, *_ = shlex.split(command)[-1].split(" && ")
    assert "https://agents.example.com/agent.deb" in fetch and "ab" * 32 in compare and "sha256sum" in compare and install.startswith("dpkg --install")


@pytest.mark.parametrize("fails", ["python3", "dpkg"])
def test_user_data_installs_the_agent_in_the_background_and_again_after_a_failure(cloud: Cloud, tmp_path: Path, fails: str) -> None:
    """It runs once in a machine's life; dpkg's lock may be held, and the way out may come later."""
    [command] = instance_profile.at_first_boot(cloud.inventory())
    assert command.startswith("systemd-run --collect --unit=runbook-ssm-agent sh -c ")
    asked = tmp_path / "asked"
    once = f"echo $(basename $0) >> {asked}; [ $(basename $0) != {fails} ] || [ $(grep -c {fails} {asked}) -gt 1 ]"
    programs = {"systemd-run": 'while [ "${1#--}" != "$1" ]; do shift; done; "$@"', "sha256sum": ":", "sleep": ":", "python3": once, "dpkg": once}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    subprocess.run(["sh", "-c", command], env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True, timeout=60)
    assert asked.read_text().split() == {"python3": ["python3", "python3", "dpkg"], "dpkg": ["python3", "dpkg"] * 2}[fails]
