"""The deployment's network: a VPC, its subnet, and the internet gateway where machines are reached from outside."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.aws.zones import zone_for
from runbook_lib.changes import Pending
from runbook_lib.errors import CloudError
from runbook_lib.launch.inventory import (
    FIRST_PAUSE,
    HARDENING,
    IMAGE,
    LONGEST_PAUSE,
    PATTERN,
    SHOWN,
    Inventory,
    Question,
    not_shown,
    pending,
    tags_of,
    unless_gone,
)
from runbook_lib.waiting import wait_until

PARTS = (
    ("describe_vpcs", "Vpcs", "VpcId"),
    ("describe_subnets", "Subnets", "SubnetId"),
    ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
)


def observe(inventory: Inventory) -> None:
    inventory.vpc, inventory.subnet, inventory.gateway = (inventory.only(inventory.tagged(operation, key), id_key) for operation, key, id_key in PARTS)


def plan(inventory: Inventory) -> Iterator[Pending]:
    """`CloudError` for what cannot be changed in place."""
    refuse_other_design(inventory)
    cloud = inventory.spec.cloud
    if inventory.vpc is None:
        yield pending("create", "network", "VPC", cloud.network, _make_vpc)
    if inventory.subnet is None:
        yield pending("create", "network", "subnet", f"{cloud.network} in {inventory.zone}", _make_subnet)
    if cloud.connect_via != "private":
        attached = inventory.gateway and inventory.vpc and any(item.get("VpcId") == inventory.vpc["VpcId"] for item in inventory.gateway.get("Attachments", []))
        if not attached:
            why = f"{inventory.deployment}'s way to package mirrors, and visitors' way in"
            yield pending("create", "network", "internet gateway", why, _make_gateway)


def refuse_other_design(inventory: Inventory) -> None:
    """A live deployment keeps its pattern, hardening, network, zone and image: what its machines hold was made for them."""
    if inventory.vpc is None:
        return
    spec, tags = inventory.spec, tags_of(inventory.vpc)
    zone = inventory.subnet["AvailabilityZone"] if inventory.subnet else spec.cloud.availability_zone
    for key, live, asked in (
        ("pattern", tags.get(PATTERN, spec.pattern), spec.pattern),
        ("hardening", tags.get(HARDENING, spec.hardening), spec.hardening),
        ("cloud.network", inventory.vpc["CidrBlock"], spec.cloud.network),
        ("cloud.availability_zone", zone, spec.cloud.availability_zone or zone),
        ("cloud.image", tags.get(IMAGE, spec.cloud.image), spec.cloud.image),
    ):
        if live != asked:
            raise CloudError(
                f"{key} of the live deployment {spec.deployment} is {live}, the parameters say {asked}: its "
                "machines, databases and keys were made for the former, which they cannot be turned from",
                str(spec.source or key),
                f"destroy it first (./runbook destroy), or choose another `deployment` name, or set {key} back",
            )


def choose_zone(inventory: Inventory) -> None:
    """Note the zone of the subnet to make. Raises `CloudError` where a type that is to be launched is not offered in the deployment's zone."""
    here, live = inventory.here, inventory.subnet["AvailabilityZone"] if inventory.subnet else None
    unchanged = {name for name, machine in here.items() if machine.instance_type == inventory.topology.node(name).instance_type} if live else set()
    types = {node.instance_type for node in inventory.topology.nodes if node.name not in unchanged}
    if types:
        inventory.zone = zone_for(inventory.ec2, types, live or inventory.spec.cloud.availability_zone)


def apply(inventory: Inventory) -> None:
    for missing in list(plan(inventory)):
        inventory.say(missing.change.key.removeprefix("network "), "creating")
        missing.subject(inventory)


def _make_vpc(inventory: Inventory) -> None:
    marks = {PATTERN: inventory.spec.pattern, HARDENING: inventory.spec.hardening, IMAGE: inventory.spec.cloud.image}
    inventory.vpc = inventory.ec2.create_vpc(CidrBlock=inventory.spec.cloud.network, TagSpecifications=[inventory.tags("vpc", **marks)])["Vpc"]
    inventory.await_shown(*PARTS[0], inventory.vpc["VpcId"])
    inventory.ec2.wait("vpc_available", VpcIds=[inventory.vpc["VpcId"]])


def _make_subnet(inventory: Inventory) -> None:
    assert inventory.vpc
    cloud = inventory.spec.cloud
    answer = inventory.ec2.create_subnet(
        VpcId=inventory.vpc["VpcId"], CidrBlock=cloud.network, AvailabilityZone=inventory.zone, TagSpecifications=[inventory.tags("subnet")]
    )
    inventory.subnet = answer["Subnet"]
    inventory.await_shown(*PARTS[1], inventory.subnet["SubnetId"])
    if cloud.connect_via != "private":
        inventory.ec2.modify_subnet_attribute(SubnetId=inventory.subnet["SubnetId"], MapPublicIpOnLaunch={"Value": True})


def _make_gateway(inventory: Inventory) -> None:
    """The VPC's main route table sends what is not local through it; the route goes when the VPC goes."""
    assert inventory.vpc
    vpc = inventory.vpc["VpcId"]
    if inventory.gateway is None:
        inventory.gateway = inventory.ec2.create_internet_gateway(TagSpecifications=[inventory.tags("internet-gateway")])["InternetGateway"]
        inventory.await_shown(*PARTS[2], inventory.gateway["InternetGatewayId"])
    gateway = inventory.gateway["InternetGatewayId"]
    if not inventory.gateway.get("Attachments"):
        inventory.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    wanted = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    found = wait_until(lambda: inventory.ec2.describe_route_tables(Filters=wanted)["RouteTables"], SHOWN, pause=FIRST_PAUSE, longest=LONGEST_PAUSE)
    if not found:
        raise not_shown(inventory, [f"the main route table of {vpc}"])
    table = found[0]
    if not any(route.get("DestinationCidrBlock") == "0.0.0.0/0" for route in table["Routes"]):
        inventory.ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)


def remove(inventory: Inventory) -> None:
    vpcs, subnets, gateways = ([str(item[id_key]) for item in inventory.tagged(operation, key)] for operation, key, id_key in PARTS)
    for subnet in subnets:
        inventory.say(subnet, "deleting the subnet")
        unless_gone(inventory.ec2.delete_subnet, SubnetId=subnet)
    for gateway in gateways:
        inventory.say(gateway, "deleting the internet gateway")
        for vpc in vpcs:
            unless_gone(inventory.ec2.detach_internet_gateway, InternetGatewayId=gateway, VpcId=vpc)
        unless_gone(inventory.ec2.delete_internet_gateway, InternetGatewayId=gateway)
    for vpc in vpcs:
        inventory.say(vpc, "deleting the VPC")
        unless_gone(inventory.ec2.delete_vpc, VpcId=vpc)


def _left(inventory: Inventory) -> Iterator[str]:
    yield from (str(item[id_key]) for operation, key, id_key in PARTS for item in inventory.tagged(operation, key))


GONE: tuple[Question, ...] = (("gone-network", "VPC, subnet, internet gateway", _left),)
