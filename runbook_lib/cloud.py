"""A deployment's machines in the cloud: what is there, what differs, make it so, prove it. Knows nothing of SSH."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable

from runbook_lib import deployment_secrets, pki
from runbook_lib.aws import Aws
from runbook_lib.checks import CheckTable
from runbook_lib.console import Pinned, pin_name, pinned_in
from runbook_lib.errors import CloudError, PlanOvertaken
from runbook_lib.images import login_user
from runbook_lib.launch_apply import Launcher
from runbook_lib.launch_checks import check_launch
from runbook_lib.launch_plan import Known, LaunchPlan, plan_launch
from runbook_lib.operator_range import operator_cidr
from runbook_lib.spec import Spec
from runbook_lib.topology import Topology, topology_of
from runbook_lib.vault import Vault
from runbook_lib.world import GONE, Instance, World, instances_of, observe

Progress = Callable[[str, str], None]  # (node or thing, what happens to it)


class Cloud:
    """The cloud side of one deployment. Everything it makes carries the tag `runbook:deployment`."""

    def __init__(self, spec: Spec, topology: Topology | None = None):
        self.spec = spec
        self.topology = topology or topology_of(spec)
        self.aws = Aws(spec.cloud)
        self.vault = Vault(self.aws.client("ssm"), spec.deployment)

    @property
    def user(self) -> str:
        """Whom to sign in as on the machines."""
        return login_user(self.spec.cloud.image, self.spec.cloud.login_user)

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
        raise CloudError(
            f"there is no machine {node}", f"deployment {self.spec.deployment}", "run chapter 01_launch_ec2"
        )

    def plan(self) -> LaunchPlan:
        """What chapter 01 would change; changes nothing."""
        return self._plan(observe(self.aws, self.spec.deployment))

    def apply(self, plan: LaunchPlan | None = None, progress: Progress | None = None) -> LaunchPlan:
        """Do what `plan` says (the current plan when none is given) and return it.

        Safe to kill and to repeat: each thing is found again by its tags. Raises `PlanOvertaken` with `.fresh` when the
        world is no longer the one that was planned for, `CloudError` when the cloud refuses or a machine does not come up.
        """
        world = observe(self.aws, self.spec.deployment)
        fresh = self._plan(world)
        if plan is not None and plan != fresh:
            overtaken = PlanOvertaken(
                f"the cloud changed since the plan was made\n{fresh}",
                self.spec.deployment,
                "look at the fresh plan, then apply that",
            )
            overtaken.fresh = fresh
            raise overtaken
        if fresh:
            Launcher(self.aws, self.vault, self.topology, world, progress or _silent).run(fresh)
        return fresh

    def verify(self) -> CheckTable:
        """Whether the machines are up, reachable only as designed, and known by their host keys."""
        world = observe(self.aws, self.spec.deployment)
        return check_launch(self.topology, world, self._plan(world), self.vault.load(), self.aws.client("ec2"))

    def host_keys(self, node: str) -> tuple[str, ...]:
        """The pinned host keys of `node` (`type base64` each). Raises `CloudError` when none are pinned."""
        return Pinned.read(self.vault.get(pin_name(node))).keys

    def operator_cidr(self) -> str:
        """The range that may use SSH and the AS console."""
        return operator_cidr(self.spec.cloud)

    def tag(self, node: str, key: str, value: str) -> None:
        """Write a tag on the machine of `node`."""
        self.aws.client("ec2").create_tags(Resources=[self.instance(node).id], Tags=[{"Key": key, "Value": value}])

    def stop(self, node: str) -> None:
        """Shut the machine down in order; returns once EC2 has taken the order."""
        self.aws.client("ec2").stop_instances(InstanceIds=[self.instance(node).id])

    def power_cut(self, node: str) -> None:
        """Take the machine's power away: no file system is flushed, no connection closed (EC2's forced stop)."""
        self.aws.client("ec2").stop_instances(InstanceIds=[self.instance(node).id], Force=True)

    def start(self, node: str) -> None:
        """Start a stopped machine; returns once EC2 has taken the order."""
        self.aws.client("ec2").start_instances(InstanceIds=[self.instance(node).id])

    def _plan(self, world: World) -> LaunchPlan:
        stored = self.vault.load()
        key = stored.get("ssh-private-key")
        known = Known(
            missing=deployment_secrets.missing(self.topology, stored),
            pinned={name: pinned.instance for name, pinned in pinned_in(stored).items()},
            public_key=pki.ssh_fingerprint(key) if key else None,
            operator=self.operator_cidr() if world.subnet else None,
        )
        return plan_launch(self.topology, world, known)


def _silent(subject: str, message: str) -> None:
    pass


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return "unknown"
