"""The machines that do a sweep's deployments: Dask's scheduler, and its workers. They stand in the network of the sweep's first deployment. No I/O."""

from __future__ import annotations

from itertools import cycle

from runbook_lib.errors import RunbookError
from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import FIRST_ADDRESS, OPERATOR, Node, Rule, Topology
from runbook_lib.topology.subnets import subnets_of

WORKERS = "workers"  # what stands in the place of a pattern's name
SCHEDULER, WORKER = "scheduler", "worker"
SCHEDULER_PORT, WORKER_PORT = 8786, 8788
MOST = 25  # workers: as many fixed addresses a subnet has left beside a deployment's own


def workers_of(first: Spec, name: str, count: int) -> Topology:
    """Return the machines: `name` is their deployment, `first` the parameters of the sweep's first one.

    Raises RunbookError where the operator would not reach the scheduler by its private address, or the workers not the deployments' machines.
    """
    cloud = first.cloud
    if cloud.connect_via != "private":
        step = "connect_via: private, and work from where the machines' own addresses are reached: over a VPN, or on a machine of the network"
        raise RunbookError(f"connect_via is {cloud.connect_via}, and a batch reaches its scheduler by its private address", "cloud.connect_via", step)
    if not cloud.vpc:
        step = "name an existing VPC, with a subnet for each deployment: docs/batch.md, Worker machines"
        raise RunbookError("deployments with networks of their own are out of their workers' reach", "cloud.vpc", step)
    own = {"probe": False, "termination_protection": False}
    changed = {"deployment": name, "pattern": WORKERS, "hosts": {}, "nodes": {WORKER: count}, "cloud": cloud.model_copy(update=own)}
    spec = first.model_copy(update=changed)
    private = cycle([subnet for subnet in subnets_of(spec) if subnet.name.startswith("private")])
    roles = [(SCHEDULER, 1), *((WORKER, number) for number in range(1, count + 1))]
    nodes = tuple(
        Node(f"{role}-{number}", role, str(subnet.network[FIRST_ADDRESS[role] + number - 1]), spec.type_of(role), subnet=subnet.name)
        for (role, number), subnet in zip(roles, private, strict=False)
    )
    return Topology(spec, nodes, tuple(_rules()))


def _rules() -> list[Rule]:
    ways = (
        *((role, 22, OPERATOR, "SSH of the operator") for role in (SCHEDULER, WORKER)),
        (SCHEDULER, SCHEDULER_PORT, OPERATOR, "batches of the operator, TLS"),
        (SCHEDULER, SCHEDULER_PORT, WORKER, "workers to their scheduler, TLS"),
        (WORKER, WORKER_PORT, SCHEDULER, "the scheduler to its workers, TLS"),
    )
    return [Rule(group, "tcp", port, port, source, why) for group, port, source, why in ways]
