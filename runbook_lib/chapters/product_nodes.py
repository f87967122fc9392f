"""Chapters 03 and 04: the product's nodes. Settings are applied first, then the first boots one after the other; afterwards systemd runs the nodes.

A change to a cluster that is already serving is applied in batches, one node of each role at a time, and each batch is waited for.
Nodes that are restarted are taken out of Nginx meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook_lib.aws.s3.backup_store import Backup
from runbook_lib.changes import Change, Event, Pending, Plan, Result, part_of
from runbook_lib.chapters.base import Converging
from runbook_lib.chapters.second_day import administrator, backups
from runbook_lib.check import CheckTable
from runbook_lib.checks.product_nodes import boot_times, running, verify_nodes
from runbook_lib.converge import engine
from runbook_lib.errors import HostError, LockHeld, PlanOvertaken, RunbookError, Stopped
from runbook_lib.evidence.pictures.boots import first_boots
from runbook_lib.evidence.pictures.figure import Figure
from runbook_lib.notebook import progress as progress_
from runbook_lib.operations import demo_app, deploy_archive, replacement, rolling_restart, rotated, startup
from runbook_lib.operations.backup import recreate_databases
from runbook_lib.operations.lost_database import refuse_lost_data
from runbook_lib.roles import appserver, carbon, greg, mysql
from runbook_lib.roles.context import Context
from runbook_lib.topology.model import Node

if TYPE_CHECKING:
    from runbook_lib.session import Session

PASSWORD = "administrator"  # the stage, as plans name it
BEFORE_PACK = "before the pack was replaced"


class ProductNodes(Converging):
    """The chapter of the product's nodes: 03 or 04."""

    services = (carbon.UNIT,)

    def nodes(self) -> tuple[Node, ...]:
        return self.deployment.topology.wso2_nodes

    def refuse(self, context: Context) -> None:
        refuse_lost_data(self.deployment, context)

    def plan(self) -> Plan:
        """Return the difference between the nodes and their desired state, including the first boots that are due.

        Where a node gets another pack, a backup is made first; where one got it and was not seen serving since, that is left to do.
        """
        d = self.deployment
        with d.one_look(), ThreadPoolExecutor(max_workers=1) as beside:
            context, out_of_reach = d.context(), d.out_of_reach()
            serving = context.booted - out_of_reach.keys()
            asked = beside.submit(lambda: replacement.unproven(d.fleet(without=out_of_reach), context, serving) if serving else set())
            plan = super().plan()
            boots = tuple(
                Pending(name, startup.FIRST_BOOT, Change(startup.FIRST_BOOT, "boot", "one node after the other, with -Dsetup"))
                for name in plan.wish
                if name not in context.booted
            )
            dumps, proofs = replacement.dumps_due(context, plan), replacement.proofs_due(asked.result() - replacement.replaced_by(plan))
        return replace(plan, pending=dumps + _administrator(d, context) + plan.pending + boots + proofs)

    def work(self, plan: Plan, progress: Any) -> Result:
        d, hosts = self.deployment, self.deployment.fleet()
        boots, dumps, proofs, passwords = (plan.of(stage) for stage in (startup.FIRST_BOOT, replacement.DUMP, replacement.PROOF, PASSWORD))
        settings = replace(plan, pending=tuple(p for p in plan.pending if p not in (*boots, *dumps, *proofs, *passwords)))
        before = d.context()
        self.refuse(before)
        if before.booted:  # also of a deployment that is older than this record
            d.record_in_use()
        kept = self._keep(before, plan, dumps)
        for due in passwords:
            administrator.change(d, before, due.host)
        late = rolling_restart.without_stand_in(d, before, settings) if boots else set()
        done = self._settle(before, part_of(settings, plan.wish.keys() - late), kept, progress, proofs)
        done = replace(done, changed=dumps + passwords + done.changed + proofs)
        if not boots:
            return done
        plan.begun.update(p.host for p in boots)
        if before.booted:  # a node in a dead one's place is in Nginx already: nobody is sent there before it serves, and chapter 05 puts it back
            rolling_restart.take_out(d, ())
        try:
            for one in startup.first_boots(hosts, before, lambda node: self._booted(before, node), lambda: self._recreate(before), progress, progress.stop):
                d.journal.booted(self.name, one.node, one.line, one.began, one.ended)
            wish = self.wish(d.context())
            after = engine.plan(hosts, {name: wish[name] for name in wish if name not in late}, self.title)  # systemd starts them, also after a failure
            rest = engine.apply(hosts, after, progress, progress.stop)
            last = self._after_its_stand_ins(late, kept, progress) if late else ()
        except RunbookError as error:
            error.changed = done.changed + error.changed
            raise
        return Result(self.title, done.changed + boots + rest.changed + last, done.hosts, done.seconds + rest.seconds)

    def _settle(self, context: Context, settings: Plan, kept: Backup | None, progress: Any, proofs: Sequence[Pending] = ()) -> Result:
        """Apply settings, of serving nodes in batches that are waited for. `proofs`: what is left of an earlier replacement of the pack."""
        d, hosts = self.deployment, self.deployment.fleet()
        batches = rotated.at_its_turn(d, context, rolling_restart.batches(d, context, settings))
        try:
            done = engine.apply(hosts, settings, progress, progress.stop, batches, lambda names: self._served(context, names, progress))
            if proofs:
                settings.begun.update(p.host for p in proofs)
                self._served(context, [p.host for p in proofs], progress)
                rolling_restart.take_out(d, ())
        except (PlanOvertaken, Stopped):
            raise
        except RunbookError as error:
            self._roll_back(context, error, kept, progress)
            raise
        return done

    def _after_its_stand_ins(self, late: Collection[str], kept: Backup | None, progress: Any) -> tuple[Pending, ...]:
        """Apply the settings of nodes that were the only ones of their role to serve: those that were booted meanwhile stand in for them."""
        d, context = self.deployment, self.deployment.context()
        rolling_restart.wait_for_stand_ins(d, context, late)
        rolling_restart.take_out(d, ())
        wish = self.wish(context)
        return self._settle(context, engine.plan(d.fleet(), {name: wish[name] for name in wish if name in late}, self.title), kept, progress).changed

    def _keep(self, context: Context, plan: Plan, due: Sequence[Pending]) -> Backup | None:
        """Make a backup before a pack is replaced, which the journal says too; return it, or None where none is due."""
        plan.begun.update(p.host for p in due)
        return backups.keep_first(self.deployment, context, BEFORE_PACK) if due else None

    def _served(self, context: Context, names: Sequence[str], progress: Any) -> None:
        """Wait until these nodes serve; those with a new pack are then proven, when none of their checks fails. Raises ChecksFailed when one does."""
        d, serving = self.deployment, [name for name in names if name in context.booted]
        startup.wait_ready(d.fleet(), context, serving, progress)
        if new := replacement.unproven(d.fleet(), context, serving):
            CheckTable(running(d, context, self.name, new)).raise_if_failed()
            replacement.prove(d.fleet(), context, sorted(new))

    def _roll_back(self, context: Context, error: RunbookError, kept: Backup | None, progress: Any) -> None:
        """Give the nodes that do not serve with the new pack their old home back, and put them back into Nginx.

        Raises RunbookError with both reasons where there is such a node; it returns where there is none.
        """
        d, hosts = self.deployment, self.deployment.fleet()
        names: set[str] = set()
        with suppress(HostError):  # a node that does not answer: then the first error says what happened
            names = replacement.unproven(hosts, context, context.booted)
        if not names:
            return
        listed = ", ".join(sorted(names))
        way = f"; where the new pack changed the databases, set product.pack back, and then: ./runbook restore PARAMS --at {kept.time}" if kept else ""
        try:
            replacement.roll_back(hosts, context, names, lambda name, text: progress(Event(name, replacement.PROOF, text, 0, 0)))
            rolling_restart.take_out(d, ())
        except RunbookError as second:
            step = f"{second.next_step or 'look at what these nodes log'}{way}"
            told = RunbookError(f"{error.what}\n{listed} could not be put back on the old pack either: {second.what}", second.where, step)
        else:
            d.journal.write(self.name, "rolled back", host=listed, change="the old home is back and serves")
            step = f"correct product.pack, or set it back to what the nodes have{way}"
            told = RunbookError(f"{error.what}\n{listed} did not serve with the new pack: rolled back, the old one serves again", error.where, step)
        told.changed = error.changed
        raise told from error

    def verify(self) -> CheckTable:
        """Run the checks and return them; then homes that were replaced are removed. Raises ChecksFailed, and those homes stay."""
        table, d = super().verify(), self.deployment
        context = d.context()
        there = replacement.old_homes(d.fleet(), context)
        if there:
            with suppress(LockHeld), d.writing():  # whoever writes now verifies later
                replacement.remove_old_homes(d.fleet(), context, there)
                for name, size in there.items():
                    d.journal.write(self.name, "old home removed", host=name, change=f"{size} MiB, the new pack is verified")
        return table

    def _booted(self, context: Context, name: str) -> None:
        """Record a node's first boot. An AS manager that takes the place of a lost one gets back before what was deployed."""
        d = self.deployment
        if d.topology.node(name).role == "as-manager" and (worker := deploy_archive.bring_back(d.fleet(), context, name)):
            d.journal.write(self.name, "brought back", host=name, change=f"what was deployed, from {worker}")
        d.record_first_boot(name)

    def _recreate(self, context: Context) -> None:
        d = self.deployment
        for made in recreate_databases(d.fleet()[d.topology.db.name], mysql.schemas_of(context)):
            d.journal.write(self.name, "recreate", host=d.topology.db.name, key=made.database, change=str(made))

    def own_checks(self, quiet: bool = False) -> CheckTable:
        self.refuse(self.deployment.context())
        return verify_nodes(self.deployment, self.name, quiet)

    def boot_timeline(self) -> Figure:
        """Return a timeline: when each node's first boot began and ended, when it joined its cluster, and who was elected to lead it.

        The boots are those of this run or of the newest one that booted the node; what happened meanwhile is read in the nodes' logs.
        """
        d = self.deployment
        return self.pictured("boots", boot_times(d, first_boots(d.journal.folder)))


def _administrator(d: Session, context: Context) -> tuple[Pending, ...]:
    """Return the change of the administrator's password in the product, where a rotation of it is under way."""
    node = administrator.due(d, context)
    return (Pending(node, PASSWORD, Change("the administrator's password", "change", "in the product's user store: it is being rotated")),) if node else ()


class Greg(ProductNodes):
    """Chapter 04: the Governance Registry nodes."""

    name, title = "04_configure_greg_nodes", "G-Reg nodes"

    def desired(self, node: Node, context: Context) -> Sequence[engine.Stage]:
        return greg.desired(node, context)


class Appserver(ProductNodes):
    """Chapter 03: the Application Server nodes."""

    name, title = "03_configure_as_nodes", "AS nodes"

    def desired(self, node: Node, context: Context) -> Sequence[engine.Stage]:
        return appserver.desired(node, context)

    def deploy(self, archive: str = demo_app.NAME) -> deploy_archive.Deployed:
        """Copy an archive to the manager, wait until every node has deployed it, and return the result. The workers fetch it by themselves.

        `archive`: path of a .war, .car or .aar file; by default the demonstration application.
        """
        return self._followed("deploy", archive, deploy_archive.deploy)

    def undeploy(self, name: str) -> deploy_archive.Deployed:
        """Remove an archive from the manager, wait until no node has it, and return the result. `name`: the archive's name, such as app.war."""
        return self._followed("undeploy", name, deploy_archive.undeploy)

    def _followed(self, what: str, archive: str, how: Callable[..., deploy_archive.Deployed]) -> deploy_archive.Deployed:
        d = self.deployment
        names = [node.name for node in self.nodes()]
        self.announce()
        with d.writing(), d.journal.attempt(self.name, what), progress_.progress(f"{what.title()} {archive}", names) as progress:
            return how(d.fleet(), d.context(), archive, progress)
