"""Bridges, subnets' gateways, and the machines' links and network namespaces.

One bridge per VPC, so that VPCs cannot reach each other; one more bridge has the lab's own gateway address.
The host does not forward traffic for the lab: its table lets machines whose network has a way out reach the API and the package proxy, and nothing
else; the metadata service answers each machine. Elastic IPs are reached from this machine only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from ec2lab.errors import LabError, lab_command
from ec2lab.paths import API_PORT, METADATA_PORT, PROXY_PORT, Lab
from ec2lab.shell import lines, run

# A link sends nothing before the kernel has seen its carrier, for which a busy computer may take seconds.
ANNOUNCE = """\
n=0; until [ "$(cat /sys/class/net/eth0/operstate)" = up ] || [ $n -gt 3000 ]; do n=$((n + 1)); sleep 0.01; done
echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_notify; ip link set eth0 address {mac}"""
METADATA = "169.254.169.254"  # the address of the metadata service, for every machine on AWS


@dataclass(frozen=True)
class Subnet:
    """A subnet. `reached`: whether this machine has an address and a route in it; its machines reach each other in any case."""

    vpc_id: str
    vpc: IPv4Network
    network: IPv4Network
    reached: bool = True

    @property
    def gateway(self) -> IPv4Address:
        return self.network.network_address + 1


@dataclass(frozen=True)
class Nic:
    """A machine's network interface, as RunInstances returned it."""

    instance_id: str
    address: IPv4Address
    mac: str
    subnet: Subnet

    @property
    def link(self) -> str:
        """Return the name of the link's end on the host: an interface's name has 15 characters at most."""
        return f"rb{self.instance_id[-11:]}"


def clash(lab: Lab) -> str | None:
    """Return, in words, the address or route on this machine that already uses the lab's range; None when there is none."""
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
    """Create the bridge with the gateway address and the host's table. Raises LabError when the range is already in use."""
    taken = clash(lab)
    if taken:
        raise range_taken(lab, taken)
    _bridge(lab.bridge, f"{lab.gateway}/32")
    run("ip", "route", "replace", str(lab.public), "dev", lab.bridge, "src", str(lab.gateway))
    Fence().load(lab)


def _without_ipv6(link: str) -> None:
    """Keep the link from giving itself an address: a browser on this machine takes each new one for a change of network, and breaks off what it loads."""
    ipv6 = Path("/proc/sys/net/ipv6/conf", link, "disable_ipv6")
    if ipv6.exists():
        ipv6.write_text("1")


def _bridge(name: str, *addresses: str) -> None:
    if not Path("/sys/class/net", name).exists():
        # An own hardware address: without one it is the lowest of its ports', and changes when that machine goes; the others then answer to nobody for 40 s.
        mac = "02:ec:" + ":".join(f"{byte:02x}" for byte in hashlib.sha256(name.encode()).digest()[:4])
        run("ip", "link", "add", name, "address", mac, "type", "bridge", "stp_state", "0", "forward_delay", "0")
        _without_ipv6(name)
        run("ip", "link", "set", name, "up")
    for address in addresses:
        run("ip", "address", "replace", address, "dev", name, "noprefixroute")


@dataclass(frozen=True)
class Fence:
    """The host's table: traffic inside a bridge is allowed, and from machines with a way out to the API and the proxy; everything else is refused.

    `ways_out`: the private addresses of these machines. `public`: Elastic IPs, each with the private address that it leads to from this machine.
    `beyond`: the bridges of VPCs with addresses that this machine has no way to, with these. Where br_netfilter is loaded, `outside` sees their frames.
    """

    bridges: frozenset[str] = frozenset()
    ways_out: frozenset[IPv4Address] = frozenset()
    public: frozenset[tuple[IPv4Address, IPv4Address]] = frozenset()
    beyond: frozenset[tuple[str, IPv4Network]] = frozenset()

    def load(self, lab: Lab) -> None:
        """Write or replace the table in one transaction.

        Where br_netfilter is loaded, it also sees frames that stay on one bridge; the first rule of `forward` allows these.
        """
        run("nft", "-f", "-", stdin=self.table(lab))

    def table(self, lab: Lab) -> str:
        within = "\n".join(f'iifname "{bridge}" oifname "{bridge}" accept' for bridge in sorted(self.bridges))
        ours = (f'"{lab.bridge}"', f'"{lab.bridge}-*"')  # not "{bridge}*", which for a lab `tw` would also match a lab `two`
        stays = "\n".join(f'iifname "{bridge}" ip daddr {vpc} accept' for bridge, vpc in sorted(self.beyond))
        outside = "\n".join(f"iifname {one} ip daddr != {lab.network} reject with icmp type admin-prohibited" for one in ours)
        shut = "\n".join(f"{way} {one} drop" for one in ours for way in ("iifname", "oifname"))
        entry = "\n".join(f"iifname {one} goto own" for one in ours)
        out = ", ".join(map(str, sorted(self.ways_out)))
        asking, answers = (f"ip daddr {METADATA} tcp dport 80 {what}" for what in ("accept", f"dnat ip to {lab.gateway}:{METADATA_PORT}"))
        led = "\n".join(f"iifname {one} {answers}" for one in ours)
        served = f"ip saddr {{ {out} }} ip daddr {lab.gateway} tcp dport {{ {API_PORT}, {PROXY_PORT} }} accept" if out else ""
        elastic = "\n".join(f"ip daddr {public} dnat ip to {private}" for public, private in sorted(self.public))
        return f"""
add table inet {lab.table}
delete table inet {lab.table}
table inet {lab.table} {{
  chain metadata {{
    type nat hook prerouting priority -100
    {led}
  }}
  chain outside {{
    type filter hook prerouting priority -150
    {asking}
    {stays}
    {outside}
  }}
  chain elastic {{
    type nat hook output priority -100
    {elastic}
  }}
  chain forward {{
    type filter hook forward priority -10
    {within}
    {shut}
  }}
  chain own {{
    ct state established,related accept
    meta l4proto icmp accept
    {served}
    ip daddr {lab.gateway} tcp dport {METADATA_PORT} accept
    ip daddr {lab.gateway} tcp dport {{ {API_PORT}, {PROXY_PORT} }} drop
    reject with icmp type admin-prohibited
  }}
  chain input {{
    type filter hook input priority -10
    {entry}
  }}
}}
"""


def sync_subnets(lab: Lab, subnets: Iterable[Subnet]) -> set[str]:
    """Create the missing bridges and gateway addresses of `subnets`, and remove the lab's others. Return the names of the VPCs' bridges."""
    wanted: dict[str, set[str]] = {}
    for subnet in subnets:
        bridge = lab.vpc_bridge(subnet.vpc_id)
        wanted.setdefault(bridge, set()).update([f"{subnet.gateway}/{subnet.network.prefixlen}"] if subnet.reached else [])
    present = vpc_bridges(lab)
    for bridge in present.keys() - wanted.keys():
        run("ip", "link", "delete", bridge)
    for bridge, addresses in wanted.items():
        _bridge(bridge, *(addresses - present.get(bridge, set())))
        for address in addresses - present.get(bridge, set()):  # this machine comes from one address, whatever subnet it goes to
            run("ip", "route", "replace", str(IPv4Interface(address).network), "dev", bridge, "src", str(lab.gateway))
        for address in present.get(bridge, set()) - addresses:
            run("ip", "address", "delete", address, "dev", bridge)
            run("ip", "route", "delete", str(IPv4Interface(address).network), "dev", bridge, check=False)
    return set(wanted)


def vpc_bridges(lab: Lab) -> dict[str, set[str]]:
    """Return the gateway addresses of each existing VPC bridge, by the bridge's name."""
    return {
        link["ifname"]: {f"{at['local']}/{at['prefixlen']}" for at in link["addr_info"] if at["family"] == "inet"}
        for link in json.loads(run("ip", "-json", "address", "show", "type", "bridge"))
        if link.get("ifname", "") != lab.bridge and lab.owns_bridge(link.get("ifname", ""))
    }


def plug(lab: Lab, nic: Nic) -> Path:
    """Create the machine's network namespace and link, and return the namespace's path."""
    space = lab.namespace(nic.instance_id)
    run("ip", "netns", "add", space)
    bridge = lab.vpc_bridge(nic.subnet.vpc_id)  # given when the link is created, so that a clean-up can always tell which lab it belongs to
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
    _without_ipv6(nic.link)
    run("ip", "link", "set", nic.link, "up")
    # tells the neighbours whose its address is now: they would go on sending to the machine that had it before, for half a minute
    run("ip", "netns", "exec", space, "sh", "-c", ANNOUNCE.format(mac=nic.mac), timeout=180)
    return Path("/run/netns", space)


def cut(nic: Nic) -> None:
    """Remove the machine's link. Peers then receive nothing from it, not even a reset."""
    run("ip", "link", "delete", nic.link, check=False)


def unplug(lab: Lab, nic: Nic) -> None:
    """Remove the machine's link and namespace."""
    cut(nic)
    run("ip", "netns", "delete", lab.namespace(nic.instance_id), check=False)


def pids_in(space: str) -> list[int]:
    """Return the pids of the processes in a network namespace."""
    return [int(pid) for pid in lines("ip", "netns", "pids", space)]
