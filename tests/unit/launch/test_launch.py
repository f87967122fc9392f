"""Chapter 01 against an EC2 endpoint in this process: plan, apply, again, drift, kills, refusals; and the tear-down."""

from __future__ import annotations

import base64
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from runbook_lib import pki
from runbook_lib.aws import host_keys
from runbook_lib.aws.client import Aws
from runbook_lib.errors import CloudError, HostError, PlanOvertaken
from runbook_lib.launch import elastic_ips, groups, inventory, key_pair, machines, network, routes, secrets, teardown
from runbook_lib.launch import host_keys as pinning
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.instances import launching, power
from runbook_lib.launch.inventory import Instance, by_tag, tags_of
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.ssh import Address, Fleet, Host

pytest_plugins = ["tests.support.aws_endpoint"]
OPERATOR = "10.213.0.1/32"


@pytest.fixture(scope="module")
def launched(aws_config: Path, machines: None) -> Cloud:
    """greg-single, launched once for this file."""
    settings = {"deployment": "shared", "cloud.aws_config": str(aws_config), "cloud.operator_cidr": OPERATOR}
    cloud = Cloud(load_spec("params/greg-single.lab.yaml", settings))
    cloud.apply()
    return cloud


@pytest.fixture
def cloud(launched: Cloud) -> Cloud:
    """The launched deployment as designed: drift that a test left is repaired, which is what the library is for."""
    mine = again(launched)
    if mine.plan():
        mine.apply()
    return mine


@pytest.fixture
def other(launched: Cloud) -> Callable[[dict[str, Any]], Cloud]:
    """The launched deployment with other parameters."""

    def make(overrides: dict[str, Any]) -> Cloud:
        config = launched.spec.cloud.aws_config
        settings = {"deployment": "shared", "cloud.aws_config": config, "cloud.operator_cidr": OPERATOR}
        pattern = overrides.get("pattern", "greg-single")
        return Cloud(load_spec(f"params/{pattern}.lab.yaml", settings | overrides))

    return make


def ec2(cloud: Cloud) -> Any:
    return cloud.aws.client("ec2")


def raw(cloud: Cloud, node: str) -> dict[str, Any]:
    """A machine as EC2 itself describes it."""
    answer = ec2(cloud).describe_instances(InstanceIds=[cloud.instance(node).id])
    return dict(answer["Reservations"][0]["Instances"][0])


def told(cloud: Cloud) -> list[tuple[str, str, str]]:
    return [(p.change.verb, p.stage, p.change.key.removeprefix(f"{p.stage} ")) for p in cloud.plan().pending]


def free_address(machine: Instance) -> None:
    """moto keeps the address of a machine that was terminated from being used again; EC2 does not."""
    from moto.ec2.models import ec2_backends

    for backend in (account["us-east-1"] for account in ec2_backends.values()):
        subnet = backend.get_subnet(backend.get_instance(machine.id).subnet_id)
        subnet.del_subnet_ip(machine.address)


def again(cloud: Cloud) -> Cloud:
    """The same deployment seen by another process."""
    return Cloud(cloud.spec)


def open_door(cloud: Cloud, node: str, **source: Any) -> None:
    [group] = cloud.instance(node).groups
    door = {"IpProtocol": "tcp", "FromPort": 9763, "ToPort": 9763, **source}
    ec2(cloud).authorize_security_group_ingress(GroupId=group, IpPermissions=[door])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_launch_makes_what_the_plan_said_and_the_second_time_nothing(make_cloud: Callable[..., Cloud], pattern: str) -> None:
    cloud = make_cloud(pattern)
    plan = cloud.plan()
    assert plan and plan.exit_code == 2
    assert {p.change.verb for p in plan.pending} == {"create"}
    assert [p.host for p in plan.of("machine")] == [node.name for node in cloud.topology.nodes]
    assert not cloud.describe(), "a plan changes nothing"
    result = cloud.apply(plan)
    assert result.changed == plan.pending
    assert not again(cloud).plan() and again(cloud).plan().exit_code == 0
    assert not again(cloud).apply().changed
    checks = again(cloud).verify()
    assert checks.ok, str(checks)


def test_machines_are_as_designed(cloud: Cloud) -> None:
    machine, node = raw(cloud, "greg-1"), cloud.topology.node("greg-1")
    assert machine["PrivateIpAddress"] == node.address and machine["InstanceType"] == node.instance_type
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    assert machine["KeyName"] == "runbook-shared"
    assert "IamInstanceProfile" not in machine  # a machine has no rights in the account
    [volume] = ec2(cloud).describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [machine["InstanceId"]]}])["Volumes"]
    assert (volume["Encrypted"], volume["VolumeType"], volume["Size"]) == (True, "gp3", 20)
    expected = {
        "Name": "shared/greg-1",
        "runbook:deployment": "shared",
        "runbook:role": "greg",
        "runbook:node": "greg-1",
        "runbook:image": "debian-12",
    }
    assert tags_of(machine) == expected
    assert tags_of(volume) == expected
    assert tags_of(raw(cloud, "lb-1"))["runbook:hosts"] == "store.lab.test publisher.lab.test"


def test_user_data_holds_no_secret(cloud: Cloud) -> None:
    answer = ec2(cloud).describe_instance_attribute(InstanceId=cloud.instance("greg-1").id, Attribute="userData")
    text = base64.b64decode(answer["UserData"]["Value"]).decode()
    assert text.startswith("#cloud-config") and "hostname: greg-1" in text
    assert not [name for name, value in cloud.vault.read_all().items() if value in text]


@pytest.mark.parametrize(
    "node, does",
    [
        ("greg-1", "--no-install-recommends install default-jre-headless libmariadb-java"),
        ("lb-1", "--no-install-recommends --download-only install nginx"),  # it would listen with the distribution's settings
        ("db-1", "--no-install-recommends --download-only install default-mysql-server"),
    ],
)
def test_user_data_installs_a_wso2_node_s_packages_beside_the_first_boot_and_downloads_a_server_s_only(cloud: Cloud, node: str, does: str) -> None:
    """In a unit of their own: cloud-init prints the host keys after its commands, and chapter 01 waits for these."""
    text = launching.user_data(cloud.inventory(), node)
    assert len(text) < 16_384, "EC2 takes no more"
    [[shell, _, step]] = yaml.safe_load(text)["runcmd"]
    assert shell == "sh" and "systemd-run --collect --unit=runbook-packages" in step and "--setenv=NEEDRESTART_MODE=l" in step
    inner = shlex.split(step)[-1]
    assert does in inner
    for script in (step, inner):
        assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


@pytest.mark.parametrize("update", [0, 100], ids=["all lists", "a repository that is gone"])
@pytest.mark.parametrize(
    ("fails", "asked"), [(0, ["install"]), (1, ["install", "update", "install"]), (2, ["install", "update", "install", "update", "install"])]
)
def test_user_data_tries_again_where_lists_are_missing_or_locks_are_held(cloud: Cloud, tmp_path: Path, fails: int, asked: list[str], update: int) -> None:
    [[_, _, step]] = yaml.safe_load(launching.user_data(cloud.inventory(), "greg-1"))["runcmd"]
    programs = {
        "apt-get": f'case "$*" in *install*) echo install;; *) echo update;; esac >> {tmp_path}/asked; case "$*" in *install*) '
        f"[ $(grep -c install {tmp_path}/asked) -gt {fails} ];; *) exit {update};; esac",
        "systemd-run": 'while [ "${1#--}" != "$1" ]; do shift; done; "$@"',
        "dpkg-query": "exit 1",
        "sleep": ":",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    subprocess.run(["sh", "-c", step], env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True, timeout=60)
    assert (tmp_path / "asked").read_text().split() == asked


def test_the_nat_gateway_becomes_available_while_everything_is_made_that_needs_no_way_out(
    aws_config: Path, machines: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a minute or two on AWS. Machines need it: what they install at launch comes through it."""
    steps = {(routes, "_make_gateway"), (secrets, "apply"), (groups, "apply"), (routes, "_await_gateway"), (launching, "_run_instance")}
    order: list[str] = []

    def spied(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def spy(*given: Any) -> Any:
            order.append(f"{module.__name__.rpartition('.')[2]}.{name}")
            return real(*given)

        monkeypatch.setattr(module, name, spy)

    for step in steps:
        spied(*step)
    mine = Cloud(load_spec("params/greg-single.lab.yaml", {"deployment": "way-out", "cloud.aws_config": str(aws_config), "cloud.operator_cidr": OPERATOR}))
    mine.apply()
    assert [step for number, step in enumerate(order) if step not in order[:number]] == [
        "routes._make_gateway",
        "groups.apply",
        "secrets.apply",
        "routes._await_gateway",
        "launching._run_instance",
    ]
    assert teardown.destroy(mine).ok


def test_ssh_is_open_to_the_operator_only(cloud: Cloud) -> None:
    for group in ec2(cloud).describe_security_groups(Filters=[{"Name": "tag:runbook:deployment", "Values": ["shared"]}])["SecurityGroups"]:
        ranges = [r["CidrIp"] for p in group["IpPermissions"] if p["FromPort"] == 22 for r in p["IpRanges"]]
        assert ranges == [OPERATOR]


def test_everything_made_carries_the_deployments_tag(cloud: Cloud) -> None:
    kinds = (
        ("describe_vpcs", "Vpcs"),
        ("describe_subnets", "Subnets"),
        ("describe_key_pairs", "KeyPairs"),
        ("describe_volumes", "Volumes"),
    )
    for call, key in kinds:
        tagged = getattr(ec2(cloud), call)(Filters=[{"Name": "tag:runbook:deployment", "Values": ["shared"]}])[key]
        assert tagged, call


def test_two_deployments_do_not_see_each_other(make_cloud: Callable[..., Cloud]) -> None:
    first, second = make_cloud(), make_cloud(overrides={"deployment": "second"})
    first.apply()
    assert second.describe() == {}
    second.apply()
    teardown.destroy(first)
    assert not second.plan() and first.plan()


SOURCES = (
    {"IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
    {"Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
    {"IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "just for today"}]},
)


@pytest.mark.parametrize("source", SOURCES)
def test_a_door_that_somebody_opened_is_shown_and_closed(cloud: Cloud, source: dict[str, Any]) -> None:
    open_door(cloud, "greg-1", **source)
    assert told(cloud) == [("delete", "rule", "greg")]
    assert "9763" in str(cloud.plan())
    assert "launch-groups" in [check.id for check in cloud.verify().failed()]
    cloud.apply()
    assert not cloud.plan() and cloud.verify().ok


def test_a_door_opened_to_another_group_is_named_by_its_role_and_closed(cloud: Cloud) -> None:
    [group] = cloud.instance("db-1").groups
    open_door(cloud, "greg-1", UserIdGroupPairs=[{"GroupId": group, "Description": "why not"}])
    [found] = cloud.plan().pending
    assert "9763 from db" in found.change.summary
    cloud.apply()
    assert not cloud.plan()


def test_a_door_that_somebody_closed_is_opened_again(cloud: Cloud) -> None:
    [group] = cloud.instance("lb-1").groups
    rule = {
        "IpProtocol": "tcp",
        "FromPort": 443,
        "ToPort": 443,
        "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "visitors"}],
    }
    ec2(cloud).revoke_security_group_ingress(GroupId=group, IpPermissions=[rule])
    assert told(cloud) == [("create", "rule", "lb")]
    cloud.apply()
    assert not cloud.plan()


def test_a_way_out_that_was_closed_is_shown_and_opened(cloud: Cloud) -> None:
    [group] = cloud.instance("lb-1").groups
    [found] = ec2(cloud).describe_security_groups(GroupIds=[group])["SecurityGroups"]
    ec2(cloud).revoke_security_group_egress(GroupId=group, IpPermissions=found["IpPermissionsEgress"])
    assert told(cloud) == [("create", "rule", "lb")]
    cloud.apply()
    assert not cloud.plan()


def test_an_operator_who_moved_gets_in_and_the_old_address_does_not(cloud: Cloud, other: Callable[..., Cloud]) -> None:
    moved = other({"cloud.operator_cidr": "198.51.100.7/32"})
    assert sorted(told(moved)) == sorted([(action, "rule", role) for role in ("lb", "db", "greg") for action in ("create", "delete")])
    moved.apply()
    assert not moved.plan() and cloud.plan()


@pytest.mark.parametrize("order", ["stop", "power_cut"])
def test_a_stopped_machine_is_started(cloud: Cloud, order: str) -> None:
    getattr(cloud, order)("greg-1")
    assert told(cloud) == [("start", "machine", "greg-1")]
    assert not cloud.verify().ok
    cloud.apply()
    assert cloud.describe()["greg-1"].running and not cloud.plan()


def test_a_machine_that_stops_again_while_it_boots_is_named_at_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory, states = cloud.observe(), iter(["pending", "stopped"])
    real = machines.instances_of

    def shown(aws: Aws, deployment: str) -> list[Instance]:
        state = next(states, "stopped")
        return [replace(machine, state=state) if machine.node == "greg-1" else machine for machine in real(aws, deployment)]

    for module in (machines, power):
        monkeypatch.setattr(module, "instances_of", shown)
    began = time.monotonic()
    with pytest.raises(CloudError, match="greg-1 does not run"):
        power.wait_until_running(inventory, machines.observe)
    assert time.monotonic() - began < inventory.spec.timeouts.running / 10


def test_a_machine_that_stops_while_ssh_is_awaited_is_named_at_once(cloud: Cloud) -> None:
    """A closed port of this machine stands for the SSH port of one that has stopped."""
    closed = socket.create_server(("127.0.0.1", 0))
    address = Address("greg-1", "127.0.0.1", "admin", (), closed.getsockname()[1])
    closed.close()
    waiting = Fleet({"greg-1": Host(address, pki.make_ssh_key())})
    with pytest.raises(HostError, match="waited 1 s for SSH"):
        waiting.wait_for_ssh(["greg-1"], 1, cloud.refuse_stopped)
    cloud.stop("greg-1")
    with pytest.raises(CloudError, match=r"greg-1 \(i-\w+\) is stopp(ed|ing)") as caught:
        waiting.wait_for_ssh(["greg-1"], 300, cloud.refuse_stopped)
    assert "run chapter 01" in (caught.value.next_step or "")


def test_a_terminated_machine_is_launched_anew_and_its_keys_are_read_from_its_own_console(cloud: Cloud) -> None:
    before, keys, earlier = cloud.instance("greg-1"), cloud.host_keys("greg-1"), again(cloud)
    assert earlier.host_keys("greg-1", before.id) == keys
    ec2(cloud).terminate_instances(InstanceIds=[before.id])
    free_address(before)
    assert told(cloud) == [("create", "machine", "greg-1")]
    with pytest.raises(CloudError, match="no machine greg-1"):
        cloud.instance("greg-1")
    cloud.apply()
    after = cloud.instance("greg-1")
    assert after.id != before.id and after.address == before.address
    assert again(cloud).host_keys("greg-1") != keys and earlier.host_keys("greg-1", after.id) == again(cloud).host_keys("greg-1")
    assert after.id[2:] in again(cloud).host_keys("greg-1")[0]


def test_a_security_group_that_somebody_deleted_is_whole_again_after_one_run(cloud: Cloud) -> None:
    """EC2 deletes no group that is in use: the machine was moved, and rules that name the group were taken away."""
    machine, [other] = cloud.instance("db-1"), cloud.instance("greg-1").groups
    [group] = machine.groups
    ec2(cloud).modify_instance_attribute(InstanceId=machine.id, Groups=[other])
    for found in ec2(cloud).describe_security_groups()["SecurityGroups"]:
        rules = [rule for rule in found["IpPermissions"] if any(pair["GroupId"] == group for pair in rule["UserIdGroupPairs"])]
        if rules:
            ec2(cloud).revoke_security_group_ingress(GroupId=found["GroupId"], IpPermissions=rules)
    ec2(cloud).delete_security_group(GroupId=group)
    mended = again(cloud)
    mended.apply(mended.plan())
    assert not again(cloud).plan() and again(cloud).verify().ok


@pytest.mark.parametrize("instead", [None, pki.make_ssh_key()], ids=["deleted", "another"])
def test_a_lost_ssh_key_is_told_before_anything_is_written(cloud: Cloud, instead: str | None) -> None:
    """A new one would lock the operator out of the machines, which know the old one only."""
    key = cloud.vault.get("ssh-private-key")
    cloud.vault.put("ssh-private-key", instead) if instead else cloud.vault.delete("ssh-private-key")
    before = cloud.vault.read_all()
    try:
        for step in (again(cloud).plan, again(cloud).apply):
            with pytest.raises(CloudError, match=r"greg-1.* would refuse any other") as caught:
                step()
        assert "deployment.launch.new_ssh_key(confirm=" in (caught.value.next_step or "") and again(cloud).vault.read_all() == before
    finally:
        cloud.vault.put("ssh-private-key", key)
    assert not again(cloud).plan()


@pytest.mark.parametrize("text", ["ssh-ed25519 AAAA", "[]", '{"keys": []}'])
def test_something_else_in_the_place_of_pinned_host_keys_is_told(text: str) -> None:
    with pytest.raises(CloudError, match="not host keys as the runbook pins them") as caught:
        host_keys.Pinned.read(text)
    assert "delete that parameter" in (caught.value.next_step or "")


def test_keys_pinned_for_another_machine_are_never_used_silently(cloud: Cloud) -> None:
    cloud.vault.put("host-keys/greg-1", host_keys.Pinned("i-00000000", ("ssh-ed25519 AAAAold",)).text(), secure=False)
    assert told(cloud) == [("replace", "host keys", "greg-1")]
    assert [check.id for check in cloud.verify().failed()] == ["launch-host-keys"]
    cloud.apply()
    assert "AAAAold" not in again(cloud).host_keys("greg-1")[0] and not cloud.plan()


def test_drift_of_a_machine_is_shown_in_words_and_repaired(cloud: Cloud) -> None:
    machine = cloud.instance("greg-1")
    ec2(cloud).create_tags(Resources=[machine.id], Tags=[{"Key": "runbook:role", "Value": "db"}])
    ec2(cloud).modify_instance_metadata_options(InstanceId=machine.id, HttpTokens="optional")
    [db_group] = cloud.instance("db-1").groups
    ec2(cloud).modify_instance_attribute(InstanceId=machine.id, Groups=[*machine.groups, db_group])
    [found] = cloud.plan().pending
    assert (found.change.verb, found.host) == ("modify", "greg-1")
    assert all(words in found.change.summary for words in ("IMDSv2", "group greg", "runbook:role"))
    cloud.apply()
    assert not cloud.plan() and cloud.verify().ok


def test_another_instance_type_is_changed_in_place(cloud: Cloud, other: Callable[..., Cloud]) -> None:
    larger = other({"cloud.instance_type": {"greg": "t3.large"}})
    [found] = larger.plan().pending
    assert found.change.verb == "resize" and "t3.medium → t3.large" in found.change.summary
    before = cloud.instance("greg-1").id
    larger.apply()
    after = larger.instance("greg-1")
    assert (after.id, after.instance_type, after.running) == (before, "t3.large", True)
    assert not larger.plan()


def test_types_are_changed_in_the_order_that_is_asked_for_one_machine_at_a_time(make_cloud: Callable[..., Cloud]) -> None:
    cloud, larger = make_cloud("greg-separated"), make_cloud("greg-separated", {"cloud.instance_type": {"default": "t3.small", "store": "t3.large"}})
    cloud.apply()
    due, seen = [p.host for p in larger.plan().pending], []
    assert [p.change.verb for p in larger.plan().pending] == ["resize"] * len(due) and {"store-1", "store-2"} <= set(due)

    def types() -> dict[str, str]:
        return {name: machine.instance_type for name, machine in larger.describe().items()}

    def backwards(names: Sequence[str], change: Callable[[str], None]) -> None:
        for name in reversed(names):
            before = types()
            change(name)
            seen.append(name)
            assert {each for each, now in types().items() if now != before[each]} == {name}
            assert all(machine.running for machine in larger.describe().values())

    larger.apply(roll=backwards)
    assert seen == due[::-1] and not larger.plan()


def test_killed_while_a_machine_is_stopped_for_another_type_the_next_run_ends_it(cloud: Cloud, other: Callable[..., Cloud]) -> None:
    larger, machine = other({"cloud.instance_type": {"greg": "t3.large"}}), cloud.instance("greg-1")
    cloud.stop("greg-1")
    assert [p.change.verb for p in larger.plan().pending] == ["resize", "start"]
    larger.apply()
    assert larger.instance("greg-1").id == machine.id and larger.instance("greg-1").running and not larger.plan()


def test_a_type_of_which_ec2_has_no_room_is_taken_back_before_the_machine_starts(
    cloud: Cloud, other: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, started = cloud.instance("greg-1"), []
    cloud.stop("greg-1")
    ec2(cloud).modify_instance_attribute(InstanceId=before.id, InstanceType={"Value": "t3.large"})  # what a resize left whose start was refused
    back = again(cloud)
    start = ec2(back).start_instances
    monkeypatch.setattr(
        back.aws.client("ec2"), "start_instances", lambda **asked: started.append(again(cloud).instance("greg-1").instance_type) or start(**asked)
    )
    back.apply()
    assert started == [before.instance_type] and back.instance("greg-1").running and not back.plan()


def test_nodes_are_added_and_taken_away(make_cloud: Callable[..., Cloud]) -> None:
    small, large = make_cloud("greg-separated"), make_cloud("greg-separated", {"nodes.store": 3})
    small.apply()
    assert told(large) == [("create", "machine", "store-3")]
    large.apply()
    assert told(small) == [("delete", "machine", "store-3")]
    assert "Nginx stops sending to it, then it is terminated" in small.plan().pending[0].change.summary
    small.apply()
    assert list(small.describe()) == [node.name for node in small.topology.nodes]
    assert not small.plan() and "host-keys/store-3" not in small.vault.names()


def test_what_is_added_runs_before_what_is_surplus_ends(make_cloud: Callable[..., Cloud]) -> None:
    before, after = make_cloud("greg-separated", {"nodes.store": 3}), make_cloud("greg-separated", {"nodes.publisher": 3})
    before.apply()
    seen: list[set[str]] = []
    after.apply(before_surplus_ends=lambda: seen.append({name for name, machine in after.describe().items() if machine.running}))
    assert [names & {"store-3", "publisher-3"} for names in seen] == [{"store-3", "publisher-3"}]
    assert "store-3" not in after.describe()
    after.apply(before_surplus_ends=lambda: seen.append(set()))
    assert len(seen) == 1, "without surplus machines nobody is asked"


def test_a_second_machine_of_a_node_is_noticed_and_the_older_one_stays(cloud: Cloud) -> None:
    first, subnet = cloud.instance("greg-1"), raw(cloud, "greg-1")["SubnetId"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in first.tags.items()]}]
    ec2(cloud).run_instances(
        ImageId="ami-12345678",
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.medium",
        SubnetId=subnet,
        TagSpecifications=tags,
    )
    assert told(cloud) == [("delete", "machine", "greg-1")]
    cloud.apply()
    assert cloud.instance("greg-1").id == first.id and not cloud.plan()


def test_a_plan_that_the_world_has_overtaken_is_refused_with_the_fresh_one(cloud: Cloud) -> None:
    plan = cloud.plan()
    open_door(cloud, "greg-1", IpRanges=[{"CidrIp": "0.0.0.0/0"}])
    with pytest.raises(PlanOvertaken) as caught:
        cloud.apply(plan)
    assert "9763" in str(caught.value)
    assert told(cloud) == [("delete", "rule", "greg")], "nothing was done"
    cloud.apply(caught.value.fresh)  # type: ignore[arg-type]
    assert not cloud.plan()


OFTEN = (("before", groups, "apply_rules"), ("after", launching, "_run_instance"), ("after", pinning, "_pin"))
SELDOM = (
    ("before", network, "_make_vpc"),
    ("after", network, "_make_vpc"),
    ("after", network, "_make_gateway"),
    ("after", elastic_ips, "apply"),
    ("after", routes, "_make_gateway"),
    ("after", routes, "_make_table"),
    ("before", groups, "apply"),
    ("before", secrets, "apply"),
    ("before", key_pair, "apply"),
    ("before", machines, "launch_absent"),
    ("after", machines, "launch_absent"),
)
MOMENTS = (*OFTEN, *(pytest.param(*moment, marks=pytest.mark.full) for moment in SELDOM))


class Killed(BaseException):
    """What kill -9 is to the code: nothing below gets to act on it."""


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "kind", "step"), MOMENTS)
def test_killed_at_any_step_the_next_run_finishes(
    make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch, kind: ModuleType, step: str, moment: str
) -> None:
    cloud = make_cloud()
    original = getattr(kind, step)

    def dies(*args: Any) -> None:
        if moment == "after":
            original(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(kind, step, dies)
        with pytest.raises(Killed):
            cloud.apply()
    again(cloud).apply()
    assert not again(cloud).plan()
    checks = again(cloud).verify()
    assert checks.ok, str(checks)
    found = ec2(cloud).pages("describe_instances", "Reservations", Filters=by_tag(cloud.spec.deployment))
    assert len(found) == len(cloud.topology.nodes), "no machine was launched twice"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [({"cloud.network": "10.99.0.0/24"}, "cloud.network"), ({"pattern": "greg-original"}, "pattern")],
)
def test_a_live_deployment_keeps_its_design(cloud: Cloud, other: Callable[..., Cloud], overrides: dict[str, Any], key: str) -> None:
    changed = other(overrides)
    for call in (changed.plan, changed.apply, changed.refuse_other_pattern):
        with pytest.raises(CloudError) as caught:
            call()
        assert key in caught.value.what and "destroy" in (caught.value.next_step or "")
    cloud.refuse_other_pattern()


def test_hardening_of_a_live_deployment_cannot_be_changed(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud("greg-separated")
    marks = {"runbook:deployment": cloud.spec.deployment, "runbook:hardening": "hosts"}
    tags = {"ResourceType": "vpc", "Tags": [{"Key": key, "Value": value} for key, value in marks.items()]}
    ec2(cloud).create_vpc(CidrBlock=cloud.spec.cloud.network, TagSpecifications=[tags])
    with pytest.raises(CloudError, match=r"hardening of the live deployment greg-separated-\d+ is hosts"):
        cloud.plan()


def test_a_machine_that_ends_right_after_its_launch_is_told_with_the_reason(make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = make_cloud()
    original = machines.launch_absent

    def dies(site: inventory.Inventory) -> None:
        original(site)
        site.ec2.terminate_instances(InstanceIds=[cloud.instance("greg-1").id])

    monkeypatch.setattr(machines, "launch_absent", dies)
    with pytest.raises(CloudError, match="greg-1 does not run"):
        cloud.apply()


PUBLIC = {"cloud.connect_via": "public", "cloud.operator_cidr": "198.51.100.7/32"}


def ways_out(cloud: Cloud) -> dict[str, str]:
    """Where each machine's traffic to the internet goes: `igw` or `nat`."""
    found = {}
    for node in cloud.topology.nodes:
        subnet = raw(cloud, node.name)["SubnetId"]
        [table] = ec2(cloud).describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])["RouteTables"]
        [route] = [route for route in table["Routes"] if route["DestinationCidrBlock"] == "0.0.0.0/0"]
        found[node.name] = (route.get("GatewayId") or route["NatGatewayId"])[:3]
    return found


def test_only_nginx_has_a_public_address_and_the_others_leave_through_the_nat_gateway(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(overrides=PUBLIC)
    cloud.apply()
    assert not again(cloud).plan() and again(cloud).verify().ok
    assert ways_out(cloud) == {"lb-1": "igw", "db-1": "nat", "greg-1": "nat"}
    machines = cloud.describe()
    assert {name for name, machine in machines.items() if machine.public_address} == {"lb-1"}
    assert machines["lb-1"].dial == machines["lb-1"].public_address
    assert machines["db-1"].dial == machines["db-1"].address
    assert teardown.destroy(cloud).ok


def test_in_a_private_network_nothing_has_a_public_address_and_everything_has_a_way_out(cloud: Cloud) -> None:
    assert ways_out(cloud) == dict.fromkeys(("lb-1", "db-1", "greg-1"), "nat")
    assert not [machine for machine in cloud.describe().values() if machine.public_address]


def test_a_live_deployment_goes_from_private_to_public_and_back_as_the_plan_says_without_losing_a_machine(make_cloud: Callable[..., Cloud]) -> None:
    private, public = make_cloud(), make_cloud(overrides=PUBLIC)
    private.apply()
    before = {name: machine.id for name, machine in private.describe().items()}
    plan = public.plan()
    assert {(verb, kind, key) for verb, kind, key in told(public) if kind != "rule"} == {
        ("create", "Elastic IP", "lb-1"),
        ("modify", "network", "routes of nginx"),
    }
    assert [p.change.key for p in plan.of("rule")], "the rules of SSH too"
    assert plan.pending == public.apply(plan).changed
    assert not again(public).plan() and again(public).verify().ok
    assert ways_out(public) == {"lb-1": "igw", "db-1": "nat", "greg-1": "nat"}
    assert again(private).verify().failed(), "the check tells one from the other"
    private.apply()
    assert not again(private).plan() and again(private).verify().ok
    assert {name: machine.id for name, machine in private.describe().items()} == before
    assert not [machine for machine in private.describe().values() if machine.public_address]


def test_the_probe_of_a_public_deployment_is_reached_through_nginx_as_well(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(overrides=PUBLIC)
    cloud.apply()
    address = cloud.instance("lb-1").public_address
    probe, [nginx] = cloud.launch_probe(), cloud.instance("lb-1").groups
    [group] = ec2(cloud).describe_security_groups(GroupIds=list(probe.groups))["SecurityGroups"]
    [rule] = group["IpPermissions"]
    assert (rule["FromPort"], rule["IpRanges"], [pair["GroupId"] for pair in rule["UserIdGroupPairs"]]) == (22, [], [nginx])
    cloud.terminate_probe()
    assert cloud.instance("lb-1").public_address == address and not cloud.plan(), "the proof's helper leaves everything else alone"


def test_an_address_that_was_taken_from_nginx_comes_back(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(overrides=PUBLIC)
    cloud.apply()
    address = cloud.instance("lb-1").public_address
    ec2(cloud).disassociate_address(PublicIp=address)
    assert told(cloud) == [("modify", "Elastic IP", "lb-1")]
    assert "launch-public-addresses" in [check.id for check in cloud.verify().failed()]
    cloud.apply()
    assert cloud.instance("lb-1").public_address == address and not cloud.plan()


def test_a_public_address_of_a_machine_that_must_have_none_fails_the_check(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(overrides=PUBLIC)
    cloud.apply()
    mine = ec2(cloud).allocate_address(Domain="vpc")
    ec2(cloud).associate_address(AllocationId=mine["AllocationId"], InstanceId=cloud.instance("db-1").id)
    [failed] = cloud.verify().failed()
    assert failed.id == "launch-public-addresses" and f"db-1: {mine['PublicIp']}, not none" in failed.observed


def test_a_route_that_somebody_changed_is_shown_and_set_back(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    cloud.apply()
    [table] = ec2(cloud).describe_route_tables(Filters=[*by_tag(cloud.spec.deployment), {"Name": "tag:runbook:routes", "Values": ["private"]}])["RouteTables"]
    ec2(cloud).delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
    assert told(cloud) == [("modify", "network", "route table private")]
    assert "launch-way-out" in [check.id for check in cloud.verify().failed()]
    cloud.apply()
    assert not cloud.plan() and cloud.verify().ok


def test_the_probe_comes_and_goes_and_nothing_trusts_it(cloud: Cloud) -> None:
    open_door(cloud, "greg-1", IpRanges=[{"CidrIp": "0.0.0.0/0"}])
    probe = cloud.launch_probe()
    assert probe.address == cloud.topology.db.address.rpartition(".")[0] + ".90" and cloud.host_keys("probe-1")
    assert ("delete", "rule", "greg") in told(cloud), "the proof's helper does not repair what the proof is to find"
    assert cloud.launch_probe().id == probe.id
    cloud.terminate_probe()
    cloud.terminate_probe()
    assert told(cloud) == [("delete", "rule", "greg")]
    assert "host-keys/probe-1" not in cloud.vault.names()


def test_a_proof_of_what_is_not_launched_builds_nothing(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    before = told(cloud)
    with pytest.raises(CloudError, match="lacks what chapter 01 makes: network VPC"):
        cloud.launch_probe()
    assert told(again(cloud)) == before and not again(cloud).vault.names()


def test_a_tag_is_written_and_read(cloud: Cloud) -> None:
    cloud.tag("greg-1", "runbook:first-boot", "2026-01-01T00:00:00Z")
    assert again(cloud).describe()["greg-1"].tags["runbook:first-boot"] == "2026-01-01T00:00:00Z"
    assert not cloud.plan()


def test_who_works_here_names_identity_user_and_machine(cloud: Cloud) -> None:
    assert "arn:aws:sts" in cloud.identity() and "@" in cloud.identity()


def test_progress_is_told_per_machine(make_cloud: Callable[..., Cloud]) -> None:
    steps: list[Any] = []
    make_cloud().apply(progress=steps.append)
    of_node = [step for step in steps if step.host == "greg-1"]
    assert [step.done for step in of_node] == [1, 2, 3] and {step.of for step in of_node} == {3}


def test_the_plan_reads_as_table_and_as_html(make_cloud: Callable[..., Cloud]) -> None:
    plan = make_cloud().plan()
    assert "machine" in str(plan) and "greg-1" in str(plan) and " create" in plan.summary()
    assert "<table" in plan._repr_html_()


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["greg-separated", "as-cluster"])
def test_tear_down_leaves_nothing_and_may_be_repeated(make_cloud: Callable[..., Cloud], pattern: str) -> None:
    cloud = make_cloud(pattern)
    cloud.apply()
    left = teardown.prove_gone(cloud)
    assert {check.id for check in left if check.ok} == {"kept-backups"}, "each proof is able to fail; that of the backups in test_backup_store"
    checks = teardown.destroy(cloud)
    assert checks.ok and len(checks) == len(left)
    assert teardown.destroy(cloud).ok
    assert all(p.change.verb == "create" for p in cloud.plan().pending)


TEARDOWN_STEPS = range(1, len(teardown.STEPS))


@pytest.mark.slow
@pytest.mark.parametrize("number", TEARDOWN_STEPS)
def test_a_tear_down_that_was_cut_short_is_finished_by_the_next(make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    cloud = make_cloud()
    cloud.apply()

    def dies(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(teardown, "STEPS", (*teardown.STEPS[:number], dies))
        with pytest.raises(Killed):
            teardown.destroy(cloud)
    assert teardown.destroy(again(cloud)).ok


def test_secrets_go_last() -> None:
    assert teardown.STEPS[-1] is secrets.remove


def test_what_is_still_in_use_is_waited_for_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "SETTLE", 0.5)
    busy = CloudError("the cloud refused (DependencyViolation: in use)")
    busy.code = "DependencyViolation"
    attempts = []

    def call(**options: Any) -> None:
        attempts.append(options)
        if len(attempts) < 2:
            raise busy

    inventory.unless_gone(call, GroupId="sg-1")
    assert len(attempts) == 2

    def never(**options: Any) -> None:
        raise busy

    with pytest.raises(CloudError, match="in use"):
        inventory.unless_gone(never, GroupId="sg-1")


def test_a_deployment_that_half_exists_can_be_torn_down(make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = make_cloud()

    def dies(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(groups, "apply_rules", dies)
        with pytest.raises(Killed):
            cloud.apply()
    assert teardown.destroy(again(cloud)).ok
