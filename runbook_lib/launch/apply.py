"""Do what a launch plan says, each step after those it needs. Killed anywhere, the next plan goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runbook_lib import pki
from runbook_lib.aws.client import Aws
from runbook_lib.aws.host_keys import Pinned, pin_name, wait_for_keys
from runbook_lib.aws.images import Ami, find_image
from runbook_lib.aws.operator_cidr import operator_cidr
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.changes import Pending, Plan, Reporter
from runbook_lib.errors import CloudError
from runbook_lib.launch import secrets
from runbook_lib.launch.inventory import (
    DEPLOYMENT,
    EVERYWHERE,
    HARDENING,
    PATTERN,
    PUBLIC_KEY,
    ROLE,
    Group,
    Instance,
    Permission,
    World,
    groups_in,
    instances_of,
)
from runbook_lib.launch.plan import ending, key_name, machine_tags, wanted_permissions
from runbook_lib.topology.model import Node, Topology
from runbook_lib.waiting import wait_until

USER_DATA = """\
#cloud-config
hostname: {name}
manage_etc_hosts: true
ssh_genkeytypes: [ed25519]
ssh_pwauth: false
disable_root: true
"""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two looks at a machine's state, growing
AT_ONCE = 8  # calls in flight


class Launcher:
    """One run of chapter 01's changes. `world` is kept up to date as things are made."""

    def __init__(self, aws: Aws, vault: Vault, topology: Topology, world: World, say: Reporter):
        self.aws, self.vault, self.topology, self.world, self.say = aws, vault, topology, world, say
        self.ec2, self.spec = aws.client("ec2"), topology.spec

    def run(self, plan: Plan, before_surplus_ends: Callable[[], None] = lambda: None) -> None:
        """Everything in `plan`. Raises `CloudError`; what was done until then stays and is found again.

        Machines that the parameters name no more end last: the others run by then, and `before_surplus_ends` was called.
        """
        self._network(plan)
        self._groups(plan)
        self._rules()
        self._secrets()
        self._key_pair(plan)
        names = {node.name for node in self.topology.nodes}
        surplus = [p for p in ending(plan) if p.host not in names]
        self._end([p for p in ending(plan) if p.host in names])
        self._launch()
        self._modify(plan)
        self._start(plan)
        self._wait_until_running()
        self._pin_host_keys()
        self._rules()  # the operator's own address may be another one now that the network is there
        if surplus:
            before_surplus_ends()
            self._end(surplus)
            self._forget(surplus)
        self._delete_groups(plan)

    def remove(self, plan: Plan) -> None:
        """Only what `plan` deletes."""
        self._end(ending(plan))
        self._delete_groups(plan)

    def _network(self, plan: Plan) -> None:
        makers = {"VPC": self._make_vpc, "subnet": self._make_subnet, "internet gateway": self._make_gateway}
        for missing in plan.of("network"):
            self.say(missing.subject, "creating")
            makers[missing.subject]()

    def _make_vpc(self) -> None:
        marks = {PATTERN: self.spec.pattern, HARDENING: self.spec.hardening}
        self.world.vpc = self.ec2.create_vpc(CidrBlock=self.spec.cloud.network, TagSpecifications=[self._tags("vpc", **marks)])["Vpc"]
        self.ec2.wait("vpc_available", VpcIds=[self._vpc_id])

    def _make_subnet(self) -> None:
        zone = {"AvailabilityZone": self.spec.cloud.availability_zone} if self.spec.cloud.availability_zone else {}
        answer = self.ec2.create_subnet(VpcId=self._vpc_id, CidrBlock=self.spec.cloud.network, TagSpecifications=[self._tags("subnet")], **zone)
        self.world.subnet = answer["Subnet"]
        if self.spec.cloud.connect_via != "private":
            self.ec2.modify_subnet_attribute(SubnetId=self._subnet_id, MapPublicIpOnLaunch={"Value": True})

    def _make_gateway(self) -> None:
        """The VPC's main route table sends what is not local through it; the route goes when the VPC goes."""
        if self.world.gateway is None:
            answer = self.ec2.create_internet_gateway(TagSpecifications=[self._tags("internet-gateway")])
            self.world.gateway = answer["InternetGateway"]
        gateway = self.world.gateway["InternetGatewayId"]
        if not self.world.gateway.get("Attachments"):
            self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self._vpc_id)
        wanted = [{"Name": "vpc-id", "Values": [self._vpc_id]}, {"Name": "association.main", "Values": ["true"]}]
        table = self.ec2.describe_route_tables(Filters=wanted)["RouteTables"][0]
        if not any(route.get("DestinationCidrBlock") == "0.0.0.0/0" for route in table["Routes"]):
            self.ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)

    def _groups(self, plan: Plan) -> None:
        for role in (p.subject for p in plan.of("group") if p.change.verb == "create"):
            self.say(role, "creating its security group")
            name = f"{self.spec.deployment}-{role}"
            answer = self.ec2.create_security_group(
                GroupName=name,
                Description=f"{role} machines of {self.spec.deployment} (WSO2 cluster runbook)",
                VpcId=self._vpc_id,
                TagSpecifications=[self._tags("security-group", Name=name, **{ROLE: role})],
            )
            self.world.groups[role] = Group(answer["GroupId"], role, frozenset())

    def _delete_groups(self, plan: Plan) -> None:
        """Last: other groups' rules named it, and its machines stood in it, until now."""
        for role in (p.subject for p in plan.of("group") if p.change.verb == "delete"):
            self.say(role, "deleting its security group")
            self.ec2.delete_security_group(GroupId=self.world.groups.pop(role).id)

    def _rules(self) -> None:
        """What is missing is added before surplus is taken away: a change of range locks nobody out in between."""
        ids = {role: group.id for role, group in self.world.groups.items()}
        wanted = wanted_permissions(self.topology, ids, operator_cidr(self.spec.cloud))
        for role, group in self.world.groups.items():
            if role not in wanted:
                continue
            if EVERYWHERE not in group.outward:
                self.say(role, "opening the way out")
                self._rule("authorize_security_group_egress", group.id, {EVERYWHERE}, "InvalidPermission.Duplicate")
            missing, surplus = wanted[role] - group.permissions, group.permissions - wanted[role]
            if missing:
                self.say(role, f"opening {_ports(missing)}")
                self._rule("authorize_security_group_ingress", group.id, missing, "InvalidPermission.Duplicate")
            if surplus:
                self.say(role, f"closing {_ports(surplus)}")
                self._rule("revoke_security_group_ingress", group.id, surplus, "InvalidPermission.NotFound")
        self.world.groups = groups_in(self.ec2, self.spec.deployment)

    def _rule(self, call: str, group: str, permissions: set[Permission] | frozenset[Permission], already: str) -> None:
        """All in one call; one by one when EC2 refuses the bundle because one of it is there (or gone) already."""
        try:
            getattr(self.ec2, call)(GroupId=group, IpPermissions=[each.as_request() for each in permissions])
        except CloudError as error:
            if error.code != already:
                raise
            for each in permissions if len(permissions) > 1 else ():
                self._rule(call, group, {each}, already)

    def _secrets(self) -> None:
        for made in secrets.ensure(self.vault, self.topology):
            self.say(made.name, "made and stored")

    def _key_pair(self, plan: Plan) -> None:
        private_key, name = self.vault.get("ssh-private-key"), key_name(self.topology)
        for p in plan.of("key pair"):
            self.say(name, "importing the public key")
            if p.change.verb == "replace":
                self.ec2.delete_key_pair(KeyName=name)
            self.world.key_pair = self.ec2.import_key_pair(
                KeyName=name,
                PublicKeyMaterial=pki.ssh_public_key(private_key).encode(),
                TagSpecifications=[self._tags("key-pair", **{PUBLIC_KEY: pki.ssh_fingerprint(private_key)})],
            )

    def _end(self, changes: Sequence[Pending]) -> None:
        """Machines that go, wholly gone before anything takes their address or their group is deleted."""
        going = [p.subject for p in changes]
        for machine in going:
            self.say(machine.node or machine.id, f"terminating {machine.id}")
        if going:
            self.ec2.terminate_instances(InstanceIds=[machine.id for machine in going])
        ids = {machine.id for machine in going}
        self._poll(
            "machines to end",
            lambda machines: [m for m in machines if m.state == "shutting-down" or (m.id in ids and m.state != "terminated")],
        )
        self._look()

    def _forget(self, changes: Sequence[Pending]) -> None:
        """The pinned host keys of machines that are gone."""
        for node in (p.subject.node for p in changes if p.subject.node):
            self.vault.delete(pin_name(node))

    def _launch(self) -> None:
        absent = [node for node in self.topology.nodes if not self.world.of_node(node.name)]
        if not absent:
            return
        image = find_image(self.spec.cloud.image, self.spec.cloud.login_user, self.ec2, self.aws.client("ssm"))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda node: self._run_instance(node, image), absent))

    def _run_instance(self, node: Node, image: Ami) -> None:
        """One machine. By the token a repeated request (after a timeout) gives the same machine, not a second."""
        self.say(node.name, f"launching a {node.instance_type}")
        tags = machine_tags(self.topology, node)
        disk = {
            "VolumeSize": self.spec.cloud.disk_gb,
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        }
        request: dict[str, Any] = {
            "ImageId": image.id,
            "InstanceType": node.instance_type,
            "KeyName": key_name(self.topology),
            "SubnetId": self._subnet_id,
            "PrivateIpAddress": node.address,
            "SecurityGroupIds": [self.world.groups[node.role].id],
            "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1},
            "BlockDeviceMappings": [{"DeviceName": image.root_device, "Ebs": disk}],
            "UserData": USER_DATA.format(name=node.name),
            "TagSpecifications": [_tag_specification(kind, tags) for kind in ("instance", "volume", "network-interface")],
        }
        before = sorted(one for one in self.world.ended if one.startswith(f"{node.name}="))
        token = hashlib.sha256(json.dumps([request, before], sort_keys=True).encode()).hexdigest()
        self.ec2.run_instances(MinCount=1, MaxCount=1, ClientToken=token, **request)

    def _modify(self, plan: Plan) -> None:
        for p in plan.of("machine"):
            if p.change.verb == "modify":
                self.say(p.host, p.change.summary)
                self._modify_one(self.topology.node(p.host), p.subject)

    def _modify_one(self, node: Node, machine: Instance) -> None:
        group = self.world.groups[node.role].id
        if machine.groups != {group}:
            self.ec2.modify_instance_attribute(InstanceId=machine.id, Groups=[group])
        if not machine.imdsv2:
            self.ec2.modify_instance_metadata_options(InstanceId=machine.id, HttpTokens="required", HttpEndpoint="enabled")
        lacking = {k: v for k, v in machine_tags(self.topology, node).items() if machine.tags.get(k) != v}
        if lacking:
            self.ec2.create_tags(Resources=[machine.id], Tags=[{"Key": key, "Value": value} for key, value in lacking.items()])
        if machine.instance_type != node.instance_type:
            self.ec2.stop_instances(InstanceIds=[machine.id])
            self._poll(
                f"{node.name} to stop",
                lambda machines: [m for m in machines if m.id == machine.id and m.state != "stopped"],
            )
            self.ec2.modify_instance_attribute(InstanceId=machine.id, InstanceType={"Value": node.instance_type})
            self.ec2.start_instances(InstanceIds=[machine.id])

    def _start(self, plan: Plan) -> None:
        self._poll("machines to stop", lambda machines: [m for m in machines if m.state == "stopping"])
        self._look()
        nodes = {node.name for node in self.topology.nodes}
        for machine in self.world.instances:
            if machine.state == "stopped" and machine.node in nodes:
                self.say(machine.node, f"starting {machine.id}")
                self.ec2.start_instances(InstanceIds=[machine.id])

    def _wait_until_running(self) -> None:
        nodes = {node.name for node in self.topology.nodes}
        self._poll(
            "machines to run",
            lambda machines: [m for m in machines if m.node in nodes and m.state in ("pending", "stopped")],
        )
        self._look()
        for node in self.topology.nodes:
            machines = self.world.of_node(node.name)
            if not machines or not machines[0].running:
                raise CloudError(
                    f"{node.name} does not run: {self._why_not(node.name)}",
                    self.spec.deployment,
                    "put right what the reason names, then run chapter 01 again",
                )

    def _why_not(self, node: str) -> str:
        wanted = [
            {"Name": "tag:runbook:node", "Values": [node]},
            {"Name": f"tag:{DEPLOYMENT}", "Values": [self.spec.deployment]},
        ]
        found = self.ec2.pages("describe_instances", "Reservations", Filters=wanted)
        reasons = [m.get("StateReason", {}).get("Message", "") for r in found for m in r["Instances"]]
        return next((reason for reason in reversed(reasons) if reason), "EC2 gives no reason")

    def _pin_host_keys(self) -> None:
        """Each from its own console, all at once; a key is stored with the id of the machine that showed it."""
        unpinned = []
        for node in self.topology.nodes:
            machine, stored = self.world.of_node(node.name)[0], self.vault.find(pin_name(node.name))
            if stored is None or Pinned.read(stored).instance != machine.id:
                unpinned.append(machine)
        if unpinned:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._pin, unpinned))

    def _pin(self, machine: Instance) -> None:
        self.say(machine.node, "waiting for its console to show the host keys")
        keys = wait_for_keys(self.ec2, machine.node, machine.id, self.spec.timeouts.console)
        self.vault.put(pin_name(machine.node), Pinned(machine.id, keys).text(), secure=False)
        self.say(machine.node, "host keys pinned")

    def _poll(self, what: str, waiting_for: Callable[[list[Instance]], list[Instance]]) -> None:
        """Until `waiting_for` gives nothing any more, at most `timeouts.running`. Raises `CloudError`."""
        seconds = self.spec.timeouts.running
        late = wait_until(
            lambda: waiting_for(instances_of(self.aws, self.spec.deployment)), seconds, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda late: not late
        )
        if late:
            names = ", ".join(f"{machine.node} ({machine.id}, {machine.state})" for machine in late)
            raise CloudError(f"waited {seconds} s for {what}: {names}", self.ec2.about, "look at these machines in EC2; then run this step again")

    def _look(self) -> None:
        machines = instances_of(self.aws, self.spec.deployment)
        self.world.instances = [machine for machine in machines if machine.state not in ("shutting-down", "terminated")]
        self.world.ended = [f"{m.node}={m.id}" for m in machines if m.state == "terminated"]

    @property
    def _vpc_id(self) -> str:
        assert self.world.vpc is not None
        return str(self.world.vpc["VpcId"])

    @property
    def _subnet_id(self) -> str:
        assert self.world.subnet is not None
        return str(self.world.subnet["SubnetId"])

    def _tags(self, kind: str, **more: str) -> dict[str, Any]:
        return _tag_specification(kind, {"Name": self.spec.deployment, DEPLOYMENT: self.spec.deployment, **more})


def _tag_specification(kind: str, tags: dict[str, str]) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _ports(permissions: Iterable[Permission]) -> str:
    return ", ".join(sorted({permission.ports for permission in permissions}))
