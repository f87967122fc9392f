"""Chapters 03 and 04: the product's nodes. Settings first, then first boots one after the other, then the nodes are systemd's.

A change to a cluster that serves already goes in batches, one node of each role at a time, each batch waited for; what it restarts is
out of Nginx meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import artifacts, boot, converge, rolling, ui
from .checks import CheckTable
from .checks.nodes import verify_nodes
from .converge import Pending, Plan, Result
from .database_repair import recreate_databases
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
        boot.first_boots(hosts, before, d.record_first_boot, lambda: self._recreate(before), progress, progress.stop)
        after = converge.plan(hosts, self.wish(), self.title)  # from here on systemd starts them, also after a failure
        rest = converge.apply(hosts, after, progress, progress.stop)
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

    def deploy(self, archive: str) -> artifacts.Deployed:
        """Put a web application (.war) on the manager; the workers fetch it by themselves within a minute."""
        d = self.deployment
        with d.writing(), d.journal.attempt(self.name, "deploy"), ui.progress(f"Deploy {archive}", [n.name for n in self.nodes()]) as progress:
            return artifacts.deploy(d.fleet(), d.context(), archive, progress)
