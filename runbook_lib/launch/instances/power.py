"""Instances that start, stop, run or do not: what is asked for is awaited."""

from __future__ import annotations

import time
from collections.abc import Callable

from runbook_lib.errors import CloudError
from runbook_lib.launch.instances.described import FIRST_PAUSE, LONGEST_PAUSE, instances_of
from runbook_lib.launch.inventory import NODE, SHOWN, Instance, Inventory, by_tag, while_refused
from runbook_lib.waiting import wait_until

Observe = Callable[[Inventory], None]  # looks at EC2 again


def start_stopped(inventory: Inventory, observe: Observe) -> None:
    """Start the nodes' machines that are stopped, or will be. Raises `CloudError`.

    One that is to have another type gets it before: what it has may be what EC2 has no room for.
    """
    types = {node.name: node.instance_type for node in inventory.topology.nodes}
    await_none(inventory, "machines to stop", lambda m: m.state == "stopping")
    observe(inventory)
    for machine in inventory.here.values():
        if machine.state == "stopped":
            if (wanted := types.get(machine.node, machine.instance_type)) != machine.instance_type:
                inventory.ec2.modify_instance_attribute(InstanceId=machine.id, InstanceType={"Value": wanted})
            inventory.say(machine.node, f"starting {machine.id}, a {wanted}")
            while_refused(_type_not_yet_known, SHOWN, inventory.ec2.start_instances, InstanceIds=[machine.id])


def _type_not_yet_known(error: CloudError) -> bool:
    """Whether EC2 does not start a machine because it still plans with the type that was changed a moment ago."""
    return error.code == "InvalidParameterValue" and error.parameter == "instanceType"


def wait_until_running(inventory: Inventory, observe: Observe) -> None:
    """Wait for the machines that boot. One that has stopped again is not waited for; one that EC2 does not yet show as started is, for a while."""
    nodes, began, booting = {node.name for node in inventory.topology.nodes}, time.monotonic(), set[str]()

    def coming(machine: Instance) -> bool:
        if machine.state == "pending":
            booting.add(machine.id)
        shown_late = machine.state == "stopped" and machine.id not in booting and time.monotonic() - began < SHOWN
        return machine.node in nodes and (machine.state == "pending" or shown_late)

    await_none(inventory, "machines to run", coming)
    observe(inventory)
    for node in inventory.topology.nodes:
        if node.name not in inventory.here or not inventory.here[node.name].running:
            what = f"{node.name} does not run: {_why_not(inventory, node.name)}"
            raise CloudError(what, inventory.deployment, "put right what the reason names, then run chapter 01 again")


def _why_not(inventory: Inventory, node: str) -> str:
    wanted = [{"Name": f"tag:{NODE}", "Values": [node]}, *by_tag(inventory.deployment)]
    found = inventory.ec2.pages("describe_instances", "Reservations", Filters=wanted)
    reasons = [m.get("StateReason", {}).get("Message", "") for r in found for m in r["Instances"]]
    return next((reason for reason in reversed(reasons) if reason), "EC2 gives no reason")


def await_none(inventory: Inventory, what: str, late: Callable[[Instance], bool]) -> None:
    """Wait until `late` holds of no machine of the deployment, at most `timeouts.running`. Raises `CloudError`."""
    seconds = inventory.spec.timeouts.running
    machines = wait_until(
        lambda: [machine for machine in instances_of(inventory.aws, inventory.deployment) if late(machine)],
        seconds, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda found: not found,
    )  # fmt: skip
    if machines:
        names = ", ".join(f"{machine.node} ({machine.id}, {machine.state})" for machine in machines)
        raise CloudError(f"waited {seconds} s for {what}: {names}", inventory.ec2.about, "look at these machines in EC2; then run this step again")
