"""Security groups: which rules EC2 takes, and when a group can go."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from moto.ec2.exceptions import DependencyViolationError, EC2ClientError, VPCIdNotSpecifiedError
from moto.ec2.models.security_groups import SecurityGroupBackend, SecurityGroupRule
from moto.ec2.responses.security_groups import SecurityGroups

from ec2lab.api.patches import corrects

ALLOWED = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}")  # descriptions of groups and rules, from EC2's API model
PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "-1", *map(str, range(256)))
WITH_PORTS = ("tcp", "udp", "6", "17")
WITH_KINDS = ("icmp", "icmpv6", "1", "58")  # types and codes


def _refuse_description(text: str, name: str) -> None:
    if not ALLOWED.fullmatch(text):
        raise EC2ClientError(
            "InvalidParameterValue", f"Invalid {name} value: {text}. Valid characters are a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{{}}!$*, at most 255"
        )


@corrects(SecurityGroups, "create_security_group")
def create_security_group(original: Callable[..., Any], self: Any) -> Any:
    """Refuse descriptions with characters that EC2 does not accept (moto accepts any), and networks that there are not."""
    _refuse_description(str(self._get_param("Description", "") or ""), "security group description")
    if vpc_id := self._get_param("VpcId"):
        self.ec2_backend.get_vpc(vpc_id)
    elif self.ec2_backend.get_default_vpc() is None:
        raise VPCIdNotSpecifiedError
    return original(self)


@corrects(SecurityGroups, "describe_security_groups")
def describe_security_groups(original: Callable[..., Any], self: Any) -> Any:
    """Describe a group once that is named twice; moto says that it does not exist."""
    self.params["GroupIds"] = list(dict.fromkeys(self._get_param("GroupIds", [])))
    return original(self)


@corrects(SecurityGroups, "authorize_security_group_ingress")
def authorize_ingress(original: Callable[..., Any], self: Any) -> Any:
    _refuse_bad_rules(self)
    return original(self)


@corrects(SecurityGroups, "authorize_security_group_egress")
def authorize_egress(original: Callable[..., Any], self: Any) -> Any:
    _refuse_bad_rules(self)
    return original(self)


@corrects(SecurityGroups, "revoke_security_group_ingress")
@corrects(SecurityGroups, "revoke_security_group_egress")
def revoke(original: Callable[..., Any], self: Any) -> Any:
    _refuse_bad_rules(self)
    return original(self)


def _permissions(self: Any) -> list[Any]:
    """Return the request's permissions; the short form is one, too."""
    short = [self.params] if any(name in self.params for name in ("IpProtocol", "CidrIp", "CidrIpv6")) else []
    return [*short, *(self._get_param("IpPermissions", []) or [])]


def _sources(permission: Any) -> list[Any]:
    kinds = ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds")
    return [permission, *(source for kind in kinds for source in permission.get(kind, []) or [])]


def _refuse_bad_rules(self: Any) -> None:
    """Refuse what EC2 refuses of a rule (API reference, IpPermission); moto takes any words, and no firewall could be made of them."""
    for permission in _permissions(self):
        protocol = str(permission.get("IpProtocol", "-1")).lower()
        if protocol not in PROTOCOLS:
            raise EC2ClientError("InvalidPermission.Malformed", f'Unsupported IP protocol "{protocol}"')
        if protocol in WITH_PORTS:
            _refuse_bad_ports(permission.get("FromPort"), permission.get("ToPort"))
        else:
            _refuse_bad_kinds(protocol, permission)
        for source in _sources(permission):
            _canonical(source)
            _refuse_description(str(source.get("Description", "") or ""), "rule description")


def _refuse_bad_kinds(protocol: str, permission: Any) -> None:
    """Refuse types and codes of ICMP that there are not; what is left out means all of them (API reference, IpPermission), and moto fails without it."""
    for name in ("FromPort", "ToPort"):
        number = permission.setdefault(name, -1)
        if protocol in WITH_KINDS and not -1 <= int(number) <= 255:
            raise EC2ClientError("InvalidParameterValue", f"ICMP {'type' if name == 'FromPort' else 'code'} ({number}) out of range")


def _canonical(source: Any) -> None:
    """Make a range of addresses its network (API reference, IpRange: "canonicalizes"), and refuse what is none."""
    for name, kind in (("CidrIp", IPv4Network), ("CidrIpv6", IPv6Network)):
        if (text := source.get(name)) is not None:
            try:
                source[name] = str(kind(text, strict=False)) if "/" in text else ""
            except ValueError:
                source[name] = ""
            if not source[name]:
                raise EC2ClientError("InvalidParameterValue", f"CIDR block {text} is malformed")


def _refuse_bad_ports(first: Any, last: Any) -> None:
    if first is None or last is None:
        raise EC2ClientError("InvalidParameterValue", "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
    for port in (int(first), int(last)):
        if not 0 <= port <= 65535:
            raise EC2ClientError("InvalidParameterValue", f"Invalid value '{port}' for portRange. Must be between 0 and 65535.")
    if int(first) > int(last):
        raise EC2ClientError("InvalidParameterValue", f"Invalid TCP/UDP port range ({first}:{last})")


@corrects(SecurityGroups, "delete_security_group")
def keep_default_group(original: Callable[..., Any], self: Any) -> Any:
    """Refuse to delete a network's default group (API reference, DeleteSecurityGroup); moto deletes it."""
    group = self.ec2_backend.get_security_group_from_id(self._get_param("GroupId")) if self._get_param("GroupId") else None
    if group is not None and group.name == "default":
        raise EC2ClientError("CannotDelete", f'the specified group: "{group.id}" name: "default" cannot be deleted by a user')
    return original(self)


@corrects(SecurityGroupBackend, "delete_security_group")
def delete_security_group(original: Callable[..., Any], self: Any, name: str | None = None, group_id: str | None = None) -> Any:
    """Refuse to delete a group that an interface or a rule of another group uses (moto deletes it)."""
    used_by_nic = any(group.id == group_id for eni in self.enis.values() for group in eni.group_set)
    if group_id and (used_by_nic or group_id in _referenced_groups(self, other_than=group_id)):
        raise DependencyViolationError(f"resource {group_id} has a dependent object")
    return original(self, name, group_id)


@corrects(SecurityGroupRule, "__eq__")
def same_rule(original: Callable[..., Any], self: Any, other: Any) -> bool:
    """Return whether two rules are equal apart from their descriptions (moto compares these when the source is a group)."""
    return isinstance(other, SecurityGroupRule) and _essence(self) == _essence(other)


def _essence(rule: Any) -> tuple[Any, ...]:
    ports = (None, None) if rule.ip_protocol == "-1" else (rule.from_port, rule.to_port)
    return (
        rule.ip_protocol,
        ports,
        rule.cidr_ipv4,
        rule.cidr_ipv6,
        rule.source_group.get("GroupId"),
        rule.prefix_list_id,
    )


def _referenced_groups(ec2: Any, other_than: str) -> Iterator[str]:
    for groups in ec2.groups.values():
        for group in groups.values():
            if group.id != other_than:
                for rule in [*group.ingress_rules, *group.egress_rules]:
                    if rule.source_group:
                        yield rule.source_group["GroupId"]
