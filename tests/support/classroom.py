"""A classroom with two learners, and the verbs of tests: being a learner, looking at everything that a classroom could leave on this machine."""

from __future__ import annotations

import grp
import json
import pwd
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from ec2lab.network import links
from ec2lab.prerequisites import missing_packages
from ec2lab.shell import processes

from runbook_cli.classroom import lifecycle, request, users
from runbook_cli.classroom.room import FIRST_UID, HOME, RUN, Learner, seats
from runbook_cli.prerequisites import CLASSROOM
from tests.conftest import ROOT, need
from tests.support.lab_fixtures import RANGE, require_lab_machine

NAMES = ("test-ada", "test-grace")
OF_OTHERS = re.compile(r"ec2lab_(?!class\d)|\bec-(?!class\d)|\brb[0-9a-f]{11}|ec2lab[/-](?!class\d)")  # of labs that tests of other files have


@dataclass(frozen=True)
class Classroom:
    """A classroom that is up: what `up` printed, and its learners with their passwords."""

    said: str
    port: int
    learners: tuple[Learner, Learner]
    passwords: dict[str, str]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def learner(self, name: str) -> Learner:
        return next(each for each in self.learners if each.name == name)

    def status(self) -> dict[str, dict[str, Any]]:
        """What `classroom status --json` says of each learner, by name."""
        done = classroom("status", "--json")
        assert done.returncode == 0, done.stderr
        return {each["name"]: each for each in json.loads(done.stdout)["learners"]}


def classroom(*words: str, seconds: float = 1800) -> subprocess.CompletedProcess[str]:
    """Run `./runbook classroom …` as root does."""
    command = [sys.executable, "-m", "runbook_cli", "classroom", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)


def as_learner(learner: Learner, *command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command as the learner, in the environment that his terminal has."""
    rights: dict[str, Any] = {"user": learner.uid, "group": learner.uid, "extra_groups": []}
    environment = users.environment(learner)
    return subprocess.run(command, cwd=learner.workspace, env=environment, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, **rights)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def require_classroom_machine() -> None:
    """Skip where no classroom can be made, or where somebody has one."""
    require_lab_machine()
    need(not missing_packages(CLASSROOM, {}), "Debian packages are missing: nodejs, npm")
    need(not lifecycle.found(), "a classroom is up on this machine")
    need(request.fitting() >= len(NAMES), "too little memory for two learners")


@contextmanager
def running(folder: Path) -> Iterator[Classroom]:
    """A classroom of two, in the second half of the range of the tests' lab; gone afterwards."""
    port, logins = free_port(), folder / "logins"
    network = next(reversed(list(IPv4Network(RANGE).subnets())))
    try:
        done = classroom("up", "--names", ",".join(NAMES), "--port", str(port), "--range", str(network), "--logins", str(logins), "--yes")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        passwords = dict(line.split() for line in logins.read_text().splitlines()[1:])
        first, second = seats(NAMES, network)
        yield Classroom(done.stdout, port, (first, second), passwords)
    finally:
        classroom("down", "--yes")


def everything() -> dict[str, set[str]]:
    """Everything on this machine that a classroom could leave behind, by kind. What belongs to labs that are no learner's is left out."""
    ids = range(FIRST_UID, FIRST_UID + 100)
    known = [user.pw_name for user in pwd.getpwall()], [group.gr_name for group in grp.getgrall()]
    words = [(pid, " ".join(line)) for pid, line in processes()]
    cgroups = [path for root in Path("/sys/fs/cgroup").glob("*") for path in root.glob("ec2lab-class*")]
    owned = [path for folder in users.SHARED_FOLDERS for path in folder.iterdir() if _owner(path) in ids]
    folders = [path for path in (RUN, HOME, lifecycle.LOCK, *Path("/run/ec2lab").glob("class*"), *Path("/var/lib/ec2lab").glob("class*")) if path.exists()]
    found = {
        "users": set(known[0]),
        "groups": set(known[1]),
        "processes": {
            f"{pid} {line}" for pid, line in words if "runbook-classroom" in line or re.search(r"\bclass\d+\b", line) or _owner(Path(f"/proc/{pid}")) in ids
        },
        "namespaces": {path.name for path in Path("/run/netns").glob("*")},
        "links": {link["ifname"] for link in json.loads(links.run("ip", "-json", "link"))},
        "routes": set(links.run("ip", "-4", "route").splitlines()),
        "tables": set(links.run("nft", "list", "tables").splitlines()),
        "mounts": {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()},
        "cgroups": set(map(str, cgroups)),
        "files": set(map(str, [*owned, *folders])),
        "subordinate ids": {line for name in ("/etc/subuid", "/etc/subgid") for line in (Path(name).read_text().splitlines() if Path(name).exists() else [])},
    }
    return {kind: {name for name in names if not OF_OTHERS.search(name)} for kind, names in found.items()}


def _owner(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_uid
    return -1
