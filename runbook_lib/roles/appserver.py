"""Desired state of the Application Server nodes: one manager, and workers that pull its artifacts. No I/O.

SVN deployment synchronisation needs a library that is not shipped (facts 3.6), so workers pull from the manager: a
read-only rsync daemon on the manager, a systemd timer on each worker. Only the four folders that hold artifacts are
copied; never artifactMetafiles, which alone break a deployment.
"""

from __future__ import annotations

from runbook_lib.converge.edits import Edit
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.resources import Directory, File, Resource, Unit
from runbook_lib.roles.carbon import home_of, owner_of, stages
from runbook_lib.roles.carbon_settings import Registry, common
from runbook_lib.roles.context import Context
from runbook_lib.topology.model import Node

DEPLOYMENT = "repository/deployment/server"
ARTIFACTS = ("carbonapps", "webapps", "jaggeryapps", "axis2services")  # in the order of the pull: which applications a .car unpacks is known first
CONFIG_PATH = "/_system/config/as"
PULL_SECONDS = 10  # the product itself looks for artifacts every 15 s (facts 1.1, DeploymentUpdateInterval)
DAEMON_FILE = "/etc/rsyncd.conf"
PULL_SCRIPT = "/usr/local/sbin/wso2-pull-artifacts"
PULL_UNIT = "wso2-pull-artifacts"

DAEMON = """\
# Made by the runbook: what is deployed on the manager, for the workers only.
uid = {user}
gid = {user}
read only = yes
use chroot = yes
max connections = 32
# Addresses are all it goes by; a lookup of their names may wait for a resolver that knows none.
reverse lookup = no
hosts allow = {workers}
hosts deny = *
"""
MODULE = """
[{folder}]
path = {home}/{deployment}/{folder}
"""
# Prints what the product unpacks below webapps from Carbon applications: app for each app.war in them, by a pattern for paths and one for what is printed.
CAR_APPS = """python3 -c '
import glob, posixpath, sys, zipfile
for car in filter(zipfile.is_zipfile, glob.glob(sys.argv[1])):
    for name in zipfile.ZipFile(car).namelist():
        if name.endswith(".war"):
            print(sys.argv[2] % posixpath.basename(name)[:-4])
'"""
PULL = """\
#!/bin/sh
# Made by the runbook: makes this worker's artifacts equal to the manager's, deletions included.
set -eu
umask 027
for folder in {folders}; do
  rsync --list-only --timeout=20 "rsync://{manager}/$folder/" > "$RUNTIME_DIRECTORY/list"
  # What Tomcat unpacks from app.war into app/ is each node's own, as long as there is an app.war, or a .car that has one in it (facts 3.6).
  sed -nE 's|^-[^ ]+ +[^ ]+ [^ ]+ [^ ]+ (.*)[.]war$|/\\1/|p' "$RUNTIME_DIRECTORY/list" > "$RUNTIME_DIRECTORY/unpacked"
  [ $folder != webapps ] || {car_apps} "{home}/{deployment}/carbonapps/*.car" "/%s/" >> "$RUNTIME_DIRECTORY/unpacked"
  rsync --recursive --links --times --safe-links --delete-delay --timeout=60 \\
    --exclude-from="$RUNTIME_DIRECTORY/unpacked" "rsync://{manager}/$folder/" "{home}/{deployment}/$folder/"
done
"""
PULL_SERVICE = """\
# Made by the runbook.
[Unit]
Description=Artifacts from the manager {manager}
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
User={user}
RuntimeDirectory={unit}
ExecStart={script}
"""
PULL_TIMER = """\
# Made by the runbook.
[Unit]
Description=Artifacts from the manager, every {seconds} s

[Timer]
OnActiveSec=1
OnUnitInactiveSec={seconds}
AccuracySec=1

[Install]
WantedBy=timers.target
"""


def desired(node: Node, ctx: Context) -> tuple[Stage, ...]:
    """Return the stages of a manager or worker node."""
    worker = node.role == "as-worker"
    # -DworkerNode=true: the profile without console, whose admin services answer 403 (facts 3.7).
    base = stages(node, ctx, settings(node, ctx), " -DworkerNode=true" if worker else "", folders(ctx))
    return (*base, *(pulling(ctx) if worker else serving(node, ctx)))


def settings(node: Node, ctx: Context) -> dict[str, tuple[Edit, ...]]:
    """Return the edits by path below the product's home. A worker mounts the registry read-only (facts 1.4)."""
    worker = node.role == "as-worker"
    hosts = (ctx.topology.host("as"), ctx.topology.host("mgt"))
    return common(node, ctx, Registry(CONFIG_PATH, read_only=worker), hosts, "worker" if worker else "mgt")


def folders(ctx: Context) -> tuple[Resource, ...]:
    """Return the artifact folders as resources; a pack may lack some of them."""
    home, owner = home_of(ctx.spec), owner_of(ctx.spec)
    return tuple(Directory(f"{home}/{DEPLOYMENT}/{folder}", 0o750, owner) for folder in ARTIFACTS)


def serving(node: Node, ctx: Context) -> tuple[Stage, ...]:
    """Return the stages of the manager's rsync daemon: its settings, then its service.

    The service is a stage of its own because whether it must be restarted is known only when the settings are in place.
    Port 873 is open to the workers' security group only (topology). A manager that takes the place of one that is lost has none of what
    was deployed: it does not serve before its first boot is recorded, which is when it has got that back. The workers would remove theirs.
    """
    serves = node.name in ctx.booted or not ctx.in_use
    home, user = home_of(ctx.spec), ctx.spec.product.user
    workers = " ".join(node.address for node in ctx.topology.of("as-worker"))
    text = DAEMON.format(user=user, workers=workers) + "".join(MODULE.format(folder=folder, home=home, deployment=DEPLOYMENT) for folder in ARTIFACTS)
    service = Unit("rsync.service", serves, serves, watches=(DAEMON_FILE,))
    return (Stage("artifacts", (File(DAEMON_FILE, text.encode()),)), Stage("artifact service", (service,)))


def pulling(ctx: Context) -> tuple[Stage, ...]:
    """Return the stages of a worker's pull: script and units, then the timer that runs them."""
    manager = ctx.topology.of("as-manager")[0].address
    words = {
        "home": home_of(ctx.spec), "deployment": DEPLOYMENT, "folders": " ".join(ARTIFACTS), "manager": manager,
        "car_apps": CAR_APPS, "user": ctx.spec.product.user, "unit": PULL_UNIT, "script": PULL_SCRIPT, "seconds": PULL_SECONDS,
    }  # fmt: skip
    timer = f"/etc/systemd/system/{PULL_UNIT}.timer"
    files = (
        File(PULL_SCRIPT, PULL.format(**words).encode(), 0o755),
        File(f"/etc/systemd/system/{PULL_UNIT}.service", PULL_SERVICE.format(**words).encode()),
        File(timer, PULL_TIMER.format(**words).encode()),
    )
    return (Stage("artifacts", files), Stage("artifact service", (Unit(f"{PULL_UNIT}.timer", watches=(timer,)),)))
