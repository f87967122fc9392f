"""The chapters' verbs: plan, apply and verify. An apply holds the deployment's lock; every attempt is written to the journal.

`roles` defines the desired state of a node, `converge` applies it, `checks` verify the running system. This module combines them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runbook_lib.changes import Change, Pending, Plan, Result
from runbook_lib.chapters.status_board import store_applied, store_verification
from runbook_lib.check import CheckTable
from runbook_lib.converge import engine
from runbook_lib.errors import RunbookError
from runbook_lib.notebook import display
from runbook_lib.notebook import progress as progress_
from runbook_lib.roles import machine
from runbook_lib.roles.context import Context
from runbook_lib.topology.model import Node

if TYPE_CHECKING:
    from runbook_lib.session import Session


class Verbs:
    """Base class of all chapters: a deployment, the chapter's name, and its checks."""

    name = ""

    def __init__(self, deployment: Session):
        self.deployment = deployment

    def verify(self) -> CheckTable:
        """Run the checks of the running system and return them. Raises ChecksFailed, after the table was shown, when one did not pass."""
        with self.deployment.journal.attempt(self.name, "verify"):
            checks = CheckTable([*self.checks()])
            self.deployment.journal.checked(self.name, checks)
            store_verification(self.deployment, self.name, checks.ok)
            if not checks.ok:
                display.show(checks)
            return checks.raise_if_failed()

    def checks(self) -> CheckTable:
        raise TypeError(f"{type(self).__name__} has no checks")


class Converging(Verbs):
    """A chapter that brings some nodes to their desired state. `services`: the units that it confines."""

    title = ""
    services: tuple[str, ...] = ()

    def nodes(self) -> tuple[Node, ...]:
        raise TypeError(f"{type(self).__name__} has no nodes")

    def desired(self, node: Node, context: Context) -> Sequence[engine.Stage]:
        raise TypeError(f"{type(self).__name__} has no desired state")

    def checks(self) -> CheckTable:
        """Return the rows of the chapter's own checks, then those of the machines."""
        from runbook_lib.checks.machine import verify_machines

        return CheckTable([*self.own_checks(), *verify_machines(self.deployment, self.nodes(), self.services, self.name)])

    def own_checks(self) -> CheckTable:
        raise TypeError(f"{type(self).__name__} has no checks")

    def wish(self) -> engine.Wish:
        """Return the desired state by node name: what every machine has, then what its role adds."""
        context = self.deployment.context()
        return {node.name: (*machine.desired(), *self.desired(node, context)) for node in self.nodes()}

    def plan(self) -> Plan:
        """Return the difference between the hosts and the desired state, without changing anything. Before the launch everything is pending."""
        with self.deployment.journal.attempt(self.name, "plan"):
            wish = self.wish()
            if not self.deployment.launched():
                return Plan(self.title, wish, tuple(_unmade(name, stage, r.key) for name in wish for stage in wish[name] for r in stage.resources))
            return engine.plan(self.deployment.fleet(), wish, self.title)

    def apply(self, plan: Plan) -> Result:
        """Apply the plan and return what was changed. Raises PlanOvertaken when the hosts changed since, LockHeld when somebody else has the lock."""
        d = self.deployment
        with d.writing(), d.journal.attempt(self.name, "apply"), self._recorded(plan), progress_.progress(self.title, list(plan.wish)) as progress:
            try:
                result = self.work(plan, progress)
            except RunbookError as error:
                d.journal.changed(self.name, error)
                raise
            d.journal.changed(self.name, result)
        return result

    @contextmanager
    def _recorded(self, plan: Plan) -> Iterator[None]:
        """Record before a change that the chapter is not verified any more, so that a run that is killed meanwhile is not taken for a verified one."""
        if plan:
            store_applied(self.deployment, self.name)
        yield

    def work(self, plan: Plan, progress: Any) -> Result:
        return engine.apply(self.deployment.fleet(), plan, progress, progress.stop)


def _unmade(name: str, stage: engine.Stage, key: str) -> Pending:
    return Pending(name, stage.name, Change(key, "create", "the machine is not launched"))
