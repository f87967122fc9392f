"""A control group for each machine, so that the machines' service managers do not interfere with each other, and limits for all of a lab's together.

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
from ec2lab.shell import run

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
        return ["systemd-run", "--scope", "--quiet", "--collect", f"--slice={lab.cgroup}.slice", unit, "--property=Delegate=yes", "--"]
    return ["sh", "-c", _ENTER, "sh", *map(str, groups(lab, machine)), "--"]


def groups(lab: Lab, member: str) -> list[Path]:
    """Return the groups of a machine, or of another member of the lab, in each hierarchy; those that are missing are made. Not for a host run by systemd."""
    found = [root / lab.cgroup / member for root in hierarchies()]
    for group in found:
        group.mkdir(parents=True, exist_ok=True)
    return found


def limit(lab: Lab, memory: int, processes: int) -> None:
    """Limit what all members of the lab take together: `memory` in bytes, and how many processes and threads. What the kernel does not count is not limited."""
    if systemd_is_here():
        properties = (f"MemoryMax={memory}", f"TasksMax={processes}")
        run("systemctl", "set-property", "--runtime", f"{lab.cgroup}.slice", *properties)
        return
    for root in hierarchies():
        group = root / lab.cgroup
        group.mkdir(exist_ok=True)
        if root == MOUNT:  # version 2: a controller is on in a group when its parent says so
            with suppress(OSError):
                (root / "cgroup.subtree_control").write_text("+memory +pids")
        for name, value in (("memory.use_hierarchy", 1), ("memory.limit_in_bytes", memory), ("memory.max", memory), ("pids.max", processes)):
            if (group / name).exists():
                with suppress(OSError):  # use_hierarchy cannot be written once there are groups below, and is always on in newer kernels
                    (group / name).write_text(str(value))


def unlimit(lab: Lab) -> None:
    """Forget the limits. Where systemd does not run they end with the groups."""
    if systemd_is_here():
        run("systemctl", "revert", f"{lab.cgroup}.slice", check=False)


def usage(lab: Lab) -> tuple[int, int]:
    """Return what all members of the lab take together: memory in bytes, without the cache of files, and processes with their threads. 0: not counted."""
    memory = processes = 0
    for group in _whole(lab):
        with suppress(OSError, ValueError):
            memory = int((group / _one_of(group, "memory.usage_in_bytes", "memory.current")).read_text()) - _file_cache(group)
        with suppress(OSError, ValueError):
            processes = int((group / "pids.current").read_text())
    return max(memory, 0), processes


def _whole(lab: Lab) -> list[Path]:
    """Return the group of all members together in each hierarchy. A slice of systemd lies in the one that its name up to the hyphen names."""
    inside = Path("ec2lab.slice", f"{lab.cgroup}.slice") if systemd_is_here() else Path(lab.cgroup)
    return [root / inside for root in hierarchies()]


def _one_of(group: Path, *names: str) -> str:
    return next((name for name in names if (group / name).exists()), names[0])


def _file_cache(group: Path) -> int:
    counted = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(counted.get("total_cache", counted.get("file", 0))) - int(counted.get("total_shmem", counted.get("shmem", 0)))


def remains(lab: Lab, machine: str = "") -> Iterator[Path]:
    """Yield the groups of a machine (default: of the whole lab) that exist, innermost first."""
    for root in hierarchies():
        for folder, _, _ in os.walk(root / lab.cgroup / machine, topdown=False):  # nothing where there is none
            yield Path(folder)


def pids(lab: Lab, machine: str = "") -> set[int]:
    """Return the pids of the processes in the groups of a machine (default: of the whole lab)."""
    found: set[int] = set()
    for group in remains(lab, machine):
        with suppress(OSError):
            found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return found


def remove(lab: Lab, machine: str = "") -> None:
    """Remove the groups of a machine (default: of the whole lab).

    Retries for up to 2 seconds, because the kernel keeps a group for a moment after its last process.
    """
    deadline = time.monotonic() + 2
    while True:
        mine = list(remains(lab, machine))
        for group in mine:
            with suppress(OSError):
                group.rmdir()
        if not any(group.exists() for group in mine) or time.monotonic() > deadline:
            return
        time.sleep(0.02)
