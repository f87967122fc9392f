"""Bridges, subnets' gateways and the machines' network namespaces: the lab's wires.

One bridge per VPC, so that VPCs cannot reach each other at all; one more bridge carries the lab's own gateway address.
The host never forwards for the lab: its table lets the bridges reach the API and the package proxy, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from ec2lab.errors import LabError, lab_command
from ec2lab.paths import API_PORT, PROXY_PORT, Lab
from ec2lab.shell import lines, run


@dataclass(frozen=True)
class Subnet:
    vpc_id: str
    vpc: IPv4Network
    network: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        return self.network.network_address + 1


@dataclass(frozen=True)
class Nic:
    """A machine's wire: what RunInstances promised for it."""

    instance_id: str
    address: IPv4Address
    mac: str
    subnet: Subnet

    @property
    def link(self) -> str:
        """The host's end of the wire, named after the machine's address, which no other has."""
        return f"rb{int(self.address):08x}"


def clash(lab: Lab) -> str | None:
    """What already uses addresses of the lab's range on this machine, or None."""
    for link in json.loads(run("ip", "-json", "-4", "address")):
        if lab.owns_bridge(link["ifname"]):
            continue
        for entry in link["addr_info"]:
            if IPv4Network(f"{entry['local']}/{entry['prefixlen']}", strict=False).overlaps(lab.network):
                return f"{entry['local']}/{entry['prefixlen']} on {link['ifname']}"
    for route in json.loads(run("ip", "-json", "-4", "route")):
        if route["dst"] == "default" or lab.owns_bridge(route.get("dev", "")):
            continue
        if IPv4Network(route["dst"], strict=False).overlaps(lab.network):
            return f"the route to {route['dst']} by {route.get('dev', '?')}"
    return None


def range_taken(lab: Lab, by: str) -> LabError:
    return LabError(
        f"the range {lab.network} is already in use here: {by}",
        "--range",
        f"choose another, for example {lab_command('up --range 10.99.0.0/16')}",
    )


def open_lab(lab: Lab) -> None:
    """Make the bridge with the gateway address and the table around it. Raises LabError when the range is taken."""
    taken = clash(lab)
    if taken:
        raise range_taken(lab, taken)
    _bridge(lab.bridge, f"{lab.gateway}/32")
    fence(lab, [])


def _bridge(name: str, *addresses: str) -> None:
    if not Path("/sys/class/net", name).exists():
        run("ip", "link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0")
        ipv6 = Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
        if ipv6.exists():
            ipv6.write_text("1")
        run("ip", "link", "set", name, "up")
    for address in addresses:
        run("ip", "address", "replace", address, "dev", name)


def fence(lab: Lab, bridges: Iterable[str]) -> None:
    """(Re)write the host's table: bridges speak within themselves, to the API and to the proxy; the rest is refused.

    Frames that stay on one bridge appear here too where br_netfilter is loaded, hence the first rule of `forward`.
    """
    within = "\n".join(f'iifname "{bridge}" oifname "{bridge}" accept' for bridge in sorted(bridges))
    ours = (f'"{lab.bridge}"', f'"{lab.bridge}-*"')  # not "{bridge}*": a lab `two` is none of lab `tw`
    outside = "\n".join(f"iifname {one} ip daddr != {lab.network} reject with icmp type admin-prohibited" for one in ours)
    shut = "\n".join(f"{way} {one} drop" for one in ours for way in ("iifname", "oifname"))
    entry = "\n".join(f"iifname {one} goto own" for one in ours)
    run(
        "nft",
        "-f",
        "-",
        stdin=f"""
add table inet {lab.table}
delete table inet {lab.table}
table inet {lab.table} {{
  chain outside {{
    type filter hook prerouting priority -150
    {outside}
  }}
  chain forward {{
    type filter hook forward priority -10
    {within}
    {shut}
  }}
  chain own {{
    ct state established,related accept
    meta l4proto icmp accept
    ip daddr {lab.gateway} tcp dport {{ {API_PORT}, {PROXY_PORT} }} accept
    reject with icmp type admin-prohibited
  }}
  chain input {{
    type filter hook input priority -10
    {entry}
  }}
}}
""",
    )


def sync_subnets(lab: Lab, subnets: Iterable[Subnet]) -> None:
    """Make the bridges and gateways those of `subnets`: add what lacks, remove what is no longer wanted."""
    wanted: dict[str, set[str]] = {}
    for subnet in subnets:
        bridge = lab.vpc_bridge(subnet.vpc_id)
        wanted.setdefault(bridge, set()).add(f"{subnet.gateway}/{subnet.network.prefixlen}")
    present = vpc_bridges(lab)
    for bridge in present.keys() - wanted.keys():
        run("ip", "link", "delete", bridge)
    for bridge, addresses in wanted.items():
        _bridge(bridge, *(addresses - present.get(bridge, set())))
        for address in present.get(bridge, set()) - addresses:
            run("ip", "address", "delete", address, "dev", bridge)
    if present.keys() != wanted.keys():
        fence(lab, wanted)


def vpc_bridges(lab: Lab) -> dict[str, set[str]]:
    """The VPC bridges that exist, each with its gateway addresses."""
    return {
        link["ifname"]: {f"{at['local']}/{at['prefixlen']}" for at in link["addr_info"] if at["family"] == "inet"}
        for link in json.loads(run("ip", "-json", "address", "show", "type", "bridge"))
        if link.get("ifname", "") != lab.bridge and lab.owns_bridge(link.get("ifname", ""))
    }


def plug(lab: Lab, nic: Nic) -> Path:
    """Make the machine's namespace and wire; returns the namespace's path. The link on the bridge is still down."""
    space = lab.namespace(nic.instance_id)
    run("ip", "netns", "add", space)
    bridge = lab.vpc_bridge(nic.subnet.vpc_id)  # from its first moment, so that a clean-up can tell whose the wire is
    wire = ("ip", "link", "add", nic.link, "master", bridge, "type", "veth")
    run(*wire, "peer", "name", "eth0", "address", nic.mac, "netns", space)
    run(
        "ip",
        "-netns",
        space,
        "-batch",
        "-",
        stdin=f"""\
link set lo up
link set eth0 up
address add {nic.address}/{nic.subnet.network.prefixlen} dev eth0
route replace {nic.subnet.vpc} dev eth0 src {nic.address}
route replace {lab.gateway} via {nic.subnet.gateway} src {nic.address}
route replace default via {nic.subnet.gateway} src {nic.address}
""",
    )
    run("ip", "link", "set", nic.link, "up")
    return Path("/run/netns", space)


def cut(nic: Nic) -> None:
    """Pull the wire: peers hear nothing from now on, not even a reset."""
    run("ip", "link", "delete", nic.link, check=False)


def unplug(lab: Lab, nic: Nic) -> None:
    """Remove the wire and the namespace."""
    cut(nic)
    run("ip", "netns", "delete", lab.namespace(nic.instance_id), check=False)


def pids_in(space: str) -> list[int]:
    """The processes in a network namespace."""
    return [int(pid) for pid in lines("ip", "netns", "pids", space)]
