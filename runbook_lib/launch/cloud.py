"""A deployment's machines in the cloud: what is there, what differs, make it so, prove it. Knows nothing of SSH."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from runbook_lib import pki
from runbook_lib.aws.client import Aws
from runbook_lib.aws.host_keys import Pinned, pin_name, pinned_in
from runbook_lib.aws.images import login_user as image_user
from runbook_lib.aws.operator_cidr import operator_cidr
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.changes import Plan, Progress, Reporter, Result
from runbook_lib.check import CheckTable
from runbook_lib.errors import CloudError, PlanOvertaken
from runbook_lib.launch import secrets
from runbook_lib.launch.apply import Launcher
from runbook_lib.launch.checks import check_launch
from runbook_lib.launch.inventory import GONE, Instance, JumpHost, World, by_tag, instances_of, observe
from runbook_lib.launch.plan import Known, pending, plan_launch, refuse_other_design
from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Topology, probe_only, topology_of

STEPS_PER_MACHINE = 3  # launching, console, pinned
PROBE = "probe"


class Cloud:
    """The cloud side of one deployment. Everything it makes carries the tag `runbook:deployment`."""

    def __init__(self, spec: Spec, topology: Topology | None = None):
        self.spec = spec
        self.topology = topology or topology_of(spec)
        self.aws = Aws(spec.cloud)
        self.vault = Vault(self.aws.client("ssm"), spec.deployment)

    @property
    def login_user(self) -> str:
        """Whom to sign in as on the machines."""
        return image_user(self.spec.cloud.image, self.spec.cloud.login_user)

    def identity(self) -> str:
        """Who works here: the AWS identity, and the user and machine it is used from."""
        arn = self.aws.client("sts").get_caller_identity()["Arn"]
        return f"{arn} ({_local_user()}@{socket.gethostname()})"

    def describe(self) -> dict[str, Instance]:
        """The machines by node name, those that have ended left out. One call."""
        found: dict[str, Instance] = {}
        for machine in instances_of(self.aws, self.spec.deployment):
            if machine.state not in GONE:
                found.setdefault(machine.node, machine)
        order = [node.name for node in self.topology.nodes]
        return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))

    def instance(self, node: str) -> Instance:
        """The machine of `node`. Raises `CloudError` when there is none."""
        if found := self.describe().get(self.topology.node(node).name):
            return found
        raise CloudError(f"there is no machine {node}", f"deployment {self.spec.deployment}", "run chapter 01_launch_ec2")

    def plan(self) -> Plan:
        """What chapter 01 would change; changes nothing."""
        return self._plan(observe(self.aws, self.spec.deployment))

    def apply(self, plan: Plan | None = None, progress: Progress | None = None, before_surplus_ends: Callable[[], None] = lambda: None) -> Result:
        """Do what `plan` says (the current plan when none is given). `before_surplus_ends` is called when all machines of the
        topology run, and before those end that it names no more: nothing needs to be sent to them any longer.

        Safe to kill and to repeat: each thing is found again by its tags. Raises `PlanOvertaken` with `.fresh` when the
        world is not the one that was planned for, `CloudError` when the cloud refuses or a machine does not come up.
        """
        began, world = time.monotonic(), observe(self.aws, self.spec.deployment)
        fresh = self._plan(world)
        if plan is not None and plan.pending != fresh.pending:
            what = f"the cloud changed since the plan was made\n{fresh}"
            overtaken = PlanOvertaken(what, self.spec.deployment, "look at the fresh plan, then apply that")
            overtaken.fresh = fresh
            raise overtaken
        if fresh:
            say = Reporter(progress, "launch", STEPS_PER_MACHINE)
            Launcher(self.aws, self.vault, self.topology, world, say).run(fresh, before_surplus_ends)
        return Result(fresh.title, fresh.pending, (), time.monotonic() - began)

    def verify(self) -> CheckTable:
        """Whether the machines are up, reachable only as designed, and known by their host keys."""
        world = observe(self.aws, self.spec.deployment)
        return check_launch(self.topology, world, self._plan(world), self.vault.read_all(), self.aws.client("ec2"))

    def reach(self, machine: Instance) -> str:
        """The address that the operator's machine connects to, as `cloud.connect_via` says."""
        return machine.dial

    def bastion(self) -> JumpHost | None:
        """The jump host of the parameters, if any."""
        cloud = self.spec.cloud
        if cloud.connect_via != "bastion" or not cloud.bastion:
            return None
        user, _, address = cloud.bastion.partition("@")
        keys = tuple(" ".join(key.split()[:2]) for key in cloud.bastion_host_keys)
        return JumpHost("bastion", address, user, keys)

    def host_keys(self, node: str) -> tuple[str, ...]:
        """The pinned host keys of `node` (`type base64` each). Raises `CloudError` when none are pinned."""
        return Pinned.read(self.vault.get(pin_name(node))).keys

    def refuse_other_pattern(self) -> None:
        """Raise `CloudError` when the live deployment of this name has another pattern, hardening or network."""
        vpcs = self.aws.client("ec2").describe_vpcs(Filters=by_tag(self.spec.deployment))["Vpcs"]
        refuse_other_design(self.topology, World(vpc=vpcs[0] if vpcs else None))

    def operator_cidr(self) -> str:
        """The range that may use SSH and the AS console."""
        return operator_cidr(self.spec.cloud)

    def tag(self, node: str, key: str, value: str) -> None:
        """Write a tag on the machine of `node`."""
        self.aws.client("ec2").create_tags(Resources=[self.instance(node).id], Tags=[{"Key": key, "Value": value}])

    def untag(self, node: str, key: str) -> None:
        """Take a tag off the machine of `node`."""
        self.aws.client("ec2").delete_tags(Resources=[self.instance(node).id], Tags=[{"Key": key}])

    def stop(self, node: str) -> None:
        """Shut the machine down in order; returns once EC2 has taken the order."""
        self.aws.client("ec2").stop_instances(InstanceIds=[self.instance(node).id])

    def power_cut(self, node: str) -> None:
        """Take the machine's power away: no file system is flushed, no connection closed.

        `Force` alone would still shut the operating system down in order first (EC2, StopInstances).
        """
        self.aws.client("ec2").stop_instances(InstanceIds=[self.instance(node).id], Force=True, SkipOsShutdown=True)

    def start(self, node: str) -> None:
        """Start a stopped machine; returns once EC2 has taken the order."""
        self.aws.client("ec2").start_instances(InstanceIds=[self.instance(node).id])

    def launch_probe(self, progress: Progress | None = None) -> Instance:
        """A small machine in a group that nothing trusts: what any neighbour can reach. The proof removes it.

        Raises `CloudError` where the deployment itself is not launched or lacks a secret: a proof builds nothing but its probe.
        """
        world, topology = observe(self.aws, self.spec.deployment), probe_only(self.topology)
        world.instances = [machine for machine in world.instances if machine.role == PROBE]
        world.groups = {role: group for role, group in world.groups.items() if role == PROBE}
        plan = self._plan(world, topology)
        if lacking := plan.of("network", "secret", "key pair"):
            words = ", ".join(p.change.key for p in lacking[:3]) + (" …" if len(lacking) > 3 else "")
            raise CloudError(f"{self.spec.deployment} lacks what chapter 01 makes: {words}", self.aws.about, "run chapter 01: it makes all of it")
        if plan:
            Launcher(self.aws, self.vault, topology, world, Reporter(progress, "probe", STEPS_PER_MACHINE)).run(plan)
        return self.describe()[topology.nodes[0].name]

    def terminate_probe(self, progress: Progress | None = None) -> None:
        """Remove the probe, its group and its pinned keys; nothing where the parameters want one."""
        if self.spec.cloud.probe:
            return
        world, topology = observe(self.aws, self.spec.deployment), probe_only(self.topology)
        changes = [pending("delete", "machine", m.node, m.id, m) for m in world.instances if m.role == PROBE]
        changes += [pending("delete", "group", role, "", role) for role in world.groups if role == PROBE]
        launcher = Launcher(self.aws, self.vault, replace(topology, nodes=()), world, Reporter(progress, "probe", 1))
        launcher.remove(Plan(self.spec.deployment, {}, tuple(changes)))
        self.vault.delete(pin_name(topology.nodes[0].name))

    def _plan(self, world: World, topology: Topology | None = None) -> Plan:
        topology = topology or self.topology
        stored = self.vault.read_all()
        key = stored.get("ssh-private-key")
        known = Known(
            missing=secrets.missing(topology, stored),
            pinned={name: pinned.instance for name, pinned in pinned_in(stored).items()},
            public_key=pki.ssh_fingerprint(key) if key else None,
            operator=self.operator_cidr() if world.subnet else None,
        )
        return plan_launch(topology, world, known)


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return "unknown"
