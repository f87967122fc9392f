"""What there is of a deployment in the cloud right now, found by its tags. Reads only."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.aws.client import Aws
from runbook_lib.errors import CloudError

DEPLOYMENT, ROLE, NODE = "runbook:deployment", "runbook:role", "runbook:node"
HOSTS, PATTERN, HARDENING, PUBLIC_KEY = "runbook:hosts", "runbook:pattern", "runbook:hardening", "runbook:public-key"
GONE = ("shutting-down", "terminated")


@dataclass(frozen=True)
class Instance:
    """One machine as the cloud describes it. `dial` is the address that the operator connects to."""

    id: str
    node: str
    role: str
    state: str
    address: str
    public_address: str
    dial: str
    instance_type: str
    tags: Mapping[str, str]
    launched: datetime.datetime
    groups: frozenset[str] = frozenset()  # group ids
    imdsv2: bool = True
    key_name: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class JumpHost:
    """The bastion of connect_via: bastion: where it is and by which keys (`type base64`) it is known."""

    name: str
    address: str
    user: str
    host_keys: tuple[str, ...]
    port: int = 22


@dataclass(frozen=True)
class Permission:
    """One way into a group: who (`source`: a CIDR, a group's id, a prefix list) on which ports; `why` is a label."""

    protocol: str
    from_port: int
    to_port: int
    source: str
    why: str = field(default="", compare=False)

    @property
    def ports(self) -> str:
        if self.protocol == "-1":
            return "every port"
        return str(self.from_port) if self.from_port == self.to_port else f"{self.from_port}-{self.to_port}"

    def as_request(self) -> dict[str, Any]:
        """The permission as EC2's calls take it."""
        asked: dict[str, Any] = {"IpProtocol": self.protocol}
        if self.protocol != "-1":
            asked |= {"FromPort": self.from_port, "ToPort": self.to_port}
        label = {"Description": self.why} if self.why else {}
        if self.source.startswith("sg-"):
            return asked | {"UserIdGroupPairs": [{"GroupId": self.source, **label}]}
        if self.source.startswith("pl-"):
            return asked | {"PrefixListIds": [{"PrefixListId": self.source, **label}]}
        if ":" in self.source:
            return asked | {"Ipv6Ranges": [{"CidrIpv6": self.source, **label}]}
        return asked | {"IpRanges": [{"CidrIp": self.source, **label}]}


# The way out that AWS gives every new group, and that packages and the way to the other machines need.
EVERYWHERE = Permission("-1", -1, -1, "0.0.0.0/0")


@dataclass(frozen=True)
class Group:
    """A security group of the deployment: the ways in, and the ways out."""

    id: str
    role: str
    permissions: frozenset[Permission]
    outward: frozenset[Permission] = frozenset({EVERYWHERE})


@dataclass
class World:
    """Everything tagged as this deployment's. What is absent is None or empty."""

    vpc: dict[str, Any] | None = None
    subnet: dict[str, Any] | None = None
    gateway: dict[str, Any] | None = None
    groups: dict[str, Group] = field(default_factory=dict)
    key_pair: dict[str, Any] | None = None
    instances: list[Instance] = field(default_factory=list)  # terminated ones left out
    ended: list[str] = field(default_factory=list)  # ids of terminated machines that are still shown, as `node=id`

    def of_node(self, name: str) -> list[Instance]:
        """Machines that carry this node's tag, oldest first: there should be one."""
        return [machine for machine in self.instances if machine.node == name]


def tags_of(item: Mapping[str, Any]) -> dict[str, str]:
    """The tags of anything EC2 describes, as a mapping."""
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}


def by_tag(deployment: str) -> list[dict[str, Any]]:
    """The filter for what belongs to a deployment."""
    return [{"Name": f"tag:{DEPLOYMENT}", "Values": [deployment]}]


def observe(aws: Aws, deployment: str) -> World:
    """Ask the cloud for everything that belongs to `deployment`. Raises `CloudError`."""
    ec2, mine = aws.client("ec2"), by_tag(deployment)
    world = World()
    world.vpc = _only(ec2.describe_vpcs(Filters=mine)["Vpcs"], "VpcId", deployment)
    world.key_pair = _only(ec2.describe_key_pairs(Filters=mine)["KeyPairs"], "KeyPairId", deployment)
    if world.vpc:
        world.subnet = _only(ec2.describe_subnets(Filters=mine)["Subnets"], "SubnetId", deployment)
        world.gateway = _only(ec2.describe_internet_gateways(Filters=mine)["InternetGateways"], "InternetGatewayId", deployment)
        world.groups = groups_in(ec2, deployment)
    for machine in instances_of(aws, deployment):
        if machine.state in GONE:
            world.ended.append(f"{machine.node}={machine.id}")
        else:
            world.instances.append(machine)
    return world


def instances_of(aws: Aws, deployment: str) -> list[Instance]:
    """Every machine of the deployment in any state, oldest first. One DescribeInstances call."""
    answer = aws.client("ec2").pages("describe_instances", "Reservations", Filters=by_tag(deployment))
    machines = [_instance(item, aws.cloud.connect_via) for reservation in answer for item in reservation["Instances"]]
    return sorted(machines, key=lambda machine: (machine.node, machine.launched, machine.id))


def groups_in(ec2: Any, deployment: str) -> dict[str, Group]:
    """The deployment's security groups by role."""
    found = ec2.pages("describe_security_groups", "SecurityGroups", Filters=by_tag(deployment))
    ways = ("IpPermissions", "IpPermissionsEgress")
    groups = [Group(item["GroupId"], tags_of(item).get(ROLE, ""), *(frozenset(_permissions(item, way)) for way in ways)) for item in found]
    return {group.role: group for group in groups if group.role}


def _instance(item: dict[str, Any], connect_via: str) -> Instance:
    tags = tags_of(item)
    address, public = item.get("PrivateIpAddress", ""), item.get("PublicIpAddress", "")
    return Instance(
        id=item["InstanceId"],
        node=tags.get(NODE, ""),
        role=tags.get(ROLE, ""),
        state=item["State"]["Name"],
        address=address,
        public_address=public,
        dial=address if connect_via == "private" else public or address,
        instance_type=item.get("InstanceType", ""),
        tags=tags,
        launched=item["LaunchTime"],
        groups=frozenset(group["GroupId"] for group in item.get("SecurityGroups", [])),
        imdsv2=item.get("MetadataOptions", {}).get("HttpTokens") == "required",
        key_name=item.get("KeyName", ""),
    )


def _permissions(group: dict[str, Any], way: str) -> Iterable[Permission]:
    """EC2 bundles sources of the same ports; each one by itself can be compared and taken back."""
    kinds = (
        ("IpRanges", "CidrIp"),
        ("Ipv6Ranges", "CidrIpv6"),
        ("UserIdGroupPairs", "GroupId"),
        ("PrefixListIds", "PrefixListId"),
    )
    for item in group.get(way, []):
        for kind, key in kinds:
            for source in item.get(kind, []):
                yield Permission(
                    item["IpProtocol"],
                    item.get("FromPort", -1),
                    item.get("ToPort", -1),
                    source[key],
                    source.get("Description", ""),
                )


def _only(found: list[dict[str, Any]], id_key: str, deployment: str) -> dict[str, Any] | None:
    if len(found) > 1:
        raise CloudError(
            f"more than one thing with the tag {DEPLOYMENT}={deployment}: {', '.join(item[id_key] for item in found)}",
            "the account",
            "take the tag from what is not the runbook's, or destroy the deployment",
        )
    return found[0] if found else None
