"""What EC2 and IAM say while they are behind: of a machine that has ended and is still in the way, and of what was made a moment ago."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from ec2lab.api import pace

from runbook_lib.errors import CloudError
from runbook_lib.launch import elastic_ips, instance_profile, inventory, machines, network, routes, teardown
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.instances import described
from runbook_lib.launch.inventory import Inventory

pytest_plugins = ["tests.support.aws_endpoint"]
MakeCloud = Callable[..., Cloud]
Refusal = tuple[str, str]  # AWS's code and words
SESSIONS = {"cloud.connect_via": "session-manager", "cloud.ssm_agent": {"url": "https://agents.example.com/agent.deb", "sha256": "AB" * 32}}

HELD: Refusal = ("DependencyViolation", "resource sg-0123456789abcdef0 has a dependent object")
TAKEN: Refusal = ("InvalidIPAddress.InUse", "Address 10.213.2.20 is in use.")
SPENT: Refusal = ("IdempotentInstanceTerminated", "The client token was used for an instance that is terminated.")
OUTSIDE: Refusal = ("InvalidParameterValue", "Address 10.213.2.20 is not in the subnet's range")
OTHER_TYPE: Refusal = ("InvalidParameterValue", "LaunchPlan instance type does not match attribute value")
NOT_YOURS: Refusal = ("AuthFailure", "You do not have permission to access the specified resource.")
NO_ROLE: Refusal = ("NoSuchEntity", "The role with name runbook-x cannot be found.")
NO_PROFILE: Refusal = ("NoSuchEntity", "Instance Profile runbook-x cannot be found.")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (inventory, instance_profile, machines, teardown):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
        monkeypatch.setattr(module, "LONGEST_PAUSE", 0.01)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """`refuse(cloud, "ec2:run_instances", HELD, HELD)`: AWS answers so, one after the other, before it does it. Returns what it was asked.

    `of`: a request that lacks these options is another one.
    """

    def make(cloud: Cloud, call: str, *refusals: Refusal, **of: Any) -> list[dict[str, Any]]:
        service, _, operation = call.partition(":")
        client, asked, left = cloud.aws.client(service).client, list[dict[str, Any]](), list(refusals)
        original = getattr(client, operation)

        def answer(**options: Any) -> Any:
            if of.items() <= options.items():
                asked.append(options)
                if left:
                    code, words = left.pop(0)
                    raise ClientError({"Error": {"Code": code, "Message": words}}, operation)  # type: ignore[arg-type,typeddict-item]
            return original(**options)

        monkeypatch.setattr(client, operation, answer)
        return asked

    return make


def test_the_group_of_a_probe_is_deleted_once_the_interface_of_the_probe_is_gone(make_cloud: MakeCloud, refuse: Any) -> None:
    cloud = make_cloud()
    cloud.apply()
    probe = cloud.launch_probe()
    asked = refuse(cloud, "ec2:delete_security_group", HELD, HELD)
    cloud.terminate_probe()
    assert [each["GroupId"] for each in asked] == [*probe.groups] * 3


LAUNCHES = (
    pytest.param([TAKEN, TAKEN], [0, 0, 0], id="with the same token"),
    pytest.param([SPENT, TAKEN], [0, 1, 1], id="also with the token that replaces a spent one"),
)


@pytest.mark.parametrize(("refusals", "tokens"), LAUNCHES)
def test_an_address_that_a_machine_which_ended_still_has_is_waited_for(make_cloud: MakeCloud, refuse: Any, refusals: list[Refusal], tokens: list[int]) -> None:
    cloud = make_cloud()
    asked = refuse(cloud, "ec2:run_instances", *refusals, PrivateIpAddress=cloud.topology.db.address)
    cloud.apply()
    given = list(dict.fromkeys(each["ClientToken"] for each in asked))
    assert [given.index(each["ClientToken"]) for each in asked] == tokens and not cloud.plan()


def test_an_address_that_stays_in_use_is_told_with_what_was_waited_for_and_another_refusal_at_once(
    make_cloud: MakeCloud, refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = make_cloud()
    asked = refuse(cloud, "ec2:run_instances", OUTSIDE, PrivateIpAddress=cloud.topology.db.address)
    with pytest.raises(CloudError, match="not in the subnet's range"):
        cloud.apply()
    assert len(asked) == 1
    monkeypatch.setattr(inventory, "SETTLE", 0.1)
    refuse(cloud, "ec2:run_instances", *[TAKEN] * 99, PrivateIpAddress=cloud.topology.db.address)
    with pytest.raises(CloudError, match=r"is in use\.\); waited 0 s for what uses it to end"):
        cloud.apply()


MAKING = (("iam:put_role_policy", NO_ROLE), ("iam:add_role_to_instance_profile", NO_PROFILE), ("iam:get_role_policy", NO_ROLE))


@pytest.mark.parametrize(("call", "refusal"), MAKING)
def test_what_iam_does_not_know_yet_of_an_instance_profile_is_waited_for(
    make_cloud: MakeCloud, refuse: Any, monkeypatch: pytest.MonkeyPatch, call: str, refusal: Refusal
) -> None:
    monkeypatch.setattr(instance_profile, "states", lambda inventory: dict.fromkeys(inventory.here, "Online"))
    cloud = make_cloud(overrides=SESSIONS)
    plan = cloud.plan()
    asked = refuse(cloud, call, *[refusal] * 3)
    cloud.apply(plan)
    assert len(asked) >= 4 and not cloud.plan()


def test_a_profile_that_iam_never_shows_is_told_before_a_machine_is_launched(make_cloud: MakeCloud, refuse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_profile, "SETTLE", 0.1)
    cloud = make_cloud(overrides=SESSIONS)
    refuse(cloud, "iam:get_instance_profile", *[NO_PROFILE] * 99)
    with pytest.raises(CloudError, match="does not show it whole within 0 s; it lacks: profile, role in it"):
        cloud.apply()
    assert not cloud.describe()


def test_the_address_of_a_nat_gateway_is_released_a_moment_after_the_gateway_is_gone(make_cloud: MakeCloud, refuse: Any) -> None:
    """EC2 says "You do not have permission": no word of the credentials."""
    cloud = make_cloud()
    site = cloud.observe()
    for make in (network.choose_zone, network.apply, elastic_ips.apply, routes.begin, routes.apply):
        make(site)
    asked = refuse(cloud, "ec2:release_address", NOT_YOURS, NOT_YOURS)
    assert teardown.destroy(cloud).ok and len(asked) == 3


@pytest.mark.parametrize("looks", [0, 2])
def test_what_was_just_deleted_and_is_shown_once_more_is_not_said_to_be_left(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    cloud, shown = make_cloud(), iter(["vpc-1"] * looks)
    monkeypatch.setattr(teardown, "QUESTIONS", (("gone-network", "VPC", lambda inventory: [*filter(None, [next(shown, "")])]),))
    assert teardown.destroy(cloud).ok and next(shown, None) is None


@pytest.mark.parametrize("last", [0, 1])
def test_of_two_addresses_or_tables_for_one_thing_that_in_use_counts(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """The answer to a first request was lost, and the request repeated."""
    site = make_cloud().inventory()
    used: dict[str, Any] = {"AllocationId": "eipalloc-1", "AssociationId": "eipassoc-1", "Tags": [{"Key": inventory.NODE, "Value": "lb-1"}]}
    double = {**used, "AllocationId": "eipalloc-2"}
    del double["AssociationId"]
    monkeypatch.setattr(elastic_ips, "_found", lambda _: [used, double] if last else [double, used])
    elastic_ips.observe(site)
    assert site.addresses == {"lb-1": used}
    tag = [{"Key": routes.ROUTES, "Value": "private"}]
    tables = [{"RouteTableId": "rtb-1", "Associations": [{"SubnetId": "subnet-1"}], "Tags": tag}, {"RouteTableId": "rtb-2", "Tags": tag}]
    monkeypatch.setattr(routes, "_tables", lambda _: tables[::-1] if last else tables)
    routes.observe(site)
    assert site.route_tables == {"private": tables[0]}


@pytest.mark.parametrize("key", ["TransitGatewayId", "CoreNetworkArn", "LocalGatewayId", "CarrierGatewayId"])
def test_a_default_route_to_any_kind_of_way_out_is_one(key: str) -> None:
    assert routes._way_out({"Routes": [{"DestinationCidrBlock": routes.EVERYWHERE, "State": "active", key: "x"}]}) == "x"


class Interfaces:
    """EC2 with a VPC of the deployment, a machine in it that has ended, and interfaces. What that machine had goes by itself after some looks."""

    def __init__(self, looks: int, *more: dict[str, Any]):
        self.looks, self.deleted, self.about = looks, list[str](), "AWS"
        self.here = [{"NetworkInterfaceId": "eni-1", "Status": "in-use", "Attachment": {"InstanceId": "i-1"}}, *more]

    def pages(self, operation: str, key: str, **options: Any) -> list[dict[str, Any]]:
        if operation == "describe_network_interfaces":
            self.looks -= 1
            return [each for each in self.here if each["NetworkInterfaceId"] != "eni-1" or self.looks >= 0]
        ended = {"InstanceId": "i-1", "State": {"Name": "terminated"}, "LaunchTime": datetime.now(UTC)}
        return {"describe_vpcs": [{"VpcId": "vpc-1"}], "describe_instances": [{"Instances": [ended]}]}.get(operation, [])

    def delete_network_interface(self, NetworkInterfaceId: str) -> None:
        [found] = [each for each in self.here if each["NetworkInterfaceId"] == NetworkInterfaceId]
        if found["Status"] == "in-use":
            refused = CloudError(f"the cloud refused (InvalidParameterValue: Network interface '{NetworkInterfaceId}' is currently in use.)")
            refused.code = "InvalidParameterValue"
            raise refused
        self.deleted.append(NetworkInterfaceId)


def inventory_of(ec2: Interfaces) -> Inventory:
    cloud = SimpleNamespace(connect_via="private")
    aws = SimpleNamespace(client=lambda service: ec2, cloud=cloud, about="AWS")
    spec = SimpleNamespace(deployment="mine", timeouts=SimpleNamespace(running=1), cloud=cloud)
    return Inventory(aws, None, SimpleNamespace(spec=spec))  # type: ignore[arg-type]


def test_a_tear_down_lets_the_interfaces_of_its_machines_go_by_themselves_and_deletes_the_others() -> None:
    ec2 = Interfaces(3, {"NetworkInterfaceId": "eni-2", "Status": "available"})
    machines.remove(inventory_of(ec2))
    assert ec2.deleted == ["eni-2"]


def test_an_interface_that_does_not_go_is_told_and_somebody_elses_in_ec2s_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CloudError, match="'eni-3' is currently in use"):
        machines.remove(inventory_of(Interfaces(0, {"NetworkInterfaceId": "eni-3", "Status": "in-use", "Attachment": {"InstanceOwnerId": "amazon-aws"}})))
    monkeypatch.setattr(machines, "SETTLE", 0.1)
    with pytest.raises(CloudError, match="do not go within 0 s after their machines ended: eni-1"):
        machines.remove(inventory_of(Interfaces(999)))


def test_a_route_that_is_shown_late_is_no_subnet_s(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, shown = make_cloud(), routes._tables

    def without_routes(site: Inventory) -> list[dict[str, Any]]:
        return [{**table, "Routes": []} for table in shown(site)]

    with monkeypatch.context() as patch:
        patch.setattr(routes, "_tables", without_routes)
        cloud.apply()
    assert not cloud.plan()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 describes what was made or tagged some time after."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.core.responses import ActionResult
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.models import ec2_backends
    from moto.ec2.responses import EC2Response

    monkeypatch.setattr(pace, "INVISIBLE", 0.3)
    slowness, original = pace.Pace(tags=lambda name: ec2_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].tags[name]), EC2Response.call_action

    def call_action(self: Any) -> Any:
        if refusal := slowness.ec2_refusal(self._get_action(), self.params):
            return self.serialized(ActionResult(EC2ClientError(*refusal)))
        status, headers, body = original(self)
        return status, headers, slowness.answer(self._get_action(), self.params, body)

    monkeypatch.setattr(EC2Response, "call_action", call_action)


def test_a_tag_counts_from_the_moment_that_it_is_written(make_cloud: MakeCloud, slow: None) -> None:
    """A node's first boot is recorded by a tag, and the settings that come next depend on it."""
    make_cloud().apply()
    cloud = make_cloud(overrides={"cloud.tags": {"owner": "somebody"}})
    cloud.apply()
    assert not cloud.plan()
    cloud.tag("greg-1", "runbook:first-boot", "now")
    assert cloud.instance("greg-1").tags["runbook:first-boot"] == "now"
    cloud.untag("greg-1", "runbook:first-boot")
    assert "runbook:first-boot" not in cloud.instance("greg-1").tags


def test_a_tag_that_ec2_never_shows_is_told(make_cloud: MakeCloud, slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cloud().apply()
    monkeypatch.setattr(described, "SHOWN", 0.1)
    with pytest.raises(CloudError, match=r"changed the tags runbook:first-boot of i-[0-9a-f]+ and does not show it within 0 s"):
        make_cloud().tag("greg-1", "runbook:first-boot", "now")


def stopped(cloud: Cloud, node: str) -> None:
    cloud.aws.client("ec2").stop_instances(InstanceIds=[cloud.instance(node).id])


def test_a_machine_whose_new_type_ec2_does_not_plan_with_yet_is_started_again(make_cloud: MakeCloud, refuse: Any) -> None:
    make_cloud().apply()
    larger = make_cloud(overrides={"cloud.instance_type": {"greg": "t3.large"}})
    asked = refuse(larger, "ec2:start_instances", OTHER_TYPE, OTHER_TYPE)
    larger.apply()
    assert len(asked) == 3 and not larger.plan()
    assert larger.instance("greg-1").instance_type == "t3.large"


def test_another_refusal_of_a_start_is_told_at_once(make_cloud: MakeCloud, refuse: Any) -> None:
    cloud = make_cloud()
    cloud.apply()
    stopped(cloud, "greg-1")
    asked = refuse(cloud, "ec2:start_instances", OUTSIDE)
    with pytest.raises(CloudError):
        cloud.apply()
    assert len(asked) == 1
