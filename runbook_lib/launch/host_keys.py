"""Pinned SSH host keys: each node's, read from its own machine's console and stored with that machine's id."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from runbook_lib.aws.host_keys import Pinned, pin_name, pinned_in, wait_for_keys
from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.launch.inventory import Instance, Inventory, pending, row

AT_ONCE = 8  # consoles looked at


def plan(inventory: Inventory) -> Iterator[Pending]:
    """Pinned with the machine's id: a machine that took another's place is read from its own console, never trusted."""
    pinned = pinned_in(inventory.stored)
    for node in inventory.topology.nodes:
        machine, known = inventory.here.get(node.name), pinned.get(node.name)
        if machine and machine.address == node.address and (known is None or known.instance != machine.id):
            why = f"from the console of {machine.id}" + (f" in place of {known.instance}'s" if known else "")
            yield pending("replace" if known else "create", "host keys", node.name, why, machine)


def apply(inventory: Inventory) -> None:
    """Each from its own console, all at once."""
    unpinned = [due.subject for due in plan(inventory)]
    if unpinned:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda machine: _pin(inventory, machine), unpinned))


def _pin(inventory: Inventory, machine: Instance) -> None:
    inventory.say(machine.node, "waiting for its console to show the host keys")
    keys = wait_for_keys(inventory.ec2, machine.node, machine.id, inventory.spec.timeouts.console)
    inventory.stored[pin_name(machine.node)] = inventory.vault.put(pin_name(machine.node), Pinned(machine.id, keys).text(), secure=False)
    inventory.say(machine.node, "host keys pinned")


def check(inventory: Inventory) -> Iterator[Check]:
    pinned = pinned_in(inventory.stored)
    wrong = [name for name, machine in inventory.here.items() if name not in pinned or pinned[name].instance != machine.id]
    yield row("launch-host-keys", "SSH host keys are pinned, each from this machine's console", wrong, "all pinned", "all pinned", inventory.here)
