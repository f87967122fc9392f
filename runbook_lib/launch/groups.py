"""Security groups: one per role, with the rules that the topology wants and no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runbook_lib.aws.operator_cidr import operator_cidr
from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.errors import CloudError
from runbook_lib.launch import instance_profile, network
from runbook_lib.launch.inventory import EVERYWHERE, ROLE, SSH, Group, Inventory, Permission, Question, pending, row, tags_of, unless_gone
from runbook_lib.topology.model import OPERATOR, Topology

# EC2 bundles sources of the same ports under these names; each one by itself can be compared and taken back.
SOURCES = (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("UserIdGroupPairs", "GroupId"), ("PrefixListIds", "PrefixListId"))


def observe(inventory: Inventory) -> None:
    found = [group for group in _found(inventory) if group.role]
    inventory.groups = {group.role: group for group in found if inventory.concerns(group.role)}
    inventory.group_ids = {group.role: group.id for group in found}


def _found(inventory: Inventory) -> list[Group]:
    ways = ("IpPermissions", "IpPermissionsEgress")
    items = inventory.tagged("describe_security_groups", "SecurityGroups")
    return [Group(item["GroupId"], tags_of(item).get(ROLE, ""), *(frozenset(_permissions(item, way)) for way in ways)) for item in items]


def _permissions(group: Mapping[str, Any], way: str) -> Iterator[Permission]:
    for item in group.get(way, []):
        ports = item["IpProtocol"], item.get("FromPort", -1), item.get("ToPort", -1)
        for kind, key in SOURCES:
            yield from (Permission(*ports, source[key], source.get("Description", "")) for source in item.get(kind, []))


def plan(inventory: Inventory) -> Iterator[Pending]:
    """Groups; missing rules; and rules that somebody added: an open door is as much a drift as a closed one."""
    for role in inventory.topology.groups:
        if role not in inventory.groups:
            yield pending("create", "group", role, "security group", role)
    for role in inventory.groups:
        if role not in inventory.topology.groups:
            yield pending("delete", "group", role, "no machine of this role is left", role)
    names = {id_: role for role, id_ in inventory.group_ids.items()}
    for role, permissions in _wanted(inventory).items():
        group = inventory.groups.get(role)
        present = group.permissions if group else frozenset()
        for permission in _ordered(permissions - present):
            source = names.get(permission.source, permission.source).replace(OPERATOR, "the operator")
            yield pending("create", "rule", role, f"{permission.ports} from {source}: {permission.why}", role)
        if group and EVERYWHERE not in group.outward:
            yield pending("create", "rule", role, f"every port to {EVERYWHERE.source}: the way out, to packages and the other machines", role)
        for permission in _ordered(present - permissions):
            note = f" ({permission.why})" if permission.why else ""
            yield pending(
                "delete", "rule", role, f"{permission.ports} from {names.get(permission.source, permission.source)}{note}: not part of the design", role
            )


def _wanted(inventory: Inventory) -> dict[str, set[Permission]]:
    """The rules of each group. Before there is a network to reach, the operator's range is left as `OPERATOR`."""
    asked = inventory.subnets and any(rule.source == OPERATOR for rule in inventory.topology.rules)
    operator = operator_cidr(inventory.spec.cloud) if asked else OPERATOR
    return wanted_permissions(inventory.topology, inventory.group_ids, operator)


def wanted_permissions(topology: Topology, group_ids: Mapping[str, str], operator: str) -> dict[str, set[Permission]]:
    """The rules of each group as EC2 knows them: group names become ids, the operator becomes a range."""
    found: dict[str, set[Permission]] = {group: set() for group in topology.groups}
    for rule in topology.rules:
        source = operator if rule.source == OPERATOR else group_ids.get(rule.source, rule.source)
        found[rule.group].add(Permission(rule.protocol, rule.from_port, rule.to_port, source, rule.why))
    return found


def _ordered(permissions: Iterable[Permission]) -> list[Permission]:
    return sorted(permissions, key=lambda p: (p.from_port, p.to_port, p.protocol, p.source))


def apply(inventory: Inventory) -> None:
    """Groups and rules; surplus groups stay until `remove_surplus`, when no machine stands in them any more."""
    assert inventory.vpc
    marks = network.marks_of(inventory.spec)  # a VPC that others use too cannot carry them
    made = []
    for role in inventory.topology.groups:
        if role not in inventory.groups:
            inventory.say(role, "creating its security group")
            name = f"{inventory.deployment}-{role}"
            answer = inventory.ec2.create_security_group(
                GroupName=name,
                Description=f"{role} machines of {inventory.deployment} (WSO2 cluster runbook)",
                VpcId=inventory.vpc["VpcId"],
                TagSpecifications=[inventory.tags("security-group", Name=name, **{ROLE: role}, **marks)],
            )
            inventory.groups[role] = Group(answer["GroupId"], role, frozenset())
            inventory.group_ids[role] = answer["GroupId"]
            made.append(answer["GroupId"])
    inventory.await_shown("describe_security_groups", "SecurityGroups", "GroupId", *made)
    apply_rules(inventory, SSH if instance_profile.by_sessions(inventory) else "")


def apply_rules(inventory: Inventory, but: str = "") -> None:
    """What is missing is added before surplus is taken away: a change of range locks nobody out in between. `but`: a port that is not closed yet."""
    for role, wanted in _wanted(inventory).items():
        group = inventory.groups[role]
        if EVERYWHERE not in group.outward:
            inventory.say(role, "opening the way out")
            _rule(inventory, "authorize_security_group_egress", group.id, {EVERYWHERE}, "InvalidPermission.Duplicate")
        if missing := wanted - group.permissions:
            inventory.say(role, f"opening {_ports(missing)}")
            _rule(inventory, "authorize_security_group_ingress", group.id, missing, "InvalidPermission.Duplicate")
        if surplus := {permission for permission in group.permissions - wanted if permission.ports != but}:
            inventory.say(role, f"closing {_ports(surplus)}")
            _rule(inventory, "revoke_security_group_ingress", group.id, surplus, "InvalidPermission.NotFound")
    observe(inventory)


def _rule(inventory: Inventory, call: str, group: str, permissions: set[Permission] | frozenset[Permission], already: str) -> None:
    """All in one call; one by one when EC2 refuses the bundle because one of it is there (or gone) already."""
    try:
        getattr(inventory.ec2, call)(GroupId=group, IpPermissions=[each.as_request() for each in permissions])
    except CloudError as error:
        if error.code != already:
            raise
        for each in permissions if len(permissions) > 1 else ():
            _rule(inventory, call, group, {each}, already)


def _ports(permissions: Iterable[Permission]) -> str:
    return ", ".join(sorted({permission.ports for permission in permissions}))


def remove_surplus(inventory: Inventory) -> None:
    """Groups of no node: other groups' rules named them, and their machines stood in them, until now."""
    for role in [role for role in inventory.groups if role not in inventory.topology.groups]:
        inventory.say(role, "deleting its security group")
        unless_gone(inventory.ec2.delete_security_group, GroupId=inventory.groups.pop(role).id)


def check(inventory: Inventory) -> Iterator[Check]:
    drifted = [f"{p.subject}: {p.change.verb} {p.change.summary}" for p in plan(inventory)]
    made = sum(len(group.permissions) for group in inventory.groups.values())
    title = "Security groups hold the designed rules and no other"
    yield row("launch-groups", title, drifted, f"{len(inventory.topology.rules)} rules", f"{made} rules, no drift")
    ids = {role: group.id for role, group in inventory.groups.items()}
    others = [name for name, machine in inventory.here.items() if machine.groups != {ids.get(machine.role)}]
    yield row("launch-own-group", "Each machine stands in its role's group and in no other", others, "one group each", "one group each", inventory.here)
    opened = [
        f"{role}: {rule.ports} from {rule.source}"
        for role, group in inventory.groups.items()
        for rule in group.permissions
        if rule.source in ("0.0.0.0/0", "::/0") and not (role.startswith("lb") and rule.ports in ("80", "443"))
    ]
    yield row("launch-closed-to-world", "Nothing but 80 and 443 of Nginx is open to the world", opened, "nothing else", "nothing else", inventory.groups)


def remove(inventory: Inventory) -> None:
    """Rules first: groups that name each other cannot go one after the other."""
    groups = _found(inventory)
    for group in groups:
        for permission in group.permissions:
            unless_gone(inventory.ec2.revoke_security_group_ingress, GroupId=group.id, IpPermissions=[permission.as_request()])
    for group in groups:
        inventory.say(group.role or group.id, "deleting its security group")
        unless_gone(inventory.ec2.delete_security_group, GroupId=group.id)


GONE: tuple[Question, ...] = (("gone-groups", "Security groups", lambda inventory: (group.id for group in _found(inventory))),)
