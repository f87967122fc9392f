"""What a deployment has in the cloud, as values, and the `Inventory` on which each kind of thing is observed, planned, made, checked and removed.

A kind is a module: `network`, `elastic_ips`, `routes`, `groups`, `secrets`, `key_pair`, `instance_profile`, `machines`, `host_keys`. Each has `plan`
(what differs between the cloud and the topology) and `apply` (make it so; may be killed anywhere and repeated), and where it applies `observe`
(ask the cloud, and note on the inventory what there is), `check` (rows of chapter 01's verification), `remove` (what is found by tag, whatever was
observed) and `GONE`, the questions that a tear-down must answer. EC2 describes what was made some seconds later: `apply` waits for it
(`Inventory.await_shown`) before anything is observed again, and the client repeats calls that name it until EC2 knows it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from runbook_lib.aws.client import Api, Aws
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.changes import Change, Pending, Reporter
from runbook_lib.check import Check
from runbook_lib.errors import CloudError
from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Topology
from runbook_lib.waiting import wait_until

DEPLOYMENT, ROLE, NODE = "runbook:deployment", "runbook:role", "runbook:node"
HOSTS, PATTERN, HARDENING, PUBLIC_KEY = "runbook:hosts", "runbook:pattern", "runbook:hardening", "runbook:public-key"
IMAGE, HOME, USER = "runbook:image", "runbook:product-home", "runbook:product-user"
GONE = ("shutting-down", "terminated")
SSH = "22"  # the port, as `Permission.ports` says it
CHAPTER = "01_launch_ec2"
OF_NODES = ("machine", "host keys")  # kinds that concern one node
IN_USE = ("DependencyViolation", "InvalidNetworkInterface.InUse", "VolumeInUse", "InvalidIPAddress.InUse")
VANISHED = ("NotFound", "Malformed", "InvalidKeyPair.NotFound", "Gateway.NotAttached")
SETTLE = 90.0  # seconds that something may still be said to be in use after what used it ended
SHOWN = 60.0  # seconds within which EC2 describes what it has made
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds between two tries, growing


@dataclass(frozen=True)
class Instance:
    """One machine as the cloud describes it. `dial` is what the operator connects to: an address, or for Session Manager the id."""

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
    root_volume: str = ""  # its id
    profile: str = ""  # ARN of its instance profile
    image: str = ""  # id of the image that it was launched from

    @property
    def running(self) -> bool:
        return self.state == "running"


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
class Inventory:
    """One deployment in the cloud: how to reach it, how it should be (`topology`), and what there is of it, as the kinds observed it.

    What is absent is None or empty. With `role`, the groups and machines of other roles are not seen and so left alone.
    """

    aws: Aws
    vault: Vault
    topology: Topology
    say: Reporter = field(default_factory=lambda: Reporter(None, "", 0))
    role: str = ""
    renew: frozenset[str] = frozenset()  # nodes whose machines are to be replaced although nothing is wrong with them
    vpc: dict[str, Any] | None = None
    marks: dict[str, str] = field(default_factory=dict)  # tags that say what the live deployment was made as
    subnets: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the topology's names
    gateway: dict[str, Any] | None = None
    zone: str = ""  # where a subnet is made: one that offers every instance type
    addresses: dict[str, dict[str, Any]] = field(default_factory=dict)  # Elastic IPs, by node or `nat`
    nat: dict[str, Any] | None = None
    route_tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    group_ids: dict[str, str] = field(default_factory=dict)  # of every role, also those that are left alone
    stored: dict[str, str] = field(default_factory=dict)  # what the vault holds
    key_pair: dict[str, Any] | None = None
    instances: list[Instance] = field(default_factory=list)  # terminated ones left out
    disks: dict[str, dict[str, Any]] = field(default_factory=dict)  # root volumes as EC2 describes them, by the machine's id
    protected: bool = False  # EC2 refuses to terminate the database's machine
    profile: str = ""  # ARN of the deployment's instance profile
    profile_lacks: tuple[str, ...] = ()  # what is missing or wrong of it, in words

    @cached_property
    def ec2(self) -> Api:
        return self.aws.client("ec2")

    @property
    def spec(self) -> Spec:
        return self.topology.spec

    @property
    def deployment(self) -> str:
        return self.topology.spec.deployment

    def concerns(self, role: str) -> bool:
        return self.role in ("", role)

    def of_node(self, name: str) -> list[Instance]:
        """Machines that carry this node's tag, oldest first: there should be one."""
        return [machine for machine in self.instances if machine.node == name]

    @property
    def here(self) -> dict[str, Instance]:
        """The machines that exist, by the nodes that should."""
        found = {node.name: next(iter(self.of_node(node.name)), None) for node in self.topology.nodes}
        return {name: machine for name, machine in found.items() if machine}

    @property
    def ours(self) -> list[dict[str, Any]]:
        """The filter for what belongs to this deployment."""
        return by_tag(self.deployment)

    def tagged(self, operation: str, key: str) -> list[dict[str, Any]]:
        """What `operation` describes of this deployment, by its tag."""
        return list(self.ec2.pages(operation, key, Filters=self.ours))

    def await_shown(self, operation: str, key: str, id_key: str, *ids: str) -> None:
        """Wait until EC2 describes what it has just made: its descriptions follow by some seconds. Raises `CloudError` when they do not."""
        self.await_listed(lambda: self.tagged(operation, key), id_key, *ids)

    def await_listed(self, look: Callable[[], list[dict[str, Any]]], id_key: str, *ids: str) -> None:
        """The same for what `look` lists. Raises `CloudError`."""

        def lacking() -> set[str]:
            return set(ids) - {str(item[id_key]) for item in look()}

        if ids and (missing := wait_until(lacking, SHOWN, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda missing: not missing)):
            raise not_shown(self, missing)

    def only(self, found: list[dict[str, Any]], id_key: str) -> dict[str, Any] | None:
        """The one that was found, or None. Raises `CloudError` when there are more."""
        if len(found) > 1:
            what = f"more than one thing with the tag {DEPLOYMENT}={self.deployment}: {', '.join(item[id_key] for item in found)}"
            raise CloudError(what, "the account", "take the tag from what is not the runbook's, or destroy the deployment")
        return found[0] if found else None

    def tags(self, kind: str, **more: str) -> dict[str, Any]:
        """The tags with which a thing of this kind is made."""
        return tag_specification(kind, {**self.spec.cloud.tags, "Name": self.deployment, DEPLOYMENT: self.deployment, **more})


def not_shown(inventory: Inventory, ids: Iterable[str]) -> CloudError:
    """The error about what was made and is not described."""
    what = f"EC2 made {', '.join(sorted(ids))} and does not show it within {SHOWN:.0f} s"
    return CloudError(what, inventory.ec2.about, "run chapter 01 again: it goes on with what it finds")


Question = tuple[str, str, Callable[[Inventory], Iterable[str]]]  # a check's id, its title, and what speaks against it


def tags_of(item: Mapping[str, Any]) -> dict[str, str]:
    """The tags of anything EC2 describes, as a mapping."""
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}


def by_tag(deployment: str) -> list[dict[str, Any]]:
    """The filter for what belongs to a deployment."""
    return [{"Name": f"tag:{DEPLOYMENT}", "Values": [deployment]}]


def tag_specification(kind: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Tags as EC2's calls that make something take them."""
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def pending(verb: str, kind: str, name: str, why: str = "", subject: Any = None) -> Pending:
    """One thing to do in the cloud; `subject` is its object.

    `kind`: network, Elastic IP, group, rule, key pair, secret, instance profile, machine, host keys.
    """
    return Pending(name if kind in OF_NODES else "", kind, Change(f"{kind} {name}", verb, why), subject)


def row(id_: str, title: str, against: Iterable[str], expected: str, right: str, there: object = True) -> Check:
    """A check's row: `right` is what is said when nothing speaks against it. With nothing `there` to look at it is undecided, not answered."""
    if not there:
        return Check(id_, title, "undecided", expected, "nothing launched yet", "EC2 API", CHAPTER)
    found = "; ".join(against)
    return Check(id_, title, "fail" if found else "pass", expected, found or right, "EC2 API", CHAPTER)


def while_refused(passes: Callable[[CloudError], bool], seconds: float, call: Callable[..., Any], **options: Any) -> Any:
    """Make the call and return its answer; again, for `seconds`, after a refusal of which `passes` is true. Raises `CloudError`."""
    return wait_until(
        lambda: call(**options),
        seconds,
        pause=FIRST_PAUSE,
        longest=LONGEST_PAUSE,
        enough=lambda answer: True,
        again_after=lambda error: isinstance(error, CloudError) and passes(error),
    )


def once_free(call: Callable[..., Any], **options: Any) -> Any:
    """Make the call and return its answer. EC2 lags: what a machine used (group, address, subnet, disk) is free only some time after it has ended.

    Its network interface can outlive it by a minute. Raises `CloudError`.
    """
    try:
        return while_refused(lambda error: error.code in IN_USE, SETTLE, call, **options)
    except CloudError as error:
        if error.code in IN_USE:
            error.what += f"; waited {SETTLE:.0f} s for what uses it to end"
        raise


def unless_gone(call: Callable[..., Any], **options: Any) -> None:
    """Make the call that removes something, once nothing uses it; what is gone already is well. Raises `CloudError`."""
    try:
        once_free(call, **options)
    except CloudError as error:
        if not error.code.endswith(VANISHED):
            raise
