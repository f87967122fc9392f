"""Work on machines one after the other, of a deployment that serves or of one that does not yet, with what visitors noticed in the journal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from runbook_lib.aws.s3.backup_store import BEFORE_WORK
from runbook_lib.changes import Event
from runbook_lib.errors import RunbookError
from runbook_lib.operations import rolling_restart, startup
from runbook_lib.operations.lost_database import refuse_lost_data
from runbook_lib.operations.upkeep import turns, updates
from runbook_lib.tables import Table

if TYPE_CHECKING:
    from runbook_lib.checks.drill.interruption import VisitorWatch


def chapter_of(d: Any, name: str) -> str:
    """Return the chapter whose machine this is."""
    node = d.topology.node(name)
    if node.tier:
        return str(d.product.name)
    return str(d.mysql.name if node.role == "db" else d.nginx.name if node.role.startswith("lb") else d.launch.name)


def rebuild(d: Any, name: str = "") -> None:
    """Do what chapters 02 to 05 have pending, so that a machine without anything on it serves again. `name`: the machine, where there is one.

    The database's comes back from the newest backup; the nodes then boot on it one after the other.
    """
    if name and d.topology.node(name).role == "db":
        d.backups.restore(confirm=d.spec.deployment)
    for part in (d.mysql, d.product, d.nginx):
        if plan := part.plan():
            part.apply(plan)


def settle(d: Any) -> None:
    """Return once every machine has booted and every node serves, all of them in Nginx: former work may have been killed half way.

    Raises HostError where a node does not serve: then no other may be taken out either.
    """
    context, every = d.context(), [node.name for node in d.topology.nodes]
    refuse_lost_data(d, context)
    d.wait_for_ssh(every)
    d.fleet().each(lambda host: updates.booted(host, d.spec.timeouts.stop + d.spec.timeouts.ssh), every)
    startup.wait_ready(d.fleet(), context, [node.name for node in d.topology.wso2_nodes if node.name in context.booted])
    if context.booted:
        rolling_restart.take_out(d, ())


def roll(d: Any, names: Sequence[str], one: Callable[[str, turns.Tell], None], progress: Any, stage: str, ending: Collection[str] = ()) -> VisitorWatch:
    """Call `one` for each of these machines in turn, each out of service meanwhile, and return what visitors noticed.

    It gets the machine's name, and a function for lines of progress. Where nobody is served yet, the order is the same and nothing is drained.
    Before the database's machine the databases are backed up; with the product stopped, where the machine is one of `ending` and so goes with its disk.
    """
    from runbook_lib.checks.drill.interruption import VisitorWatch, watch  # here, because its visitors bring a client of their own along

    watching, ordered = watch(d) if d.context().booted else VisitorWatch(()), turns.in_turn(d.topology, names)

    def tell(host: str, doing: str) -> None:
        progress(Event(host, stage, doing, 0, 0))

    if not d.context().booted:
        for name in ordered:
            one(name, tell)
        return watching
    settle(d)
    with watching:
        for name in ordered:
            with watching.during(name), turns.out_of_service(d, name, tell):
                if d.topology.node(name).role == "db":
                    _keep(d, name, tell, name in ending)
                one(name, tell)
    return watching


def _keep(d: Any, name: str, tell: turns.Tell, ends: bool) -> None:
    """Back the databases up. Where their disk `ends` the product stops before: what is written after a backup would be lost. Raises as `Backups.make`."""
    if not ends:
        tell(name, "a backup first")
        d.backups.make(BEFORE_WORK)
        return
    tell(name, "the product stops, then a backup of everything that was written")
    startup.stop_all(d.fleet(), d.context())
    try:
        d.backups.make(BEFORE_WORK)
    except RunbookError:
        rebuild(d)  # the machine stays, and the product starts again
        raise


def noticed(watching: VisitorWatch, title: str) -> Table:
    """Return what visitors noticed, a row for each machine."""
    return Table(("Machine", "Visitors noticed"), [(name, str(watching.noticed(name))) for name in watching.spans], title, watching.note)
