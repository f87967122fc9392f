"""A deployment's machines in the cloud: what is there, what differs, make it so, prove it. Knows nothing of SSH."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from runbook_lib import pki
from runbook_lib.aws.client import Aws
from runbook_lib.aws.host_keys import Pinned, pin_name
from runbook_lib.aws.images import login_user as image_user
from runbook_lib.aws.instances import refuse_stopped
from runbook_lib.aws.operator_cidr import known_before_launch, operator_cidr, refuse_shut_out
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.aws.preflight.kms import refuse_unusable_key
from runbook_lib.changes import Plan, Progress, Reporter, Result
from runbook_lib.check import CheckTable
from runbook_lib.errors import CloudError, PlanOvertaken
from runbook_lib.launch import elastic_ips, groups, host_keys, instance_profile, key_pair, machines, network, routes, secrets
from runbook_lib.launch.instances import renewing
from runbook_lib.launch.instances.described import remove_tag, set_tags
from runbook_lib.launch.instances.resizing import Roll, at_once
from runbook_lib.launch.inventory import GONE, Instance, Inventory
from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Topology, probe_only, topology_of

STEPS_PER_MACHINE = 3  # launching, console, pinned
PROBE = "probe"
KINDS = (network, elastic_ips, groups, secrets, key_pair, instance_profile, routes, machines, host_keys)  # each after those it needs


@dataclass(frozen=True)
class JumpHost:
    """The bastion of connect_via: bastion: where it is and by which keys (`type base64`) it is known."""

    name: str
    address: str
    user: str
    host_keys: tuple[str, ...]
    port: int = 22


class Cloud:
    """The cloud side of one deployment. Everything it makes carries the tag `runbook:deployment`."""

    def __init__(self, spec: Spec, topology: Topology | None = None):
        self.spec = spec
        self.topology = topology or topology_of(spec)
        self.aws = Aws(spec.cloud)
        self.vault = Vault(self.aws.client("ssm"), spec.deployment, spec.cloud.tags, spec.cloud.kms_key)

    @property
    def login_user(self) -> str:
        """Whom to sign in as on the machines."""
        return image_user(self.spec.cloud.image, self.spec.cloud.login_user)

    def caller(self) -> dict[str, str]:
        """Return account and ARN of the identity that the calls are made with, as STS knows it. An error is told in its place."""
        try:
            said = self.aws.client("sts").get_caller_identity()
        except CloudError as error:
            return {"account": "unknown", "arn": f"unknown: {error.what}"}
        return {"account": str(said["Account"]), "arn": str(said["Arn"])}

    @property
    def endpoint(self) -> str:
        """The URL of the EC2 API that is called."""
        return self.aws.client("ec2").endpoint

    def identity(self) -> str:
        """Who works here: the AWS identity, and the user and machine it is used from."""
        arn = self.aws.client("sts").get_caller_identity()["Arn"]
        return f"{arn} ({_local_user()}@{socket.gethostname()})"

    def describe(self) -> dict[str, Instance]:
        """The machines by node name, those that have ended left out. One call."""
        found: dict[str, Instance] = {}
        for machine in machines.instances_of(self.aws, self.spec.deployment):
            if machine.state not in GONE:
                found.setdefault(machine.node, machine)
        order = [node.name for node in self.topology.nodes]
        return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))

    def instance(self, node: str) -> Instance:
        """The machine of `node`. Raises `CloudError` when there is none."""
        if found := self.describe().get(self.topology.node(node).name):
            return found
        raise CloudError(f"there is no machine {node}", f"deployment {self.spec.deployment}", "run chapter 01_launch_ec2")

    def inventory(self, topology: Topology | None = None, role: str = "") -> Inventory:
        """The deployment as the kinds of things work on it, nothing observed yet. `role`: only groups and machines of this one."""
        return Inventory(self.aws, self.vault, topology or self.topology, role=role)

    def observe(self, topology: Topology | None = None, role: str = "") -> Inventory:
        """The same with everything that the cloud has of it now. Raises `CloudError`."""
        inventory = self.inventory(topology, role)
        for kind in (machines, network, elastic_ips, routes, groups, secrets, key_pair, instance_profile):
            kind.observe(inventory)
        return inventory

    def plan(self, renew: Collection[str] = ()) -> Plan:
        """What chapter 01 would change; changes nothing. `renew`: nodes whose machines are to be replaced although nothing is wrong with them."""
        inventory = self.observe()
        inventory.renew = frozenset(renew)
        return _plan(inventory)

    def apply(
        self,
        plan: Plan | None = None,
        progress: Progress | None = None,
        before_surplus_ends: Callable[[], None] = lambda: None,
        roll: Roll = at_once,
        renew: Collection[str] = (),
    ) -> Result:
        """Do what `plan` says (the current plan when none is given). `before_surplus_ends` is called when all machines of the
        topology run, and before those end that it names no more: nothing needs to be sent to them any longer. `roll` changes
        machines that must stop for it, or be replaced, in an order of its own. `renew`: as in `plan`.

        Safe to kill and to repeat: each thing is found again by its tags. Raises `PlanOvertaken` with `.fresh` when the
        world is not the one that was planned for, `CloudError` when the cloud refuses or a machine does not come up.
        """
        began, inventory = time.monotonic(), self.observe()
        inventory.renew = frozenset(renew)
        fresh = _plan(inventory)
        if plan is not None and plan.pending != fresh.pending:
            what = f"the cloud changed since the plan was made\n{fresh}"
            overtaken = PlanOvertaken(what, self.spec.deployment, "look at the fresh plan, then apply that")
            overtaken.fresh = fresh
            raise overtaken
        if fresh:
            (plan or fresh).begun.add("")
            inventory.say = Reporter(progress, "launch", STEPS_PER_MACHINE)
            _apply(inventory, before_surplus_ends, roll)
        return Result(fresh.title, fresh.pending, (), time.monotonic() - began)

    def verify(self) -> CheckTable:
        """Whether the machines are up, reachable only as designed, and known by their host keys."""
        inventory = self.observe()
        kinds = (machines, elastic_ips, routes, groups, instance_profile, host_keys, secrets)
        return CheckTable(row for kind in kinds for row in kind.check(inventory))

    def bastion(self) -> JumpHost | None:
        """The jump host of the parameters, if any."""
        cloud = self.spec.cloud
        if cloud.connect_via != "bastion" or not cloud.bastion:
            return None
        user, _, address = cloud.bastion.partition("@")
        keys = tuple(" ".join(key.split()[:2]) for key in cloud.bastion_host_keys)
        return JumpHost("bastion", address, user, keys)

    def host_keys(self, node: str, instance: str = "") -> tuple[str, ...]:
        """Return the pinned host keys of `node` (`type base64` each). Raises `CloudError` when none are pinned.

        `instance`: the id of its machine. Keys of another one are read once more: somebody may have replaced the machine since.
        """
        pinned = Pinned.read(self.vault.get(pin_name(node)))
        if instance and pinned.instance != instance and (stored := self.vault.find(pin_name(node), fresh=True)):
            pinned = Pinned.read(stored)
        return pinned.keys

    def refuse_other_pattern(self) -> None:
        """Raise `CloudError` when the live deployment of this name has another pattern, hardening or network."""
        inventory = self.inventory()
        network.observe(inventory)
        network.refuse_other_design(inventory)

    def operator_cidr(self) -> str:
        """The range that may use SSH and the AS console. Raises `CloudError` when it may not open the Publisher."""
        return _operator(self.spec)

    def tag(self, node: str, key: str, value: str) -> None:
        """Write a tag on the machine of `node`; returns once EC2 shows it. Raises `CloudError`."""
        set_tags(self.aws, self.instance(node).id, {key: value})

    def untag(self, node: str, key: str) -> None:
        """Take a tag off the machine of `node`; returns once EC2 shows it no more. Raises `CloudError`."""
        remove_tag(self.aws, self.instance(node).id, key)

    def stop(self, node: str) -> None:
        """Shut the machine down in order; returns once EC2 has taken the order."""
        self.aws.client("ec2").stop_instances(InstanceIds=[self.instance(node).id])

    def power_cut(self, node: str) -> None:
        """Take the machine's power away: no file system is flushed, no connection closed.

        `Force` alone would still shut the operating system down in order first (EC2, StopInstances).
        """
        self.aws.client("ec2").stop_instances(InstanceIds=[self.instance(node).id], Force=True, SkipOsShutdown=True)

    def lose(self, nodes: Sequence[str], progress: Progress | None = None) -> None:
        """Terminate the machines of these nodes, and wait until they have ended. What was on their disks is gone. Raises `CloudError`."""
        machines.lose(replace(self.inventory(), say=Reporter(progress, "drill", 1)), nodes)

    def start(self, node: str) -> None:
        """Start a stopped machine; returns once EC2 has taken the order."""
        self.aws.client("ec2").start_instances(InstanceIds=[self.instance(node).id])

    def new_ssh_key(self, progress: Progress | None = None) -> None:
        """Give the machines another SSH key by their user data, where they can be reached no more: they are stopped, and start again.

        Killed anywhere, it begins anew with one more key. Raises `CloudError`.
        """
        inventory, private_key = self.observe(), pki.make_ssh_key()
        inventory.say = Reporter(progress, "new SSH key", 2)
        machines.stop_with_user_data(inventory, key_pair.known_by_user_data(self.login_user, private_key))
        key_pair.renew(inventory, private_key)
        machines.start_again(inventory)

    def refuse_stopped(self, node: str) -> None:
        """Raise `CloudError` when the machine of `node` is stopping or has stopped. It is called while something is awaited of it."""
        refuse_stopped(self.aws.client("ec2"), {node: self.instance(node).id})

    def launch_probe(self, progress: Progress | None = None) -> Instance:
        """A small machine in a group that nothing trusts: what any neighbour can reach. The proof removes it.

        Raises `CloudError` where the deployment itself is not launched or lacks a secret: a proof builds nothing but its probe.
        """
        topology = probe_only(self.topology)
        inventory = self.observe(topology, PROBE)
        plan = _plan(inventory)
        if lacking := plan.of("network", "secret", "key pair", "instance profile"):
            words = ", ".join(p.change.key for p in lacking[:3]) + (" …" if len(lacking) > 3 else "")
            raise CloudError(f"{self.spec.deployment} lacks what chapter 01 makes: {words}", self.aws.about, "run chapter 01: it makes all of it")
        if plan:
            inventory.say = Reporter(progress, "probe", STEPS_PER_MACHINE)
            _apply(inventory)
        return self.describe()[topology.nodes[0].name]

    def terminate_probe(self, progress: Progress | None = None) -> None:
        """Remove the probe, its group and its pinned keys; nothing where the parameters want one."""
        if self.spec.cloud.probe:
            return
        topology = probe_only(self.topology)
        inventory = self.observe(replace(topology, nodes=()), PROBE)
        inventory.say = Reporter(progress, "probe", 1)
        machines.end_surplus(inventory)
        groups.remove_surplus(inventory)
        self.vault.delete(pin_name(topology.nodes[0].name))


def _plan(inventory: Inventory) -> Plan:
    """The difference between the machines that should be and what was observed, in the order in which it is made up. Raises `CloudError` for what cannot be."""
    network.refuse_other_design(inventory)
    network.choose_zone(inventory)
    if inventory.subnets or known_before_launch(inventory.spec.cloud):
        _operator(inventory.spec)
    plan = Plan(inventory.deployment, {}, tuple(change for kind in KINDS for change in kind.plan(inventory)))
    if plan.of("machine", "secret"):
        refuse_unusable_key(inventory.aws)
    return plan


def _apply(inventory: Inventory, before_surplus_ends: Callable[[], None] = lambda: None, roll: Roll = at_once) -> None:
    """Each kind after those it needs. Raises `CloudError`; what was done until then stays and is found again.

    Machines that the parameters name no more end last: the others run by then, and `before_surplus_ends` was called.
    """
    for kind in KINDS:
        kind.apply(inventory)
        if kind is elastic_ips:
            routes.begin(inventory)
        if kind is machines:  # at once: in the first boot Nginx fetches the SSM Agent, and its address is its way out
            elastic_ips.associate(inventory)
    instance_profile.wait_online(inventory)
    groups.apply_rules(inventory)  # SSH's port closes where there is another way in; the operator's own address may be another one now
    machines.resize(inventory, roll)
    _renew(inventory, roll)
    if machines.surplus(inventory):
        before_surplus_ends()
        machines.end_surplus(inventory)
    groups.remove_surplus(inventory)
    instance_profile.remove_surplus(inventory)


def _renew(inventory: Inventory, roll: Roll) -> None:
    """Replace machines that run, each by another one at the same address, whose host keys are read from its own console."""

    def one(name: str) -> None:
        machines.end(inventory, name)
        machines.apply(inventory)
        elastic_ips.associate(inventory)
        instance_profile.wait_online(inventory)
        host_keys.apply(inventory)

    if due := [p.host for p in machines.plan(inventory) if p.change.verb == renewing.RENEW]:
        roll(due, one)


def _operator(spec: Spec) -> str:
    found = operator_cidr(spec.cloud)
    if "publisher" in spec.hosts:
        refuse_shut_out(found, spec.publisher_allow_cidr, spec.cloud)
    return found


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return "unknown"
