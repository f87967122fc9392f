"""Finding and removing everything that a lab has on this machine. It is found by examining the machine, not from a record.

`down` and the clean-up after a daemon was killed (kill -9) use the same code.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ec2lab.errors import LabError, lab_command
from ec2lab.machines import cgroups
from ec2lab.machines.machine import PROPAGATE
from ec2lab.network import links
from ec2lab.paths import Lab
from ec2lab.shell import lines, processes, run

NSPAWN_LOCKS = Path("/run/systemd/nspawn/locks")
PATIENCE_SECONDS = 3  # time for supervisors to end by themselves, which leaves less behind than killing them


@dataclass(frozen=True)
class Remain:
    kind: str  # process, supervisor, mount, namespace, link, table, cgroup or folder
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def find(lab: Lab) -> list[Remain]:
    """Return everything of the lab that exists now, in the order in which it can be removed."""
    spaces = [path.name for path in Path("/run/netns").glob(f"{lab.namespace_prefix}*")]
    within = {pid for space in spaces for pid in links.pids_in(space)} | cgroups.pids(lab)
    pids = [*daemons(lab), *sorted(within - set(supervisors(lab)))]
    return [
        *(Remain("process", str(pid)) for pid in pids),
        *(Remain("supervisor", str(pid)) for pid in supervisors(lab)),
        *(Remain("mount", point) for point in _mounts(lab)),
        *(Remain("namespace", space) for space in spaces),
        *(Remain("link", link) for link in _links(lab)),
        *(Remain("table", lab.table) for line in lines("nft", "list", "tables", "inet") if line.split()[-1] == lab.table),
        *(Remain("cgroup", str(group)) for group in cgroups.remains(lab)),
        *(Remain("folder", str(folder)) for folder in _folders(lab)),
    ]


def daemons(lab: Lab) -> list[int]:
    """Return the pids of the lab's daemon, found by its command line, so that one without a pid file is found too."""
    return _with_words("ec2lab.daemon", lab.name)


def supervisors(lab: Lab) -> list[int]:
    """Return the pids of the machines' systemd-nspawn processes, which end by themselves when their machine ends."""
    return [pid for pid, words in processes() if any(word.startswith(f"--directory={lab.disks}/") for word in words)]


def _with_words(*wanted: str) -> list[int]:
    return [pid for pid, words in processes() if all(word in words for word in wanted)]


def _mounts(lab: Lab) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{lab.disks}/")), key=len, reverse=True)


def _links(lab: Lab) -> list[str]:
    """Return the lab's bridges and the links attached to them, links first.

    They are not found by the range: `down` need not be given it, and another lab may use it by now.
    """
    found = json.loads(run("ip", "-json", "link"))
    wires = [link["ifname"] for link in found if lab.owns_bridge(link.get("master", ""))]
    return wires + [link["ifname"] for link in found if lab.owns_bridge(link["ifname"])]


def _folders(lab: Lab) -> list[Path]:
    left_by_nspawn = PROPAGATE.glob(f"{lab.namespace_prefix}*")
    return [*left_by_nspawn, *(folder for folder in (lab.disks, lab.run) if folder.exists())]


def sweep(lab: Lab) -> list[Remain]:
    """Remove everything of the lab and return what was found. Raises LabError when something is left after three minutes."""
    found = find(lab)
    end_daemon(lab)
    began = time.monotonic()
    while True:
        left = find(lab)
        waited = time.monotonic() - began
        for thing in left:
            if thing.kind != "supervisor" or waited > PATIENCE_SECONDS:
                _remove(lab, thing)
        if not left:
            with suppress(OSError):
                lab.disks.parent.rmdir()  # only when this was the last lab
            return found
        if waited > 180:
            raise LabError(
                "something of the lab cannot be removed: " + ", ".join(map(str, left)),
                lab.name,
                f"see who uses it (lsof, ip netns pids), end that, and run this again: {lab_command('down')}",
            )
        time.sleep(0.05)


def end_daemon(lab: Lab) -> None:
    """End the daemon, waiting up to 3 seconds. It is ended first, so that nothing new is created while the rest is removed."""
    for pid in daemons(lab):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 3
    while daemons(lab) and time.monotonic() < deadline:
        time.sleep(0.02)


def _remove(lab: Lab, thing: Remain) -> None:
    if thing.kind in ("process", "supervisor"):
        with suppress(ProcessLookupError):
            os.kill(int(thing.name), signal.SIGKILL)
    elif thing.kind == "mount":
        _forget_nspawn_lock(Path(thing.name))
        run("umount", thing.name, check=False)
    elif thing.kind == "namespace":
        run("ip", "netns", "delete", thing.name, check=False)
    elif thing.kind == "link":
        run("ip", "link", "delete", thing.name, check=False)
    elif thing.kind == "table":
        run("nft", "delete", "table", "inet", thing.name, check=False)
    elif thing.kind == "cgroup":
        with suppress(OSError):
            Path(thing.name).rmdir()
    elif not _mounts(lab):  # never delete through a mount
        shutil.rmtree(thing.name, ignore_errors=True)


def _forget_nspawn_lock(root: Path) -> None:
    """Remove the lock file that a killed systemd-nspawn leaves for its machine's root directory."""
    with suppress(OSError):
        status = root.stat()
        (NSPAWN_LOCKS / f"inode-{status.st_dev}:{status.st_ino}").unlink()
