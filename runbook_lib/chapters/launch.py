"""Chapter 01: the machines and what they need in EC2."""

from __future__ import annotations

from typing import Any

from runbook_lib.chapters.base import Verbs
from runbook_lib.check import CheckTable
from runbook_lib.checks.ssh import verify_ssh
from runbook_lib.notebook import progress as progress_
from runbook_lib.operations import rolling_restart


class Launch(Verbs):
    """Chapter 01: network, groups, key pair, machines, secrets."""

    name = "01_launch_ec2"

    def plan(self) -> Any:
        """What the cloud lacks; changes nothing."""
        with self.deployment.journal.attempt(self.name, "plan"):
            return self.deployment.cloud.plan()

    def apply(self, plan: Any) -> Any:
        """Make it so, then wait until every machine accepts our key."""
        d = self.deployment
        with d.writing(), d.journal.attempt(self.name, "apply"), progress_.progress("Launch", [n.name for n in d.topology.nodes]) as progress:
            done = d.cloud.apply(plan, progress, self._drain)
            d.journal.changed(self.name, done)
            d.fleet().wait_for_ssh([n.name for n in d.topology.nodes], d.spec.timeouts.ssh)
        return done

    def _drain(self) -> None:
        """Before surplus machines end: Nginx sends to the nodes of the parameters only."""
        d = self.deployment
        d.fleet().wait_for_ssh([lb.name for lb in d.topology.lbs], d.spec.timeouts.ssh)
        if any(node.name in d.context().booted for node in d.topology.wso2_nodes):
            d.journal.changed(self.name, rolling_restart.take_out(d, ()))

    def checks(self) -> CheckTable:
        return CheckTable([*self.deployment.cloud.verify(), *verify_ssh(self.deployment)])
