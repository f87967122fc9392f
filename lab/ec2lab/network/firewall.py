"""Security groups as nftables rules inside each machine's network namespace.

As on AWS: traffic that no rule allows is dropped, replies to allowed traffic pass (stateful), and a rule's source is a
range of addresses or the members of a group. Machines lack CAP_NET_ADMIN, so their own root cannot change these rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ec2lab.shell import run

TABLE = "security_groups"
PROTOCOL_NAMES = {"icmpv6": "ipv6-icmp"}  # EC2's name: nft's, where they differ


@dataclass(frozen=True)
class Allow:
    """One permission. `peers` are ranges of addresses; ports are inclusive (for icmp: type and code, -1 for any)."""

    protocol: str  # tcp, udp, icmp, -1 (all) or a protocol number
    peers: tuple[IPv4Network, ...]
    from_port: int | None = None
    to_port: int | None = None

    def match(self, side: str) -> str:
        """Return the nft statement of the permission. `side`: saddr for an inbound and daddr for an outbound permission."""
        peers = ", ".join(str(peer) for peer in sorted(set(self.peers)))
        return f"ip {side} {{ {peers} }} {self._service()}accept"

    def _service(self) -> str:
        if self.protocol == "-1":
            return ""
        if self.protocol in ("tcp", "udp"):
            if self.from_port in (None, -1) or (self.from_port, self.to_port) == (0, 65535):
                return f"meta l4proto {PROTOCOL_NAMES.get(self.protocol, self.protocol)} "
            return f"{self.protocol} dport {self.from_port}-{self.to_port} "
        if self.protocol == "icmp":
            kind = "" if self.from_port in (None, -1) else f"icmp type {self.from_port} "
            code = "" if self.to_port in (None, -1) else f"icmp code {self.to_port} "
            return f"meta l4proto icmp {kind}{code}"
        return f"meta l4proto {PROTOCOL_NAMES.get(self.protocol, self.protocol)} "


def group_members(addresses: Iterable[str]) -> tuple[IPv4Network, ...]:
    """Return the addresses of a group's members as peers of a permission."""
    return tuple(IPv4Network(IPv4Address(address)) for address in addresses)


def ruleset(inbound: Iterable[Allow], outbound: Iterable[Allow]) -> str:
    """Return the whole table as nft text. Loading it replaces the table in one transaction."""
    entry = "\n    ".join(sorted({allow.match("saddr") for allow in inbound if allow.peers}))
    leave = "\n    ".join(sorted({allow.match("daddr") for allow in outbound if allow.peers}))
    return f"""\
add table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain input {{
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iifname "lo" accept
    {entry}
  }}
  chain output {{
    type filter hook output priority 0; policy drop;
    ct state established,related accept
    oifname "lo" accept
    ip daddr 169.254.169.254 accept
    {leave}
  }}
}}
"""


def load(space: str, rules: str) -> None:
    """Load `rules` in the network namespace named `space`."""
    run("nsenter", f"--net=/run/netns/{space}", "nft", "-f", "-", stdin=rules)
