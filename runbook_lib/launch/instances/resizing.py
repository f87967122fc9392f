"""Instances that get another type: EC2 changes it while a machine is stopped only. Its address, disk and host keys stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from runbook_lib.changes import Pending
from runbook_lib.launch.instances.power import Observe, await_none, start_stopped, wait_until_running
from runbook_lib.launch.inventory import Instance, Inventory, pending
from runbook_lib.topology.model import Node

RESIZE = "resize"  # the verb of a plan
Roll = Callable[[Sequence[str], Callable[[str], None]], None]  # calls the second argument for each of these machines, in an order of its own


def at_once(names: Sequence[str], change: Callable[[str], None]) -> None:
    """Change these machines one after the other, as where nobody uses them."""
    for name in names:
        change(name)


def plan(node: Node, machine: Instance) -> Iterator[Pending]:
    if machine.instance_type != node.instance_type:
        detail = f"type {machine.instance_type} → {node.instance_type}: {machine.id} is stopped, changed and started; address, disk and host keys stay"
        yield pending(RESIZE, "machine", node.name, detail, machine)


def apply(inventory: Inventory, roll: Roll, observe: Observe) -> None:
    """Give the machines that run the type that they should have; `roll` decides who is next. Raises `CloudError`."""

    def resize(name: str) -> None:
        machine, wanted = inventory.here[name], inventory.topology.node(name).instance_type
        inventory.say(name, f"stopping {machine.id}, which becomes a {wanted}")
        inventory.ec2.stop_instances(InstanceIds=[machine.id])
        await_none(inventory, f"{name} to stop", lambda m: m.id == machine.id and m.state != "stopped")
        start_stopped(inventory, observe)
        wait_until_running(inventory, observe)

    due = [node.name for node in inventory.topology.nodes if node.name in inventory.here and [*plan(node, inventory.here[node.name])]]
    if due:
        roll(due, resize)
