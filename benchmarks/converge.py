"""The same desired state by three tools on the same machines: this library, pyinfra, Ansible; and a bare paramiko script, which only looks in.

20 files, 1 package, 1 unit. Cold processes all; each tool has a virtual environment of its own; strict host keys for all; Ansible with pipelining and
50 forks. The bare script connects with the settings that the library has and runs `true` on each host, in parallel: nothing over SSH is done in less.
Every tool makes a first run, from the same beginning. Then come rounds in which each of them, one after the other, finds nothing to change: what is
said of two of them is the median of what it was in each round.

    .venv/bin/python benchmarks/converge.py [--write]                         # six hosts; needs a lab: ./runbook lab up
    .venv/bin/python benchmarks/converge.py --hosts 6,12,24,48 [--write]      # the same beside pyinfra alone, on more and more hosts
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = {"pyinfra": "pyinfra>=3.10,<3.11", "ansible": "ansible-core>=2.19,<2.20", "millrun": "millrun>=0.3,<0.4 ipykernel>=6"}
FILES = {f"/opt/bench/file-{number:02}": f"setting = {number}\n" * 20 for number in range(20)}
PACKAGE = "tree"
FORGET = "rm -rf /opt/bench /etc/systemd/system/bench.service"
UNIT = "[Unit]\nDescription=benchmark\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"

PYINFRA = f"""
from io import StringIO
from pyinfra.operations import apt, files, systemd
apt.packages(packages=["{PACKAGE}"], _sudo=True)
files.directory(path="/opt/bench", _sudo=True)
for number in range(20):
    files.put(src=StringIO(f"setting = {{number}}\\n" * 20), dest=f"/opt/bench/file-{{number:02}}", mode="644", _sudo=True)
files.put(src=StringIO({UNIT!r}), dest="/etc/systemd/system/bench.service", mode="644", _sudo=True)
systemd.service(service="bench.service", running=True, enabled=True, _sudo=True)
"""
ANSIBLE = f"""
- hosts: all
  become: true
  gather_facts: false
  tasks:
    - ansible.builtin.apt: {{name: {PACKAGE}}}
    - ansible.builtin.file: {{path: /opt/bench, state: directory}}
    - ansible.builtin.copy: {{content: "{{{{ ('setting = ' ~ item ~ '\\n') * 20 }}}}", dest: "/opt/bench/file-{{{{ '%02d' % item }}}}", mode: "0644"}}
      loop: "{{{{ range(20) | list }}}}"
    - ansible.builtin.copy: {{content: {json.dumps(UNIT)}, dest: /etc/systemd/system/bench.service, mode: "0644"}}
    - ansible.builtin.systemd_service: {{name: bench.service, state: started, enabled: true, daemon_reload: false}}
"""
ANSIBLE_CFG = "[defaults]\nforks = 50\nstdout_callback = minimal\n[ssh_connection]\npipelining = True\n"


# What starts a tool, and what it says last. A process counts as its own the memory of the one that started it (the kernel keeps it over exec), and this
# script's is larger than any tool's.
STARTER = """
import os, sys, time
began = time.monotonic()
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(os.waitstatus_to_exitcode(status), time.monotonic() - began, usage.ru_maxrss / 1024)
"""
CHANGED = {"runbook_lib": "changed on", "ansible": "CHANGED"}  # what a tool says when it changed something


class Run(NamedTuple):
    """One cold process: how long it took, and the most memory that it held."""

    seconds: float
    megabytes: float


def machines(inventory: Path) -> Any:
    """The hosts of an inventory, as the library has them."""
    from runbook_lib.ssh import Address, Fleet, Host

    def host(h: dict[str, Any]) -> Host:
        return Host(Address(h["name"], h["address"], h["user"], tuple(h["host_keys"])), Path(h["key"]).read_text())

    return Fleet({h["name"]: host(h) for h in json.loads(inventory.read_text())})


def ours(inventory: Path) -> None:
    """What the cold process of this library does: read the inventory, plan, apply."""
    from runbook_lib.converge import engine
    from runbook_lib.converge.resources import Directory, File, Package, Unit

    hosts = machines(inventory)
    unit = File("/etc/systemd/system/bench.service", UNIT.encode())
    files = [File(path, text.encode()) for path, text in FILES.items()]
    stage = engine.Stage("all", (Package(PACKAGE), Directory("/opt/bench"), *files, unit, Unit("bench.service")))
    plan = engine.plan(hosts, {name: [stage] for name in hosts.hosts}, "benchmark")
    print(engine.apply(hosts, plan) if plan else plan)
    hosts.close()


def bare(inventory: Path) -> None:
    """What the cold process of the bare script does: connect to a host that has the pinned key, run `true`; all hosts at once."""
    import socket
    from base64 import b64decode
    from concurrent.futures import ThreadPoolExecutor
    from io import StringIO

    import paramiko

    def visit(h: dict[str, Any]) -> None:
        wire = socket.create_connection((h["address"], 22), timeout=20)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(wire)
        pinned = dict(line.split()[:2] for line in h["host_keys"])
        options = transport.get_security_options()
        options.key_types = [kind for kind in options.key_types if kind in pinned or (kind.startswith("rsa-sha2") and "ssh-rsa" in pinned)]
        transport.start_client(timeout=20)
        shown = transport.get_remote_server_key()
        assert b64decode(pinned[shown.get_name()]) == shown.asbytes()
        transport.auth_publickey(h["user"], paramiko.Ed25519Key.from_private_key(StringIO(Path(h["key"]).read_text())))
        channel = transport.open_session()
        channel.exec_command("true")
        assert channel.recv_exit_status() == 0
        transport.close()

    hosts = json.loads(inventory.read_text())
    with ThreadPoolExecutor(min(32, len(hosts))) as pool:
        list(pool.map(visit, hosts))


def launch(found: list[Any], params: str, overrides: dict[str, Any], number: int) -> None:
    """Launch as many deployments as it takes for so many machines, in networks one after the other; each is in `found` before it is launched."""
    from runbook_lib.chapters.deployment import open_deployment
    from runbook_lib.converge.agent.system import AT_LAUNCH

    network = ipaddress.ip_network(overrides["cloud.network"])
    while sum(len(d.topology.nodes) for d in found) < number:
        most = {"nodes.store": 8, "nodes.publisher": 8} if number > 6 else {}
        own = {"deployment": f"{overrides['deployment']}-{len(found)}", "cloud.network": f"{network.network_address + 256 * len(found)}/24"}
        found.append(open_deployment(params, {**overrides, **most, **own}))
        found[-1].launch.apply(found[-1].launch.plan())
    for d in found:  # what is installed at launch would take the processor from whoever is first
        d.fleet().each(lambda host: host.run(f"while systemctl is-active -q {AT_LAUNCH}; do sleep 1; done"))


def prepare(folder: Path, deployments: Sequence[Any], number: int, tools: Sequence[str]) -> dict[str, list[str]]:
    """The inventories of all tools, of the first `number` machines, and each tool's command."""
    hosts = []
    for d in deployments:
        key = folder / f"key-{d.spec.deployment}"
        key.write_text(d.vault.get("ssh-private-key"))
        key.chmod(0o600)
        for host in d.fleet().hosts.values():
            at = host.at
            hosts.append({"name": f"{d.spec.deployment}-{host.name}", "address": at.address, "user": at.user, "host_keys": list(at.host_keys), "key": str(key)})
    del hosts[number:]
    (folder / "hosts.json").write_text(json.dumps(hosts))
    known = folder / "known_hosts"
    known.write_text("".join(f"{h['address']} {line}\n" for h in hosts for line in h["host_keys"]))
    strict = {"ssh_known_hosts_file": str(known), "ssh_strict_host_key_checking": "yes"}
    lines = [(h["address"], {"ssh_user": h["user"], "ssh_key": h["key"], **strict}) for h in hosts]
    (folder / "inventory.py").write_text(f"hosts = {lines!r}\n")
    (folder / "deploy.py").write_text(PYINFRA)
    ssh = f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes"
    common = f"ansible_python_interpreter=/usr/bin/python3 ansible_ssh_common_args='{ssh}'"
    entries = [f"{h['address']} ansible_user={h['user']} ansible_ssh_private_key_file={h['key']} {common}\n" for h in hosts]
    (folder / "inventory.ini").write_text("".join(entries))
    (folder / "play.yaml").write_text(ANSIBLE)
    (folder / "ansible.cfg").write_text(ANSIBLE_CFG)
    here = [sys.executable, __file__]
    commands = {
        "runbook_lib": lambda: [*here, "--ours", str(folder / "hosts.json")],
        "paramiko": lambda: [*here, "--bare", str(folder / "hosts.json")],
        "pyinfra": lambda: [str(environment("pyinfra") / "pyinfra"), "-y", "inventory.py", "deploy.py"],
        "ansible": lambda: [str(environment("ansible") / "ansible-playbook"), "-i", "inventory.ini", "play.yaml"],
    }
    return {tool: command() for tool, command in commands.items() if tool in tools}


def environment(name: str) -> Path:
    """bin/ of a virtual environment that holds this tool alone; kept for the next time."""
    home = Path.home() / ".cache/runbook/benchmarks" / name
    if not (home / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run([home / "bin/pip", "install", "-q", "--disable-pip-version-check", *VERSIONS[name].split()], check=True, capture_output=True)
    return home / "bin"


def timed(tool: str, command: list[str], folder: Path, unchanged: bool = False) -> Run:
    """One cold process. Ends with its words when it fails, or changes something where there is nothing to change."""
    env = {**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "HOME": str(folder)}
    started = subprocess.run([sys.executable, "-S", "-c", STARTER, *command], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said, _, figures = started.stdout.strip().rpartition("\n")
    status, seconds, megabytes = map(float, figures.split())
    if status or (unchanged and CHANGED.get(tool, "\0") in said):
        raise SystemExit(f"{tool} failed, or changed what was right:\n{said[-3000:]}")
    return Run(seconds, megabytes)


def reset(inventory: Path) -> None:
    """The machines as before, apt's caches built and the package not yet fetched: every tool makes its own first run."""
    apt = f"apt-get -q -y install {PACKAGE}; apt-get -q -y purge {PACKAGE}; rm -f /var/cache/apt/archives/*.deb"
    hosts = machines(inventory)
    hosts.each(lambda host: host.run(f"sudo -n sh -c 'systemctl disable -q --now bench.service; {FORGET}; {apt}; systemctl daemon-reload'"))
    hosts.close()


def measure(commands: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, list[Run]]:
    """By tool: its first run, then the runs that find nothing to change, which take turns. Of the bare script's runs none is the first."""
    found: dict[str, list[Run]] = {}
    for tool, command in commands.items():
        if tool != "paramiko":
            reset(folder / "hosts.json")
        found[tool] = [timed(tool, command, folder)]
    for _ in range(rounds):
        for tool, command in commands.items():
            found[tool].append(timed(tool, command, folder, unchanged=True))
    for tool, runs in found.items():
        print(tool, *(f"{run.seconds:.2f}" for run in runs), flush=True)
    return found


def middle(values: Sequence[float]) -> float:
    from statistics import median  # not at the top, where both cold processes would wait for it

    return median(values)


def times(runs: Sequence[Run], other: Sequence[Run]) -> float:
    """How much longer `runs` took than `other`: the median over the rounds, each with its own neighbour."""
    return middle([one.seconds / two.seconds for one, two in zip(runs[1:], other[1:], strict=True)])


def span(runs: Sequence[Run]) -> str:
    """Median and range of the runs that found nothing to change."""
    again = [run.seconds for run in runs[1:]]
    return f"{middle(again):.2f} s ({min(again):.2f} to {max(again):.2f})"


def table(found: dict[str, list[Run]]) -> str:
    """Every tool's figures, and how much longer than ours it took."""
    rows = ["| | first run | nothing to change (median, range) | times ours |", "|---|---|---|---|"]
    for tool, runs in found.items():
        first = "" if tool == "paramiko" else f"{runs[0].seconds:.1f} s"
        name = "a bare paramiko script" if tool == "paramiko" else VERSIONS.get(tool, tool)
        rows.append(f"| {name} | {first} | {span(runs)} | {times(runs, found['runbook_lib']):.2f} |")
    if "paramiko" in found:
        rows += ["", f"runbook_lib takes {times(found['runbook_lib'], found['paramiko']):.2f} times as long as the bare script."]
    return "\n".join(rows)


def table_of_hosts(by_number: dict[int, dict[str, list[Run]]]) -> str:
    """A row for each number of hosts: ours beside pyinfra, and the bare script."""
    head = (
        "hosts",
        "first run: ours",
        "pyinfra",
        "nothing to change: ours",
        "each host",
        "bare script",
        "pyinfra",
        "each host",
        "times ours",
        "memory: ours",
        "pyinfra",
    )
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for number, found in by_number.items():
        mine, theirs, least = found["runbook_lib"], found["pyinfra"], found["paramiko"]
        each = [f"{middle([run.seconds for run in runs[1:]]) / number * 1000:.0f} ms" for runs in (mine, theirs)]
        memory = [f"{max(run.megabytes for run in runs):.0f} MB" for runs in (mine, theirs)]
        first = f"{theirs[0].seconds:.1f} s ({mine[0].seconds / theirs[0].seconds:.2f} of it ours)"
        again = (span(mine), each[0], span(least), span(theirs), each[1], f"{times(theirs, mine):.1f}")
        rows.append(f"| {' | '.join((str(number), f'{mine[0].seconds:.1f} s', first, *again, *memory))} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--params", default="params/greg-separated.lab.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--only", nargs="*", choices=("paramiko", "pyinfra", "ansible"), help="what to measure beside ours")
    parser.add_argument("--hosts", help="numbers of hosts, up to 54, separated by commas: the table of hosts instead of the comparison on six")
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    given = parser.parse_args()
    if given.ours:
        return ours(given.ours)
    if given.bare:
        return bare(given.bare)
    import page

    from runbook_lib.spec.loader import parse_overrides

    load = os.getloadavg()[0]
    overrides = {"deployment": "bench", "cloud.network": "10.213.90.0/24", **parse_overrides(given.set)}
    numbers = [int(number) for number in given.hosts.split(",")] if given.hosts else [6]
    beside = ["paramiko", "pyinfra"] if given.hosts else given.only if given.only is not None else ["paramiko", "pyinfra", "ansible"]
    deployments: list[Any] = []
    found = {}
    try:
        launch(deployments, given.params, overrides, max(numbers))
        with tempfile.TemporaryDirectory() as name:
            for number in numbers:
                commands = prepare(Path(name), deployments, number, ["runbook_lib", *beside])
                found[number] = measure(commands, Path(name), given.runs)
    finally:
        for d in deployments:
            d.destroy(d.spec.deployment)
    state = "The same desired state (20 files, 1 package, 1 unit)"
    if given.hosts:
        what = f"{state} on more and more machines, cold processes all, {given.runs} rounds. The memory is the most that the operator's process held."
        text = page.section("converge", "More hosts", table_of_hosts(found), load, what, "converge_hosts")
    else:
        what = f"{state} on the same six machines, cold processes all, {given.runs} rounds in turn; the bare script connects and runs `true`."
        text = page.section("converge", "Beside pyinfra and Ansible", table(found[6]), load, what)
    print(text)
    if given.write:
        page.write(text)
    return None


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
