"""The learners' labs: each is root's to run and its learner's to use, with limits that count his machines and his JupyterLab together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ec2lab import lifecycle
from ec2lab.machines import cgroups
from ec2lab.paths import Lab

from runbook_cli.classroom.room import ENVIRONMENT, HOME, Learner, lab_name
from runbook_lib.errors import RunbookError

FOLDERS = (Path("/run/ec2lab"), Path("/var/lib/ec2lab"))
ROOM_FOR_JUPYTER = "learner"  # the control group of the learner's server, beside those of his machines


def ensure(learner: Learner, memory_mb: int, processes: int) -> None:
    """Bring the learner's lab up, if it is not, with a key that he alone can read, and set his limits. Raises RunbookError."""
    python = ENVIRONMENT / "bin" / "python"
    command = [str(python if python.exists() else sys.executable), "-m", "runbook_cli", "lab", "up", "--yes"]
    words = ["--name", learner.lab.name, "--range", learner.network]
    whose = {"SUDO_UID": str(learner.uid), "SUDO_GID": str(learner.uid)}  # the lab gives its key to who called sudo
    done = subprocess.run([*command, *words], cwd="/", env={**os.environ, **whose}, umask=0o022, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RunbookError(f"the lab of {learner.name} could not be brought up: {done.stderr.strip()[-600:]}", str(learner.lab.log), "read the log")
    cgroups.limit(learner.lab, memory_mb << 20, processes)


def there() -> list[int]:
    """Return the numbers of the learners' labs of which something is on this machine."""
    found = {path.name for folder in FOLDERS for path in folder.glob("class*") if path.is_dir()}
    found |= {path.name.removeprefix("ec2lab-") for root in cgroups.hierarchies() for path in root.glob("ec2lab-class*")}
    found |= {path.name.split(".")[0].removeprefix("ec-") for path in Path("/run/netns").glob("ec-class*")}
    return sorted(int(name.removeprefix("class")) for name in found if re.fullmatch(r"class[1-9]\d?", name))


def down(number: int, say: Callable[[str], None]) -> None:
    lab = Lab(lab_name(number))
    lifecycle.down(lab, say)
    cgroups.unlimit(lab)


def usage(learner: Learner) -> tuple[int, int]:
    """Return what the learner's machines and JupyterLab take now: memory in MB and processes (threads count). 0 where the kernel does not count."""
    memory, processes = cgroups.usage(learner.lab)
    return memory >> 20, processes


def remove_folder() -> None:
    """Remove the classroom's folder when the last home is gone."""
    for folder in (HOME / "homes", HOME):
        with suppress(OSError):
            folder.rmdir()
