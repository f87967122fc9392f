"""Desired state of every WSO2 node: Java, a user, the pack, the JDBC driver, its tier's keys, its settings, a systemd unit. No I/O.

`greg.py` and `appserver.py` add what differs between the products.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from runbook_lib.converge.agent.keystores import mended_of
from runbook_lib.converge.archive import Archive
from runbook_lib.converge.edits import Edit, TextSet
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.keystore import Keystore, Truststore
from runbook_lib.converge.resources import Absent, Directory, Edited, Exec, File, Package, Resource, Unit, User
from runbook_lib.pki import certificate_of
from runbook_lib.roles.carbon_settings import CONF, DATABASE_TRUST, PACKAGES, SECURITY, STORE_PASSWORD, clustered, driver_of, home_of
from runbook_lib.roles.context import Context
from runbook_lib.roles.home import outliving
from runbook_lib.roles.java import Java, java
from runbook_lib.roles.machine import CONFINED
from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Node
from runbook_lib.topology.packages import packages_of

# The first two: a dead machine closes no connection. The kernel's code waits 600 s before it counts as gone, and 900 s for
# a silent coordinator, and reads other values from this file (facts 3.4); what asks for data that it held waits as long.
# The third and fourth are WSO2's own advice (documentation, "Configuring Hazelcast"). Not tried on the real product.
HAZELCAST = """\
# Made by the runbook; changes made here by hand are shown by its plan and undone by its run.
# A node that is silent for this long has left. Its price: a node that pauses for longer is out until it has merged again.
hazelcast.max.no.heartbeat.seconds=60
hazelcast.max.no.master.confirmation.seconds=90
# The product ends Hazelcast itself; Hazelcast's own hook does so too early ("Hazelcast instance is not active!").
hazelcast.shutdownhook.enabled=false
# What Hazelcast has to say stands in the product's log, and not in a file of its own.
hazelcast.logging.type=log4j
"""
HAZELCAST_FILE = f"{CONF}/hazelcast.properties"
UNIT = "wso2carbon.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
RESTART_FILE = f"/etc/systemd/system/{UNIT}.d/restart.conf"
SCRIPT = "bin/wso2server.sh"
HEAP = r"^\s*-Xms\S+ -Xmx(\S+)"  # in that script, once
LOG = "repository/logs/wso2carbon.log"
LOG_START = "/run/wso2carbon/log-start"  # size and inode of the log before the present start

# The file that had the inode, those of the days after it, and today's, without what stood there before.
SINCE = """\
log={home}/{log}
first=$(find {home}/repository/logs -maxdepth 1 -name "wso2carbon.log.*" -inum "${{inode:-0}}" 2>/dev/null)
days=$(ls $log.* 2>/dev/null | sed -n "\\|^$first$|,\\$p")
[ "$at" -le "$(cat $days $log | wc -c)" ] || at=0; cat $days $log | tail -c +$((at + 1))"""

SERVICE = """\
# Made by the runbook; changes made here by hand are shown by its plan and undone by its run.
[Unit]
Description=WSO2 {product} ({node} of {deployment})
Wants=network-online.target
After=network-online.target

[Service]
Type=simple
User={user}
Group={user}
UMask=0027
WorkingDirectory={home}
Environment=JAVA_HOME={java_home}
Environment="JAVA_OPTS={java_opts}"
# A process id left by a power cut may belong to something else by now.
ExecStartPre=/bin/rm -f {home}/wso2carbon.pid
# Without its databases Carbon hangs alive and nothing restarts it (golden run 1): they come first.
TimeoutStartSec=120
ExecStartPre=/bin/sh -c '{wait_for_database}'
# The log is appended to: what follows this offset is of the present start. It is renamed at midnight, and keeps its inode.
RuntimeDirectory=wso2carbon
ExecStartPre=/bin/sh -c 'touch {home}/{log}; stat -c "%%s %%i" {home}/{log} > {log_start} || echo 0 > {log_start}'
# -Dsetup makes the local H2 tables at the first boot; later it finds them and does nothing (golden run 1).
ExecStart=/bin/sh {home}/bin/wso2server.sh -Dsetup{arguments}
SuccessExitStatus=143
# To the script and to Java: `mixed` would end the script and then kill Java at once, without its orderly shutdown.
KillMode=control-group
TimeoutStopSec=120
LimitNOFILE=65536
LimitNPROC=20000
# The product writes below its home and nowhere else, and needs no right of root's. (Java compiles while it runs: memory that is written is executed.)
ReadWritePaths={home}
NoNewPrivileges=yes
CapabilityBoundingSet=
{confined}
# Restart is set by {restart} once the first boot is recorded complete:
# what a broken first boot leaves in the databases is not cured by another start (golden run 1, 7).
Restart=no

[Install]
WantedBy=multi-user.target
"""
# The product renames its logs each day and removes none. Those of the present start stay, which checks read, and the audit's, which are evidence.
LOGS_UNIT = "wso2carbon-old-logs"
LOG_DAYS = 30
LOGS_SERVICE = """\
# Made by the runbook.
[Unit]
Description=Removes logs of the product that are older than {days} days
ConditionPathExists={log_start}

[Service]
Type=oneshot
User={user}
ExecStart=/usr/bin/find {home}/repository/logs -maxdepth 1 -type f ( -name *.log.* -o -name http_access_* ) ! -name audit.log.* -mtime +{days} \
    ( -name http_access_* -o ! -newer {log_start} ) -delete
"""
LOGS_TIMER = """\
# Made by the runbook.
[Unit]
Description=Old logs of the product, every day

[Timer]
OnCalendar=daily
Persistent=true

[Install]
WantedBy=timers.target
"""
# For sh in a systemd unit, where `$$` stands for `$`.
WAIT_FOR_DATABASE = (
    'tries=0; until timeout 3 bash -c "</dev/tcp/{address}/3306" 2>/dev/null; do tries=$$((tries + 1)); '
    '[ $$tries -lt 15 ] || {{ echo "the database server {address}:3306 does not answer"; exit 1; }}; sleep 2; done'
)
RESTART = """\
# Made by the runbook after the node's first boot was recorded complete.
# Not on-failure: wso2server.sh ends with 0 however Java ended (facts 7). The price: what the console shuts down starts again, too;
# `systemctl stop` stops it. At this pace systemd never gives up (it would after five starts in ten seconds).
[Service]
Restart=always
RestartSec=10
"""
# Carbon turns each jar in this folder into an OSGi bundle at boot: a copy, since it would follow a link into a file
# that the package manager may change under a running product.
COPY_JAR = "install -m 640 -o {user} -g {user} {jar} {target}"
FETCH_JAR = """\
python3 -IS -c '
import hashlib, sys, urllib.request
data = urllib.request.urlopen(sys.stdin.read().strip(), timeout=60).read()
if hashlib.sha256(data).hexdigest() != sys.argv[1]: sys.exit("the jar has another sha256")
open(sys.argv[2], "wb").write(data)' {sha256} {target}.part
chown {user}:{user} {target}.part && chmod 640 {target}.part && mv {target}.part {target}
"""


def stages(
    node: Node,
    ctx: Context,
    settings: Mapping[str, tuple[Edit, ...]],
    arguments: str = "",
    also: tuple[Resource, ...] = (),
) -> tuple[Stage, ...]:
    """Return the stages of a node: Java and user, pack, settings, service.

    `settings`: edits by path below the product's home. `arguments`: text appended to the arguments of wso2server.sh.
    `also`: resources that are applied together with the settings.
    """
    home, owner, runtime = home_of(ctx.spec), owner_of(ctx.spec), java(ctx)
    edited = [Edited(f"{home}/{path}", edits, ctx.base(path), mode_of(path), owner) for path, edits in {**settings, **heap(node, ctx)}.items()]
    stores = keystores(node, ctx, runtime)
    jar = driver_jar(ctx)
    unit = File(UNIT_FILE, service(node, ctx, runtime, arguments).encode())
    machine = (*map(Package, packages_of(node, ctx.spec)), *runtime.resources, User(ctx.spec.product.user, home))
    hazelcast = (File(f"{home}/{HAZELCAST_FILE}", HAZELCAST.encode(), 0o640, owner),) if clustered(node, ctx) else ()
    private_home = Directory(home, 0o750, owner)  # nobody but the product reads the passwords in its configuration
    written = (*also, jar, *other_drivers(ctx), *edited, *hazelcast, *stores)
    pack, kept = ctx.pack, outliving(node, ctx, UNIT, written)
    product = (
        Directory(ctx.spec.product.home),
        Archive(home, pack.sha256 if pack else (ctx.spec.product.sha256 or ""), pack.url if pack else "", owner, kept),
    )
    *read_once, database = stores  # the last is read for each new connection: only a node that may have started with another hand's is restarted
    watched = (UNIT_FILE, jar_path(ctx), *(one.path for one in (*edited, *hazelcast, *read_once)), mended_of(database.path))
    return (
        Stage("Java and user", machine),
        Stage("pack", product),
        Stage("settings", (private_home, *written, unit, *old_logs(ctx.spec))),
        Stage("service", (*running(node, ctx, watched), Unit(f"{LOGS_UNIT}.timer"))),
    )


def mode_of(path: str) -> int:
    """Return the file mode of a path below the product's home: scripts can be executed by the product's user and group.

    Other users cannot read any of these files, because some settings are passwords.
    """
    return 0o750 if path.endswith(".sh") else 0o640


def log_of_this_start(spec: Spec) -> str:
    """Return a shell command (for root) that prints what the product logged since its last start.

    It holds for every way of starting and over any number of midnights: at midnight the product renames its log with the
    date as suffix and opens a new one.
    """
    return f"read at inode < {LOG_START}; {log_since(spec)}"


def log_since(spec: Spec) -> str:
    """Return the same for what was logged since the log had the size `$at` and the inode `$inode`; that the script before it sets."""
    return SINCE.format(home=home_of(spec), log=LOG)


def owner_of(spec: Spec) -> str:
    """Return `user:group` of the product's files."""
    return f"{spec.product.user}:{spec.product.user}"


def heap(node: Node, ctx: Context) -> dict[str, tuple[Edit, ...]]:
    """Return the edit of wso2server.sh that sets -Xmx: to the node's, else back to what the pack ships (facts 7), whatever it was set to before."""
    shipped = re.search(HEAP.encode(), ctx.base(SCRIPT) or b"", re.MULTILINE)
    value = node.heap or (shipped[1].decode() if shipped else "")
    return {SCRIPT: (TextSet(HEAP, value),)} if value else {}


def service(node: Node, ctx: Context, runtime: Java, arguments: str) -> str:
    """Return the text of the systemd unit: wso2server.sh in the foreground, not as root (facts 7)."""
    return SERVICE.format(
        product={"greg": "Governance Registry", "as": "Application Server"}[ctx.spec.design.product],
        node=node.name,
        deployment=ctx.spec.deployment,
        user=ctx.spec.product.user,
        home=home_of(ctx.spec),
        java_home=runtime.home,
        java_opts=f"-Dcarbon.local.ip={node.address} -Dh2.bindAddress=127.0.0.1",
        arguments=arguments,
        restart=RESTART_FILE,
        wait_for_database=WAIT_FOR_DATABASE.format(address=ctx.topology.db.address),
        log=LOG,
        log_start=LOG_START,
        confined=CONFINED.format(home="no" if home_of(ctx.spec).startswith("/home/") else "yes"),
    )


def old_logs(spec: Spec) -> tuple[File, ...]:
    """Return the units that remove old logs of the product, each day."""
    words = LOGS_SERVICE.format(home=home_of(spec), user=spec.product.user, log_start=LOG_START, days=LOG_DAYS)
    return tuple(File(f"/etc/systemd/system/{LOGS_UNIT}.{kind}", text.encode()) for kind, text in (("service", words), ("timer", LOGS_TIMER)))


def running(node: Node, ctx: Context, watched: tuple[str, ...]) -> tuple[Resource, ...]:
    """Return the resources that run the product; before the first boot is recorded complete, a unit that is only installed.

    systemd starts a node at boot, and again when its Java has ended, only once its first boot is complete.
    """
    if node.name not in ctx.booted:
        return (Unit(UNIT, enabled=False, running=None),)
    return (File(RESTART_FILE, RESTART.encode()), Unit(UNIT, watches=watched))


def jar_path(ctx: Context) -> str:
    """Return where the JDBC driver's jar must be on a node."""
    return f"{home_of(ctx.spec)}/repository/components/lib/{driver_of(ctx).jar.rpartition('/')[2]}"


def other_drivers(ctx: Context) -> tuple[Absent, ...]:
    """Return that the other driver's jar, which a change of `database.driver` leaves, is gone, and the bundle that the product made of it (golden run 1).

    Another version has the name of the one before, by URL as well, and the product makes the bundle anew at each start (read in the kernel's
    code); nothing but this takes away the bundle of a jar that is gone. A jar of any other name is the operator's.
    """
    target, folder = jar_path(ctx), f"{home_of(ctx.spec)}/repository/components"
    names = [name for each in PACKAGES.values() if (name := each.jar.rpartition("/")[2]) not in target]
    bundles = [f"{name.removesuffix('.jar').replace('-', '_')}_1.0.0.jar" for name in names]
    return tuple(Absent(f"{folder}/{path}") for path in (*(f"lib/{name}" for name in names), *(f"dropins/{bundle}" for bundle in bundles)))


def driver_jar(ctx: Context) -> Resource:
    """Return the resource that puts the JDBC driver below repository/components/lib; in lib/ the product does not find it (facts 8.17)."""
    wanted, user, driver = ctx.spec.database.driver, ctx.spec.product.user, driver_of(ctx)
    target = jar_path(ctx)
    if wanted.url:
        digest = ctx.driver.sha256 if ctx.driver else (wanted.sha256 or "").lower()  # that of the jar: the parameters may have none, or in capitals
        check = f'echo "{digest}  {target}" | sha256sum -c --status'
        fetch = FETCH_JAR.format(sha256=digest, target=target, user=user)
        return Exec(f"JDBC driver {target}", check, fetch, ctx.driver.url if ctx.driver else wanted.url, target)
    return Exec(
        f"JDBC driver {target}",
        f"cmp -s {driver.jar} {target}",
        COPY_JAR.format(jar=driver.jar, target=target, user=user),
        path=target,
    )


def authorities(ctx: Context) -> dict[str, str]:
    """Return by alias what a node trusts its database server by: the authority, and while that is replaced the one before as well."""
    before = ctx.former.get("ca.pem")
    return {"runbook": ctx.secrets["ca.pem"], **({"runbook-before": before} if before else {})}


def keystores(node: Node, ctx: Context, runtime: Java) -> tuple[Keystore, Truststore, Truststore]:
    """Return the keystore with the tier's own key, the trust store with its certificate as the only one under that alias, and that for the database.

    File names, alias and password stay as shipped, so that no setting changes: the variant that golden run 5 found to work
    without one. The password is the public default and protects nothing; the key is protected because only the product's
    user can read the file. A password of our own would be in clear text in carbon.xml and catalina-server.xml beside it,
    which the same user can read.
    """
    security, owner = f"{home_of(ctx.spec)}/{SECURITY}", owner_of(ctx.spec)
    pem = ctx.secrets[f"tier-key/{ctx.topology.key_of(node.tier or '')}"]
    return (
        Keystore(f"{security}/wso2carbon.jks", STORE_PASSWORD, owner, 0o600, runtime.keytool, pem),
        Truststore(
            f"{security}/client-truststore.jks",
            STORE_PASSWORD,
            owner,
            0o640,
            runtime.keytool,
            {"wso2carbon": certificate_of(pem)},
        ),
        Truststore(f"{home_of(ctx.spec)}/{DATABASE_TRUST}", STORE_PASSWORD, owner, 0o640, runtime.keytool, authorities(ctx), whole=True),
    )
