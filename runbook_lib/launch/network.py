"""The deployment's network: a VPC, its subnet, and the internet gateway where machines are reached from outside."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.changes import Pending
from runbook_lib.errors import CloudError
from runbook_lib.launch.inventory import HARDENING, PATTERN, Question, Site, pending, tags_of, unless_gone

PARTS = (
    ("describe_vpcs", "Vpcs", "VpcId"),
    ("describe_subnets", "Subnets", "SubnetId"),
    ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
)


def observe(site: Site) -> None:
    site.vpc, site.subnet, site.gateway = (site.only(site.tagged(operation, key), id_key) for operation, key, id_key in PARTS)


def plan(site: Site) -> Iterator[Pending]:
    """`CloudError` for what cannot be changed in place."""
    refuse_other_design(site)
    cloud = site.spec.cloud
    if site.vpc is None:
        yield pending("create", "network", "VPC", cloud.network, _make_vpc)
    if site.subnet is None:
        yield pending("create", "network", "subnet", cloud.network, _make_subnet)
    if cloud.connect_via != "private":
        attached = site.gateway and site.vpc and any(item.get("VpcId") == site.vpc["VpcId"] for item in site.gateway.get("Attachments", []))
        if not attached:
            why = f"{site.deployment}'s way to package mirrors, and visitors' way in"
            yield pending("create", "network", "internet gateway", why, _make_gateway)


def refuse_other_design(site: Site) -> None:
    """A live deployment keeps its pattern, hardening and network: what its machines hold was made for them."""
    if site.vpc is None:
        return
    spec, tags = site.spec, tags_of(site.vpc)
    for key, live, asked in (
        ("pattern", tags.get(PATTERN, spec.pattern), spec.pattern),
        ("hardening", tags.get(HARDENING, spec.hardening), spec.hardening),
        ("cloud.network", site.vpc["CidrBlock"], spec.cloud.network),
    ):
        if live != asked:
            raise CloudError(
                f"{key} of the live deployment {spec.deployment} is {live}, the parameters say {asked}: its "
                "machines, databases and keys were made for the former, which they cannot be turned from",
                str(spec.source or key),
                f"destroy it first (./runbook destroy), or choose another `deployment` name, or set {key} back",
            )


def apply(site: Site) -> None:
    for missing in list(plan(site)):
        site.say(missing.change.key.removeprefix("network "), "creating")
        missing.subject(site)


def _make_vpc(site: Site) -> None:
    marks = {PATTERN: site.spec.pattern, HARDENING: site.spec.hardening}
    site.vpc = site.ec2.create_vpc(CidrBlock=site.spec.cloud.network, TagSpecifications=[site.tags("vpc", **marks)])["Vpc"]
    site.ec2.wait("vpc_available", VpcIds=[site.vpc["VpcId"]])


def _make_subnet(site: Site) -> None:
    assert site.vpc
    cloud = site.spec.cloud
    zone = {"AvailabilityZone": cloud.availability_zone} if cloud.availability_zone else {}
    answer = site.ec2.create_subnet(VpcId=site.vpc["VpcId"], CidrBlock=cloud.network, TagSpecifications=[site.tags("subnet")], **zone)
    site.subnet = answer["Subnet"]
    if cloud.connect_via != "private":
        site.ec2.modify_subnet_attribute(SubnetId=site.subnet["SubnetId"], MapPublicIpOnLaunch={"Value": True})


def _make_gateway(site: Site) -> None:
    """The VPC's main route table sends what is not local through it; the route goes when the VPC goes."""
    assert site.vpc
    vpc = site.vpc["VpcId"]
    if site.gateway is None:
        site.gateway = site.ec2.create_internet_gateway(TagSpecifications=[site.tags("internet-gateway")])["InternetGateway"]
    gateway = site.gateway["InternetGatewayId"]
    if not site.gateway.get("Attachments"):
        site.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    wanted = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    table = site.ec2.describe_route_tables(Filters=wanted)["RouteTables"][0]
    if not any(route.get("DestinationCidrBlock") == "0.0.0.0/0" for route in table["Routes"]):
        site.ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)


def remove(site: Site) -> None:
    vpcs, subnets, gateways = ([str(item[id_key]) for item in site.tagged(operation, key)] for operation, key, id_key in PARTS)
    for subnet in subnets:
        site.say(subnet, "deleting the subnet")
        unless_gone(site.ec2.delete_subnet, SubnetId=subnet)
    for gateway in gateways:
        site.say(gateway, "deleting the internet gateway")
        for vpc in vpcs:
            unless_gone(site.ec2.detach_internet_gateway, InternetGatewayId=gateway, VpcId=vpc)
        unless_gone(site.ec2.delete_internet_gateway, InternetGatewayId=gateway)
    for vpc in vpcs:
        site.say(vpc, "deleting the VPC")
        unless_gone(site.ec2.delete_vpc, VpcId=vpc)


def _left(site: Site) -> Iterator[str]:
    yield from (str(item[id_key]) for operation, key, id_key in PARTS for item in site.tagged(operation, key))


GONE: tuple[Question, ...] = (("gone-network", "VPC, subnet, internet gateway", _left),)
