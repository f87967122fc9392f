"""Chapter 01: the machines and the resources that they need in EC2."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from runbook_lib.changes import Change, Pending, Plan, Result, part_of
from runbook_lib.chapters.base import Verbs
from runbook_lib.chapters.second_day.rolling import noticed, rebuild, roll
from runbook_lib.check import CheckTable
from runbook_lib.checks.running_out import checks_of, levels
from runbook_lib.checks.ssh import verify_ssh
from runbook_lib.errors import RunbookError
from runbook_lib.launch import machines
from runbook_lib.launch.instances.renewing import RENEW
from runbook_lib.launch.instances.resizing import RESIZE
from runbook_lib.notebook import progress as progress_
from runbook_lib.operations import rolling_restart, startup
from runbook_lib.operations.replacement import replaced_by
from runbook_lib.operations.upkeep import disk, turns, updates
from runbook_lib.ssh import Host
from runbook_lib.tables import counted
from runbook_lib.topology.model import with_leaving

SERVICE = "service"  # the stage of what visitors notice, which is no change in the cloud
# cloud-init does both at every boot: partition and file system take the room that the disk has. Where they have it already, nothing is done.
FILL = "for one in growpart resizefs; do sudo -n cloud-init single --name cc_$one --frequency always || exit 1; done"


class Launch(Verbs):
    """Chapter 01: network, groups, key pair, machines, secrets."""

    name = "01_launch_ec2"

    def plan(self, renew: Collection[str] = ()) -> Plan:
        """Return what is missing or different in the cloud, without changing anything, whom it interrupts, and what is lost with a disk.

        Where machines that serve stop for it or are replaced, what chapters 02 to 05 have pending is done before, and stands in the plan.

        `renew`: nodes whose machines are to be replaced although nothing is wrong with them.
        """
        d = self.deployment
        with d.journal.attempt(self.name, "plan"):
            plan = d.cloud.plan({d.topology.node(name).name for name in renew})
            going = {p.host: p.change.verb == RENEW for p in plan.pending if p.change.verb in (RESIZE, RENEW)}
            if not going or not d.context().booted:
                return plan
            notices = tuple(Pending(name, SERVICE, turns.notice(d.topology, name, going[name])) for name in turns.in_turn(d.topology, going))
            return replace(plan, pending=plan.pending + self._first() + notices + self._lost({name for name in going if going[name]}))

    def _first(self) -> tuple[Pending, ...]:
        """Return what other chapters have pending: it is done before the first machine goes, so that every node serves by then."""
        d: Any = self.deployment
        found = []
        for part in (d.mysql, d.product, d.nginx):
            with suppress(RunbookError):  # a machine that does not run cannot be looked at, and starts before
                found += [
                    Pending("", SERVICE, Change(part.name, "apply", f"{each.host}: {each.change.verb} {each.change.key}")) for each in part.plan().pending
                ]
        return tuple(found)

    def _lost(self, renewed: set[str]) -> tuple[Pending, ...]:
        """Return what people put on these machines and is lost with their disks."""
        d: Any = self.deployment
        context = d.context()
        running = {name for name, machine in d.instances().items() if machine.state == "running"} - d.out_of_reach().keys()
        names = [node.name for node in d.topology.wso2_nodes if node.name in renewed & context.booted]
        if not names:
            return ()
        deployed_elsewhere = d.spec.design.product == "as" and len(context.booted) > 1
        hosts = d.fleet(without={node.name for node in d.topology.nodes} - running)

        def found(host: Host) -> Change | None:
            return disk.lost_with(host, d.product.desired(d.topology.node(host.name), context), deployed_elsewhere)

        told = {name: disk.unknown("its machine does not run") for name in names if name not in running}
        told |= hosts.each(found, [name for name in names if name in running])
        return tuple(Pending(name, SERVICE, told[name]) for name in names if told[name])

    def apply(self, plan: Plan, renew: Collection[str] = ()) -> Result:
        """Apply the plan, wait until every machine accepts SSH with the deployment's key, and return what was changed.

        When an apply of the same plan ended half way, what is left of it is applied. `renew`: as in `plan`. Raises Stopped after a Cancel
        or an interrupt.
        """
        d = self.deployment
        self.announce()
        with d.writing(), d.journal.attempt(self.name, "apply"), progress_.progress("Launch", [n.name for n in d.topology.nodes]) as progress:
            left = self.resumed(plan)
            in_cloud = replace(left, pending=tuple(p for p in left.pending if p.stage != SERVICE))
            done = d.cloud.apply(
                in_cloud, progress, self._drain, partial(self._roll, progress, {p.host for p in left.pending if p.change.verb == RENEW}), renew
            )
            d.journal.changed(self.name, done)
            progress.whole("waiting for SSH")
            d.wait_for_ssh(n.name for n in d.topology.nodes)
            if grown := [p.host for p in done.changed if p.change.verb == machines.GROW]:
                d.fleet().each(self._fill, grown)
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

    def _roll(self, progress: Any, ending: Collection[str], names: Sequence[str], change: Callable[[str], None]) -> None:
        """Have `change` done to machines that stop for it or are replaced, one after the other, each out of service meanwhile. `ending`: the replaced ones."""
        d = self.deployment
        if d.context().booted:
            d.wait_for_ssh(node.name for node in d.topology.nodes)
            rebuild(d)  # what a run that was killed left undone, so that every node serves before one goes

        def one(name: str, tell: turns.Tell) -> None:
            before = d.cloud.instance(name).id
            change(name)
            d.wait_for_ssh([name])
            updates.booted(d.fleet()[name], d.spec.timeouts.ssh)
            if d.context().in_use and d.cloud.instance(name).id != before:
                tell(name, "is made anew")
                rebuild(d, name)

        watching = roll(d, names, one, progress, "machine", ending)
        title = f"{counted(len(names), 'machine')} changed or replaced, one after the other"
        d.journal.table(self.name, "What visitors noticed", noticed(watching, title))

    def _fill(self, host: Host) -> None:
        """Have partition and file system of a machine take the room that its disk has. Else they do when it next boots: the journal says so."""
        done = host.run(FILL, timeout=self.deployment.spec.timeouts.ssh)
        if done.rc:
            words = f"its file system takes the room of the larger disk when it next boots; now it did not: {done.stderr.strip()[-500:]}"
            self.deployment.journal.write(self.name, "disk", host=host.name, change=words)

    def _drain(self) -> None:
        """Configure Nginx to send requests only to the nodes of the parameters, before surplus machines are terminated."""
        d = self.deployment
        d.wait_for_ssh(lb.name for lb in d.topology.lbs)
        if any(node.name in d.context().booted for node in d.topology.wso2_nodes):
            self._hand_over()
            d.journal.changed(self.name, rolling_restart.take_out(d, ()))
        named, reached = {node.name for node in d.topology.nodes}, d.fleet().hosts
        for name, machine in d.instances().items():
            if name not in named and name in reached:  # no probe that a killed proof left
                self._leave(name, f"{machine.id} at {machine.address}, a {machine.instance_type}")

    def _hand_over(self) -> None:
        """Have a node that will be the only one of its role restart with its new settings while those that go still serve.

        Another pack is another matter: it comes after a backup, in its own chapter.
        """
        d: Any = self.deployment
        booted = d.context().booted
        there = with_leaving(d.topology, booted)
        alone = {node.name for node in d.topology.wso2_nodes if node.name in booted and len(d.topology.of(node.role)) == 1 < len(there.of(node.role))}
        plan = d.product.plan() if alone else None
        if plan and not replaced_by(plan) and (restarting := rolling_restart.restarted_by(plan) & alone):
            d.journal.changed(self.name, rolling_restart.take_out(d, restarting, there))
            d.product.apply(part_of(plan, restarting))

    def _leave(self, name: str, what: str) -> None:
        """Stop the product on a machine that goes, so that it leaves its cluster by itself. One that does not answer goes without."""
        d = self.deployment
        try:
            seconds = startup.leave(d.fleet()[name], d.context())
            d.journal.write(self.name, "left", host=name, change=f"{what}: out of Nginx, then its product was stopped within {seconds:.1f} s", seconds=seconds)
        except RunbookError as error:
            d.journal.write(self.name, "left", host=name, change=f"{what}: its product could not be stopped: {error.what}")

    def checks(self, quiet: bool = False) -> CheckTable:
        """Return the rows of the machines. `quiet`: what EC2 says of them; a watch reads the levels itself."""
        d = self.deployment
        if quiet:
            return d.cloud.verify()
        for name, instance in d.instances().items():
            d.journal.observed(self.name, name, {"image": f"{d.spec.cloud.image}, {instance.image}"})
        reached = verify_ssh(d)
        return CheckTable([*d.cloud.verify(), *reached, *(checks_of(levels(d)) if reached.ok else ())])
