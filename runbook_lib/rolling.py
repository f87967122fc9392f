"""Restart nodes one after the other without a visitor noticing: out of Nginx, restart, ready, back in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from . import boot, converge
from .steps import nginx

if TYPE_CHECKING:
    from .deployment import Deployment

# Nginx's old worker processes end when the requests that they hold are answered; longer than this we do not wait.
DRAIN_SECONDS = 15
DRAINED = f"""
for i in $(seq {DRAIN_SECONDS * 10}); do
  pgrep -f '^nginx: worker process is shutting down' >/dev/null || exit 0
  sleep 0.1
done"""


def rolling_restart(
    deployment: Deployment, names: Sequence[str], tell: Callable[[str], object] = lambda text: None
) -> None:
    """Restart these nodes in turn. A node that nobody can stand in for is restarted all the same, and is missed.

    `HostError` when one does not come back: the others still serve, and it stays out of Nginx.
    """
    context, fleet = deployment.context(), deployment.fleet()
    for name in names:
        alone = len(deployment.topology.of(deployment.topology.node(name).role)) == 1
        if not alone:
            tell(f"{name} out of Nginx")
            take_out(deployment, {name})
        tell(f"{name} restarts")
        boot.start(fleet, context, name, "restart")
        if not alone:
            tell(f"{name} back in")
            take_out(deployment, ())


def take_out(deployment: Deployment, drained: Collection[str]) -> None:
    """Let Nginx send nothing new to these nodes (nor to any other than these: an empty collection puts all back)."""
    context, fleet = deployment.context(), deployment.fleet()
    wish = {lb.name: nginx.desired(lb, context, drained) for lb in deployment.topology.lbs}
    converge.apply(fleet, converge.plan(fleet, wish, "Nginx"))
    fleet.each(lambda host: host.run(DRAINED, timeout=DRAIN_SECONDS + 30), list(wish))
