"""What an administrator's hands (or an accident) do to a deployment, for tests: commands as root, rules, kills."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.exercises.actions import Actions
from runbook_lib.ssh import Host
from tests.conftest import ROOT
from tests.support.deployments import Deployed

OURS = re.compile(r'File "[^"]*runbook_(lib|lab)/')  # a frame of ours in a traceback; kernels that are shut down may show one of their own

# What a run must leave alone: settings, product, units; not what programs write of themselves while they run.
SNAPSHOT = """
find /etc /opt/wso2/greg /usr/share/java /var/lib/dpkg/status \\( -path '*/repository/logs' -o -path '*/greg/tmp' \\
  -o -path '*/greg/solr' -o -path '*/repository/database' -o -path '*/greg/work' \\) -prune -o -type f \\
  -printf '%p %C@ %s %m %u\\n' | sort
systemctl show -p Id,ExecMainStartTimestampMonotonic,UnitFileState wso2carbon.service nginx.service mariadb.service
"""


def as_root(host: Host, script: str) -> str:
    """Output of a shell script for root; the test fails when the script does."""
    done = host.run("sudo -n sh -eu", script.encode())
    assert done.rc == 0, f"{host.name}: {script}\n{done.stdout}{done.stderr}"
    return done.stdout


def state_of(deployment: Deployment) -> dict[str, str]:
    """Hosts, groups, machines and secrets, as far as a run that changes nothing must not touch them."""
    hosts = deployment.fleet().each(lambda host: as_root(host, SNAPSHOT), [node.name for node in deployment.topology.nodes])
    world = deployment.cloud.observe()
    machines = {m.node: f"{m.id} {m.state} {sorted(m.groups)} {sorted(m.tags.items())}" for m in world.instances}
    groups = {f"group {role}": str(sorted(map(str, group.permissions))) for role, group in world.groups.items()}
    secrets = {f"secret {name}": text for name, text in deployment.vault.read_all().items() if not name.startswith(("chapters/", "lock"))}
    return {**hosts, **{f"machine {name}": text for name, text in machines.items()}, **groups, **secrets}


def identities(deployment: Deployment) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """By machine its instance, its address and its pinned host keys."""
    deployment.vault.read_all()  # what a command in a process of its own pinned is read anew
    return {name: (machine.id, machine.address, deployment.cloud.host_keys(name)) for name, machine in deployment.instances().items()}


def named_in(plan: str, deployment: Deployment) -> set[str]:
    """The nodes to which something is to be done, by what the command `plan` says."""
    hosts = {name for row in re.findall(r"^  ([^\s,]+(?:, [^\s,]+)*) ", plan, re.MULTILINE) for name in row.split(", ")}
    return {node.name for node in deployment.topology.nodes} & hosts


@contextlib.contextmanager
def undo_rules(deployment: Deployment, rows: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Rules of security groups added and taken as the rows say; chapter 01 puts them right in the end."""
    hands = Actions(deployment)
    for row in rows:
        if "add" in row:
            hands.door(row["group"], row["add"]["port"], row["add"]["source"])
        else:
            hands.close_door(row["group"], row["take"]["port"], row["take"]["from"])
    try:
        yield
    finally:
        deployment.launch.apply(deployment.launch.plan())


class Running:
    """A `./runbook` command that is to be killed: the process, its kernels and whatever else it started."""

    def __init__(self, deployed: Deployed, verb: str, *more: str):
        self.process = subprocess.Popen(
            deployed.command(verb, *more),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 300, pause: float = 0.05) -> Any:
        """The first true value of `condition`, asked again and again while the command runs, after `pause` seconds each."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(Exception):  # machines and databases that are not there yet
                if value := condition():
                    return value
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"never came: {what}\n{self.output()[-6000:]}")
            time.sleep(pause)

    def kill(self) -> None:
        """SIGKILL to the whole family at once: nobody gets to put anything in order."""
        for pid in [self.process.pid, *_descendants(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def output(self, seconds: float = 300) -> str:
        """What it said, once it has ended."""
        text, _ = self.process.communicate(timeout=seconds)
        return text


def _descendants(pid: int) -> list[int]:
    """Children and theirs: a kernel has a session of its own, so no process group holds them all."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found
