"""The deployment's network: a VPC, its subnets and its internet gateway, or existing ones that are checked and left alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Network
from typing import Any

from runbook_lib.aws.images import RELEASES, login_user
from runbook_lib.aws.preflight.zones import zone_for
from runbook_lib.changes import Pending
from runbook_lib.errors import CloudError
from runbook_lib.launch.inventory import DEPLOYMENT, HARDENING, HOME, IMAGE, PATTERN, USER, Inventory, Question, pending, tags_of, unless_gone
from runbook_lib.spec.model import Spec
from runbook_lib.topology.subnets import NGINX, PlannedSubnet

PARTS = (
    ("describe_vpcs", "Vpcs", "VpcId"),
    ("describe_subnets", "Subnets", "SubnetId"),
    ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
)


def observe(inventory: Inventory) -> None:
    if inventory.spec.cloud.vpc:
        _observe_existing(inventory)
        return
    vpcs, subnets, gateways = (inventory.tagged(operation, key) for operation, key, _ in PARTS)
    inventory.vpc, inventory.gateway = inventory.only(vpcs, "VpcId"), inventory.only(gateways, "InternetGatewayId")
    inventory.marks = tags_of(inventory.vpc) if inventory.vpc else {}
    inventory.subnets = {_name_of(inventory, subnet): subnet for subnet in subnets}


def _name_of(inventory: Inventory, found: dict[str, Any]) -> str:
    """The name of the subnet with this range; the range itself where the parameters want no such subnet."""
    range_ = str(found["CidrBlock"])
    return next((subnet.name for subnet in inventory.topology.subnets if str(subnet.network) == range_), range_)


def _observe_existing(inventory: Inventory) -> None:
    """The VPC and the subnets that the parameters name. What is not as they say is told before anything is made: raises `CloudError`."""
    cloud = inventory.spec.cloud
    found = inventory.ec2.pages("describe_vpcs", "Vpcs", Filters=[{"Name": "vpc-id", "Values": [cloud.vpc]}])
    if not found:
        raise _not_so(inventory, "cloud.vpc", f"there is no VPC {cloud.vpc} in {cloud.region}", "aws ec2 describe-vpcs lists them")
    inventory.vpc = found[0]
    ranges = [block["CidrBlock"] for block in inventory.vpc.get("CidrBlockAssociationSet", [])] or [inventory.vpc["CidrBlock"]]
    if cloud.network not in ranges:
        raise _not_so(inventory, "cloud.network", f"{cloud.vpc} has {', '.join(ranges)}, not {cloud.network}", f"cloud.network: {ranges[0]}")
    there = {
        item["SubnetId"]: item
        for item in inventory.ec2.pages("describe_subnets", "Subnets", Filters=[{"Name": "subnet-id", "Values": [s.id for s in inventory.topology.subnets]}])
    }
    for subnet in inventory.topology.subnets:
        inventory.subnets[subnet.name] = _as_said(inventory, subnet, there.get(subnet.id))
    zones = [inventory.subnets[subnet.name]["AvailabilityZone"] for subnet in inventory.topology.subnets if subnet.id in cloud.subnets]
    if len(set(zones)) < len(zones):
        raise _not_so(inventory, "cloud.subnets", f"both lie in the zone {zones[0]}", "two subnets of different zones, or one")
    groups = inventory.tagged("describe_security_groups", "SecurityGroups")
    inventory.marks = tags_of(groups[0]) if groups else {}
    if groups and groups[0]["VpcId"] != cloud.vpc:
        raise _kept(inventory, "cloud.vpc", groups[0]["VpcId"], str(cloud.vpc))


def _as_said(inventory: Inventory, subnet: PlannedSubnet, there: dict[str, Any] | None) -> dict[str, Any]:
    cloud = inventory.spec.cloud
    key = f"cloud.{'subnets' if subnet.id in cloud.subnets else 'nginx_subnet'}.{subnet.id}"
    if there is None:
        raise _not_so(inventory, key, f"there is no subnet {subnet.id} in {cloud.region}", "aws ec2 describe-subnets lists them")
    if there["VpcId"] != cloud.vpc:
        raise _not_so(inventory, key, f"{subnet.id} belongs to {there['VpcId']}, not to {cloud.vpc}", "subnets of one VPC, and that one as cloud.vpc")
    if there["CidrBlock"] != str(subnet.network):
        what = f"{subnet.id} has the range {there['CidrBlock']}, not {subnet.network}: the machines' addresses would lie elsewhere"
        raise _not_so(inventory, key, what, f"{key}: {there['CidrBlock']}")
    if there.get("MapPublicIpOnLaunch") and not (cloud.internet_facing and subnet.name == NGINX):
        what = f"{subnet.id} gives every new machine a public address, and no machine there may have one"
        raise _not_so(inventory, key, what, "a private subnet, or switch its MapPublicIpOnLaunch off")
    return there


def _not_so(inventory: Inventory, key: str, what: str, step: str) -> CloudError:
    return CloudError(f"{key}: {what}", str(inventory.spec.source or key), step)


def plan(inventory: Inventory) -> Iterator[Pending]:
    """`CloudError` for an existing network that cannot be used."""
    cloud = inventory.spec.cloud
    if cloud.vpc:
        _refuse_taken_addresses(inventory)
        return
    whole = inventory.aws.network
    if whole and not IPv4Network(cloud.network).subnet_of(whole):
        step = f"a network inside {whole}, or a lab with another --range"
        raise _not_so(inventory, "cloud.network", f"{cloud.network} is not in {whole}, the range that {inventory.aws.about} has", step)
    if inventory.vpc is None:
        yield pending("create", "network", "VPC", cloud.network, _make_vpc)
    for subnet in inventory.topology.subnets:
        if subnet.name not in inventory.subnets:
            zone = _zone_of(inventory, subnet)
            note = f", for every other node of a tier; Nginx and the database stay in {inventory.zone}" if subnet.zone else ""
            make = partial(_make_subnet, subnet=subnet)
            yield pending("create", "network", f"subnet {subnet.name}", f"{subnet.network} in {zone}{note}", make)
    attached = inventory.gateway and inventory.vpc and any(item.get("VpcId") == inventory.vpc["VpcId"] for item in inventory.gateway.get("Attachments", []))
    if not attached:
        why = f"{inventory.deployment}'s way to package mirrors" + (", and visitors' way in" if cloud.internet_facing else "")
        yield pending("create", "network", "internet gateway", why, _make_gateway)


def marks_of(spec: Spec) -> dict[str, str]:
    """Return the tags that say what a deployment's machines hold was made for."""
    return {PATTERN: spec.pattern, HARDENING: spec.hardening, IMAGE: spec.cloud.image, HOME: spec.product.home, USER: spec.product.user}


def refuse_other_design(inventory: Inventory) -> None:
    """A live deployment keeps its pattern, hardening, users, the product's folder, network and zones: what its machines hold was made for them."""
    cloud, wanted = inventory.spec.cloud, marks_of(inventory.spec)
    keys = {PATTERN: "pattern", HARDENING: "hardening", HOME: "product.home", USER: "product.user"}
    keys |= {} if _same_user(inventory) else {IMAGE: "cloud.image"}
    designs = [(key, inventory.marks.get(mark, wanted[mark]), wanted[mark]) for mark, key in keys.items()]
    if inventory.vpc and not cloud.vpc:
        zone = _live_zone(inventory) or cloud.availability_zone
        designs.append(("cloud.network", inventory.vpc["CidrBlock"], cloud.network))
        designs.append(("cloud.availability_zone", str(zone), str(cloud.availability_zone or zone)))
    if other := [name for name in inventory.subnets if "/" in name]:
        designs.append(("cloud.second_zone", f"such that there is a subnet {', '.join(other)}", str(cloud.second_zone)))
    elif (second := inventory.subnets.get("private-2")) and not cloud.vpc:
        designs.append(("cloud.second_zone", second["AvailabilityZone"], str(cloud.second_zone)))
    for key, live, asked in designs:
        if live != asked:
            raise _kept(inventory, key, live, asked)


def _same_user(inventory: Inventory) -> bool:
    """Whether the image of the parameters has the user by whom the live machines are known: then they can be replaced one after the other."""
    cloud = inventory.spec.cloud
    live = inventory.marks.get(IMAGE, cloud.image)
    return (RELEASES[live].user if live in RELEASES else cloud.login_user) == login_user(cloud.image, cloud.login_user) or live == cloud.image


def _kept(inventory: Inventory, key: str, live: str, asked: str) -> CloudError:
    return CloudError(
        f"{key} of the live deployment {inventory.deployment} is {live}, the parameters say {asked}: its "
        "machines, databases and keys were made for the former, which they cannot be turned from",
        str(inventory.spec.source or key),
        f"destroy it first (./runbook destroy), or choose another `deployment` name, or set {key} back",
    )


def _refuse_taken_addresses(inventory: Inventory) -> None:
    """In a subnet that others use too, each of our fixed addresses must be free or ours."""
    ours = {machine.id for machine in inventory.instances}
    for subnet in inventory.topology.subnets:
        addresses = [node.address for node in inventory.topology.nodes if node.subnet == subnet.name]
        wanted = [{"Name": "subnet-id", "Values": [subnet.id]}, {"Name": "addresses.private-ip-address", "Values": addresses}]
        for interface in inventory.ec2.pages("describe_network_interfaces", "NetworkInterfaces", Filters=wanted) if addresses else ():
            holder = interface.get("Attachment", {}).get("InstanceId", interface["NetworkInterfaceId"])
            mark = {"Key": DEPLOYMENT, "Value": inventory.deployment}  # of a machine that is ending, too
            if holder not in ours and mark not in interface.get("TagSet", []):
                what = f"{interface['PrivateIpAddress']} in {subnet.id} is in use by {holder}; a machine of {inventory.deployment} has this fixed address"
                raise _not_so(inventory, "cloud.subnets", what, "other subnets, or move what uses the address")


def choose_zone(inventory: Inventory) -> None:
    """Note the zone of the subnets to make. Raises `CloudError` where a type that is to be launched is not offered in the zone of its subnet."""
    cloud, here = inventory.spec.cloud, inventory.here
    inventory.zone = _live_zone(inventory) or cloud.availability_zone or ""
    wanted: dict[str, set[str]] = {}
    for subnet in inventory.topology.subnets:
        for node in (node for node in inventory.topology.nodes if node.subnet == subnet.name):
            if not (subnet.name in inventory.subnets and node.name in here and here[node.name].instance_type == node.instance_type):
                wanted.setdefault(_zone_of(inventory, subnet), set()).add(node.instance_type)
    for zone, types in wanted.items():
        key = "cloud.subnets" if cloud.vpc else "cloud.second_zone" if zone and zone == cloud.second_zone else "cloud.availability_zone"
        found = zone_for(inventory.ec2, types, zone or None, key)
        inventory.zone = inventory.zone or found


def _live_zone(inventory: Inventory) -> str | None:
    """The zone of the subnets that exist already, the second zone's left out."""
    first = [inventory.subnets[subnet.name] for subnet in inventory.topology.subnets if not subnet.zone and subnet.name in inventory.subnets]
    return str(first[0]["AvailabilityZone"]) if first else None


def _zone_of(inventory: Inventory, subnet: PlannedSubnet) -> str:
    """The zone of a subnet: its own where it exists, else the one where it is to be made, which is empty until `choose_zone`."""
    if found := inventory.subnets.get(subnet.name):
        return str(found["AvailabilityZone"])
    return str(inventory.spec.cloud.second_zone if subnet.zone else inventory.zone)


def apply(inventory: Inventory) -> None:
    for missing in list(plan(inventory)):
        inventory.say(missing.change.key.removeprefix("network "), "creating")
        missing.subject(inventory)


def _make_vpc(inventory: Inventory) -> None:
    tags = inventory.tags("vpc", **marks_of(inventory.spec))
    inventory.vpc = inventory.ec2.create_vpc(CidrBlock=inventory.spec.cloud.network, TagSpecifications=[tags])["Vpc"]
    inventory.await_shown(*PARTS[0], inventory.vpc["VpcId"])
    inventory.ec2.wait("vpc_available", VpcIds=[inventory.vpc["VpcId"]])


def _make_subnet(inventory: Inventory, subnet: PlannedSubnet) -> None:
    assert inventory.vpc
    zone = _zone_of(inventory, subnet)
    inventory.subnets[subnet.name] = inventory.ec2.create_subnet(
        VpcId=inventory.vpc["VpcId"],
        CidrBlock=str(subnet.network),
        TagSpecifications=[inventory.tags("subnet", Name=f"{inventory.deployment}/{subnet.name}")],
        AvailabilityZone=zone,
    )["Subnet"]
    inventory.await_shown(*PARTS[1], inventory.subnets[subnet.name]["SubnetId"])


def _make_gateway(inventory: Inventory) -> None:
    assert inventory.vpc
    if inventory.gateway is None:
        inventory.gateway = inventory.ec2.create_internet_gateway(TagSpecifications=[inventory.tags("internet-gateway")])["InternetGateway"]
        inventory.await_shown(*PARTS[2], inventory.gateway["InternetGatewayId"])
    if not inventory.gateway.get("Attachments"):
        inventory.ec2.attach_internet_gateway(InternetGatewayId=inventory.gateway["InternetGatewayId"], VpcId=inventory.vpc["VpcId"])


def remove(inventory: Inventory) -> None:
    """What carries the deployment's tag; existing VPCs and subnets do not."""
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


GONE: tuple[Question, ...] = (("gone-network", "VPC, subnets, internet gateway", _left),)
