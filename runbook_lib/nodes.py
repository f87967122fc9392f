"""Chapters 03 and 04: the product's nodes. Settings first, then first boots one after the other, then the nodes are systemd's.

A change to a cluster that serves already goes in batches, one node of each role at a time, each batch waited for; what it restarts is
out of Nginx meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import artifacts, boot, converge, demonstration, rolling, ui
from .checks import CheckTable
from .checks.nodes import verify_nodes
from .converge import Pending, Plan, Result
from .database_repair import recreate_databases
from .errors import RunbookError
from .resources import Change
from .steps import Context, Node, appserver, greg, mysql
from .work import Converging


class ProductNodes(Converging):
    """Nodes of either product."""

    def nodes(self) -> tuple[Node, ...]:
        return self.deployment.topology.wso2_nodes

    def plan(self) -> Plan:
        """The difference between the nodes and the wish, first boots included."""
        plan = super().plan()
        booted = self.deployment.context().booted
        boots = tuple(
            Pending(name, "first boot", Change("first boot", "boot", "one node after the other, with -Dsetup")) for name in plan.wish if name not in booted
        )
        return Plan(plan.title, plan.wish, plan.pending + boots, plan.seconds)

    def work(self, plan: Plan, progress: Any) -> Result:
        d, hosts = self.deployment, self.deployment.fleet()
        boots = tuple(p for p in plan.pending if p.stage == "first boot")
        settings = Plan(plan.title, plan.wish, tuple(p for p in plan.pending if p.stage != "first boot"), plan.seconds)
        before = d.context()
        batches = rolling.batches(d, before, settings)
        done = converge.apply(
            hosts, settings, progress, progress.stop, batches, lambda names: self._wait(before, [n for n in names if n in before.booted], progress)
        )
        if not boots:
            return done
        try:
            boot.first_boots(hosts, before, d.record_first_boot, lambda: self._recreate(before), progress, progress.stop)
            after = converge.plan(hosts, self.wish(), self.title)  # from here on systemd starts them, also after a failure
            rest = converge.apply(hosts, after, progress, progress.stop)
        except RunbookError as error:
            error.changed = done.changed + error.changed
            raise
        return Result(self.title, done.changed + boots + rest.changed, done.hosts, done.seconds + rest.seconds)

    def _wait(self, context: Context, names: Sequence[str], progress: Any) -> None:
        boot.wait_ready(self.deployment.fleet(), context, names, progress)

    def _recreate(self, context: Context) -> None:
        d = self.deployment
        for made in recreate_databases(d.fleet()[d.topology.db.name], mysql.schemas_of(context)):
            d.journal.write(self.name, "recreate", host=d.topology.db.name, key=made.database, change=str(made))

    def checks(self) -> CheckTable:
        return verify_nodes(self.deployment, self.name)


class Greg(ProductNodes):
    """Chapter 04: the Governance Registry nodes."""

    name, title = "04_configure_greg_nodes", "G-Reg nodes"

    def desired(self, node: Node, context: Context) -> Sequence[converge.Stage]:
        return greg.desired(node, context)


class Appserver(ProductNodes):
    """Chapter 03: the Application Server nodes."""

    name, title = "03_configure_as_nodes", "AS nodes"

    def desired(self, node: Node, context: Context) -> Sequence[converge.Stage]:
        return appserver.desired(node, context)

    def deploy(self, archive: str = demonstration.NAME) -> artifacts.Deployed:
        """Put an archive (path of a .war, .car or .aar; by default the demonstration application) on the manager, and wait until
        every node has deployed it: the workers fetch it by themselves."""
        return self._followed("deploy", archive, artifacts.deploy)

    def undeploy(self, name: str) -> artifacts.Deployed:
        """Take an archive (its name, such as app.war) from the manager, and wait until it is gone from every node."""
        return self._followed("undeploy", name, artifacts.undeploy)

    def _followed(self, what: str, archive: str, how: Callable[..., artifacts.Deployed]) -> artifacts.Deployed:
        d = self.deployment
        names = [node.name for node in self.nodes()]
        with d.writing(), d.journal.attempt(self.name, what), ui.progress(f"{what.title()} {archive}", names) as progress:
            return how(d.fleet(), d.context(), archive, progress)
