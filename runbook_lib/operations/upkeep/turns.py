"""One machine after the other out of service: in which order, what visitors notice, and when the next one may go.

A node of the product goes out of Nginx, and only while every other node of its role serves. What stands alone cannot: while it is worked on,
what it does is interrupted, which is said before and measured meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runbook_lib.changes import Change
from runbook_lib.errors import HostError
from runbook_lib.operations import rolling_restart, startup
from runbook_lib.roles.mysql import unit_of as database_unit
from runbook_lib.topology.model import Node, Topology
from runbook_lib.waiting import wait_until

if TYPE_CHECKING:
    from runbook_lib.session import Session

Tell = Callable[[str, str], object]  # gets a machine's name and a line of progress


def in_turn(topology: Topology, names: Iterable[str]) -> list[str]:
    """Return the machines in the order in which they are worked on.

    First the nodes that others of their role stand in for: what goes wrong goes wrong where nobody misses it. Then single nodes, Nginx, and
    last the database, which everybody needs.
    """

    def rank(node: Node) -> int:
        return 3 if node.role == "db" else 2 if node.role.startswith("lb") else 1 if node.tier and not stand_ins(topology, node.name) else 0

    chosen = set(names)
    return [node.name for node in sorted(topology.nodes, key=rank) if node.name in chosen]


def stand_ins(topology: Topology, name: str) -> list[str]:
    """Return the other nodes of a node's role."""
    node = topology.node(name)
    return [other.name for other in topology.of(node.role) if other.name != name] if node.tier else []


def notice(topology: Topology, name: str, anew: bool = False) -> Change:
    """Return what visitors notice while this machine is worked on, as the first change of a plan. Its verb is `interrupt` where it cannot be drained.

    `anew`: it is replaced by another machine, which has nothing on it.
    """
    node, others = topology.node(name), stand_ins(topology, name)
    if others:
        return Change("service", "drain", f"nobody is sent to it meanwhile; who is signed in on it signs in again. Others of its role: {', '.join(others)}")
    if node.tier:
        until = "a new node has booted (about ten minutes on AWS)" if anew else "the product has restarted (minutes on AWS)"
        return Change("service", "interrupt", f"the only one of its role: what it serves is not there until {until}")
    if node.role == "db":
        until = "the backup is restored and every node has booted on it" if anew else "the server has restarted (seconds), or the machine (a minute or two)"
        first = "the product stops, then a backup" if anew else "a backup first"
        return Change("service", "interrupt", f"{first}; what needs the databases is not there until {until}")
    if node.role.startswith("lb"):
        until = (
            "Nginx is installed on the new machine (minutes)"
            if anew
            else "the machine has restarted (a minute or two); a restart of Nginx takes under a second"
        )
        return Change("service", "interrupt", f"{', '.join(node.hosts)}: not there until {until}")
    return Change("service", "drain", "no visitor uses it")


@contextmanager
def out_of_service(d: Session, name: str, tell: Tell) -> Iterator[None]:
    """Have a machine out of service for the block; afterwards it serves again, or HostError is raised and it stays out.

    Raises HostError before the block where another node of its role does not serve, and quickly: never are two out at once, and what just
    came back is warm before it carries more.
    """
    context, others = d.context(), stand_ins(d.topology, name)
    drained = bool(others) and name in context.booted
    if drained:
        if unbooted := [other for other in others if other not in context.booted]:
            raise HostError(f"{name} cannot be taken out: {', '.join(unbooted)} does not serve yet", name, "./runbook run PARAMS first")
        rolling_restart.wait_for_stand_ins(d, context, {name})
        tell(name, "out of Nginx")
        rolling_restart.take_out(d, {name})
    yield
    serves_again(d, name)
    if drained:
        tell(name, "back in Nginx")
        rolling_restart.take_out(d, ())


def serves_again(d: Session, name: str) -> None:
    """Return once what runs on a machine serves. Raises HostError when it does not."""
    node, context = d.topology.node(name), d.context()
    if node.role == "db":
        _running(d, name, database_unit(context.spec))
    if node.role.startswith("lb"):
        _running(d, name, "nginx.service")
    names = [name] if node.tier else [each.name for each in d.topology.wso2_nodes] if node.role == "db" else []
    startup.wait_ready(d.fleet(), context, [each for each in names if each in context.booted])


def _running(d: Session, name: str, unit: str) -> None:
    host, seconds = d.fleet()[name], d.spec.timeouts.ssh
    if not wait_until(lambda: host.run(f"systemctl is-active --quiet {unit}").succeeded, seconds, pause=0.5, longest=2):
        raise HostError(f"{unit} does not run within {seconds} s", name, f"journalctl -u {unit} on the machine says why; then run this again")
