"""The difference between the machines that should be and what the cloud has, as a list of changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.changes import Change, Pending, Plan
from runbook_lib.errors import CloudError
from runbook_lib.launch.inventory import DEPLOYMENT, EVERYWHERE, HARDENING, HOSTS, NODE, PATTERN, PUBLIC_KEY, ROLE, Group, Instance, Permission, World, tags_of
from runbook_lib.launch.secrets import Missing
from runbook_lib.topology.model import OPERATOR, Node, Topology

SURPLUS = "not among the nodes any more: Nginx stops sending to it, then it is terminated and its disk is lost"
OF_NODES = ("machine", "host keys")


def pending(verb: str, kind: str, name: str, why: str = "", subject: Any = None) -> Pending:
    """One thing to do in the cloud. `kind`: network, group, rule, key pair, secret, machine, host keys; `subject` is its object."""
    return Pending(name if kind in OF_NODES else "", kind, Change(f"{kind} {name}", verb, why), subject)


@dataclass(frozen=True)
class Known:
    """What the plan needs beside the cloud's own answer: the vault's gaps, pinned machines, and the operator's range.

    `operator` is None while there is no network to reach: the range is found out once there is.
    `public_key` is None before the SSH key is made. `pinned`: node -> id of the machine whose host keys are stored.
    """

    missing: tuple[Missing, ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)
    public_key: str | None = None
    operator: str | None = None


def ending(plan: Plan) -> tuple[Pending, ...]:
    """The machines that end: surplus, double, or to be replaced."""
    return tuple(p for p in plan.of("machine") if p.change.verb in ("delete", "replace"))


def plan_launch(topology: Topology, world: World, known: Known) -> Plan:
    """What is to be done so that the cloud matches `topology`. `CloudError` for what cannot be changed in place."""
    refuse_other_design(topology, world)
    changes = (
        *_network(topology, world),
        *_groups(topology, world),
        *_rules(topology, world, known.operator),
        *(pending("replace" if item.why else "create", "secret", item.name, item.why) for item in known.missing),
        *_key_pair(topology, world, known),
        *_machines(topology, world),
        *_host_keys(topology, world, known.pinned),
    )
    return Plan(topology.spec.deployment, {}, changes)


def refuse_other_design(topology: Topology, world: World) -> None:
    """A live deployment keeps its pattern, hardening and network: what its machines hold was made for them."""
    spec = topology.spec
    if world.vpc is None:
        return
    tags = tags_of(world.vpc)
    live = {
        "pattern": tags.get(PATTERN, spec.pattern),
        "hardening": tags.get(HARDENING, spec.hardening),
        "cloud.network": world.vpc["CidrBlock"],
    }
    asked = {"pattern": spec.pattern, "hardening": spec.hardening, "cloud.network": spec.cloud.network}
    for key, value in asked.items():
        if live[key] != value:
            raise CloudError(
                f"{key} of the live deployment {spec.deployment} is {live[key]}, the parameters say {value}: its "
                "machines, databases and keys were made for the former, which they cannot be turned from",
                str(spec.source or key),
                f"destroy it first (./runbook destroy), or choose another `deployment` name, or set {key} back",
            )


def wanted_permissions(topology: Topology, group_ids: Mapping[str, str], operator: str) -> dict[str, set[Permission]]:
    """The rules of each group as EC2 knows them: group names become ids, the operator becomes a range."""
    found: dict[str, set[Permission]] = {group: set() for group in topology.groups}
    for rule in topology.rules:
        source = operator if rule.source == OPERATOR else group_ids.get(rule.source, rule.source)
        found[rule.group].add(Permission(rule.protocol, rule.from_port, rule.to_port, source, rule.why))
    return found


def machine_tags(topology: Topology, node: Node) -> dict[str, str]:
    """The tags of a node's machine."""
    name = f"{topology.spec.deployment}/{node.name}"
    tags = {"Name": name, DEPLOYMENT: topology.spec.deployment, ROLE: node.role, NODE: node.name}
    return tags | ({HOSTS: " ".join(node.hosts)} if node.hosts else {})


def _network(topology: Topology, world: World) -> Iterator[Pending]:
    cloud, name = topology.spec.cloud, topology.spec.deployment
    if world.vpc is None:
        yield pending("create", "network", "VPC", cloud.network, "VPC")
    if world.subnet is None:
        yield pending("create", "network", "subnet", cloud.network, "subnet")
    if cloud.connect_via != "private":
        attached = world.gateway and world.vpc and any(item.get("VpcId") == world.vpc["VpcId"] for item in world.gateway.get("Attachments", []))
        if not attached:
            yield pending("create", "network", "internet gateway", f"{name}'s way to package mirrors, and visitors' way in", "internet gateway")


def _groups(topology: Topology, world: World) -> Iterator[Pending]:
    for role in topology.groups:
        if role not in world.groups:
            yield pending("create", "group", role, "security group", role)
    for role in world.groups:
        if role not in topology.groups:
            yield pending("delete", "group", role, "no machine of this role is left", role)


def _rules(topology: Topology, world: World, operator: str | None) -> Iterator[Pending]:
    """Missing rules and rules that somebody added: an open door is as much a drift as a closed one."""
    ids = {role: group.id for role, group in world.groups.items()}
    names = {group_id: role for role, group_id in ids.items()}
    wanted = wanted_permissions(topology, ids, operator or OPERATOR)
    for role, permissions in wanted.items():
        present = world.groups[role].permissions if role in world.groups else frozenset()
        for permission in _ordered(permissions - present):
            source = names.get(permission.source, permission.source)
            shown = "the operator" if source == OPERATOR else source
            yield pending("create", "rule", role, f"{permission.ports} from {shown}: {permission.why}", role)
        if role in world.groups:
            if EVERYWHERE not in world.groups[role].outward:
                yield pending("create", "rule", role, f"every port to {EVERYWHERE.source}: the way out, to packages and the other machines", role)
            for permission in _ordered(present - permissions):
                source = names.get(permission.source, permission.source)
                note = f" ({permission.why})" if permission.why else ""
                yield pending(
                    "delete",
                    "rule",
                    role,
                    f"{permission.ports} from {source}{note}: not part of the design",
                    role,
                )


def _ordered(permissions: Iterable[Permission]) -> list[Permission]:
    return sorted(permissions, key=lambda p: (p.from_port, p.to_port, p.protocol, p.source))


def _key_pair(topology: Topology, world: World, known: Known) -> Iterator[Pending]:
    name = key_name(topology)
    if world.key_pair is None:
        yield pending("create", "key pair", name, "public half of ssh-private-key")
    elif known.public_key is None or tags_of(world.key_pair).get(PUBLIC_KEY) != known.public_key:
        yield pending(
            "replace",
            "key pair",
            name,
            "not the public half of the stored key; machines launched with it are lost to SSH",
        )


def key_name(topology: Topology) -> str:
    """The deployment's EC2 key pair."""
    return f"runbook-{topology.spec.deployment}"


def _machines(topology: Topology, world: World) -> Iterator[Pending]:
    for node in topology.nodes:
        machines = world.of_node(node.name)
        first, others = (machines[0] if machines else None), machines[1:]
        if first is None:
            detail = f"{node.instance_type} at {node.address}, {topology.spec.cloud.disk_gb} GiB gp3 encrypted, IMDSv2"
            yield pending("create", "machine", node.name, detail, node)
        else:
            yield from _one_machine(topology, world.groups, node, first)
        for double in others:
            yield pending("delete", "machine", node.name, f"{double.id}: a second machine with this node's tag", double)
    names = {node.name for node in topology.nodes}
    for machine in world.instances:
        if machine.node not in names:
            yield pending("delete", "machine", machine.node or machine.id, f"{machine.id}: {SURPLUS}", machine)


def _one_machine(topology: Topology, groups: Mapping[str, Group], node: Node, machine: Instance) -> Iterator[Pending]:
    if machine.address != node.address:
        detail = f"{machine.id} has {machine.address}, its address is {node.address}; what is on its disk is lost"
        yield pending("replace", "machine", node.name, detail, machine)
        return
    differences = []
    if machine.instance_type != node.instance_type:
        differences.append(f"type {machine.instance_type} → {node.instance_type} (stops and starts it)")
    if not machine.imdsv2:
        differences.append("IMDSv2 only")
    if node.role in groups and machine.groups != {groups[node.role].id}:
        differences.append(f"group {node.role} and no other")
    lacking = {key: value for key, value in machine_tags(topology, node).items() if machine.tags.get(key) != value}
    if lacking:
        differences.append(f"tags {', '.join(sorted(lacking))}")
    if differences:
        yield pending("modify", "machine", node.name, "; ".join(differences), machine)
    if machine.state in ("stopped", "stopping"):
        yield pending("start", "machine", node.name, f"{machine.id} is {machine.state}", machine)


def _host_keys(topology: Topology, world: World, pinned: Mapping[str, str]) -> Iterator[Pending]:
    """Pinned with the machine's id: a machine that took another's place is read from its own console, never trusted."""
    for node in topology.nodes:
        machines = world.of_node(node.name)
        if machines and machines[0].address == node.address and pinned.get(node.name) != machines[0].id:
            action = "replace" if node.name in pinned else "create"
            detail = f"from the console of {machines[0].id}"
            yield pending(
                action,
                "host keys",
                node.name,
                detail + (f" in place of {pinned[node.name]}'s" if node.name in pinned else ""),
            )
