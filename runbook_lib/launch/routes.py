"""The ways out of a network of our own: a NAT gateway, and two route tables. Existing subnets bring their own, which is checked.

Machines without a public address reach package mirrors and packs through the NAT gateway, which stands in a subnet that routes to the internet
gateway; so does Nginx where it has no public address (AWS: "NAT gateways").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.errors import CloudError
from runbook_lib.launch.inventory import FIRST_PAUSE, LONGEST_PAUSE, Inventory, Question, pending, row, tags_of, unless_gone
from runbook_lib.topology.cost import nat_gateway_month
from runbook_lib.topology.subnets import NAT, NGINX
from runbook_lib.waiting import wait_until

ROUTES = "runbook:routes"  # tag of a route table: `public` (to the internet gateway) or `private` (to the NAT gateway)
EVERYWHERE = "0.0.0.0/0"
TARGETS = (  # of a route
    *("GatewayId", "NatGatewayId", "TransitGatewayId", "NetworkInterfaceId", "InstanceId", "VpcPeeringConnectionId"),
    *("CoreNetworkArn", "LocalGatewayId", "CarrierGatewayId"),
)
LIVE = ("pending", "available")  # states of a NAT gateway that serves or is about to
DELETION = 300.0  # seconds that a NAT gateway may take to go


def observe(inventory: Inventory) -> None:
    inventory.nat = next((item for item in _gateways(inventory) if item["State"] in LIVE), None)
    found = sorted(_tables(inventory), key=lambda table: len(table.get("Associations", [])))  # of two, one was made by a call whose answer was lost
    inventory.route_tables = {tags_of(table).get(ROUTES, ""): table for table in found}


def _gateways(inventory: Inventory) -> list[dict[str, Any]]:
    """Those of the deployment's own VPC which are not deleted; a deleted one is shown for an hour."""
    vpcs = [vpc["VpcId"] for vpc in inventory.tagged("describe_vpcs", "Vpcs")]
    found = inventory.ec2.pages("describe_nat_gateways", "NatGateways", Filter=[{"Name": "vpc-id", "Values": vpcs}]) if vpcs else []
    return [item for item in found if item["State"] != "deleted"]


def _tables(inventory: Inventory) -> list[dict[str, Any]]:
    return inventory.tagged("describe_route_tables", "RouteTables")


def _table_of(inventory: Inventory, subnet: str) -> str:
    """Which route table a subnet has: NAT gateways and machines with a public address leave directly."""
    return "public" if subnet == NAT or (subnet == NGINX and inventory.spec.cloud.internet_facing) else "private"


def plan(inventory: Inventory) -> Iterator[Pending]:
    """`CloudError` where an existing subnet has no way out."""
    if inventory.spec.cloud.vpc:
        _refuse_closed_subnets(inventory)
        return
    if inventory.nat is None:
        price = f"US$ {nat_gateway_month(inventory.spec.cloud.region):,.2f} a month and what passes through it"
        why = f"the way to packages and packs for machines without a public address, {price}"
        yield pending("create", "network", "NAT gateway", why)
    yield from _due_tables(inventory)
    yield from _due_subnets(inventory)


def _due_tables(inventory: Inventory) -> Iterator[Pending]:
    for name, target in (("public", "the internet gateway"), ("private", "the NAT gateway")):
        table = inventory.route_tables.get(name)
        if table is None:
            yield pending("create", "network", f"route table {name}", f"{EVERYWHERE} to {target}", name)
        elif _way_out(table) not in _target(inventory, name).values():
            yield pending("modify", "network", f"route table {name}", f"{EVERYWHERE} to {target}", name)


def _due_subnets(inventory: Inventory) -> Iterator[Pending]:
    for subnet in inventory.topology.subnets:
        name = _table_of(inventory, subnet.name)
        if (found := _association(inventory, subnet.name)) is None:
            yield pending("create", "network", f"routes of {subnet.name}", f"as in route table {name}", subnet.name)
        elif found[0] != name:
            yield pending("modify", "network", f"routes of {subnet.name}", f"as in route table {found[0]} → {name}", subnet.name)


def _target(inventory: Inventory, name: str) -> dict[str, str]:
    """Where a table's default route leads, as EC2's calls take it."""
    if name == "public":
        return {"GatewayId": inventory.gateway["InternetGatewayId"]} if inventory.gateway else {}
    return {"NatGatewayId": inventory.nat["NatGatewayId"]} if inventory.nat else {}


def _way_out(table: dict[str, Any]) -> str:
    """What the default route of a table leads to, or an empty text; a route to something that is gone is a black hole."""
    found = [route for route in table.get("Routes", []) if route.get("DestinationCidrBlock") == EVERYWHERE and route.get("State") != "blackhole"]
    return next((str(route[key]) for route in found for key in TARGETS if route.get(key)), "")


def _association(inventory: Inventory, subnet: str) -> tuple[str, str] | None:
    """The table of ours that a subnet has, with the association's id."""
    id_ = inventory.subnets.get(subnet, {}).get("SubnetId")
    for name, table in inventory.route_tables.items():
        for item in table.get("Associations", []):
            if id_ and item.get("SubnetId") == id_:
                return name, item["RouteTableAssociationId"]
    return None


def _refuse_closed_subnets(inventory: Inventory) -> None:
    """Without a way out the first package would fail, an hour of launching later. Which way it is, is its owner's affair."""
    cloud = inventory.spec.cloud
    assert inventory.vpc
    tables = inventory.ec2.pages("describe_route_tables", "RouteTables", Filters=[{"Name": "vpc-id", "Values": [inventory.vpc["VpcId"]]}])
    for subnet in inventory.topology.subnets:
        own = [table for table in tables if any(item.get("SubnetId") == subnet.id for item in table.get("Associations", []))]
        main = [table for table in tables if any(item.get("Main") for item in table.get("Associations", []))]
        found = _way_out((own or main)[0]) if own or main else ""
        public = cloud.internet_facing and subnet.name == NGINX
        if found.startswith("igw-") != public or not found:
            key = f"cloud.{'nginx_subnet' if subnet.name == NGINX else 'subnets'}.{subnet.id}"
            need = "an internet gateway, by which visitors come" if public else "a NAT gateway, a transit gateway or the like"
            what = f"{key}: its {EVERYWHERE} leads to {found or 'nothing'}, so the machines there would not reach package mirrors and packs"
            raise CloudError(what, str(inventory.spec.source or key), f"give its route table a route of {EVERYWHERE} to {need}, or name another subnet")


def begin(inventory: Inventory) -> None:
    """Ask for the NAT gateway, which takes a minute or two. `apply` waits for it, when all is made that needs no way out."""
    if not (inventory.spec.cloud.vpc or inventory.role or inventory.nat):
        _make_gateway(inventory)


def apply(inventory: Inventory) -> None:
    """Wait for the NAT gateway that `begin` asked for, then make the route tables."""
    if inventory.spec.cloud.vpc or inventory.role:
        return
    _await_gateway(inventory)
    for due in list(_due_tables(inventory)):
        _make_table(inventory, due.subject)
    for due in list(_due_subnets(inventory)):  # a route that was just made may not be shown yet: that is no subnet's affair
        inventory.say(f"subnet {due.subject}", due.change.summary)
        table = inventory.route_tables[_table_of(inventory, due.subject)]["RouteTableId"]
        if found := _association(inventory, due.subject):
            inventory.ec2.replace_route_table_association(AssociationId=found[1], RouteTableId=table)
        else:
            inventory.ec2.associate_route_table(RouteTableId=table, SubnetId=inventory.subnets[due.subject]["SubnetId"])
    observe(inventory)


def _make_gateway(inventory: Inventory) -> None:
    inventory.say("NAT gateway", "creating; it takes a minute or two")
    inventory.nat = inventory.ec2.create_nat_gateway(
        SubnetId=inventory.subnets[NAT]["SubnetId"], AllocationId=inventory.addresses[NAT]["AllocationId"], TagSpecifications=[inventory.tags("natgateway")]
    )["NatGateway"]
    inventory.await_listed(lambda: _gateways(inventory), "NatGatewayId", inventory.nat["NatGatewayId"])


def _await_gateway(inventory: Inventory) -> None:
    """Wait until the NAT gateway serves: before that no route can lead to it. A new one may not be visible at once."""
    assert inventory.nat
    id_ = inventory.nat["NatGatewayId"]
    found: dict[str, Any] = wait_until(
        lambda: inventory.ec2.describe_nat_gateways(NatGatewayIds=[id_])["NatGateways"][0],
        inventory.spec.timeouts.running,
        pause=FIRST_PAUSE,
        longest=LONGEST_PAUSE,
        enough=lambda found: found["State"] != "pending",
        again_after=lambda error: isinstance(error, CloudError) and error.code == "NatGatewayNotFound",
    )
    if found["State"] != "available":
        what = f"the NAT gateway {id_} is {found['State']}: {found.get('FailureMessage', 'EC2 gives no reason')}"
        raise CloudError(what, inventory.ec2.about, "put right what the reason names, then run chapter 01 again")
    inventory.nat = found


def _make_table(inventory: Inventory, name: str) -> None:
    assert inventory.vpc
    if name not in inventory.route_tables:
        inventory.say(f"route table {name}", "creating")
        tags = inventory.tags("route-table", Name=f"{inventory.deployment}/{name}", **{ROUTES: name})
        inventory.route_tables[name] = inventory.ec2.create_route_table(VpcId=inventory.vpc["VpcId"], TagSpecifications=[tags])["RouteTable"]
        inventory.await_listed(lambda: _tables(inventory), "RouteTableId", inventory.route_tables[name]["RouteTableId"])
    table = inventory.route_tables[name]
    there = any(route.get("DestinationCidrBlock") == EVERYWHERE for route in table["Routes"])
    call = inventory.ec2.replace_route if there else inventory.ec2.create_route
    call(RouteTableId=table["RouteTableId"], DestinationCidrBlock=EVERYWHERE, **_target(inventory, name))
    observe(inventory)


def check(inventory: Inventory) -> Iterator[Check]:
    against = [f"{due.change.key}: {due.change.summary}" for due in plan(inventory)]
    title = "Machines without a public address have a way to packages and packs"
    found = "the existing subnets' own" if inventory.spec.cloud.vpc else "the NAT gateway"
    yield row("launch-way-out", title, against, found, found, inventory.vpc)


def remove(inventory: Inventory) -> None:
    """The NAT gateway first, wholly gone: until then its address cannot be released, nor its subnet deleted."""
    for gateway in _gateways(inventory):
        inventory.say(gateway["NatGatewayId"], "deleting the NAT gateway")
        if gateway["State"] != "deleting":
            unless_gone(inventory.ec2.delete_nat_gateway, NatGatewayId=gateway["NatGatewayId"])
    left = wait_until(lambda: _gateways(inventory), DELETION, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda found: not found)
    if left:
        names = ", ".join(f"{item['NatGatewayId']} ({item['State']})" for item in left)
        raise CloudError(f"these NAT gateways do not go within {DELETION:.0f} s: {names}", inventory.aws.about, "look at them in EC2; then run this again")
    for table in _tables(inventory):
        inventory.say(table["RouteTableId"], "deleting the route table")
        for item in table.get("Associations", []):
            unless_gone(inventory.ec2.disassociate_route_table, AssociationId=item["RouteTableAssociationId"])
        unless_gone(inventory.ec2.delete_route_table, RouteTableId=table["RouteTableId"])


def _left(inventory: Inventory) -> Iterator[str]:
    yield from (item["NatGatewayId"] for item in _gateways(inventory))
    yield from (item["RouteTableId"] for item in _tables(inventory))


GONE: tuple[Question, ...] = (("gone-routes", "NAT gateway, route tables", _left),)
