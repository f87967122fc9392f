"""Restart nodes one after the other while the others serve: drain in Nginx, restart, wait until ready, put back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runbook_lib.changes import Plan, Result
from runbook_lib.converge import engine
from runbook_lib.converge.resources import Resource, Unit
from runbook_lib.errors import HostError
from runbook_lib.operations import startup
from runbook_lib.operations.replacement import replaced_by
from runbook_lib.roles import carbon, nginx
from runbook_lib.roles.context import Context
from runbook_lib.topology.model import Topology

if TYPE_CHECKING:
    from runbook_lib.session import Session

# Nginx's old worker processes end when the requests that they hold are answered; longer than this we do not wait.
DRAIN_SECONDS = 15
CONFIGURED = "readlink /etc/nginx/nginx.conf | grep -q /runbook/ && systemctl is-active --quiet nginx"
LEFT_OUT = "sudo -n grep -E '^ *server .* down;' /etc/nginx/nginx.conf"
DRAINED = f"""
for i in $(seq {DRAIN_SECONDS * 10}); do
  pgrep -f '^nginx: worker process is shutting down' >/dev/null || exit 0
  sleep 0.1
done"""


def rolling_restart(deployment: Session, names: Sequence[str], tell: Callable[[str], object] = lambda text: None) -> None:
    """Restart the nodes `names` in turn; `tell` gets a line of progress.

    A node whose role has no other node is restarted without being drained: its requests fail meanwhile. Raises HostError
    when a node does not come back: it stays drained, and the others serve.
    """
    context, fleet = deployment.context(), deployment.fleet()
    for name in names:
        alone = _alone(deployment, name)
        if not alone:
            wait_for_stand_ins(deployment, context, {name})
            tell(f"{name} out of Nginx")
            take_out(deployment, {name})
        tell(f"{name} restarts")
        startup.start(fleet, context, name, "restart")
        if not alone:
            tell(f"{name} back in")
            take_out(deployment, ())


def wait_for_stand_ins(deployment: Session, context: Context, out: Collection[str]) -> None:
    """Return once every other booted node of the roles of `out` answers quickly under its share: then they may carry their neighbours' too.

    Raises HostError, which names the one that does not: without it, nobody might serve meanwhile.
    """
    roles = {context.topology.node(name).role for name in out}
    others = [node.name for node in context.topology.wso2_nodes if node.role in roles and node.name in context.booted and node.name not in out]
    try:
        startup.wait_ready(deployment.fleet(), context, others)
    except HostError as error:
        listed = ", ".join(sorted(out))
        raise HostError(
            f"{listed} cannot be taken out of Nginx, because another node of its role does not serve: {error.what}",
            error.where,
            f"{error.next_step}; or systemctl restart {carbon.UNIT} on it; or terminate its machine, and ./runbook run makes another. Then run this again: "
            f"{listed} was left as it is",
        ) from error


def take_out(deployment: Session, drained: Collection[str], topology: Topology | None = None) -> Result:
    """Set which nodes get no new requests from Nginx: those in `drained` and those without a first boot; return what changed.

    An empty `drained` puts all others back. Nodes that the parameters no longer name are removed from the configuration as
    well. Returns when Nginx's old worker processes have ended, after `DRAIN_SECONDS` at the latest. An Nginx machine that
    was never configured is skipped. `topology`: the nodes that there are, where others serve than the parameters name.
    """
    context, fleet = deployment.context(), deployment.fleet()
    context = replace(context, topology=topology or context.topology)
    out = {*drained, *(node.name for node in context.topology.wso2_nodes if node.name not in context.booted)}
    configured = [lb for lb in deployment.topology.lbs if fleet[lb.name].run(CONFIGURED).succeeded]
    wish = {lb.name: nginx.desired(lb, context, out) for lb in configured}
    done = engine.apply(fleet, engine.plan(fleet, wish, "Nginx"))
    fleet.each(lambda host: host.run(DRAINED, timeout=DRAIN_SECONDS + 30), list(wish))
    return done


def left_out(deployment: Session) -> list[str]:
    """Return the names of the nodes that were booted and to which Nginx sends nobody: what was done to them was cut short."""
    context, fleet = deployment.context(), deployment.fleet()
    lines = "\n".join(fleet[lb.name].run(LEFT_OUT).stdout for lb in deployment.topology.lbs)
    return [node.name for node in deployment.topology.wso2_nodes if node.name in context.booted and f"# {node.name}\n" in f"{lines}\n"]


def without_stand_in(deployment: Session, context: Context, plan: Plan) -> set[str]:
    """Return the nodes that this plan restarts while the others of their role are still to be booted: they must wait for these."""
    serving = {role: [node.name for node in context.topology.of(role) if node.name in context.booted] for role in context.topology.roles}
    only = {names[0] for names in serving.values() if len(names) == 1 and not _alone(deployment, names[0])}
    return restarted_by(plan) & only


def restarted_by(plan: Plan) -> set[str]:
    """Return the names of the hosts on which this plan restarts the running product, by the `watches` of its unit."""
    changing = {(pending.host, pending.change.key) for pending in plan.pending}
    return {name for name, stages in plan.wish.items() if any((name, key) in changing for key in _restarting([r for stage in stages for r in stage.resources]))}


def _restarting(wish: Sequence[Resource]) -> set[str]:
    """Keys of the resources of one host whose change restarts the product: its unit, and what lies where that watches."""
    unit = next((one for one in wish if isinstance(one, Unit) and one.name == carbon.UNIT), None)
    if unit is None:
        return set()
    return {unit.key, *(one.key for one in wish if unit.restarts_for(getattr(one, "path", "")))}


def batches(deployment: Session, context: Context, plan: Plan) -> Iterator[list[str]]:
    """Yield the names of the nodes that may be changed together, batch by batch; one node of each tier where the plan replaces the pack.

    Nodes that the plan restarts are drained until the next batch is asked for. Those of them that do not serve go first, because nobody misses
    them; one that serves goes when all others of its role do. Raises HostError when one of those does not.
    """
    due = {name for name in restarted_by(plan) & context.booted if not _alone(deployment, name)}
    down = startup.not_serving(deployment.fleet(), context, due) if due else set()
    for batch in startup.batches(context, bool(replaced_by(plan)), down):
        out = due.intersection(batch)
        if out:
            wait_for_stand_ins(deployment, context, out - down)
            take_out(deployment, out)
        yield batch
        if out:
            take_out(deployment, ())


def _alone(deployment: Session, name: str) -> bool:
    """Return whether the node is the only one of its role."""
    return len(deployment.topology.of(deployment.topology.node(name).role)) == 1
