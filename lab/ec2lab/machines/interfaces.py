"""The network interfaces of an instance that has ended: some outlive it, the others go a moment after it.

Until then an interface holds its address, its subnet and its security groups: EC2 answers DependencyViolation or InvalidIPAddress.InUse to who deletes
or takes these as soon as the instance is terminated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

SECONDS = 1.0  # that an interface is there after its instance; some more on EC2


def ended(hypervisor: Any, instance: Any, end: Callable[[], None]) -> None:
    """Call `end`, which makes moto end the instance, and let go of its interfaces. The caller holds the guard."""
    nics = list(instance.nics.values())
    going = [nic for nic in nics if nic.delete_on_termination]
    for nic in going:
        nic.delete_on_termination = False  # moto would delete it at once
    end()
    for nic in nics:
        if nic in going:
            nic.delete_on_termination = True
        else:
            _release(instance, nic)
    _delete_later(hypervisor, going)


def go_on(hypervisor: Any) -> None:
    """Delete the interfaces that an earlier daemon had let go of and not deleted."""
    with hypervisor.guard:  # its machines are taken over meanwhile
        nics = hypervisor.ec2.enis.values()
        left = [nic for nic in nics if nic.delete_on_termination and nic.instance is not None and nic.instance.state == "terminated"]
    _delete_later(hypervisor, left)


def _release(instance: Any, nic: Any) -> None:
    """Make an interface that outlives its instance available again."""
    nic.instance, nic.attachment_id, nic.attach_time, nic.device_index, nic.status = None, None, None, None, "available"
    instance._private_ips.discard(nic.private_ip_address)  # moto frees these when it forgets the instance


def _delete_later(hypervisor: Any, nics: Collection[Any]) -> None:
    def delete() -> None:
        with hypervisor.guard:
            for nic in nics:
                if nic.id in hypervisor.ec2.enis:
                    hypervisor.ec2.delete_network_interface(nic.id)
        hypervisor.changed()

    if not nics:
        return
    timer = threading.Timer(SECONDS, delete)
    timer.daemon = True
    timer.start()
