"""The operating system's security updates on a deployment that serves: listed first, then one machine after the other.

deployment.patch.plan()
deployment.patch.apply(plan)

Decision 17: what no visitor notices is updated by every machine itself, each day; this does what waits for the operator. Killed anywhere, it is
continued by the same command, because the machines say themselves what is left (`operations/upkeep/updates.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runbook_lib.changes import Change, Pending, Plan, Result
from runbook_lib.chapters.base import banner
from runbook_lib.chapters.second_day.rolling import chapter_of, roll
from runbook_lib.chapters.status_board import proofs_of, store_applied
from runbook_lib.checks.drill.interruption import VisitorWatch
from runbook_lib.notebook import display
from runbook_lib.notebook import progress as progress_
from runbook_lib.operations import rolling_restart, startup
from runbook_lib.operations.upkeep import turns, updates
from runbook_lib.operations.upkeep.updates import Updates
from runbook_lib.roles import carbon
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.tables import Table, counted

TITLE = "Security updates"
PUT_BACK = "put back"
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
        """Return what `apply` would do on each machine, in the order of the machines' turns, with what visitors notice. `found`: what `look` returned.

        First of all it puts nodes back into Nginx that a former patch, killed half way, left out.
        """
        d, found = self.deployment, found or self.look()
        pending = (p for name in turns.in_turn(d.topology, found) for p in updates.pending_of(found[name], turns.notice(d.topology, name)))
        back = Change("service", PUT_BACK, "Nginx sends it nobody: work on it was cut short")
        return Plan(TITLE, {}, (*(Pending(name, "service", back) for name in rolling_restart.left_out(d)), *pending))

    def apply(self, plan: Plan) -> Table:
        """Patch the machines that the plan names, one after the other, verify the chapters that were touched, and return what was done and noticed.

        What a former patch left half done is put right first. Raises HostError when a machine, or what runs on it, does not come back: it
        stays out of Nginx, the others serve, and no further machine is touched. Raises ChecksFailed when a chapter does not verify.
        """
        d = self.deployment
        display.show(banner(d))
        back = tuple(p for p in plan.pending if p.change.verb == PUT_BACK)  # which `roll` does before anything else
        names, done = [*dict.fromkeys(p.host for p in plan.pending if p not in back)], dict[str, tuple[Pending, ...]]()

        def one(name: str, tell: turns.Tell) -> None:
            chapter = chapter_of(d, name)
            store_applied(d, chapter)
            done[name] = tuple(self._patched(name, {p.change.key for p in plan.pending if p.host == name}, tell))
            d.journal.changed(chapter, Result(TITLE, done[name], (name,), 0.0))

        with d.writing(), progress_.progress(TITLE, names) as progress:
            with d.journal.attempt(d.launch.name, "apply"):
                watching = roll(d, names, one, progress, "updates")
            if back:
                d.journal.changed(d.nginx.name, Result(TITLE, back, tuple(p.host for p in back), 0.0))
            table = _summary(done, watching, [p.host for p in back])
            d.journal.table(d.launch.name, TITLE, table)
            self._verify({d.launch.name, *(chapter_of(d, name) for name in names), *([d.nginx.name] if back else [])})
        return table

    def _patched(self, name: str, named: Collection[str], tell: turns.Tell) -> list[Pending]:
        """Install what the plan names (`named`) and is still pending, then restart what uses the former files, or reboot; return what was done."""
        d = self.deployment
        host, spec = d.fleet()[name], d.spec
        before = updates.look_at(host)
        due = replace(before, due=tuple(each for each in before.due if f"package {each.name}" in named))
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

    def _verify(self, touched: set[str]) -> None:
        """Verify the chapters that were touched now, or by a patch that was killed before it did. Raises ChecksFailed."""
        d, proofs = self.deployment, proofs_of(self.deployment)
        for chapter in chapters_of(d.spec.pattern):
            record = proofs.get(chapter.name)
            if chapter.name in touched or (chapter.converges and record and record.applied):
                getattr(d, chapter.attribute).verify()


def _summary(done: Mapping[str, Sequence[Pending]], watching: VisitorWatch, back: Sequence[str]) -> Table:
    """Return what was done to each machine, and what visitors noticed of it. `back`: nodes that were put back into Nginx before."""
    rows = []
    for name, changes in done.items():
        verbs = [p.change.verb for p in changes]
        restarted = ", ".join(p.change.key.removeprefix("unit ") for p in changes if p.change.verb == "restart")
        rows.append((name, verbs.count("update"), restarted or "none", "yes" if "reboot" in verbs else "no", str(watching.noticed(name))))
    note = "; ".join(filter(None, (f"put back into Nginx first: {', '.join(back)}" if back else "", watching.note)))
    return Table(("Machine", "Packages", "Restarted", "Rebooted", "Visitors noticed"), rows, f"{TITLE}: {counted(len(rows), 'machine')}", note)


def as_table(found: Mapping[str, Updates], deployment: str) -> Table:
    """Return what is pending on each machine as a table for a notebook and a terminal."""
    rows = [
        (name, len(each.due), each.others, ", ".join(each.restarts) or "nothing", each.reboot or "no", _kernel(each))
        for name, each in found.items()
    ]  # fmt: skip
    held = "; ".join(f"{name} holds back {', '.join(each.held)}" for name, each in found.items() if each.held)
    note = "Others: updates that are no security updates, nor of the database server, Nginx or Java; this installs none of them" + (
        f"; {held} (apt-mark unhold)" if held else ""
    )
    return Table(COLUMNS, rows, f"{TITLE} of {deployment}", note)


def _kernel(found: Updates) -> str:
    if not found.installed:
        return f"{found.runs}, none installed here"
    return found.runs if found.installed == found.runs else f"{found.runs}, {found.installed} installed"
