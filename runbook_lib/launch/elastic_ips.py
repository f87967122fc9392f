"""Elastic IPs: the public addresses of the Nginx machines, so that DNS survives stop and start, and the NAT gateway's. No other machine has one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.launch.inventory import NODE, SETTLE, Inventory, Question, pending, row, tags_of, unless_gone, while_refused
from runbook_lib.topology.subnets import NAT

HELD = "AuthFailure"  # what EC2 answers of an address that a NAT gateway holds, for a moment after the gateway is deleted too


def observe(inventory: Inventory) -> None:
    """Of two for one node, of which one was allocated by a call whose answer was lost, the one in use counts; a teardown releases both."""
    found = sorted(_found(inventory), key=lambda item: "AssociationId" in item)
    inventory.addresses = {tags_of(item).get(NODE, item["AllocationId"]): item for item in found}


def _found(inventory: Inventory) -> list[dict[str, Any]]:
    """EC2 tells all addresses at once: this call has no pages."""
    return list(inventory.ec2.describe_addresses(Filters=inventory.ours)["Addresses"])


def wanted(inventory: Inventory) -> dict[str, str]:
    """Return who has an Elastic IP, with the reason."""
    found = {} if inventory.spec.cloud.vpc else {NAT: "source address of the NAT gateway"}
    return found | {node.name: f"public address of {', '.join(node.hosts)}: the same after stop and start" for node in inventory.topology.public_nodes}


def plan(inventory: Inventory) -> Iterator[Pending]:
    """Addresses to allocate, to associate with another machine, and to release. Work on one role concerns none of them."""
    if inventory.role:
        return
    due = wanted(inventory)
    for name, why in due.items():
        if name not in inventory.addresses:
            yield pending("create", "Elastic IP", name, why, name)
        elif name != NAT and (machine := inventory.here.get(name)) and inventory.addresses[name].get("InstanceId") != machine.id:
            yield pending("modify", "Elastic IP", name, f"{inventory.addresses[name]['PublicIp']} to {machine.id}", name)
    for name, address in inventory.addresses.items():
        if name not in due:
            yield pending("delete", "Elastic IP", name, f"{address['PublicIp']}: nothing has a public address here any more; nobody gets it back", name)


def apply(inventory: Inventory) -> None:
    """Allocate before anything that costs time, so that an exhausted quota is told early; `associate` when the machines run."""
    made = []
    for due in [due for due in plan(inventory) if due.change.verb == "create"]:
        inventory.say(due.subject, "allocating an Elastic IP")
        tags = inventory.tags("elastic-ip", Name=f"{inventory.deployment}/{due.subject}", **{NODE: due.subject})
        made.append(inventory.ec2.allocate_address(Domain="vpc", TagSpecifications=[tags])["AllocationId"])
    inventory.await_listed(lambda: _found(inventory), "AllocationId", *made)
    observe(inventory)


def associate(inventory: Inventory) -> None:
    """Give each machine its address, and release those that nothing has any more."""
    for due in list(plan(inventory)):
        address = inventory.addresses[due.subject]
        if due.change.verb == "delete":
            inventory.say(due.subject, f"releasing {address['PublicIp']}")
            _release(inventory, address)
        else:
            inventory.say(due.subject, f"gets {address['PublicIp']}")
            machine = inventory.here[due.subject]
            inventory.ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=machine.id, AllowReassociation=True)
    observe(inventory)


def _release(inventory: Inventory, address: dict[str, Any]) -> None:
    if address.get("InstanceId"):  # a NAT gateway gives its address back itself, when it is gone
        unless_gone(inventory.ec2.disassociate_address, AssociationId=address["AssociationId"])
    release = inventory.ec2.release_address
    if tags_of(address).get(NODE) == NAT:
        release = partial(while_refused, lambda error: error.code == HELD, SETTLE, release)
    unless_gone(release, AllocationId=address["AllocationId"])


def check(inventory: Inventory) -> Iterator[Check]:
    public = {node.name: inventory.addresses.get(node.name, {}).get("PublicIp", "an Elastic IP") for node in inventory.topology.public_nodes}
    wrong = [
        f"{name}: {machine.public_address or 'none'}, not {public.get(name, 'none')}"
        for name, machine in inventory.here.items()
        if machine.public_address != public.get(name, "")
    ]
    expected = f"Elastic IPs of {', '.join(public)}" if public else "none"
    yield row("launch-public-addresses", "Nginx alone has a public address, which stays its own", wrong, expected, expected, inventory.here)


def remove(inventory: Inventory) -> None:
    """After the machines and the NAT gateway: an address that is in use cannot be released."""
    for address in _found(inventory):
        inventory.say(address["PublicIp"], "releasing the Elastic IP")
        _release(inventory, address)


GONE: tuple[Question, ...] = (("gone-addresses", "Elastic IPs", lambda inventory: (item["PublicIp"] for item in _found(inventory))),)
