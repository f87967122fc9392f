"""Runs the machines as the API requests: one thread for each running machine, and one that updates links and firewall rules.

The API's handlers (`api`) call the methods of Hypervisor while they hold `guard`; the methods only record what is
wanted and return. The machine's thread then does the work and writes the instance's state back under the same guard.
"""

from __future__ import annotations

import base64
import json
import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from ec2lab.machines import interfaces
from ec2lab.machines.image import Image
from ec2lab.machines.machine import REBOOTED, Machine, remove_orphan
from ec2lab.machines.states import BY_ITSELF, BY_USER, FAULT, set_state
from ec2lab.network import firewall, links, routing
from ec2lab.paths import Lab
from ec2lab.shell import run

log = logging.getLogger("machines")
ANYWHERE = IPv4Network("0.0.0.0/0")
RETRY_SECONDS = 5.0  # until what could not be made is tried again


class Hypervisor:
    """The lab's machines. `ec2` is moto's backend; `guard` protects it."""

    def __init__(self, lab: Lab, images: Sequence[Image]):
        self.lab = lab
        self.guard = threading.RLock()
        self.machines: dict[str, Machine] = {}
        self.images: dict[str, tuple[Path, ...]] = {image.ami: (image.tree,) for image in images}
        self.ec2: Any = None
        self.keep: Callable[[], None] = lambda: None  # writes the API's state; set by the server
        self.trouble: dict[str, str] = {}  # why a machine, or the subnets, cannot be made what the API says
        self._wishes: dict[str, str] = {}  # run, stop, cut, terminate, reboot or image, by instance id
        self._imaging: dict[str, Any] = {}  # the image to take when the instance is next off
        self._fence = links.Fence()  # as loaded last
        self._changed = threading.Event()
        threading.Thread(target=self._keep_in_step, name="in-step", daemon=True).start()

    # --- called by the API's handlers, which hold the guard

    def launch(self, instance: Any) -> None:
        """Create the machine of a new instance and start it."""
        key = self.ec2.key_pairs.get(instance.key_name)
        subnet = self.ec2.get_subnet(instance.subnet_id)
        nic = links.Nic(instance.id, IPv4Address(instance.private_ip), instance.nics[0].mac_address, self._wire(subnet))
        self.machines[instance.id] = Machine(
            lab=self.lab,
            nic=nic,
            layers=self.images[instance.image_id],
            hostname=instance.private_dns_name,
            public_key=key.material_public.decode().strip() if key else None,
            user_data=b"",
        )
        self.start(instance)

    def start(self, instance: Any) -> None:
        self.machines[instance.id].user_data = base64.b64decode(str(instance.user_data)) if instance.user_data else b""
        set_state(instance, "pending")
        self._wishes[instance.id] = "run"
        threading.Thread(target=self._live, args=(instance,), name=instance.id, daemon=True).start()

    def stop(self, instance: Any, force: bool = False) -> None:
        """Shut the machine down in order, or with `force` cut its power."""
        set_state(instance, "stopping", BY_USER)
        self._wishes[instance.id] = "cut" if force else "stop"
        machine = self.machines[instance.id]
        machine.cut() if force else machine.shut_down()

    def reboot(self, instance: Any) -> None:
        self._wishes[instance.id] = "reboot"
        self.machines[instance.id].reboot()

    def terminate(self, instance: Any) -> None:
        """Remove the machine: by its own thread, or by a new one when it is stopped and has none."""
        alive = instance.state != "stopped"
        set_state(instance, "shutting-down", BY_USER)
        self._wishes[instance.id] = "terminate"
        if alive:
            self.machines[instance.id].cut()
        else:
            threading.Thread(target=self._bury, args=(instance,), daemon=True).start()

    def create_image(self, ami: Any, instance: Any, no_reboot: bool) -> None:
        """Create an image from an instance's disk: at once when it is stopped, otherwise after a shutdown, and then it starts again.

        `no_reboot`: a running machine keeps running, and its disk is copied as it is.
        """
        ami.state = "pending"
        if instance.state == "stopped":
            self._take_image(ami, instance, copy=False)
        elif no_reboot:
            threading.Thread(target=self._copy_image, args=(ami, instance), daemon=True).start()
        else:
            self._wishes[instance.id] = "image"
            self._imaging[instance.id] = ami
            self.machines[instance.id].shut_down()

    def imaging(self, instance_id: str) -> bool:
        """Return whether an image of this instance waits for its shutdown."""
        return instance_id in self._imaging

    def forget_image(self, ami_id: str) -> None:
        self.images.pop(ami_id, None)
        self._free_layers()

    def console(self, instance_id: str) -> bytes:
        machine = self.machines.get(instance_id)
        return machine.console() if machine else b""

    def answers(self, instance_id: str) -> bool:
        machine = self.machines.get(instance_id)
        return bool(machine and machine.answers_ssh())

    def agent_runs(self, instance_id: str) -> bool:
        machine = self.machines.get(instance_id)
        return bool(machine and machine.runs("amazon-ssm-agent"))

    def changed(self) -> None:
        """Tell the updating thread that something which links or firewall rules depend on has changed."""
        self._changed.set()

    # --- an earlier daemon's machines

    def kept(self) -> dict[str, Any]:
        """Return what must be known to take the machines over."""
        return {"machines": self.machines, "images": self.images, "wishes": self._wishes}

    def resume(self, kept: Mapping[str, Any]) -> None:
        """Take over the machines of an earlier daemon: those that run, run on; what ended meanwhile is stopped, or removed if it was to be."""
        self.machines, self._wishes = kept["machines"], kept["wishes"]
        self.images |= kept["images"]
        for ami in self.ec2.amis.values():
            if ami.state == "pending":
                ami.state = "failed"
        for folder in self.lab.disks.glob("i-*"):
            if folder.name not in self.machines:
                log.warning("%s belongs to no instance and is removed", folder.name)
                remove_orphan(self.lab, folder.name)
        for instance in list(self.ec2.all_instances()):
            if instance.id in self.machines and instance.state != "stopped":
                threading.Thread(target=self._take_over, args=(instance,), name=instance.id, daemon=True).start()
            elif instance.id not in self.machines and instance.state != "terminated":
                instance.terminate()
        interfaces.go_on(self)
        self.changed()

    def _take_over(self, instance: Any) -> None:
        machine = self.machines[instance.id]
        if not machine.adopt():
            machine.power_off()
            if instance.state == "pending":
                self._live(instance)
            else:
                self._end(instance, 0)
            return
        with self.guard:
            if self._wishes[instance.id] == "image":  # the image failed with the daemon
                self._wishes[instance.id] = "run"
            self._obey(instance, machine)
        log.info("%s taken over", instance.id)
        self.changed()
        self._live(instance, runs=True)

    # --- called by the machine's own thread

    def _live(self, instance: Any, runs: bool = False) -> None:
        """Run the machine until it ends. `runs`: it runs already."""
        machine, fresh = self.machines[instance.id], True
        try:
            while runs or self._power_on(instance, machine, fresh):
                runs = False
                status = machine.wait()
                with self.guard:
                    wish = self._wishes[instance.id]
                    self._take_wanted_image(instance, wish)
                    if wish not in ("reboot", "image") and not (wish == "run" and status == REBOOTED):
                        break
                    self._wishes[instance.id] = "run"
                log.info("%s starts again (%s)", instance.id, wish)
                fresh = False
            else:
                status = 0
            self._end(instance, status)
        except Exception as problem:  # a machine's failure must show in its state, and must not end the lab
            log.exception("%s failed", instance.id)
            machine.power_off()
            self._end(instance, 1, str(problem))

    def _power_on(self, instance: Any, machine: Machine, fresh: bool) -> bool:
        """Boot the machine and then do what was requested meanwhile. Return False, without booting, when it is to be terminated."""
        with self.guard:
            if self._wishes[instance.id] == "terminate":
                return False
            self._sync_wires()
            rules = self._rules(instance)
        machine.boot(rules, fresh)
        with self.guard:
            self._obey(instance, machine)
        self.changed()
        return True

    def _obey(self, instance: Any, machine: Machine) -> None:
        """Do with a machine that runs what was requested before it did."""
        wish = self._wishes[instance.id]
        if wish in ("terminate", "cut"):
            machine.cut()
        elif wish in ("stop", "image"):
            machine.shut_down()
        else:
            self._wishes[instance.id] = "run"
            set_state(instance, "running")
            log.info("%s runs at %s", instance.id, machine.nic.address)

    def _end(self, instance: Any, status: int, fault: str = "") -> None:
        """Set the instance to stopped, or remove it, after its machine went off by request or by itself.

        `status`: exit status of systemd-nspawn; `fault`: what kept the machine from being run.
        """
        with self.guard:
            wish = self._wishes.get(instance.id, "terminate")
            itself = wish == "run" and instance.instance_initiated_shutdown_behavior == "terminate" and not fault
            stays = wish != "terminate" and not itself
            asked = wish in ("stop", "cut", "terminate")  # power cut while the machine was being booted makes the boot fail: no fault of its own
            code = BY_USER if asked else FAULT if fault else BY_ITSELF
            if (ami := self._imaging.pop(instance.id, None)) is not None:  # asked for too late, or before a boot that failed
                ami.state = "failed"
            if stays:
                set_state(instance, "stopped", code, fault)
                log.info("%s stopped (%s, %s)", instance.id, wish, status)
                if status:
                    last = self.console(instance.id)[-300:].decode(errors="replace")
                    log.warning("%s said at last: %s", instance.id, last)
        if not stays:
            self._bury(instance, code)
        self.changed()

    def _bury(self, instance: Any, code: str = BY_USER) -> None:
        machine = self.machines[instance.id]
        machine.power_off()
        machine.free()
        with self.guard:
            interfaces.ended(self, instance, partial(self._forget, instance))
            set_state(instance, "terminated", code)
            self.machines.pop(instance.id, None)
            self._wishes.pop(instance.id, None)
            self._free_layers()
        log.info("%s terminated", instance.id)
        self.changed()

    def _forget(self, instance: Any) -> None:
        try:
            instance.terminate()
        except Exception:  # moto's books of something else, such as a fleet: the machine has gone all the same
            log.exception("%s is terminated, and not everything of it could be removed", instance.id)

    # --- images

    def _take_wanted_image(self, instance: Any, wish: str) -> None:
        ami = self._imaging.pop(instance.id, None)
        if ami is not None and wish == "terminate":
            ami.state = "failed"
        elif ami is not None:
            self._take_image(ami, instance, copy=False)

    def _copy_image(self, ami: Any, instance: Any) -> None:
        """Make an image of a machine that goes on. A disk that ends or changes while it is copied makes the image fail."""
        try:
            self._take_image(ami, instance, copy=True)
        except Exception:
            log.exception("%s of %s failed", ami.id, instance.id)
            with self.guard:
                ami.state = "failed"
                self._free_layers()

    def _take_image(self, ami: Any, instance: Any, copy: bool) -> None:
        """Make the disk a layer of a new image: copied, or moved, and then the machine continues with an empty disk above it."""
        machine = self.machines[instance.id]
        layer = self.lab.disks / "layers" / ami.id
        layer.parent.mkdir(exist_ok=True)
        below = machine.layers
        if copy:
            run("cp", "--archive", "--reflink=auto", str(machine.folder / "upper"), str(layer), timeout=900)
        else:
            (machine.folder / "upper").rename(layer)
            shutil.rmtree(machine.folder / "work", ignore_errors=True)  # belongs to the disk that was just moved
            machine.layers = (layer, *below)
        with self.guard:
            self.images[ami.id] = (layer, *below)
            ami.state = "available"
        log.info("%s made from %s", ami.id, instance.id)
        self.changed()

    def _free_layers(self) -> None:
        used = {layer for layers in self.images.values() for layer in layers}
        used |= {layer for machine in self.machines.values() for layer in machine.layers}
        for layer in (self.lab.disks / "layers").glob("ami-*"):
            if layer not in used:
                pending = self.ec2.amis.get(layer.name)
                if pending is None or pending.state != "pending":
                    shutil.rmtree(layer, ignore_errors=True)

    # --- links and firewall rules

    def _wire(self, subnet: Any) -> links.Subnet:
        vpc = self.ec2.get_vpc(subnet.vpc_id)
        return links.Subnet(subnet.vpc_id, IPv4Network(vpc.cidr_block), subnet.cidr, routing.reached(subnet))

    def _sync_wires(self) -> None:
        wires = [self._wire(subnet) for zone in self.ec2.subnets.values() for subnet in zone.values()]
        bridges = links.sync_subnets(self.lab, wires)
        beyond = frozenset((self.lab.vpc_bridge(wire.vpc_id), wire.vpc) for wire in wires if not wire.reached)
        fence = links.Fence(frozenset(bridges), frozenset(routing.ways_out(self.ec2)), frozenset(routing.public_addresses(self.ec2)), beyond)
        if fence != self._fence:
            fence.load(self.lab)
            self._fence = fence

    def _rules(self, instance: Any) -> str:
        members: dict[str, list[str]] = {}
        for other in self.ec2.all_instances():
            if other.state != "terminated":
                for group in other.security_groups:
                    members.setdefault(group.id, []).append(other.private_ip)
        groups = instance.security_groups
        return firewall.ruleset(
            [_allow(rule, members) for group in groups for rule in group.ingress_rules],
            [_allow(rule, members) for group in groups for rule in group.egress_rules],
        )

    def _keep_in_step(self) -> None:
        while True:
            self._changed.wait(RETRY_SECONDS if self.trouble else None)
            self._changed.clear()
            self._bring_in_step()
            self.keep()

    def _bring_in_step(self) -> None:
        """Make links and rules what the API says. What cannot be made leaves everything else in force, and is logged by name."""
        with self.guard:
            self._attempt("subnets", self._sync_wires)
            running = [(self.machines[each.id], each) for each in self.ec2.all_instances() if each.state == "running" and each.id in self.machines]
        for machine, instance in running:
            self._attempt(machine.id, partial(self._apply_rules, machine, instance))
        for gone in self.trouble.keys() - {"subnets", *(machine.id for machine, _ in running)}:
            del self.trouble[gone]
        self._tell_trouble()

    def _apply_rules(self, machine: Machine, instance: Any) -> None:
        with self.guard:
            rules = self._rules(instance)
        machine.apply_rules(rules)

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
            self.trouble.pop(what, None)
        except Exception as problem:
            self.trouble[what] = (str(problem).splitlines() or [type(problem).__name__])[0]
            log.exception("%s: cannot be made what the API says", what)

    def _tell_trouble(self) -> None:
        """Write what is not as the API says for `status`, which is another process."""
        half = self.lab.trouble_file.with_suffix(".new")
        half.write_text(json.dumps(self.trouble))
        half.rename(self.lab.trouble_file)


def _allow(rule: Any, members: dict[str, list[str]]) -> firewall.Allow:
    """Return a rule of moto, which has one source, as a permission. `members`: the addresses of each group's members."""
    peers: tuple[IPv4Network, ...] = ()
    if rule.cidr_ipv4:
        peers = (IPv4Network(rule.cidr_ipv4, strict=False),)
    elif rule.source_group:
        peers = firewall.group_members(members.get(rule.source_group["GroupId"], []))
    elif rule.prefix_list_id:
        peers = (ANYWHERE,)  # AWS's own services: in the lab their address is the gateway's
    return firewall.Allow(rule.ip_protocol or "-1", peers, rule.from_port, rule.to_port)
