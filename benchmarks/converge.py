"""The same desired state by three tools on the same six machines: this library, pyinfra, Ansible.

20 files, 1 package, 1 unit. Cold processes all; each tool has a virtual environment of its own; strict host keys for all; Ansible with pipelining and
50 forks. The first run is reported once, the run that finds nothing to change as the median of five.

    .venv/bin/python benchmarks/converge.py [--write]       # needs a lab: ./runbook lab up
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = {"pyinfra": "pyinfra>=3.10,<3.11", "ansible": "ansible-core>=2.19,<2.20", "millrun": "millrun>=0.3,<0.4"}
FILES = {f"/opt/bench/file-{number:02}": f"setting = {number}\n" * 20 for number in range(20)}
PACKAGE = "tree"
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


def ours(inventory: Path) -> None:
    """What the cold process of this library does: read the inventory, plan, apply."""
    from runbook_lib.converge import engine
    from runbook_lib.converge.resources import Directory, File, Package, Unit
    from runbook_lib.ssh import Address, fleet

    given = json.loads(inventory.read_text())
    unit = File("/etc/systemd/system/bench.service", UNIT.encode())
    files = [File(path, text.encode()) for path, text in FILES.items()]
    stage = engine.Stage("all", (Package(PACKAGE), Directory("/opt/bench"), *files, unit, Unit("bench.service")))
    hosts = fleet({h["name"]: Address(h["name"], h["address"], h["user"], tuple(h["host_keys"])) for h in given["hosts"]}, given["key"])
    plan = engine.plan(hosts, {h["name"]: [stage] for h in given["hosts"]}, "benchmark")
    print(engine.apply(hosts, plan) if plan else plan)
    hosts.close()


def prepare(folder: Path, params: str, overrides: dict) -> tuple[dict[str, list[str]], dict[str, str], object]:
    """Six machines, the inventories of all three tools, and the tools' environments."""
    from runbook_lib.chapters.deployment import open_deployment

    d = open_deployment(params, overrides)
    d.launch.apply(d.launch.plan())
    key = folder / "key"
    key.write_text(d.vault.get("ssh-private-key"))
    key.chmod(0o600)
    hosts = [{"name": h.name, "address": h.at.address, "user": h.at.user, "host_keys": list(h.at.host_keys)} for h in d.fleet().hosts.values()]
    (folder / "hosts.json").write_text(json.dumps({"hosts": hosts, "key": key.read_text()}))
    known = folder / "known_hosts"
    known.write_text("".join(f"{h['address']} {line}\n" for h in hosts for line in h["host_keys"]))
    strict = {"ssh_key": str(key), "ssh_known_hosts_file": str(known), "ssh_strict_host_key_checking": "yes"}
    lines = [{"ssh_user": h["user"], **strict} for h in hosts]
    (folder / "inventory.py").write_text(f"hosts = {[(h['address'], line) for h, line in zip(hosts, lines, strict=True)]!r}\n")
    (folder / "deploy.py").write_text(PYINFRA)
    ssh = f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes"
    common = f"ansible_user=admin ansible_python_interpreter=/usr/bin/python3 ansible_ssh_private_key_file={key} ansible_ssh_common_args='{ssh}'"
    (folder / "inventory.ini").write_text("".join(f"{h['address']} {common}\n" for h in hosts))
    (folder / "play.yaml").write_text(ANSIBLE)
    (folder / "ansible.cfg").write_text(ANSIBLE_CFG)
    tools = {name: environment(name) for name in ("pyinfra", "ansible")}
    commands = {
        "runbook_lib": [sys.executable, __file__, "--ours", str(folder / "hosts.json")],
        "pyinfra": [str(tools["pyinfra"] / "pyinfra"), "-y", "inventory.py", "deploy.py"],
        "ansible": [str(tools["ansible"] / "ansible-playbook"), "-i", "inventory.ini", "play.yaml"],
    }
    return commands, {**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "HOME": str(folder)}, d


def environment(name: str) -> Path:
    """bin/ of a virtual environment that holds this tool alone; kept for the next time."""
    home = Path.home() / ".cache/runbook/benchmarks" / name
    if not (home / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run([home / "bin/pip", "install", "-q", "--disable-pip-version-check", VERSIONS[name]], check=True, capture_output=True)
    return home / "bin"


def timed(command: list[str], folder: Path, env: dict[str, str]) -> float:
    """Seconds of one cold process; its words when it fails."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.monotonic() - began


def reset(d: object) -> None:
    """The machines as before: every tool makes its own first run."""
    script = f"sudo -n sh -c 'systemctl disable -q --now bench.service; rm -rf /opt/bench /etc/systemd/system/bench.service; apt-get -q -y purge {PACKAGE}'"
    d.fleet().each(lambda host: host.run(script))  # type: ignore[attr-defined]


def measure(commands: dict[str, list[str]], folder: Path, env: dict[str, str], d: object, rounds: int) -> dict[str, list[float]]:
    """By tool: the seconds of its first run, then of the runs that find nothing to change."""
    found = {}
    for tool, command in commands.items():
        reset(d)
        found[tool] = [timed(command, folder, env) for _ in range(rounds + 1)]
        print(tool, *(f"{seconds:.2f}" for seconds in found[tool]), flush=True)
    return found


def table(found: dict[str, list[float]]) -> str:
    """Every tool's figures, and how much longer than ours it took."""
    rows = ["| | first run | nothing to change (median, range) | times ours |", "|---|---|---|---|"]
    ours = statistics.median(found["runbook_lib"][1:]) if "runbook_lib" in found else None
    for tool, (first, *again) in found.items():
        middle = statistics.median(again)
        factor = f"{middle / ours:.1f}" if ours else ""
        rows.append(f"| {VERSIONS.get(tool, tool)} | {first:.1f} s | {middle:.2f} s ({min(again):.2f} to {max(again):.2f}) | {factor} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--params", default="params/greg-separated.lab.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="tools to run")
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    given = parser.parse_args()
    if given.ours:
        return ours(given.ours)
    import page

    from runbook_lib.spec.loader import parse_overrides

    load = os.getloadavg()[0]
    overrides = {"deployment": "bench", "cloud.network": "10.213.90.0/24", **parse_overrides(given.set)}
    with tempfile.TemporaryDirectory() as name:
        commands, env, d = prepare(Path(name), given.params, overrides)
        chosen = {tool: command for tool, command in commands.items() if not given.only or tool in given.only}
        try:
            found = measure(chosen, Path(name), env, d, given.runs)
        finally:
            d.destroy("bench")  # type: ignore[attr-defined]
    what = "The same desired state (20 files, 1 package, 1 unit) on the same six machines by three tools, cold processes all."
    text = page.section("converge", "Beside pyinfra and Ansible", table(found), load, what)
    print(text)
    if given.write:
        page.write(text)
    return None


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
