"""Networks, subnets and their interfaces: where they may lie, and when they can go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from typing import Any

from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models.elastic_network_interfaces import NetworkInterfaceBackend
from moto.ec2.models.subnets import SubnetBackend
from moto.ec2.models.vpcs import VPCBackend
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.ec2.responses.subnets import Subnets

from ec2lab.api.patches import corrects, lab


@corrects(Subnets, "create_subnet")
def create_subnet_somewhere(original: Callable[..., Any], self: Any) -> Any:
    """Choose the first zone where none is asked for; moto takes any, also one that does not offer today's instance types."""
    if not self._get_param("AvailabilityZone") and not self._get_param("AvailabilityZoneId"):
        self.params["AvailabilityZone"] = f"{self.region}a"
    return original(self)


@corrects(SubnetBackend, "create_subnet")
def create_subnet(original: Callable[..., Any], self: Any, vpc_id: str, cidr_block: str, *rest: Any, **more: Any) -> Any:
    """Refuse a subnet outside the lab's range or overlapping one of another VPC, because the host must reach every subnet (unless the lab takes any network).

    A range with host bits is taken as its network (API reference, CreateSubnet: "we modify the specified CIDR block to its canonical form").
    """
    if not cidr_block:
        raise EC2ClientError("UnsupportedOperation", "The lab has no subnets of IPv6 alone.")
    cidr_block = _network(cidr_block)
    refusal = _unreachable(self, vpc_id, IPv4Network(cidr_block))
    if refusal and not lab().lab.any_network_file.exists():
        raise refusal
    subnet = original(self, vpc_id, cidr_block, *rest, **more)
    subnet.default_for_az = subnet.default_for_az and self.get_vpc(vpc_id).is_default
    subnet.map_public_ip_on_launch = False
    subnet.reached = refusal is None
    return subnet


def _unreachable(ec2: Any, vpc_id: str, network: IPv4Network) -> EC2ClientError | None:
    """Return the error that says why this machine cannot have a way into a subnet of these addresses, or None."""
    here = lab().lab
    if not network.subnet_of(here.network) or here.gateway in network or network.overlaps(here.public):
        return EC2ClientError(
            "InvalidSubnet.Range",
            f"The CIDR '{network}' is invalid: this lab has {here.network}, and keeps what is around "
            f"{here.gateway} and {here.public} for itself. Choose another `network` or start the lab with another --range.",
        )
    for other in _all_subnets(ec2):
        if other.vpc_id != vpc_id and network.overlaps(other.cidr):
            return EC2ClientError("InvalidSubnet.Conflict", f"The CIDR '{network}' conflicts with {other.id} of {other.vpc_id}")
    return None


@corrects(VPCBackend, "create_vpc")
def create_vpc(original: Callable[..., Any], self: Any, cidr_block: str, *rest: Any, **more: Any) -> Any:
    """Take a range with host bits as its network, as CreateSubnet does, and refuse what is no range."""
    if cidr_block:
        cidr_block = _network(cidr_block)
    return original(self, cidr_block, *rest, **more)


@corrects(SubnetBackend, "delete_subnet")
def delete_subnet(original: Callable[..., Any], self: Any, subnet_id: str) -> Any:
    if any(eni.subnet.id == subnet_id for eni in self.enis.values()):
        raise DependencyViolationError(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
    return original(self, subnet_id)


@corrects(VPCBackend, "delete_vpc")
def delete_vpc(original: Callable[..., Any], self: Any, vpc_id: str) -> Any:
    """Refuse to delete a VPC that still has internet gateways or security groups (moto ignores these)."""
    gateways = [gateway for gateway in self.internet_gateways.values() if gateway.vpc and gateway.vpc.id == vpc_id]
    groups = [group for group in self.groups.get(vpc_id, {}).values() if group.name != "default"]
    if gateways or groups:
        raise DependencyViolationError(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")
    return original(self, vpc_id)


def _all_subnets(ec2: Any) -> Iterator[Any]:
    for zone in ec2.subnets.values():
        yield from zone.values()


def _network(text: str) -> str:
    try:
        return str(IPv4Network(text, strict=False))
    except ValueError:
        raise EC2ClientError("InvalidParameterValue", f"Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.") from None


@corrects(ElasticNetworkInterfaces, "delete_network_interface")
def delete_interface_of_nothing(original: Callable[..., Any], self: Any) -> Any:
    """Refuse an interface that is attached (API reference, DeleteNetworkInterface: "You must detach the network interface before you can delete it")."""
    nic = self.ec2_backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    if nic.status == "in-use" or nic.interface_type == "nat_gateway":
        raise EC2ClientError("InvalidParameterValue", f"Network interface '{nic.id}' is currently in use.")
    return original(self)


@corrects(NetworkInterfaceBackend, "delete_network_interface")
def delete_interface(original: Callable[..., Any], self: Any, eni_id: str) -> None:
    """Free the addresses of the interface, which moto keeps in use, and its Elastic IP address."""
    nic = self.get_network_interface(eni_id)
    original(self, eni_id)
    for private in {nic.private_ip_address, *(each["PrivateIpAddress"] for each in nic.private_ip_addresses)}:
        nic.subnet.del_subnet_ip(private)
    for address in self.addresses:
        if address.eni is nic:
            address.eni = address.instance = address.association_id = None
