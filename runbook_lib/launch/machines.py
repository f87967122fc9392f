"""The machines of the nodes: one instance each, at the address, of the type, in the group and with the tags that the topology wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from runbook_lib.aws.host_keys import pin_name
from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.errors import CloudError
from runbook_lib.launch import instance_profile
from runbook_lib.launch.instances import renewing, resizing
from runbook_lib.launch.instances.described import FIRST_PAUSE, LONGEST_PAUSE, instances_of, set_tags
from runbook_lib.launch.instances.launching import launch_absent, machine_tags, user_data
from runbook_lib.launch.instances.power import await_none, start_stopped, wait_until_running
from runbook_lib.launch.inventory import (
    DEPLOYMENT,
    SETTLE,
    SHOWN,
    Instance,
    Inventory,
    Question,
    pending,
    row,
    unless_gone,
)
from runbook_lib.launch.inventory import GONE as ENDED
from runbook_lib.topology.model import Node, Topology
from runbook_lib.waiting import wait_until

GROW = "grow"  # a plan's verb: the machine's file system follows its disk
SURPLUS = "not among the nodes any more: Nginx stops sending to it, then it is terminated and its disk is lost"


def observe(inventory: Inventory) -> None:
    machines = [machine for machine in instances_of(inventory.aws, inventory.deployment) if inventory.concerns(machine.role)]
    inventory.instances = [machine for machine in machines if machine.state not in ENDED]
    database = next((inventory.here.get(node.name) for node in inventory.topology.of("db")), None) if not inventory.role else None
    inventory.protected = database is not None and _protected(inventory, database)
    inventory.disks = _root_disks(inventory)


def _root_disks(inventory: Inventory) -> dict[str, dict[str, Any]]:
    volumes = {machine.root_volume: machine.id for machine in inventory.instances if machine.root_volume}
    if not volumes:
        return {}
    found = inventory.ec2.pages("describe_volumes", "Volumes", Filters=[{"Name": "volume-id", "Values": sorted(volumes)}])
    return {volumes[volume["VolumeId"]]: volume for volume in found}


def _protected(inventory: Inventory, machine: Instance) -> bool:
    found = inventory.ec2.describe_instance_attribute(InstanceId=machine.id, Attribute="disableApiTermination")
    return bool(found["DisableApiTermination"]["Value"])


def plan(inventory: Inventory) -> Iterator[Pending]:
    """Machines to make, to replace, to modify, to start and to end.

    Raises `CloudError` where a disk would have to shrink, and where a machine that must go is protected from it.
    """
    _refuse_smaller_disks(inventory)
    for node in inventory.topology.nodes:
        machines = inventory.of_node(node.name)
        if machines:
            yield from _one_machine(inventory, node, machines[0])
        else:
            detail = f"{node.instance_type} at {node.address}, {inventory.spec.cloud.disk_gb} GiB gp3 encrypted, IMDSv2"
            yield pending("create", "machine", node.name, detail, node)
        for double in machines[1:]:
            yield pending("delete", "machine", node.name, f"{double.id}: a second machine with this node's tag", double)
    for machine in surplus(inventory):
        yield pending("delete", "machine", machine.node or machine.id, f"{machine.id}: {SURPLUS}", machine)


def _one_machine(inventory: Inventory, node: Node, machine: Instance) -> Iterator[Pending]:
    if machine.address != node.address:
        detail = f"{machine.id} has {machine.address}, its address is {node.address}; what is on its disk is lost"
        if node.role == "db" and inventory.protected:
            step = "set cloud.termination_protection: false and switch the machine's own off in EC2, or set the parameters back"
            raise CloudError(f"{node.name} would be replaced ({detail}), and is protected from termination", "cloud.termination_protection", step)
        yield pending("replace", "machine", node.name, detail, machine)
        return
    if due := [*renewing.plan(inventory, node, machine)]:
        if node.role == "db" and inventory.protected and inventory.spec.cloud.termination_protection:
            step = "set cloud.termination_protection: false for this run, or set the parameters back"
            raise CloudError(
                f"{node.name} would be replaced ({due[0].change.summary}), and is protected from termination", "cloud.termination_protection", step
            )
        yield from due
        return
    lacking = _lacking_tags(inventory.topology, node, machine)
    differences = (
        (not machine.imdsv2, "IMDSv2 only"),
        (node.role in inventory.groups and machine.groups != {inventory.groups[node.role].id}, f"group {node.role} and no other"),
        (lacking, f"tags {', '.join(sorted(lacking))}"),
        (instance_profile.differs(inventory, machine), f"instance profile for connect_via: {inventory.spec.cloud.connect_via}"),
        (_protection_differs(inventory, node), f"termination protection {'on' if inventory.spec.cloud.termination_protection else 'off'}"),
    )
    if words := "; ".join(text for differs, text in differences if differs):
        yield pending("modify", "machine", node.name, words, machine)
    if size := _larger_disk(inventory, machine):
        yield pending(GROW, "machine", node.name, f"disk {size} → {inventory.spec.cloud.disk_gb} GiB in place, while it runs", machine)
    yield from resizing.plan(node, machine)
    if machine.state in ("stopped", "stopping"):
        yield pending("start", "machine", node.name, f"{machine.id} is {machine.state}", machine)


def _larger_disk(inventory: Inventory, machine: Instance) -> int | None:
    """The size of a machine's disk in GiB where it should be larger, else None."""
    size = inventory.disks.get(machine.id, {}).get("Size")
    return size if size is not None and size < inventory.spec.cloud.disk_gb else None


def _refuse_smaller_disks(inventory: Inventory) -> None:
    wanted = inventory.spec.cloud.disk_gb
    sizes = {name: inventory.disks.get(machine.id, {}).get("Size", wanted) for name, machine in inventory.here.items()}
    if larger := {name: size for name, size in sizes.items() if size > wanted}:
        disks = ", ".join(f"{name} has {size} GiB" for name, size in larger.items())
        what = f"cloud.disk_gb is {wanted}, and {disks}: a disk in EC2 grows and never shrinks"
        step = f"set cloud.disk_gb to {max(larger.values())} or more; or destroy the deployment first (./runbook destroy), or choose another `deployment` name"
        raise CloudError(what, str(inventory.spec.source or "cloud.disk_gb"), step)


def surplus(inventory: Inventory) -> list[Instance]:
    """Machines of the deployment that the topology names no more."""
    names = {node.name for node in inventory.topology.nodes}
    return [machine for machine in inventory.instances if machine.node not in names]


def _lacking_tags(topology: Topology, node: Node, machine: Instance) -> dict[str, str]:
    return {key: value for key, value in machine_tags(topology, node).items() if machine.tags.get(key) != value}


def _protection_differs(inventory: Inventory, node: Node) -> bool:
    return node.role == "db" and inventory.protected != inventory.spec.cloud.termination_protection


def apply(inventory: Inventory) -> None:
    """Replaced and second machines end, then each node has one that runs. Surplus machines stay until `end_surplus`, others types come with `resize`."""
    doubles = [p.subject for p in plan(inventory) if p.change.verb in ("delete", "replace")]
    staying = surplus(inventory)
    _end(inventory, [machine for machine in doubles if machine not in staying])
    changes = [p for p in plan(inventory) if p.change.verb in ("modify", GROW)]
    launch_absent(inventory)
    for p in changes:
        inventory.say(p.host, p.change.summary)
        _modify(inventory, inventory.topology.node(p.host), p.subject)
    start_stopped(inventory, observe)
    wait_until_running(inventory, observe)
    _protect(inventory)


def _protect(inventory: Inventory) -> None:
    """Switch the termination protection of the database's machine on or off, as the parameters say."""
    for name, machine in inventory.here.items():
        if _protection_differs(inventory, inventory.topology.node(name)):
            wanted = inventory.spec.cloud.termination_protection
            inventory.say(name, f"switching its termination protection {'on' if wanted else 'off'}")
            inventory.ec2.modify_instance_attribute(InstanceId=machine.id, DisableApiTermination={"Value": wanted})


def resize(inventory: Inventory, roll: resizing.Roll) -> None:
    """Give the machines the types that they should have, one after the other. Raises `CloudError`."""
    resizing.apply(inventory, roll, observe)


def end(inventory: Inventory, node: str) -> None:
    """End the machine of a node that is to be replaced, and forget that it was asked for. Raises `CloudError`."""
    _end(inventory, [inventory.here[node]])
    inventory.renew -= {node}


def end_surplus(inventory: Inventory) -> None:
    """Machines that the topology names no more, and their pinned host keys."""
    going = surplus(inventory)
    _end(inventory, going)
    for node in (machine.node for machine in going if machine.node):
        inventory.vault.delete(pin_name(node))


def _end(inventory: Inventory, going: list[Instance]) -> None:
    """Machines that go, wholly gone before anything takes their address or their group is deleted."""
    for machine in going:
        inventory.say(machine.node or machine.id, f"terminating {machine.id}")
    ids = {machine.id for machine in going}
    if going:
        inventory.ec2.terminate_instances(InstanceIds=sorted(ids))
    await_none(inventory, "machines to end", lambda m: m.state == "shutting-down" or (m.id in ids and m.state != "terminated"))
    observe(inventory)


def lose(inventory: Inventory, names: Sequence[str]) -> None:
    """Terminate the machines of these nodes with their disks, protected or not, and wait until they have ended: a drill. Raises `CloudError`."""
    observe(inventory)
    going = [inventory.here[name] for name in names if name in inventory.here]
    for machine in going:
        if machine.role == "db" and _protected(inventory, machine):
            inventory.say(machine.node, "switching its termination protection off: this is a drill")
            inventory.ec2.modify_instance_attribute(InstanceId=machine.id, DisableApiTermination={"Value": False})
    _end(inventory, going)


def stop_with_user_data(inventory: Inventory, more: str) -> None:
    """Stop the machines and add `more` to their user data, which EC2 lets one change while a machine is stopped only. Raises `CloudError`."""
    machines = inventory.here
    for name, machine in machines.items():
        inventory.say(name, f"stopping {machine.id}")
    inventory.ec2.stop_instances(InstanceIds=sorted(machine.id for machine in machines.values()))
    await_none(inventory, "machines to stop", lambda m: m.node in machines and m.state in ("running", "stopping"))
    for name, machine in machines.items():
        inventory.ec2.modify_instance_attribute(InstanceId=machine.id, UserData={"Value": (user_data(inventory, name) + more).encode()})


def start_again(inventory: Inventory) -> None:
    """Start the machines that are stopped, and wait until all run. Raises `CloudError`."""
    observe(inventory)
    start_stopped(inventory, observe)
    wait_until_running(inventory, observe)


def _modify(inventory: Inventory, node: Node, machine: Instance) -> None:
    ec2, group = inventory.ec2, inventory.groups[node.role].id
    if machine.groups != {group}:
        ec2.modify_instance_attribute(InstanceId=machine.id, Groups=[group])
    if not machine.imdsv2:
        ec2.modify_instance_metadata_options(InstanceId=machine.id, HttpTokens="required", HttpEndpoint="enabled")
    if instance_profile.differs(inventory, machine):
        instance_profile.set_on(inventory, machine)
    if lacking := _lacking_tags(inventory.topology, node, machine):
        set_tags(inventory.aws, machine.id, lacking)
    if _larger_disk(inventory, machine):
        _grow(inventory, machine)


def _grow(inventory: Inventory, machine: Instance) -> None:
    """Enlarge the root volume of a machine, running or not. Partition and file system follow: by chapter 01, or cloud-init at the next boot."""
    wanted = inventory.spec.cloud.disk_gb
    inventory.ec2.modify_volume(VolumeId=machine.root_volume, Size=wanted)
    if not wait_until(lambda: _root_disks(inventory)[machine.id]["Size"] >= wanted, SHOWN, pause=FIRST_PAUSE, longest=LONGEST_PAUSE):
        what = f"the disk of {machine.node} ({machine.root_volume}) is not {wanted} GiB within {SHOWN:.0f} s"
        raise CloudError(what, inventory.ec2.about, "look at the volume in EC2; then run chapter 01 again")


def check(inventory: Inventory) -> Iterator[Check]:
    here, nodes = inventory.here, inventory.topology.nodes
    states = {node.name: here[node.name].state if node.name in here else "absent" for node in nodes}
    idle = [f"{name}: {state}" for name, state in states.items() if state != "running"]
    yield row("launch-machines-run", "Every machine runs", idle, f"{len(nodes)} running", f"{len(here)} running")
    there = [(node, here[node.name]) for node in nodes if node.name in here]
    elsewhere = [f"{node.name}: {machine.address}, not {node.address}" for node, machine in there if machine.address != node.address]
    title = "Every machine has its fixed private address"
    yield row("launch-addresses", title, elsewhere, "as in the topology", "all as in the topology", here)
    old = [name for name, machine in here.items() if not machine.imdsv2]
    yield row("launch-imdsv2", "Metadata only with a session token (IMDSv2)", old, "required", "required on all", here)
    disks = {name: inventory.disks.get(machine.id, {}) for name, machine in here.items()}
    wrong = [f"{name}: {_disk(disk)}" for name, disk in disks.items() if not (disk.get("Encrypted") and disk.get("VolumeType") == "gp3")]
    yield row("launch-disks", "Root disks are encrypted gp3", wrong, "encrypted, gp3", "all encrypted gp3", here)


def _disk(volume: dict[str, Any]) -> str:
    return f"{'encrypted' if volume.get('Encrypted') else 'not encrypted'} {volume.get('VolumeType')}" if volume else "no disk found"


def remove(inventory: Inventory) -> None:
    """Ended, and seen to have ended: a group or a subnet cannot go before the last machine in it has. Then what disks and interfaces are left."""
    told: set[str] = set()

    def end_them() -> list[Instance]:
        """Terminate those that were not told yet; returns all that have not ended."""
        alive = [m for m in instances_of(inventory.aws, inventory.deployment) if m.state != "terminated"]
        going = [machine for machine in alive if machine.state != "shutting-down" and machine.id not in told]
        if going:
            for machine in going:
                if machine.role == "db" and _protected(inventory, machine):
                    inventory.say(machine.node, "switching its termination protection off: this is a tear-down")
                    inventory.ec2.modify_instance_attribute(InstanceId=machine.id, DisableApiTermination={"Value": False})
                inventory.say(machine.node or machine.id, f"terminating {machine.id}")
            inventory.ec2.terminate_instances(InstanceIds=[machine.id for machine in going])
            told.update(machine.id for machine in going)
        return alive

    seconds = inventory.spec.timeouts.running
    if alive := wait_until(end_them, seconds, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda alive: not alive):
        names = ", ".join(f"{machine.id} ({machine.state})" for machine in alive)
        raise CloudError(f"these machines do not end within {seconds} s: {names}", inventory.aws.about, "look at them in EC2; then run this again")
    for volume in _volumes(inventory):
        inventory.say(volume, "deleting the volume")
        unless_gone(inventory.ec2.delete_volume, VolumeId=volume)
    _await_interfaces(inventory)
    for interface in _interfaces(inventory):
        inventory.say(interface, "deleting the network interface")
        unless_gone(inventory.ec2.delete_network_interface, NetworkInterfaceId=interface)


def _volumes(inventory: Inventory) -> list[str]:
    return [volume["VolumeId"] for volume in inventory.tagged("describe_volumes", "Volumes") if volume.get("State") != "deleting"]


def _interfaces(inventory: Inventory) -> list[str]:
    return [interface["NetworkInterfaceId"] for interface in _described_interfaces(inventory)]


def _described_interfaces(inventory: Inventory) -> list[dict[str, Any]]:
    """Of the deployment's VPCs: an interface does not carry its machine's tags everywhere."""
    vpcs = [vpc["VpcId"] for vpc in inventory.tagged("describe_vpcs", "Vpcs")]
    return inventory.ec2.pages("describe_network_interfaces", "NetworkInterfaces", Filters=[{"Name": "vpc-id", "Values": vpcs}]) if vpcs else []


def _await_interfaces(inventory: Inventory) -> None:
    """Wait for the interfaces of machines that have ended: they go by themselves, some time after, and until then cannot be deleted."""
    ours = {machine.id for machine in instances_of(inventory.aws, inventory.deployment)}

    def attached() -> list[str]:
        found = _described_interfaces(inventory)
        return [each["NetworkInterfaceId"] for each in found if each["Status"] == "in-use" and each.get("Attachment", {}).get("InstanceId") in ours]

    if left := wait_until(attached, SETTLE, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda left: not left):
        what = f"these network interfaces do not go within {SETTLE:.0f} s after their machines ended: {', '.join(left)}"
        raise CloudError(what, inventory.aws.about, "look at them in EC2; then run this again")


def _live(inventory: Inventory) -> Iterable[str]:
    return (f"{m.id} ({m.state})" for m in instances_of(inventory.aws, inventory.deployment) if m.state != "terminated")


GONE: tuple[Question, ...] = (
    ("gone-machines", f"Machines with the tag {DEPLOYMENT}", _live),
    ("gone-disks", "Volumes and network interfaces", lambda inventory: [*_volumes(inventory), *_interfaces(inventory)]),
)
