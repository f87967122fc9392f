"""The chapters' verbs: plan, apply and verify. An apply holds the deployment's lock; every attempt is written to the journal.

`roles` defines the desired state of a node, `converge` applies it, `checks` verify the running system. This module combines them.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook_lib.changes import Change, Pending, Plan, Result
from runbook_lib.chapters.status_board import OPEN, overview, proofs_of, store_applied, store_verification
from runbook_lib.check import CheckTable
from runbook_lib.converge import engine
from runbook_lib.errors import RunbookError
from runbook_lib.evidence import provenance
from runbook_lib.evidence.pictures.figure import Figure
from runbook_lib.evidence.pictures.recorded import drawn
from runbook_lib.notebook import display
from runbook_lib.notebook import progress as progress_
from runbook_lib.roles import machine
from runbook_lib.roles.context import Context
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.topology.model import Node

if TYPE_CHECKING:
    from runbook_lib.session import Session


def banner(deployment: Session) -> display.Html:
    """Return in one line which deployment this is, at which endpoint, and whether that is AWS itself (PRODUCTION) or another (REHEARSAL)."""
    aws = deployment.cloud.aws
    kind, _ = provenance.environment_of(aws.endpoint or f"https://ec2{provenance.AWS[0]}", "")
    place = aws.endpoint or f"AWS {deployment.spec.cloud.region}"
    words = f"{deployment.spec.deployment} ({deployment.spec.pattern}) at {place}"
    markup = f'<p class="rb-banner rb-{kind.lower()}" role="status"><strong>{kind}</strong> {html.escape(words)}</p>'
    return display.Html(markup, f"{kind}: {words}")


_announced: ContextVar[bool] = ContextVar("announced", default=False)


@contextmanager
def announced() -> Iterator[None]:
    """In the block no verb says whose deployment it changes and what it lacks: one that is made of others has said so itself."""
    before = _announced.set(True)
    try:
        yield
    finally:
        _announced.reset(before)


def announce(*shown: display.Html) -> None:
    """Show whose deployment is changed, and what there is to say about it, unless that was said."""
    for each in shown if not _announced.get() else ():
        display.show(each)


class Verbs:
    """Base class of all chapters: a deployment, the chapter's name, and its checks."""

    name = ""

    def __init__(self, deployment: Session):
        self.deployment = deployment

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what stands at the top of the chapter: whose deployment this is and where, which chapter it lacks, topology, and board."""
        shown = [banner(self.deployment), *self.lacking()]
        top = {"text/html": "".join(each.markup for each in shown), "text/plain": "\n".join(each.text for each in shown)}
        return {kind: f"{top[kind]}\n{words}" for kind, words in overview(self.deployment).items()}

    def __str__(self) -> str:
        return self._repr_mimebundle_()["text/plain"]

    def lacking(self) -> list[display.Notice]:
        """Return a notice when a chapter before this one is not verified, which names the first such chapter; none otherwise."""
        proofs = proofs_of(self.deployment)
        for chapter in chapters_of(self.deployment.spec.pattern):
            if chapter.name == self.name:
                break
            record = proofs.get(chapter.name)
            if record is None or not record.ok:
                state = f"{record.state} {record.utc}" if record else OPEN
                words = f"chapter {chapter.name} is not verified ({state}): run it first, this chapter stands on it"
                return [display.Notice(words)]
        return []

    def announce(self) -> None:
        """Show, before something is changed, whose deployment this is and where, and which chapter it lacks."""
        if not _announced.get():
            announce(banner(self.deployment), *self.lacking())

    def verify(self) -> CheckTable:
        """Run the checks of the running system and return them. Raises ChecksFailed, whose card has the rows, when one did not pass."""
        with self.deployment.journal.attempt(self.name, "verify"):
            checks = CheckTable([*self.checks()])
            self.deployment.journal.checked(self.name, checks)
            store_verification(self.deployment, self.name, checks.ok)
            return checks.raise_if_failed()

    def checks(self, quiet: bool = False) -> CheckTable:
        """Return the rows of the checks. `quiet`: of those only that leave nothing behind, which a watch makes every few minutes.

        Nobody signs in, nothing is made, and no program is made to write into its log, but for one visit of each public host and what sshd
        and sudo write of the operator.
        """
        raise TypeError(f"{type(self).__name__} has no checks")

    def pictured(self, kind: str, values: Mapping[str, Any]) -> Figure:
        """Return the picture of `values`, and write them to the journal, from which the report draws the same picture."""
        self.deployment.journal.pictured(self.name, kind, values)
        return drawn(kind, values)

    def resumed(self, plan: Plan) -> Plan:
        """Return `plan`, or what is left of it, which is shown, when an apply of it ended half way and nobody else changed anything since."""
        if not plan.begun:
            return plan
        left = self.plan()
        if not left.is_left_of(plan):
            return plan  # which is refused, as overtaken
        display.show(display.Notice("this plan was applied half way: what is left of it was planned again, and is applied now"))
        display.show(left)
        return replace(left, begun=plan.begun)

    def plan(self) -> Plan:
        raise TypeError(f"{type(self).__name__} has no plan")


class Converging(Verbs):
    """A chapter that brings some nodes to their desired state. `services`: the units that it confines."""

    title = ""
    services: tuple[str, ...] = ()

    def nodes(self) -> tuple[Node, ...]:
        raise TypeError(f"{type(self).__name__} has no nodes")

    def desired(self, node: Node, context: Context) -> Sequence[engine.Stage]:
        raise TypeError(f"{type(self).__name__} has no desired state")

    def checks(self, quiet: bool = False) -> CheckTable:
        """Return the rows of the chapter's own checks, then those of the machines."""
        from runbook_lib.checks.machine import verify_machines

        with self.deployment.one_look():
            return CheckTable([*self.own_checks(quiet), *verify_machines(self.deployment, self.nodes(), self.services, self.name)])

    def own_checks(self, quiet: bool = False) -> CheckTable:
        raise TypeError(f"{type(self).__name__} has no checks")

    def refuse(self, context: Context) -> None:
        """Raise RunbookError where nothing may be planned or changed. Called beside each plan, and by chapters that need it before an apply."""

    def wish(self, context: Context) -> engine.Wish:
        """Return the desired state by node name: what every machine has, then what its role adds."""
        return {node.name: self.wish_of(node, context) for node in self.nodes()}

    def wish_of(self, node: Node, context: Context) -> Sequence[engine.Stage]:
        """Return the desired state of one node."""
        return (*machine.desired(), *self.desired(node, context))

    def plan(self) -> Plan:
        """Return the difference between the hosts and the desired state, without changing anything. On a machine that is not launched all is pending."""
        d = self.deployment
        with d.journal.attempt(self.name, "plan"), d.one_look():
            context, out_of_reach = d.context(), d.out_of_reach()
            with ThreadPoolExecutor(max_workers=1) as beside:  # what is refused is asked of another host: nobody waits for that answer to ask the next
                refused = beside.submit(self.refuse, context)
                try:
                    found = self._difference(self.wish(context), out_of_reach)
                finally:
                    refused.result()  # whose reason is the one to tell
            return found

    def _difference(self, wish: engine.Wish, out_of_reach: Mapping[str, str]) -> Plan:
        there = {name: stages for name, stages in wish.items() if name not in out_of_reach}
        found = engine.plan(self.deployment.fleet(without=out_of_reach), there, self.title) if there else Plan(self.title, {}, ())
        unknown = [
            Pending(name, stage.name, Change(each.key, "create", out_of_reach[name]))
            for name in wish
            if name in out_of_reach
            for stage in wish[name]
            for each in stage.resources
        ]
        return replace(found, wish=wish, pending=(*found.pending, *unknown))

    def apply(self, plan: Plan) -> Result:
        """Apply the plan and return what was changed.

        When an apply of the same plan ended half way, what is left of it is applied. Raises PlanOvertaken when somebody else changed
        the hosts since, LockHeld when somebody else has the lock, Stopped after a Cancel or an interrupt.
        """
        d = self.deployment
        self.announce()
        with d.writing(), d.journal.attempt(self.name, "apply"), progress_.progress(self.title, list(plan.wish)) as progress:
            if plan:  # before the change: a run that is killed meanwhile must not be taken for a verified one
                store_applied(d, self.name)
            try:
                result = self.work(self.resumed(plan), progress)
            except RunbookError as error:
                d.journal.changed(self.name, error)
                raise
            d.journal.changed(self.name, result)
        plan.begun.clear()
        return result

    def work(self, plan: Plan, progress: Any) -> Result:
        return engine.apply(self.deployment.fleet(), plan, progress, progress.stop)
