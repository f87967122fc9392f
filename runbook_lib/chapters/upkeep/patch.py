"""The operating system's security updates on a deployment that serves: listed first, then one machine after the other.

deployment.patch.plan()
deployment.patch.apply(plan)

Decision 17: what no visitor notices is updated by every machine itself, each day; this does what waits for the operator. Killed anywhere, it is
continued by the same command, because the machines say themselves what is left (`operations/upkeep/updates.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runbook_lib.changes import Change, Event, Pending, Plan, Result
from runbook_lib.chapters.base import banner
from runbook_lib.chapters.status_board import proofs_of, store_applied
from runbook_lib.checks.drill.interruption import Watch, watch
from runbook_lib.notebook import display
from runbook_lib.notebook import progress as progress_
from runbook_lib.operations import rolling_restart, startup
from runbook_lib.operations.lost_database import refuse_lost_data
from runbook_lib.operations.upkeep import turns, updates
from runbook_lib.operations.upkeep.updates import Updates
from runbook_lib.roles import carbon
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.tables import Table

TITLE = "Security updates"
COLUMNS = ("Machine", "Security updates", "Others", "Restart", "Reboot", "Kernel")


class Patch:
    """What a notebook and the command `patch` call."""

    def __init__(self, deployment: Any):  # a Deployment, whose module imports this one
        self.deployment = deployment

    def look(self) -> dict[str, Updates]:
        """Return by machine what is pending on it. Package lists are fetched anew, nothing else is changed. Raises HostError."""
        d = self.deployment
        names = [node.name for node in d.topology.nodes]
        d.wait_for_ssh(names)
        return updates.look(d.fleet(), names)

    def plan(self, found: Mapping[str, Updates] | None = None) -> Plan:
        """Return what `apply` would do on each machine, in the order of the machines' turns, with what visitors notice. `found`: what `look` returned."""
        d, found = self.deployment, found or self.look()
        pending = (p for name in turns.in_turn(d.topology, found) for p in updates.pending_of(found[name], turns.notice(d.topology, name)))
        return Plan(TITLE, {}, tuple(pending))

    def apply(self, plan: Plan) -> Table:
        """Patch the machines that the plan names, one after the other, verify the chapters that were touched, and return what was done and noticed.

        What a former patch left half done is put right first. Raises HostError when a machine, or what runs on it, does not come back: it
        stays out of Nginx, the others serve, and no further machine is touched. Raises ChecksFailed when a chapter does not verify.
        """
        d = self.deployment
        display.show(banner(d))
        done: dict[str, tuple[Pending, ...]] = {}
        names = turns.in_turn(d.topology, {p.host for p in plan.pending})
        with d.writing(), progress_.progress(TITLE, names) as progress:
            refuse_lost_data(d, d.context())
            self._settle()
            with watch(d) as watching:
                for number, name in enumerate(names):
                    self._one(name, [p for p in plan.pending if p.host == name], number, watching, done, progress)
            table = self._noticed(names, done, watching)
            self._verify({self._chapter(name) for name in names})
        return table

    def _settle(self) -> None:
        """Wait until every machine has booted and every node serves, and let all of them into Nginx: a patch may have been killed half way."""
        d, context = self.deployment, self.deployment.context()
        d.wait_for_ssh(node.name for node in d.topology.nodes)
        d.fleet().each(lambda host: updates.booted(host, d.spec.timeouts.stop + d.spec.timeouts.ssh), [node.name for node in d.topology.nodes])
        startup.wait_ready(d.fleet(), context, [node.name for node in d.topology.wso2_nodes if node.name in context.booted])
        if context.booted:
            rolling_restart.take_out(d, ())

    def _one(self, name: str, planned: Sequence[Pending], number: int, watching: Watch, done: dict[str, tuple[Pending, ...]], progress: Any) -> None:
        d, chapter = self.deployment, self._chapter(name)

        def tell(host: str, doing: str) -> None:
            progress(Event(host, "updates", doing, 0, 0))

        store_applied(d, chapter)
        with d.journal.attempt(chapter, "apply"), watching.during(name), turns.out_of_service(d, name, tell, number):
            done[name] = tuple(self._patched(name, planned, tell))
            d.journal.changed(chapter, Result(TITLE, done[name], (name,), 0.0))

    def _patched(self, name: str, planned: Sequence[Pending], tell: turns.Tell) -> list[Pending]:
        """Install what the plan names and is still pending, then restart what uses the former files, or reboot; return what was done."""
        d = self.deployment
        host, spec = d.fleet()[name], d.spec
        keys = {p.change.key for p in planned}
        before = updates.look_at(host)
        due = replace(before, due=tuple(each for each in before.due if f"package {each.name}" in keys))
        tell(name, f"{len(due.due)} packages are installed")
        updates.install(host, due)
        after = updates.look_at(host)
        did = [p for p in updates.pending_of(due, turns.notice(d.topology, name)) if p.stage in ("service", "updates")]
        if after.reboot:
            tell(name, f"reboots: {after.reboot}")
            updates.reboot(host, spec.timeouts.stop + spec.timeouts.ssh)
            updates.refuse_unfinished(updates.look_at(host))
            return [*did, Pending(name, "reboot", Change("machine", "reboot", after.reboot))]
        if after.restarts:
            tell(name, f"restarts {', '.join(after.restarts)}")
            updates.restart(host, after.restarts)
        if carbon.UNIT in after.restarts and name in d.context().booted:
            startup.start(d.fleet(), d.context(), name, "restart")
        return [*did, *(p for p in updates.pending_of(after, turns.notice(d.topology, name)) if p.stage == "restart")]

    def _noticed(self, names: Sequence[str], done: Mapping[str, Sequence[Pending]], watching: Watch) -> Table:
        """Return one row for each machine, and write the table to the journal."""
        rows = []
        for name in names:
            verbs = [p.change.verb for p in done[name]]
            restarted = ", ".join(p.change.key.removeprefix("unit ") for p in done[name] if p.change.verb == "restart")
            rows.append((name, verbs.count("update"), restarted or "none", "yes" if "reboot" in verbs else "no", str(watching.noticed(name))))
        note = "; ".join(("requests: one every eighth of a second to each public host, meanwhile", *(f"not watched: {words}" for words in watching.unwatched)))
        table = Table(("Machine", "Packages", "Restarted", "Rebooted", "Visitors noticed"), rows, f"{TITLE}: {len(names)} machines", note)
        if names:
            self.deployment.journal.table(self._chapter(names[-1]), "What was patched, and what visitors noticed", table)
        return table

    def _verify(self, touched: set[str]) -> None:
        """Verify the chapters that were touched now, or by a patch that was killed before it did. Raises ChecksFailed."""
        d, proofs = self.deployment, proofs_of(self.deployment)
        for chapter in chapters_of(d.spec.pattern):
            record = proofs.get(chapter.name)
            if chapter.name in touched or (chapter.converges and record and record.applied):
                getattr(d, chapter.attribute).verify()

    def _chapter(self, name: str) -> str:
        """Return the chapter whose machine this is."""
        d, node = self.deployment, self.deployment.topology.node(name)
        if node.tier:
            return str((d.greg if d.spec.design.product == "greg" else d.appserver).name)
        return str(d.mysql.name if node.role == "db" else d.nginx.name if node.role.startswith("lb") else d.launch.name)


def as_table(found: Mapping[str, Updates], deployment: str) -> Table:
    """Return what is pending on each machine as a table for a notebook and a terminal."""
    rows = [
        (name, len(each.due), each.others, ", ".join(each.restarts) or "nothing", each.reboot or "no", _kernel(each))
        for name, each in found.items()
    ]  # fmt: skip
    held = "; ".join(f"{name} holds back {', '.join(each.held)}" for name, each in found.items() if each.held)
    note = "Others: updates that are no security updates; this installs none of them" + (f"; {held} (apt-mark unhold)" if held else "")
    return Table(COLUMNS, rows, f"{TITLE} of {deployment}", note)


def _kernel(found: Updates) -> str:
    if not found.installed:
        return f"{found.runs}, none installed here"
    return found.runs if found.installed == found.runs else f"{found.runs}, {found.installed} installed"
