"""The subnets of a deployment: which machines stand in which, where they lie, and which way their traffic leaves. No I/O.

A route to the internet belongs to a subnet, not to a machine. So the Nginx machines, which visitors reach at public addresses, stand in
a subnet of their own, the others in private ones, and the NAT gateway, their way out, in a third (AWS: "NAT gateways", "Route tables").
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from runbook_lib.spec.model import Spec

NGINX, NAT = "nginx", "nat"
# Where the subnets of a network of our own begin, and their prefix lengths. The last one is there with two zones only.
PRIVATE_BLOCKS = ((0, 25), (256, 25))
NGINX_BLOCK, NAT_BLOCK = (128, 26), (192, 28)


@dataclass(frozen=True)
class PlannedSubnet:
    """One subnet. `zone`: its availability zone, counted from 0; `id`: of a subnet that exists already, empty where we make it."""

    name: str
    network: ipaddress.IPv4Network
    zone: int = 0
    id: str = ""


def subnets_of(spec: Spec) -> tuple[PlannedSubnet, ...]:
    """Return the subnets: `private-1`, with two zones `private-2`, and `nginx`; in a network of our own also `nat`.

    Existing subnets are what the parameters say; where they name none for Nginx, its machines stand in `private-1` as well.
    """
    cloud = spec.cloud
    if cloud.vpc:
        private = [
            PlannedSubnet(f"private-{number}", ipaddress.IPv4Network(cidr), number - 1, id_) for number, (id_, cidr) in enumerate(cloud.subnets.items(), 1)
        ]
        nginx = [PlannedSubnet(NGINX, ipaddress.IPv4Network(cidr), 0, id_) for id_, cidr in cloud.nginx_subnet.items()]
        return (*private, *nginx)
    blocks = PRIVATE_BLOCKS if cloud.second_zone else PRIVATE_BLOCKS[:1]
    private = [PlannedSubnet(f"private-{number}", _block(spec, block), number - 1) for number, block in enumerate(blocks, 1)]
    return (*private, PlannedSubnet(NGINX, _block(spec, NGINX_BLOCK)), PlannedSubnet(NAT, _block(spec, NAT_BLOCK)))


def _block(spec: Spec, block: tuple[int, int]) -> ipaddress.IPv4Network:
    first, prefix = block
    return ipaddress.IPv4Network((ipaddress.IPv4Network(spec.cloud.network)[first], prefix))
