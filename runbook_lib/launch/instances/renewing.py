"""Machines that are replaced although they run: by one of another image, or because a person asks for it. The address stays, the disk does not."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.changes import Pending
from runbook_lib.launch.inventory import IMAGE, Instance, Inventory, pending
from runbook_lib.topology.model import Node

RENEW = "renew"  # the verb of a plan


def image_of(inventory: Inventory, machine: Instance) -> str:
    """Return the parameter `cloud.image` of when a machine was launched; of one that does not say so, when the deployment was."""
    return machine.tags.get(IMAGE) or inventory.marks.get(IMAGE) or inventory.spec.cloud.image


def plan(inventory: Inventory, node: Node, machine: Instance) -> Iterator[Pending]:
    before, wanted = image_of(inventory, machine), inventory.spec.cloud.image
    why = f"image {before} → {wanted}" if before != wanted else "as asked" if node.name in inventory.renew else ""
    if why:
        detail = f"{why}: {machine.id} ends with its disk, another machine takes {node.address} and is pinned by its own console"
        yield pending(RENEW, "machine", node.name, detail, machine)
