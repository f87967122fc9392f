"""The operating system's updates that are due: which are pending on a machine, what must restart for them, and doing it.

Due is what comes from a suite of security updates, and whatever machines leave to a patch (decision 17): Debian 13 gets its fixes of MariaDB by
point releases, from no such suite.

Everything is read from the machine itself each time (`converge/agent/updates.py`), so that a patch which was cut short anywhere is continued
by the same command: packages that are installed half, services that run without their update, and a reboot that is due say so themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.changes import Change, Pending
from runbook_lib.converge.engine import ask
from runbook_lib.errors import HostError
from runbook_lib.roles import carbon, machine
from runbook_lib.ssh import Fleet, Host
from runbook_lib.waiting import wait_until

LISTS = 600.0  # seconds of silence while package lists are fetched, or packages installed
NO_RESTART = ("dbus.service", "dbus-broker.service")  # sessions and systemd hang on it: only a reboot renews it
KERNEL_PACKAGE = "linux-image-"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
BOOTED = "systemctl is-system-running --wait"


@dataclass(frozen=True)
class Update:
    """A package of which there is a newer version. `before` is "" for one that comes new with another."""

    name: str
    before: str
    after: str
    origin: str


@dataclass(frozen=True)
class Updates:
    """What a machine said. `due`: the updates that a patch installs; `others`: how many it leaves; `half`: an installation was interrupted.

    `runs`, `installed`: kernels, the second "" where none is installed. `flagged`: packages asked for a reboot, `packages` which. `stale`: by
    service the files that it still uses although an update replaced them.
    """

    host: str
    due: tuple[Update, ...] = ()
    others: int = 0
    held: tuple[str, ...] = ()
    half: bool = False
    runs: str = ""
    installed: str = ""
    flagged: bool = False
    packages: tuple[str, ...] = ()
    stale: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def restarts(self) -> tuple[str, ...]:
        """Services to be restarted, in the order of their names; the product's own is last, because its restart is waited for."""
        return tuple(sorted((unit for unit in self.stale if unit not in NO_RESTART), key=lambda unit: (unit == carbon.UNIT, unit)))

    @property
    def reboot(self) -> str:
        """Why the machine must reboot; "" where it need not."""
        bus = next((unit for unit in NO_RESTART if unit in self.stale), "")
        reasons = (
            (self.installed and self.installed != self.runs, f"the kernel {self.runs} runs, {self.installed} is installed"),
            (self.flagged, f"asked for by {', '.join(self.packages) or 'a package'} (/run/reboot-required)"),
            (bus, f"{bus} uses files that an update replaced, and cannot be restarted alone"),
        )
        return "; ".join(words for holds, words in reasons if holds)

    @property
    def new_kernel(self) -> bool:
        """Whether a kernel is among the updates: the machine then reboots after them."""
        return any(update.name.startswith(KERNEL_PACKAGE) for update in self.due)


def updates_of(host: str, fact: Mapping[str, Any]) -> Updates:
    """Return what the agent found on a machine as values."""
    found = [(Update(u["name"], u["old"], u["new"], u["from"]), u["security"]) for u in fact["updates"]]
    due = tuple(update for update, security in found if security or update.name.startswith(machine.PATCHED))
    held = tuple(fact["held"])
    stale = {unit: tuple(files) for unit, files in fact["stale"].items()}
    runs, installed = fact["kernel"]["runs"], fact["kernel"]["installed"]
    return Updates(host, due, len(found) - len(due), held, fact["half"], runs, installed, fact["flag"], tuple(fact["packages"]), stale)


def look(fleet: Fleet, names: Iterable[str]) -> dict[str, Updates]:
    """Fetch the package lists of these machines anew and return by name what is pending on each. Raises HostError where a list cannot be fetched."""
    return fleet.each(lambda host: look_at(host), names)


def look_at(host: Host) -> Updates:
    """Return the same of one machine."""
    [fact] = ask(host, "probe", [{"kind": "updates", "key": "updates"}], timeout=LISTS)["facts"]
    return updates_of(host.name, fact)


def pending_of(found: Updates, notice: Change) -> tuple[Pending, ...]:
    """Return what a patch does to the machine, in its order; nothing where nothing is due. `notice`: what visitors notice of it.

    What must restart after packages were installed is seen then only: the machine is looked at again.
    """
    host, changes = found.host, list[tuple[str, Change]]()
    if found.half:
        changes.append(("updates", Change("packages installed half", "run", "dpkg --configure -a: an installation was interrupted")))
    for update in found.due:
        words = f"{update.before} → {update.after}" if update.before else f"{update.after}, new"
        changes.append(("updates", Change(f"package {update.name}", "update", f"{words} ({update.origin})")))
    for unit in found.restarts:
        some = found.stale[unit]
        words = f"it uses {some[0]}{f' and {len(some) - 1} more files' if len(some) > 1 else ''} of before an update"
        changes.append(("restart", Change(f"unit {unit}", "restart", words)))
    if why := found.reboot or (found.new_kernel and "the kernel among the updates runs after a reboot only"):
        changes.append(("reboot", Change("machine", "reboot", str(why))))
    if changes:
        changes.insert(0, ("service", notice))
    return tuple(Pending(host, stage, change) for stage, change in changes)


def install(host: Host, found: Updates) -> None:
    """Install the updates that are due, and what an interrupted installation left. Raises HostError with apt's words."""
    names = [update.name for update in found.due if update.before]
    if names or found.half:
        _order(host, found.half, packages=names)


def restart(host: Host, units: Iterable[str]) -> None:
    """Restart these services one after the other, other than the product's. Raises HostError when one does not start."""
    if units := [unit for unit in units if unit != carbon.UNIT]:
        _order(host, False, restart=units)


def _order(host: Host, half: bool, packages: Iterable[str] = (), restart: Iterable[str] = ()) -> None:
    ask(host, "apply", [{"kind": "updates", "key": "updates", "half": half, "packages": list(packages), "restart": list(restart)}], timeout=LISTS)


def reboot(host: Host, seconds: float) -> None:
    """Reboot a machine and return once it has booted again. Raises HostError when it has not within `seconds`.

    The machine is asked over SSH, not EC2: the order needs no permission in AWS, and the machine stops its services in order.
    """
    before = host.run(BOOT_ID).stdout.strip()
    with suppress(HostError):  # sshd may end before it has answered
        host.run("sudo -n systemctl --no-block reboot", timeout=30)

    def boot() -> str:
        return host.run(BOOT_ID, timeout=10).stdout.strip()

    now = wait_until(boot, seconds, pause=1, longest=3, enough=lambda boot: boot not in ("", before), again_after=lambda error: isinstance(error, HostError))
    if now in ("", before):
        raise HostError(f"{host.name} did not reboot within {seconds:.0f} s", host.name, "look at its console in EC2; then run this again")
    booted(host, seconds)


def refuse_unfinished(found: Updates) -> None:
    """Raise HostError where a machine that has just rebooted still asks for it: another round would not help."""
    if found.reboot:
        step = "look at how it boots (the boot loader's default, a disk /boot that is not mounted), then run this again"
        raise HostError(f"{found.host} has rebooted and still needs to: {found.reboot}", found.host, step)


def booted(host: Host, seconds: float) -> None:
    """Return once a machine has started everything that it starts when it boots. Raises HostError when it says nothing for `seconds`."""
    host.run(BOOTED, timeout=seconds)
