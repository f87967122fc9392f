"""Deploy an archive on the manager and wait until every worker has deployed it (facts 3.6); undeploy it again."""

from __future__ import annotations

import hashlib
import re
import shlex
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.changes import Event, Progress
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.operations import demo_app
from runbook_lib.roles import appserver, carbon
from runbook_lib.roles.context import Context
from runbook_lib.ssh import Fleet, Host
from runbook_lib.tables import Table

GONE_NOW = "Gone"  # what `undeploy` says of its times
FOLDERS = {".war": "webapps", ".car": "carbonapps", ".aar": "axis2services"}  # by what the product takes where
NAME = re.compile(r"[A-Za-z0-9][\w.#-]*")
# Beside the artifact folders first, then renamed: neither the product nor a worker ever sees half an archive.
PUT = """set -eu
umask 027
cat > {beside}
[ "$(sha256sum < {beside} | cut -d' ' -f1)" = {sha256} ]
chown {owner} {beside}
mv {beside} {target}
"""
# What the worker's timer does every few seconds, at once.
PULL_NOW = f"sudo -n systemctl start --no-block {appserver.PULL_UNIT}.service"
# The first waits for a pull that is under way and may have read the manager's folder before; the second reads it anew.
PULLED_ANEW = f"sudo -n systemctl start {appserver.PULL_UNIT}.service; sudo -n systemctl start {appserver.PULL_UNIT}.service"
# Tells also how far the product's log goes by now.
HAS = "stat -c '%s %i' {log} 2>/dev/null || echo 0 0; [ -e {target} ] || [ -e {unpacked} ]"
TAKE = "rm -f {target}"
# Ends when neither the archive nor what the product unpacked from it is here any more, and the product logged what it logs of that.
GONE = """at={at} inode={inode}
since() (
{since}
)
left={tries}
while [ $left -gt 0 ]; do
  [ -e {target} ] || [ -e {unpacked} ] || {{ here=no; {dropped} && exit 0; }}
  left=$((left - 1)); sleep 0.5
done
[ "${{here:-yes}}" = no ] && exit 4
exit 3
"""
# The line with which the product stops serving what was no web application, for awk: until it looks, every 15 s, it goes on without the file. The
# one of a Carbon application has the name in its artifacts.xml; one archive is taken away at a time (facts 3.6).
DROPPED = {
    ".aar": """index($0 " ", "Undeploying Web service: " stem " ") { done = 1 }""",
    ".car": """index($0, "Successfully Undeployed Carbon Application : ") { done = 1 }
index($0, "Undeploying Faulty Carbon Application On : ") && index($0 " ", "/" name " ") { done = 1 }""",
}
# The line that the product logs at the end of a deployment, for awk. A Carbon application is named there by what its artifacts.xml calls it, so
# that line counts behind the one with the file's name, with which the deployment only begins (facts 3.6).
LOGGED = {
    ".war": """index($0, "Deployed webapp") && index($0, "File[" path "]") { done = 1 }""",
    ".aar": """index($0, "Deploying Web service: " name " - ") { done = 1 }""",
    ".car": """index($0, "Deploying Carbon Application : ") { ours = index($0, " " name "...") }
ours && index($0, "Successfully Deployed Carbon Application : ") { done = 1 }""",
}
# Ends when the archive is here and the product logged its deployment behind what stood in its log before.
ARRIVE = """set -eu
at={at} inode={inode}
since() (
{since}
)
left={tries}
while [ $left -gt 0 ]; do
  if [ "$(sha256sum < {target} 2>/dev/null | cut -d' ' -f1)" = {sha256} ]; then
    since | awk -v name={name} -v path={target} {deployed}' END {{ exit !done }}' && exit 0
    here=yes
  fi
  left=$((left - 1)); sleep 0.5
done
since | grep -F {name} | tail -5
[ "${{here:-no}}" = yes ] && exit 4
exit 3
"""
# What there is at the top of the artifact folders; nothing where there is no home yet.
NAMES = "cd {base} 2>/dev/null || exit 0; find {folders} -mindepth 1 -maxdepth 1"
# What a worker holds, in a text, without what Tomcat unpacked; and on a manager that has none of it. What it has itself stays.
HOLDS = """set -eu
cd {base}
{{ for one in webapps/*.war; do [ ! -e "$one" ] || echo "${{one%.war}}"; done
  {car_apps} "carbonapps/*.car" "webapps/%s"; }} > /run/runbook-unpacked
tar -czf - --anchored --exclude-from=/run/runbook-unpacked {folders} | base64 -w 0
rm /run/runbook-unpacked
"""
BRING = """base64 -d | tar -xzf - -C {base} --skip-old-files --same-owner"""


@dataclass(frozen=True)
class Deployed:
    """Where an archive was deployed or taken away, and after how many seconds. `changed` is False when that was so already."""

    name: str
    seconds: dict[str, float]
    changed: bool = True
    verb: str = "Deployed"

    def _table(self) -> Table:
        none = not self.changed and self.verb == GONE_NOW
        before = "was not there" if none else "was there"
        rows = [(node, f"{seconds:.1f} s" if self.changed else before) for node, seconds in self.seconds.items()]
        return Table(("Node", f"{self.verb} after"), rows, f"nothing to take away: no node has {self.name}" if none else self.name)

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def __str__(self) -> str:
        return str(self._table())

    __repr__ = __str__


def deploy(fleet: Fleet, ctx: Context, archive: str | Path, progress: Progress | None = None, seconds: float = 90) -> Deployed:
    """Put `archive` (.war, .car or .aar) on the manager and wait until manager and workers have deployed it; return the times.

    Waits `seconds` at most. The name `probe.war`, where there is no such file, is the demonstration application that comes
    with the runbook. An archive that is deployed already is no change. Raises RunbookError for a file that is not such an
    archive, HostError with the name of the node that did not get or did not deploy it.
    """
    path = Path(archive).expanduser()
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    target = f"{carbon.home_of(ctx.spec)}/{appserver.DEPLOYMENT}/{FOLDERS[path.suffix]}/{path.name}"
    names = [node.name for node in ctx.topology.wso2_nodes]
    manager = ctx.topology.of("as-manager")[0].name
    here = fleet.each(lambda host: _digest(host, target), names)
    if set(here.values()) == {digest}:
        return Deployed(path.name, dict.fromkeys(names, 0.0), changed=False)
    log = f"{carbon.home_of(ctx.spec)}/{carbon.LOG}"
    before = fleet.each(lambda host: host.run(f"sudo -n stat -c '%s %i' {log}").stdout.strip() or "0 0", names)
    began = time.monotonic()
    if here[manager] != digest:
        _put(fleet[manager], ctx, data, target, digest)
        _report(progress, manager, f"{path.name} is on the manager")
        _pull_now(fleet, ctx)

    def follow(host: Host) -> float:
        _arrive(host, ctx, target, digest, before[host.name], seconds)
        _report(progress, host.name, f"{path.name} is deployed")
        return time.monotonic() - began

    waiting = [name for name in names if here[name] != digest]
    return Deployed(path.name, dict.fromkeys(names, 0.0) | fleet.each(follow, waiting))


def undeploy(fleet: Fleet, ctx: Context, name: str, progress: Progress | None = None, seconds: float = 90) -> Deployed:
    """Remove the archive `name` from the manager and wait until no node has it, or what was unpacked from it, and none serves it any more.

    Return the times. Where no node has it, as after the same before, that is no change, and said. What was begun and killed is ended.
    Raises RunbookError for what is no archive's name, HostError with the name of the node that still has it, or did not log its end, after `seconds`.
    """
    path = Path(name)
    folder = FOLDERS.get(path.suffix)
    if folder is None or path.name != name:
        raise RunbookError(f"{name} is no name of an archive", name, f"give the file's name, such as app.war ({', '.join(FOLDERS)})")
    manager = ctx.topology.of("as-manager")[0].name
    home = carbon.home_of(ctx.spec)
    target = f"{home}/{appserver.DEPLOYMENT}/{folder}/{name}"
    words = {"target": shlex.quote(target), "unpacked": shlex.quote(target.removesuffix(".war")), "log": f"{home}/{carbon.LOG}"}
    names = [node.name for node in ctx.topology.wso2_nodes]
    before = fleet.each(lambda host: host.run("sudo -n sh", HAS.format(**words).encode()), names)
    if not any(done.rc != 1 for done in before.values()):
        return Deployed(name, dict.fromkeys(names, 0.0), changed=False, verb=GONE_NOW)
    if (done := fleet[manager].run("sudo -n sh", TAKE.format(**words).encode())).rc:
        raise HostError(f"{manager} does not remove {name}: {done.stderr.strip()[-500:]}", f"{manager}: {target}", "look at its disk, then run again")
    began = time.monotonic()
    _report(progress, manager, f"{name} is off the manager")

    def follow(host: Host) -> float:
        if host.name != manager:
            host.run(PULLED_ANEW, timeout=seconds + 60)
        at, inode = before[host.name].stdout.split() or ("0", "0")
        says = DROPPED.get(path.suffix, "") if before[host.name].rc != 1 else ""
        dropped = f"since | awk -v name={shlex.quote(name)} -v stem={shlex.quote(path.stem)} {shlex.quote(says + ' END { exit !done }')}" if says else "true"
        script = GONE.format(**words, at=at, inode=inode, since=carbon.log_since(ctx.spec), dropped=dropped, tries=int(seconds * 2))
        code = host.run("sudo -n sh", script.encode(), timeout=seconds + 60).rc
        if code == 4:
            what = f"{host.name} has no {name} any more, but did not log within {seconds:.0f} s that it stopped serving it"
            raise HostError(what, f"{host.name}: {words['log']}", "does the product run? A restart ends it for certain; what never started leaves no line")
        if code:
            what = f"{host.name} still has {name}, or what was unpacked from it, after {seconds:.0f} s"
            raise HostError(what, f"{host.name}: {target}", f"`journalctl -u {appserver.PULL_UNIT}` on the node says what rsync met")
        _report(progress, host.name, f"{name} is gone")
        return time.monotonic() - began

    # The manager first: as long as it has what it unpacked, and no archive beside it, that is an application of its own to
    # the workers, and the next pull would bring it back.
    gone = fleet.each(follow, [manager])
    return Deployed(name, gone | fleet.each(follow, [node.name for node in ctx.topology.of("as-worker")]), verb=GONE_NOW)


def bring_back(fleet: Fleet, ctx: Context, manager: str) -> str:
    """Give a manager that is new in a cluster in use what was deployed, from the first worker that serves; return whose that was, "" where there is none.

    Where no worker serves, as in a restore, it comes from each that holds what the manager has not: they would remove it as soon as they
    ask the manager. Raises HostError where a worker's archives cannot be read or written. What is there already stays.
    """
    if not ctx.in_use:
        return ""
    base, every = f"{carbon.home_of(ctx.spec)}/{appserver.DEPLOYMENT}", [node.name for node in ctx.topology.of("as-worker")]
    words = {"base": shlex.quote(base), "folders": " ".join(appserver.ARTIFACTS), "car_apps": appserver.CAR_APPS}
    workers = [name for name in every if name in ctx.booted][:1]
    if not workers:
        names = fleet.each(lambda host: {*_root(host, NAMES.format(**words)).splitlines()}, [manager, *every])
        workers = [name for name in every if names[name] - names[manager]]
    for name in workers:
        held = _root(fleet[name], HOLDS.format(**words))
        done = fleet[manager].run(f"sudo -n sh -c {shlex.quote(BRING.format(**words))}", held.encode(), timeout=300)
        if done.rc:
            raise HostError(
                f"{manager} does not take what was deployed: {done.stderr.strip()[-500:]}", f"{manager}: {base}", "look at its disk, then run again"
            )
    return ", ".join(workers)


def _root(host: Host, script: str) -> str:
    done = host.run("sudo -n sh", script.encode(), timeout=300)
    if done.rc:
        raise HostError(f"{host.name} does not tell what is deployed on it: {done.stderr.strip()[-500:]}", host.name, "look at its disk, then run again")
    return done.stdout


def _pull_now(fleet: Fleet, ctx: Context) -> None:
    """Start the workers' pull without waiting for it."""
    fleet.each(lambda host: host.run(PULL_NOW), [node.name for node in ctx.topology.of("as-worker")])


def _read(path: Path) -> bytes:
    """Return the content of an archive. Raises RunbookError for a name or a file that cannot be deployed."""
    if str(path) == demo_app.NAME and not path.exists():
        return demo_app.archive()
    if path.suffix not in FOLDERS:
        raise RunbookError(f"{path.name} is no archive that is deployed", str(path), f"give one of {', '.join(FOLDERS)}")
    if not NAME.fullmatch(path.name):
        raise RunbookError(f"{path.name} is no name for an application", str(path), "use letters, digits, . _ # -")
    if not path.is_file():
        raise RunbookError(f"there is no {path.name}", str(path.absolute()), "check the path")
    if not zipfile.is_zipfile(path):
        raise RunbookError(f"{path.name} is no zip archive, as a {path.suffix} must be", str(path), "build it again")
    return path.read_bytes()


def _digest(host: Host, target: str) -> str:
    """Return the SHA-256 of a file on a host; empty when there is none."""
    return host.run(f"sudo -n sha256sum {shlex.quote(target)} 2>/dev/null").stdout[:64]


def _put(host: Host, ctx: Context, data: bytes, target: str, digest: str) -> None:
    """Write the archive beside the artifact folders, verify it, and rename it into place. Raises HostError."""
    beside = f"{carbon.home_of(ctx.spec)}/{appserver.DEPLOYMENT}/.incoming-{digest[:12]}"
    words = {"beside": shlex.quote(beside), "target": shlex.quote(target)}
    script = PUT.format(sha256=digest, owner=carbon.owner_of(ctx.spec), **words)
    done = host.run(f"sudo -n sh -c {shlex.quote(script)}", data)
    if done.rc:
        raise HostError(
            f"{host.name} did not take {Path(target).name}: {done.stderr.strip() or 'it arrived damaged'}",
            f"{host.name}: {target}",
            "look at the space left on the node, then deploy again",
        )


def _arrive(host: Host, ctx: Context, target: str, digest: str, before: str, seconds: float) -> None:
    """Wait until the host has the archive and its log reports the deployment. Raises HostError after `seconds`.

    `before`: size and inode of the log before the archive came. At midnight the product renames its log and begins a new one.
    """
    name = Path(target).name
    at, inode = before.split()
    script = ARRIVE.format(
        tries=int(seconds * 2), target=shlex.quote(target), sha256=digest, at=at, inode=inode, since=carbon.log_since(ctx.spec), name=shlex.quote(name),
        deployed=shlex.quote(LOGGED[Path(target).suffix]),
    )  # fmt: skip
    done = host.run("sudo -n sh", script.encode(), timeout=seconds + 60)
    if done.rc == 3:
        raise HostError(
            f"{name} did not reach {host.name} within {seconds:.0f} s",
            f"{host.name}: {appserver.PULL_UNIT}.service",
            f"`journalctl -u {appserver.PULL_UNIT}` on the node says what rsync met; the manager's port 873 must be open to it",
        )
    if done.rc:
        raise HostError(
            f"{host.name} has {name} but did not log its deployment within {seconds:.0f} s\n{done.stdout.strip()}",
            f"{host.name}: {carbon.home_of(ctx.spec)}/{carbon.LOG}",
            "the application's own error stands in that log; mend it and deploy again",
        )


def _report(progress: Progress | None, node: str, text: str) -> None:
    if progress:
        progress(Event(node, "artifacts", text, 0, 0))
