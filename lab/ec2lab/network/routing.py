"""What the route tables of the API mean for the machines: who has a way out of its network, and which machine stands behind an Elastic IP.

As on AWS ("Route tables", "Internet gateways", "NAT gateways"): a subnet's table, else the VPC's main one, decides. Through an internet gateway
only a machine with a public address gets out and in; through a NAT gateway whose own subnet leads to an internet gateway it gets out.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

EVERYWHERE = "0.0.0.0/0"
INTERNET, NAT = "internet gateway", "NAT gateway"


def reached(subnet: Any) -> bool:
    """Return whether this machine is to have a way into a subnet: the API says so of each that it makes."""
    return bool(getattr(subnet, "reached", False))


def leads_to(ec2: Any, subnet: Any) -> str:
    """Return INTERNET, NAT, or an empty text for a subnet whose machines stay among themselves."""
    table = table_of(ec2, subnet)
    for route in table.routes if table else ():
        if route.destination_cidr_block != EVERYWHERE:
            continue
        if route.gateway is not None and getattr(route.gateway, "vpc", None) is not None:
            return INTERNET if route.gateway.vpc.id == subnet.vpc_id else ""
        if route.nat_gateway is not None and works(ec2, route.nat_gateway):
            return NAT
    return ""


def table_of(ec2: Any, subnet: Any) -> Any:
    """Return the route table of a subnet: its own, else the main one of its VPC."""
    tables = [table for table in ec2.route_tables.values() if table.vpc_id == subnet.vpc_id]
    own = [table for table in tables if subnet.id in table._associations.values()]
    return next(iter(own or [table for table in tables if table.main_association_id]), None)


def works(ec2: Any, nat: Any) -> bool:
    """Return whether a NAT gateway passes traffic on."""
    return nat.state == "available" and leads_to(ec2, ec2.get_subnet(nat.subnet_id)) == INTERNET


def ways_out(ec2: Any) -> Iterator[IPv4Address]:
    """Give the private address of each machine that reaches what is outside its network."""
    for instance in ec2.all_instances():
        if instance.state == "terminated" or not instance.subnet_id:
            continue
        subnet = ec2.get_subnet(instance.subnet_id)
        if reached(subnet):
            way = leads_to(ec2, subnet)
            if way == NAT or (way == INTERNET and instance.nics[0].public_ip):
                yield IPv4Address(instance.private_ip)


def public_addresses(ec2: Any) -> Iterator[tuple[IPv4Address, IPv4Address]]:
    """Give each Elastic IP that leads to a machine, with the machine's private address."""
    for address in ec2.addresses:
        nic = address.eni
        if nic is not None and nic.instance is not None and reached(nic.subnet) and leads_to(ec2, nic.subnet) == INTERNET:
            yield IPv4Address(address.public_ip), IPv4Address(nic.private_ip_address)
