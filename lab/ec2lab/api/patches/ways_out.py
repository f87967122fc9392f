"""Ways in and out of a network: Elastic IPs, NAT gateways, route tables. With the source of each rule."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.elastic_ip_addresses import ElasticAddressBackend
from moto.ec2.models.internet_gateways import InternetGatewayBackend
from moto.ec2.models.nat_gateways import NatGatewayBackend
from moto.ec2.models.route_tables import Route, RouteBackend
from moto.ec2.responses.route_tables import RouteTables

from ec2lab.api.patches import corrects, lab, resumes
from ec2lab.network import routing

MOMENT = 1.0  # seconds after a NAT gateway is deleted that EC2 still calls its address somebody else's
SECONDS = 3.0  # that a NAT gateway is pending, and deleting; a minute or more on AWS


# --- Elastic IPs


@corrects(ElasticAddressBackend, "allocate_address")
def allocate_address(original: Callable[..., Any], self: Any, domain: str, address: str | None = None, tags: Any = None) -> Any:
    """Give an address of the lab's public range, to which this machine has a route (moto: any of the internet)."""
    taken = {each.public_ip for each in self.addresses}
    public: IPv4Network = lab().lab.public
    free = next((str(host) for host in public.hosts() if str(host) not in taken), None)
    if free is None:
        raise EC2ClientError("AddressLimitExceeded", "The maximum number of addresses has been reached.")
    return original(self, domain or "vpc", address or free, tags)


@corrects(ElasticAddressBackend, "associate_address")
def associate_address(original: Callable[..., Any], self: Any, instance: Any = None, eni: Any = None, *rest: Any, **more: Any) -> Any:
    """Refuse machines that do not run yet, and networks without an internet gateway (API reference, AssociateAddress: Gateway.NotAttached)."""
    if instance is not None and instance.state == "pending":
        raise EC2ClientError("InvalidInstanceID", f"The pending instance '{instance.id}' is not in a valid state for this operation.")
    nic = eni or instance.nics[0]
    if not _gateways_of(self, nic.subnet.vpc_id):
        raise EC2ClientError("Gateway.NotAttached", f"Network {nic.subnet.vpc_id} is not attached to any internet gateway")
    for other in self.addresses:  # a machine has one: the new one takes the place of the old one
        if other.eni is nic:
            other.eni = other.instance = other.association_id = None
    return original(self, instance, eni, *rest, **more)


@corrects(ElasticAddressBackend, "disassociate_address")
def disassociate_address(original: Callable[..., Any], self: Any, address: str | None = None, association_id: str | None = None) -> None:
    """Leave a NAT gateway its address as long as it exists (VPC guide, "NAT gateways": it cannot be disassociated, the gateway is deleted)."""
    asked = [each for each in self.addresses if (association_id and each.association_id == association_id) or (address and each.public_ip == address)]
    if any(_nat_of(self, each) for each in asked):
        raise EC2ClientError("AuthFailure", "You do not have permission to access the specified resource.")
    original(self, address, association_id)


@corrects(ElasticAddressBackend, "release_address")
def release_address(original: Callable[..., Any], self: Any, address: str | None = None, allocation_id: str | None = None) -> None:
    """Refuse to release an address in use (API reference, ReleaseAddress: disassociate it first, else InvalidIPAddress.InUse).

    Of one that a NAT gateway holds, or held a moment ago, EC2 says AuthFailure.
    """
    for each in self.addresses:
        asked = (allocation_id and each.allocation_id == allocation_id) or (address and each.public_ip == address)
        if asked and (_nat_of(self, each) or any(_held_just_now(nat, each) for nat in self.nat_gateways.values())):
            raise EC2ClientError("AuthFailure", "You do not have permission to access the specified resource.")
        if asked and (each.eni is not None or each.instance is not None):
            raise EC2ClientError("InvalidIPAddress.InUse", f"The address '{each.public_ip}' is in use.")
    original(self, address, allocation_id)


def _nat_of(ec2: Any, address: Any) -> Any:
    return next((nat for nat in ec2.nat_gateways.values() if address.eni is not None and nat._eni is address.eni and nat.state != "deleted"), None)


def _held_just_now(nat: Any, address: Any) -> bool:
    return nat.address_set[0]["allocationId"] == address.allocation_id and time.time() - getattr(nat, "closed", 0.0) < MOMENT


def _gateways_of(ec2: Any, vpc_id: str) -> list[Any]:
    return [gateway for gateway in ec2.internet_gateways.values() if gateway.vpc is not None and gateway.vpc.id == vpc_id]


# --- NAT gateways


@corrects(NatGatewayBackend, "create_nat_gateway")
def create_nat_gateway(original: Callable[..., Any], self: Any, subnet_id: str, allocation_id: str, *rest: Any, **more: Any) -> Any:
    """Make the gateway `pending`, `SECONDS` later `available`. A network without an internet gateway is refused (VPC guide, "Troubleshoot NAT gateways")."""
    subnet = self.get_subnet(subnet_id)
    if not _gateways_of(self, subnet.vpc_id):  # moto associates the address at once, which the rule above refuses without a gateway
        raise EC2ClientError("Gateway.NotAttached", f"Network {subnet.vpc_id} has no Internet gateway attached")
    if any(address.eni is not None for address in self.address_by_allocation([allocation_id])):
        raise EC2ClientError("Resource.AlreadyAssociated", f"Elastic IP address [{allocation_id}] is already associated")
    nat = original(self, subnet_id, allocation_id, *rest, **more)
    nat._eni.private_ip_address = nat.address_set[0]["privateIp"] = subnet.get_available_subnet_ip(nat._eni)
    nat._eni.interface_type = "nat_gateway"
    nat.state = "pending"
    _later(lambda: _open(nat))
    return nat


def _open(nat: Any) -> None:
    nat.state = "available" if nat.state == "pending" else nat.state


@resumes
def go_on() -> None:
    """Go on with the gateways that an earlier daemon left pending or deleting."""
    for nat in lab().ec2.nat_gateways.values():
        if nat.state == "pending":
            _later(partial(_open, nat))
        elif nat.state == "deleting":
            _later(partial(_close, lab().ec2, nat))


@corrects(NatGatewayBackend, "delete_nat_gateway")
def delete_nat_gateway(original: Callable[..., Any], self: Any, nat_gateway_id: str) -> Any:
    """Make the gateway `deleting`; `SECONDS` later it is deleted, and only then its interface and its address are free (API reference, DeleteNatGateway)."""
    nat = self.nat_gateways.get(nat_gateway_id)
    if nat is None:
        raise EC2ClientError("NatGatewayNotFound", f"The Nat Gateway {nat_gateway_id} was not found")
    if nat.state in ("deleting", "deleted"):
        return nat
    nat.state = "deleting"
    _later(partial(_close, self, nat))
    return nat


def _close(ec2: Any, nat: Any) -> None:
    nat.state, nat.closed = "deleted", time.time()
    ec2.delete_network_interface(nat._eni.id)


@corrects(NatGatewayBackend, "describe_nat_gateways")
def describe_nat_gateways(original: Callable[..., Any], self: Any, filters: Any, nat_gateway_ids: Any) -> Any:
    """Heed filters on tags, too, and refuse ids that do not exist."""
    if unknown := [id_ for id_ in nat_gateway_ids or [] if id_ not in self.nat_gateways]:
        raise EC2ClientError("NatGatewayNotFound", f"The Nat Gateway {unknown[0]} was not found")
    wanted = {key.removeprefix("tag:"): values for key, values in (filters or {}).items() if key.startswith("tag:")}
    found = original(self, filters, nat_gateway_ids)
    return [nat for nat in found if all(tag in _tags(nat) and _tags(nat)[tag] in values for tag, values in wanted.items())]


def _tags(thing: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in thing.get_tags()}


def _later(work: Callable[[], Any]) -> None:
    hypervisor = lab()

    def run() -> None:
        with hypervisor.guard:
            work()
        hypervisor.changed()

    timer = threading.Timer(SECONDS, run)
    timer.daemon = True
    timer.start()


# --- route tables and internet gateways


@corrects(InternetGatewayBackend, "detach_internet_gateway")
def detach_internet_gateway(original: Callable[..., Any], self: Any, internet_gateway_id: str, vpc_id: str) -> None:
    """Refuse while machines or NAT gateways of the network have public addresses (VPC guide, "Internet gateways", deleting)."""
    if any(address.eni is not None and address.eni.subnet.vpc_id == vpc_id for address in self.addresses):
        what = f"Network {vpc_id} has some mapped public address(es). Please unmap those public address(es) before detaching the gateway."
        raise EC2ClientError("DependencyViolation", what)
    original(self, internet_gateway_id, vpc_id)


@corrects(RouteBackend, "create_route")
def create_route(original: Callable[..., Any], self: Any, route_table_id: str, *rest: Any, **more: Any) -> Any:
    """Refuse a gateway that is not attached to the table's network (API reference, CreateRoute: it must be)."""
    gateway = more.get("gateway_id")
    if gateway and gateway.startswith("igw-"):
        vpc = self.get_route_table(route_table_id).vpc_id
        if gateway not in [each.id for each in _gateways_of(self, vpc)]:
            raise EC2ClientError("InvalidParameterValue", f"route table {route_table_id} and network gateway {gateway} belong to different networks")
    return original(self, route_table_id, *rest, **more)


@corrects(RouteBackend, "associate_route_table")
def associate_route_table(original: Callable[..., Any], self: Any, route_table_id: str, gateway_id: str | None = None, subnet_id: str | None = None) -> Any:
    """Refuse a subnet that has another table already (API reference: ReplaceRouteTableAssociation changes it); moto does nothing and says yes."""
    if subnet_id is not None:
        table = routing.table_of(self, self.get_subnet(subnet_id))
        if subnet_id in table._associations.values() and table.id != route_table_id:
            raise EC2ClientError(
                "Resource.AlreadyAssociated", f"the specified association for route table {route_table_id} conflicts with an existing association"
            )
    return original(self, route_table_id, gateway_id, subnet_id)


@corrects(RouteTables, "delete_route_table")
def delete_route_table(original: Callable[..., Any], self: Any) -> Any:
    """Refuse to delete the main table of a network (API reference, DeleteRouteTable); moto deletes it."""
    table = self.ec2_backend.get_route_table(self._get_param("RouteTableId"))
    if table.main_association_id:
        raise EC2ClientError("DependencyViolation", f"The routeTable '{table.id}' has dependencies and cannot be deleted.")
    return original(self)


@corrects(Route, "state")
def route_state(original: Callable[..., Any], self: Any) -> str:
    """Return `blackhole` for a route to what is gone (API reference, Route)."""
    if self.nat_gateway is not None and self.nat_gateway.state in ("deleting", "deleted", "failed"):
        return "blackhole"
    if self.gateway is not None and getattr(self.gateway, "vpc", self) is None:
        return "blackhole"
    return "active"
