"""How an instance ends: one that cannot be booted says why, unless its end was asked for meanwhile; its interface goes a moment later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ec2lab.machines import interfaces
from ec2lab.machines.hypervisor import Hypervisor
from ec2lab.machines.machine import Machine
from ec2lab.network import links

WORDS = "no link can be made"


class Instance(SimpleNamespace):
    def terminate(self) -> None:
        self.nics = {}
        raise LookupError("no fleet has this instance")  # moto looks into other books


def failing(wish: str) -> tuple[Any, Any, Any]:
    """Return a lab with one machine whose boot fails, its instance and its interface. `wish`: what is asked for while it boots."""
    lab: Any = Hypervisor.__new__(Hypervisor)
    nic = SimpleNamespace(delete_on_termination=False, status="in-use", private_ip_address="10.0.0.4")
    instance = Instance(
        id="i-1", nics={0: nic}, instance_initiated_shutdown_behavior="stop", _private_ips=set(), _state=SimpleNamespace(), state_reason=SimpleNamespace()
    )

    def boot(rules: str, fresh: bool) -> None:
        lab._wishes[instance.id] = wish
        raise OSError(WORDS)

    machine = SimpleNamespace(boot=boot, power_off=lambda: None, free=lambda: None, console=lambda: b"")
    lab.guard, lab.machines, lab._wishes = threading.RLock(), {instance.id: machine}, {instance.id: "run"}
    lab._imaging = {instance.id: SimpleNamespace(state="pending")}
    lab._sync_wires, lab._rules, lab._free_layers, lab.changed = (lambda *_: None,) * 4
    return lab, instance, nic


@pytest.mark.parametrize(
    ("wish", "state", "reason", "interface"),
    [
        ("run", "stopped", f"Server.InternalError: {WORDS}", "in-use"),
        ("stop", "stopped", "Client.UserInitiatedShutdown: User initiated shutdown", "in-use"),
        ("cut", "stopped", "Client.UserInitiatedShutdown: User initiated shutdown", "in-use"),
        ("terminate", "terminated", "Client.UserInitiatedShutdown: User initiated shutdown", "available"),
    ],
)
def test_an_instance_whose_boot_fails_says_why_unless_its_end_was_asked_for(wish: str, state: str, reason: str, interface: str) -> None:
    lab, instance, nic = failing(wish)
    [image] = lab._imaging.values()
    lab._live(instance)
    assert (image.state, lab._imaging) == ("failed", {}), "an image that was asked for is not pending for good"
    assert (instance._state.name, instance.state_reason.message, nic.status) == (state, reason, interface)
    assert (instance.id in lab.machines) == (state == "stopped")


@pytest.mark.parametrize("daemon", ["the same", "another"])
def test_the_interface_goes_a_moment_after_its_instance_also_by_the_next_daemon(daemon: str, monkeypatch: pytest.MonkeyPatch) -> None:
    due: list[Callable[[], None]] = []
    monkeypatch.setattr(interfaces.threading, "Timer", lambda seconds, delete: due.append(delete) or SimpleNamespace(start=lambda: None))
    instance = SimpleNamespace(id="i-1", state="running", _private_ips=set())
    going, staying = (SimpleNamespace(id=f"eni-{goes}", delete_on_termination=goes, private_ip_address="10.0.0.4", instance=instance) for goes in (True, False))
    instance.nics = {0: going, 1: staying}
    enis = {nic.id: nic for nic in (going, staying)}
    lab = SimpleNamespace(guard=threading.RLock(), ec2=SimpleNamespace(enis=enis, delete_network_interface=enis.pop), changed=lambda: None)

    def end() -> None:
        assert not any(nic.delete_on_termination for nic in instance.nics.values()), "moto would delete it at once"
        instance.state = "terminated"

    interfaces.ended(lab, instance, end)
    assert {*enis} == {going.id, staying.id} and staying.status == "available"
    if daemon == "another":
        due.clear()
        interfaces.go_on(lab)
    for delete in due:
        delete()
    assert {*enis} == {staying.id}


def test_a_machine_that_is_being_booted_keeps_its_link_when_it_is_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[Any] = []
    monkeypatch.setattr(links, "cut", cut.append)
    machine: Any = Machine.__new__(Machine)
    machine.nic, machine.init, machine.process = SimpleNamespace(instance_id="i-1"), None, SimpleNamespace(poll=lambda: None)
    before = set(threading.enumerate())
    machine.reboot()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert not cut, "who boots it does what was asked, once init runs"
