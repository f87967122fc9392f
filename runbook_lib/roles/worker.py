"""Desired state of the machines that do a sweep's deployments: this package and what it requires, and Dask's scheduler or worker as a service.

Nothing is fetched but by presigned addresses, and nothing is installed by a package index: what runs there is what the operator's machine has.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from runbook_lib.converge.archive import Archive
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.resources import Directory, File, Package, Unit, User
from runbook_lib.pki import split
from runbook_lib.roles import machine
from runbook_lib.roles.context import Download
from runbook_lib.topology.model import Node, Topology
from runbook_lib.topology.workers import SCHEDULER, SCHEDULER_PORT, WORKER_PORT

USER, HOME = "runbook", "/var/lib/runbook"
BELOW, SETTINGS = "/opt/runbook", "/etc/runbook"
PACKAGES, SOURCE, STAMP = f"{BELOW}/packages", f"{BELOW}/source", ".runbook-archive"
AT_ONCE = 4  # runs of a worker: two for each processor of its type (engine.PER_PROCESSOR)
AWS_CONFIG = f"{SETTINGS}/aws-config"
UNIT = "runbook-dask.service"
SERVICE = """\
[Unit]
Description=Dask for batches of the WSO2 cluster runbook
Wants=network-online.target
After=network-online.target
[Service]
User={user}
WorkingDirectory={source}
Environment=HOME={home} RUNBOOK_HOME={source} PYTHONPATH={source}:{packages} PYTHONUTF8=1
Environment=DASK_CONFIG={settings}/dask.yaml AWS_CONFIG_FILE={aws_config}
{before}ExecStart=/usr/bin/python3 -m dask {words}
Restart=always
RestartSec=2
NoNewPrivileges=yes
{confined}
ReadWritePaths={below} {home}
[Install]
WantedBy=multi-user.target
"""


def desired(node: Node, topology: Topology, secrets: Mapping[str, str], packages: Download, source: Download, aws_config: str) -> tuple[Stage, ...]:
    """Return the stages of `node`. `packages`, `source`: what the package requires, and the package; `aws_config`: without keys, as the deployments name it."""
    own, key = split(secrets[f"tls/{node.name}"])
    owner = f"{USER}:{USER}"
    settings = (
        Directory(SETTINGS),
        File(f"{SETTINGS}/ca.pem", secrets["ca.pem"].encode()),
        File(f"{SETTINGS}/cert.pem", own),
        File(f"{SETTINGS}/key.pem", key, 0o400, owner, secret=True),
        File(f"{SETTINGS}/dask.yaml", _dask().encode()),
        File(AWS_CONFIG, aws_config.encode()),
        File(f"/etc/systemd/system/{UNIT}", _unit(node, topology).encode()),
    )
    archives = (Archive(PACKAGES, packages.sha256, packages.url, owner), Archive(SOURCE, source.sha256, source.url, owner))
    watched = (*(each.path for each in settings if isinstance(each, File)), f"{PACKAGES}/{STAMP}", f"{SOURCE}/{STAMP}")
    return (
        *machine.desired(),
        Stage("Python", (Package("python3"), User(USER, HOME), Directory(HOME, 0o700, owner), Directory(BELOW, owner=owner))),
        Stage("the runbook", archives),
        Stage("settings", settings),
        Stage("Dask", (Unit(UNIT, watches=watched),)),
    )


def _unit(node: Node, topology: Topology) -> str:
    address = f"tls://{topology.of(SCHEDULER)[0].address}:{SCHEDULER_PORT}"
    words = f"scheduler --protocol tls --host {node.address} --port {SCHEDULER_PORT}"
    if node.role != SCHEDULER:
        words = f"worker {address} --no-nanny --nthreads {AT_ONCE} --name {node.name} --host {node.address} --worker-port {WORKER_PORT}"
    place = topology.spec.cloud.aws_config  # which the deployments' parameters name; below /run it is gone with each boot
    before = f"ExecStartPre=+/usr/bin/install -D -m 644 {AWS_CONFIG} {place}\n" if place else ""
    places = {"user": USER, "source": SOURCE, "home": HOME, "packages": PACKAGES, "settings": SETTINGS, "aws_config": AWS_CONFIG, "below": BELOW}
    return SERVICE.format(**places, before=before, words=f"{words} --no-dashboard", confined=machine.CONFINED.format(home="yes"))


def _dask() -> str:
    files = {"key": f"{SETTINGS}/key.pem", "cert": f"{SETTINGS}/cert.pem"}
    tls = {"ca-file": f"{SETTINGS}/ca.pem", "scheduler": files, "worker": files, "client": files}
    return yaml.safe_dump({"distributed": {"comm": {"require-encryption": True, "tls": tls}}})
