"""Chapter 01: the machines and the resources that they need in EC2."""

from __future__ import annotations

from runbook_lib.changes import Plan, Result
from runbook_lib.chapters.base import Verbs
from runbook_lib.check import CheckTable
from runbook_lib.checks.running_out import checks_of, levels
from runbook_lib.checks.ssh import verify_ssh
from runbook_lib.errors import RunbookError
from runbook_lib.notebook import progress as progress_
from runbook_lib.operations import rolling_restart


class Launch(Verbs):
    """Chapter 01: network, groups, key pair, machines, secrets."""

    name = "01_launch_ec2"

    def plan(self) -> Plan:
        """Return what is missing or different in the cloud, without changing anything."""
        with self.deployment.journal.attempt(self.name, "plan"):
            return self.deployment.cloud.plan()

    def apply(self, plan: Plan) -> Result:
        """Apply the plan, wait until every machine accepts SSH with the deployment's key, and return what was changed.

        When an apply of the same plan ended half way, what is left of it is applied. Raises Stopped after a Cancel or an interrupt.
        """
        d = self.deployment
        self.announce()
        with d.writing(), d.journal.attempt(self.name, "apply"), progress_.progress("Launch", [n.name for n in d.topology.nodes]) as progress:
            done = d.cloud.apply(self.resumed(plan), progress, self._drain)
            d.journal.changed(self.name, done)
            progress.whole("waiting for SSH")
            d.wait_for_ssh(n.name for n in d.topology.nodes)
        plan.begun.clear()
        return done

    def new_ssh_key(self, confirm: str = "") -> None:
        """Give the machines a new SSH key where theirs is lost, and wait until each accepts it. All machines are stopped and start again.

        Raises RunbookError unless `confirm` is the deployment's name.
        """
        d = self.deployment
        if confirm != d.spec.deployment:
            raise RunbookError(f"all machines of {d.spec.deployment} are to be restarted", "confirm", f'say so: confirm="{d.spec.deployment}"')
        with d.writing(), d.journal.attempt(self.name, "new SSH key"), progress_.progress("New SSH key", [n.name for n in d.topology.nodes]) as progress:
            d.cloud.new_ssh_key(progress)
            d.close()
            d.wait_for_ssh(n.name for n in d.topology.nodes)

    def _drain(self) -> None:
        """Configure Nginx to send requests only to the nodes of the parameters, before surplus machines are terminated."""
        d = self.deployment
        d.wait_for_ssh(lb.name for lb in d.topology.lbs)
        if any(node.name in d.context().booted for node in d.topology.wso2_nodes):
            d.journal.changed(self.name, rolling_restart.take_out(d, ()))

    def checks(self, quiet: bool = False) -> CheckTable:
        """Return the rows of the machines. `quiet`: what EC2 says of them; a watch reads the levels itself."""
        d = self.deployment
        if quiet:
            return d.cloud.verify()
        for name, instance in d.instances().items():
            d.journal.observed(self.name, name, {"image": f"{d.spec.cloud.image}, {instance.image}"})
        reached = verify_ssh(d)
        return CheckTable([*d.cloud.verify(), *reached, *(checks_of(levels(d)) if reached.ok else ())])
