"""A control group for each machine, so that the machines' service managers do not interfere with each other.

On a host run by systemd each machine becomes a scope with delegation; elsewhere (version 1, 2 or both, without systemd)
a directory is made in the hierarchies that a machine's systemd uses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ec2lab.paths import Lab

MOUNT = Path("/sys/fs/cgroup")
_ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'


def systemd_is_here() -> bool:
    """Return whether this host is run by systemd: the test of sd_booted(3), and the name of process 1."""
    return Path("/run/systemd/system").is_dir() and Path("/proc/1/comm").read_text().strip() == "systemd"


def hierarchies() -> list[Path]:
    """Return the roots of the hierarchies in which each machine gets a group."""
    if (MOUNT / "cgroup.procs").exists():
        return [MOUNT]
    named = [MOUNT / name for name in ("systemd", "unified", "memory", "pids")]
    return [path for path in named if (path / "cgroup.procs").exists()]


def command_prefix(lab: Lab, machine: str) -> list[str]:
    """Return the words to put before a machine's command so that it starts in its own group. Creates the group where systemd does not."""
    if systemd_is_here():
        unit = f"--unit={lab.cgroup}-{machine}"
        return ["systemd-run", "--scope", "--quiet", "--collect", unit, "--property=Delegate=yes", "--"]
    groups = [root / lab.cgroup / machine for root in hierarchies()]
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    return ["sh", "-c", _ENTER, "sh", *map(str, groups), "--"]


def remains(lab: Lab) -> Iterator[Path]:
    """Yield the lab's groups that exist, innermost first."""
    for root in hierarchies():
        if (root / lab.cgroup).is_dir():
            for folder, _, _ in os.walk(root / lab.cgroup, topdown=False):
                yield Path(folder)


def pids(lab: Lab, machine: str = "") -> set[int]:
    """Return the pids of the processes in the groups of a machine (default: of the whole lab)."""
    found: set[int] = set()
    for group in remains(lab):
        if machine in group.parts or not machine:
            with suppress(OSError):
                found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return found


def remove(lab: Lab, machine: str = "") -> None:
    """Remove the groups of a machine (default: of the whole lab).

    Retries for up to 2 seconds, because the kernel keeps a group for a moment after its last process.
    """
    deadline = time.monotonic() + 2
    while True:
        mine = [group for group in remains(lab) if machine in group.parts or not machine]
        for group in mine:
            with suppress(OSError):
                group.rmdir()
        if not any(group.exists() for group in mine) or time.monotonic() > deadline:
            return
        time.sleep(0.02)
