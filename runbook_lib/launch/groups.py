"""Security groups: one per role, with the rules that the topology wants and no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runbook_lib.aws.operator_cidr import operator_cidr
from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.errors import CloudError
from runbook_lib.launch.inventory import EVERYWHERE, ROLE, Group, Permission, Question, Site, pending, row, tags_of, unless_gone
from runbook_lib.topology.model import OPERATOR, Topology

# EC2 bundles sources of the same ports under these names; each one by itself can be compared and taken back.
SOURCES = (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("UserIdGroupPairs", "GroupId"), ("PrefixListIds", "PrefixListId"))


def observe(site: Site) -> None:
    site.groups = {group.role: group for group in _found(site) if group.role and site.concerns(group.role)}


def _found(site: Site) -> list[Group]:
    ways = ("IpPermissions", "IpPermissionsEgress")
    items = site.tagged("describe_security_groups", "SecurityGroups")
    return [Group(item["GroupId"], tags_of(item).get(ROLE, ""), *(frozenset(_permissions(item, way)) for way in ways)) for item in items]


def _permissions(group: Mapping[str, Any], way: str) -> Iterator[Permission]:
    for item in group.get(way, []):
        ports = item["IpProtocol"], item.get("FromPort", -1), item.get("ToPort", -1)
        for kind, key in SOURCES:
            yield from (Permission(*ports, source[key], source.get("Description", "")) for source in item.get(kind, []))


def plan(site: Site) -> Iterator[Pending]:
    """Groups; missing rules; and rules that somebody added: an open door is as much a drift as a closed one."""
    for role in site.topology.groups:
        if role not in site.groups:
            yield pending("create", "group", role, "security group", role)
    for role in site.groups:
        if role not in site.topology.groups:
            yield pending("delete", "group", role, "no machine of this role is left", role)
    names = {group.id: role for role, group in site.groups.items()}
    for role, permissions in _wanted(site, OPERATOR).items():
        group = site.groups.get(role)
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


def _wanted(site: Site, unknown: str) -> dict[str, set[Permission]]:
    """The rules of each group. Before there is a network to reach, the operator's range is `unknown`: it is found out once there is."""
    operator = operator_cidr(site.spec.cloud) if site.subnet else unknown
    return wanted_permissions(site.topology, {role: group.id for role, group in site.groups.items()}, operator)


def wanted_permissions(topology: Topology, group_ids: Mapping[str, str], operator: str) -> dict[str, set[Permission]]:
    """The rules of each group as EC2 knows them: group names become ids, the operator becomes a range."""
    found: dict[str, set[Permission]] = {group: set() for group in topology.groups}
    for rule in topology.rules:
        source = operator if rule.source == OPERATOR else group_ids.get(rule.source, rule.source)
        found[rule.group].add(Permission(rule.protocol, rule.from_port, rule.to_port, source, rule.why))
    return found


def _ordered(permissions: Iterable[Permission]) -> list[Permission]:
    return sorted(permissions, key=lambda p: (p.from_port, p.to_port, p.protocol, p.source))


def apply(site: Site) -> None:
    """Groups and rules; surplus groups stay until `remove_surplus`, when no machine stands in them any more."""
    assert site.vpc
    for role in site.topology.groups:
        if role not in site.groups:
            site.say(role, "creating its security group")
            name = f"{site.deployment}-{role}"
            answer = site.ec2.create_security_group(
                GroupName=name,
                Description=f"{role} machines of {site.deployment} (WSO2 cluster runbook)",
                VpcId=site.vpc["VpcId"],
                TagSpecifications=[site.tags("security-group", Name=name, **{ROLE: role})],
            )
            site.groups[role] = Group(answer["GroupId"], role, frozenset())
    apply_rules(site)


def apply_rules(site: Site) -> None:
    """What is missing is added before surplus is taken away: a change of range locks nobody out in between."""
    for role, wanted in _wanted(site, OPERATOR).items():
        group = site.groups[role]
        if EVERYWHERE not in group.outward:
            site.say(role, "opening the way out")
            _rule(site, "authorize_security_group_egress", group.id, {EVERYWHERE}, "InvalidPermission.Duplicate")
        if missing := wanted - group.permissions:
            site.say(role, f"opening {_ports(missing)}")
            _rule(site, "authorize_security_group_ingress", group.id, missing, "InvalidPermission.Duplicate")
        if surplus := group.permissions - wanted:
            site.say(role, f"closing {_ports(surplus)}")
            _rule(site, "revoke_security_group_ingress", group.id, surplus, "InvalidPermission.NotFound")
    observe(site)


def _rule(site: Site, call: str, group: str, permissions: set[Permission] | frozenset[Permission], already: str) -> None:
    """All in one call; one by one when EC2 refuses the bundle because one of it is there (or gone) already."""
    try:
        getattr(site.ec2, call)(GroupId=group, IpPermissions=[each.as_request() for each in permissions])
    except CloudError as error:
        if error.code != already:
            raise
        for each in permissions if len(permissions) > 1 else ():
            _rule(site, call, group, {each}, already)


def _ports(permissions: Iterable[Permission]) -> str:
    return ", ".join(sorted({permission.ports for permission in permissions}))


def remove_surplus(site: Site) -> None:
    """Groups of no node: other groups' rules named them, and their machines stood in them, until now."""
    for role in [role for role in site.groups if role not in site.topology.groups]:
        site.say(role, "deleting its security group")
        site.ec2.delete_security_group(GroupId=site.groups.pop(role).id)


def check(site: Site) -> Iterator[Check]:
    drifted = [f"{p.subject}: {p.change.verb} {p.change.summary}" for p in plan(site)]
    made = sum(len(group.permissions) for group in site.groups.values())
    title = "Security groups hold the designed rules and no other"
    yield row("launch-groups", title, drifted, f"{len(site.topology.rules)} rules", f"{made} rules, no drift")
    ids = {role: group.id for role, group in site.groups.items()}
    others = [name for name, machine in site.here.items() if machine.groups != {ids.get(machine.role)}]
    yield row("launch-own-group", "Each machine stands in its role's group and in no other", others, "one group each", "one group each", site.here)
    opened = [
        f"{role}: {rule.ports} from {rule.source}"
        for role, group in site.groups.items()
        for rule in group.permissions
        if rule.source in ("0.0.0.0/0", "::/0") and not (role.startswith("lb") and rule.ports in ("80", "443"))
    ]
    yield row("launch-closed-to-world", "Nothing but 80 and 443 of Nginx is open to the world", opened, "nothing else", "nothing else", site.groups)


def remove(site: Site) -> None:
    """Rules first: groups that name each other cannot go one after the other."""
    groups = _found(site)
    for group in groups:
        for permission in group.permissions:
            unless_gone(site.ec2.revoke_security_group_ingress, GroupId=group.id, IpPermissions=[permission.as_request()])
    for group in groups:
        site.say(group.role or group.id, "deleting its security group")
        unless_gone(site.ec2.delete_security_group, GroupId=group.id)


GONE: tuple[Question, ...] = (("gone-groups", "Security groups", lambda site: (group.id for group in _found(site))),)
