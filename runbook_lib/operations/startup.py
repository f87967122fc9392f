"""Starts of the product: first boots one after the other, readiness and failures by the log of the present start.

A failed start of Carbon stays alive with a process id, without a port and without a further log line (golden run 1), so
a timeout alone says nothing. A small program on the node (`startup_watch.py`) follows the log and ends at the ready
line, at a known failure, or when the unit stops.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from itertools import zip_longest

from runbook_lib.changes import Event, Progress
from runbook_lib.converge import agent
from runbook_lib.errors import HostError, RunbookError, Stopped
from runbook_lib.files import read_table
from runbook_lib.operations import registry
from runbook_lib.redaction import redactor
from runbook_lib.roles import carbon
from runbook_lib.roles.context import Context
from runbook_lib.ssh import Completed, Fleet, Host
from runbook_lib.topology.model import Node
from runbook_lib.waiting import wait_until

FIRST_BOOT = "first boot"  # the stage, as plans and progress name it
READY = r"WSO2 Carbon started in \d+ sec"
TELL = "|".join(  # lines that a progress display shows
    (
        r"Starting WSO2 Carbon\.\.\.",
        "Configured Registry in",
        "Connected to mount at",
        "SSO Service Provider is registered",
        READY,
    )
)
ROW = 50  # quick answers in a row after which visitors are sent to a node (startup_watch.py, serve)
BRIEFLY = 30.0  # seconds within which a node that serves answers
SILENCE = 60.0  # seconds without a sign of life after which a connection counts as lost; one comes every 5 s
LOST = 120.0  # the same of a node whose start can be followed over another connection
NOT_INSTALLED = 5  # what systemctl ends with where there is no such unit
# What an anonymous visitor gets from a node that serves (facts 7); no status: any answer will do.
PROBES: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "store": (("/store/pages/top-assets", (200,)),),
    "publisher": (("/publisher/pages/sso-login", (200,)),),
    "greg": (("/store/pages/top-assets", (200,)), ("/publisher/pages/sso-login", (200,))),
    "as-manager": (("/carbon/admin/login.jsp", (200,)),),
    "as-worker": (("/", ()),),
}


@dataclass(frozen=True)
class Signature:
    """A line of the log that means that the start has failed, its explanation, and the next step."""

    pattern: str
    explanation: str
    next_step: str


@dataclass(frozen=True)
class Started:
    """A node that has started and answers.

    `line`: the ready line of its log; `seconds`: since the start was asked for; `ended`: when it answered, by this machine's clock.
    """

    node: str
    line: str
    seconds: float
    ended: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def began(self) -> datetime:
        return self.ended - timedelta(seconds=self.seconds)


@cache
def signatures() -> tuple[Signature, ...]:
    """Return the known failures of `startup_failures.yaml`, the most specific first."""
    return tuple(Signature(**row) for row in read_table(files(__package__) / "startup_failures.yaml"))


def start(
    fleet: Fleet,
    ctx: Context,
    name: str,
    verb: str = "start",
    progress: Progress | None = None,
    first: bool = False,
    seconds: float | None = None,
    row: int = ROW,
) -> Started:
    """Start one node and wait until it serves; return its ready line and the time.

    `verb`: `start`, `restart`, or `watch` (only wait). `first`: record on the node that its first boot began, and ended.
    `seconds`: how long to wait at most, instead of the time-out of the parameters. `row`: how many quick answers in a row show that it serves;
    one is enough where nobody is sent there next.
    A start goes on while the connection is lost, and is followed over the next one. Raises HostError with the log line and its explanation as
    soon as the start has failed, and when the node gives no sign of life any more.
    """
    node = ctx.topology.node(name)
    limit = seconds or (ctx.spec.timeouts.first_boot if first else ctx.spec.timeouts.boot)
    home = carbon.home_of(ctx.spec)
    request = {
        "verb": verb,
        "unit": carbon.UNIT,
        "home": home,
        "log": f"{home}/{carbon.LOG}",
        "note": carbon.LOG_START,
        "seconds": limit,
        "ready": READY,
        "tell": TELL,
        "row": row,
        "failures": [signature.pattern for signature in signatures()],
        "probes": [{"address": node.address, "port": 9443, "path": path, "status": ok} for path, ok in PROBES[node.role]],
        "mark": mark_of(ctx) if first else None,
        "begun": None,
    }
    result: dict = {}
    began = asked = heard = time.monotonic()

    def on_line(line: str) -> None:
        nonlocal result, heard
        heard, message = time.monotonic(), json.loads(line)
        if "begun" in message:  # from now on there is something to be followed; the mark is left to the program that wrote it
            request.update(message, verb="watch", mark=None)
            return
        result = result if "alive" in message else message
        if progress and message.keys() == {"line"}:
            progress(Event(name, "boot", redactor.redact(result["line"]), 0, 0))

    def follow() -> Completed:
        nonlocal asked
        asked = time.monotonic()
        order = request | {"seconds": max(1, round(limit - (asked - began)))}
        return fleet[name].run(agent.COMMAND, _program() + json.dumps(order).encode(), on_line, SILENCE)

    def goes_on(error: BaseException) -> bool:
        return isinstance(error, HostError) and error.transient and request["begun"] is not None and time.monotonic() - heard < LOST

    try:
        done = wait_until(follow, limit, pause=0.5, longest=5.0, enough=lambda answer: True, again_after=goes_on)
    except HostError as error:
        raise HostError(
            f"lost {name} while it was starting: no sign of life for {time.monotonic() - heard:.0f} s",
            f"{name}: {home}/{carbon.LOG}",
            "look at the machine in chapter 01, which starts it again, then run this chapter again: it goes on by itself",
        ) from error
    if "ready" in result:
        return Started(name, result["ready"], round(asked - began + result["seconds"], 1))
    raise _start_error(node, result, done.stderr, f"{home}/{carbon.LOG}", ctx.topology.db.name)


@cache
def _program() -> bytes:
    """Return the watching program with its length in front, as the agent command expects it."""
    source = files(__package__).joinpath("startup_watch.py").read_bytes()
    return b"%d\n" % len(source) + source


def _start_error(node: Node, result: dict, stderr: str, log: str, database: str) -> HostError:
    """Return the error for a start that did not end with the ready line; `result` is the last message of the watching program.

    `database`: the name of the machine with the registry's database.
    """
    where = f"{node.name}: {log}"
    log_lines = [line for line in result.get("log", []) if not line.startswith("\t")]  # without the frames of Java's stack
    tail = redactor.redact("\n".join(log_lines[-12:]))
    if "failed" in result:
        known = signatures()[result["failed"]]
        return HostError(
            f"{node.name} does not start: {known.explanation}.\n{redactor.redact(result['line'])}\n{tail}",
            where,
            known.next_step,
        )
    if "dead" in result:
        words = redactor.redact("\n".join(result["journal"][-12:]))
        return HostError(
            f"{node.name} stopped {result.get('since', 'while starting')} ({result['dead']})\n{words or tail}",
            where,
            "read the lines shown here",
        )
    if "mute" in result:
        return HostError(
            f"{node.name} says it is started, but {result['mute']} does not answer as it should: {result['words']}",
            where,
            "look for errors of the application in the log; was it removed from this node?",
        )  # fmt: skip
    if "silent" in result:
        return HostError(
            f"{node.name} did not say that it is started within {result['silent']} s\n{tail}",
            where,
            "a lock left in REG_CLUSTER_LOCK makes every start wait without a word (facts 2.4); the check registry-lock shows it. If it is locked: "
            f"{registry.how_to_free(database)}. Else raise timeouts.first_boot or timeouts.boot",
        )  # fmt: skip
    return HostError(f"{node.name}: the start was not followed to its end\n{stderr[-1000:]}", where, "run the chapter again")


def wait_ready(fleet: Fleet, ctx: Context, names: Sequence[str], progress: Progress | None = None) -> dict[str, Started]:
    """Wait until these running nodes serve, in parallel; return a result per node. Called after each batch of a rolling change (`gate`)."""
    return fleet.each(lambda host: start(fleet, ctx, host.name, "watch", progress), names)


def not_serving(fleet: Fleet, ctx: Context, names: Collection[str]) -> set[str]:
    """Return which of these nodes do not serve now. Each is asked at once, and waited for at most `BRIEFLY`."""

    def serves(host: Host) -> bool:
        try:
            return bool(start(fleet, ctx, host.name, "watch", seconds=BRIEFLY, row=1))
        except HostError:
            return False

    return {name for name, well in fleet.each(serves, names).items() if not well}


def batches(ctx: Context, by_tier: bool = False, down: Collection[str] = ()) -> list[list[str]]:
    """Return the names of the nodes that may be changed together, batch by batch.

    Nodes without a first boot serve nobody: all of them are the first batch. The others are spread so that every role keeps
    serving: the first node of each role, then the second of each, and so on. With `by_tier` it is one node of each tier, and those go
    first that another one of their role stands in for: a change that breaks a node breaks one that nobody misses. For that reason
    those in `down`, which do not serve, go before all others of their role or tier.
    """
    nodes = ctx.topology.wso2_nodes
    fresh = [node.name for node in nodes if node.name not in ctx.booted]
    groups: dict[str | None, list[Node]] = {}

    def turn(node: Node) -> tuple[bool, bool]:
        return node.name not in down, by_tier and len(ctx.topology.of(node.role)) == 1

    for node in nodes:
        if node.name in ctx.booted:
            groups.setdefault(node.tier if by_tier else node.role, []).append(node)
    rows = [[node.name for node in sorted(group, key=turn)] for group in groups.values()]
    serving = [[name for name in row if name] for row in zip_longest(*rows)]
    return [fresh, *serving] if fresh else serving


def mark_of(ctx: Context) -> str:
    """Return the path of the file on a node that records its first boot: absent, `begun` or `complete`.

    It is inside the product's home, so that unpacking the pack again removes it.
    """
    return f"{carbon.home_of(ctx.spec)}/.runbook-first-boot"


def first_boots(
    fleet: Fleet,
    ctx: Context,
    record: Callable[[str], None],
    recreate_databases: Callable[[], None],
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> tuple[Started, ...]:
    """Boot the nodes that `ctx.booted` does not name, strictly one after the other; return a result per node.

    Two first boots at once leave duplicates in the registry (golden run 7). `record(node)` is called for all of them at the
    end, when all serve and the registry holds no duplicates. Until then the databases hold nothing of value, so after a
    first boot that was cut short (by a kill, a power cut, a failure) the next run calls `recreate_databases`, puts the
    nodes' local databases back as shipped, and begins again. Once a first boot of this deployment is recorded (`ctx.in_use`),
    nothing is re-created: RunbookError names what the user can do.
    """
    waiting = [node.name for node in ctx.topology.wso2_nodes if node.name not in ctx.booted]
    if not waiting:
        return ()
    report = _reporter(progress)
    marks = fleet.each(lambda host: _read_mark(host, ctx), waiting)
    database = fleet[ctx.topology.db.name]
    used = registry.is_used(database)
    begun = [name for name in waiting if marks[name] == "begun"]
    if ctx.booted or ctx.in_use:
        if begun:
            raise _interrupted_boot_error(begun, ctx)
    elif used and (begun or not any(marks.values())):
        where = ", ".join(begun) or "on a machine that is gone"
        report(waiting[0], f"a first boot was cut short ({where}): the databases are made anew")
        _stop_and_reset(fleet, ctx, waiting)
        recreate_databases()
        marks = dict.fromkeys(waiting, "")
    elif not used and any(marks.values()):  # somebody made the databases anew
        _stop_and_reset(fleet, ctx, waiting)
        marks = dict.fromkeys(waiting, "")
    started = []
    for name in waiting:
        if marks[name] == "complete":
            continue
        if stop and stop.is_set():
            raise Stopped(f"stopped before the first boot of {name}, as asked", name)
        registry.free_lock(database)
        report(name, FIRST_BOOT)
        started.append(start(fleet, ctx, name, "start", progress, first=True, row=ROW if ctx.in_use else 1))
    _refuse_duplicates(database)
    for name in waiting:
        record(name)
    return tuple(started)


def _reporter(progress: Progress | None) -> Callable[[str, str], None]:
    return lambda name, text: progress(Event(name, FIRST_BOOT, text, 0, 0)) if progress else None


def _read_mark(host: Host, ctx: Context) -> str:
    """Return how far the first boot of a node came: empty, `begun` or `complete`."""
    return host.run(f"sudo -n cat {mark_of(ctx)} 2>/dev/null").stdout.strip()


def _stop_and_reset(fleet: Fleet, ctx: Context, names: Sequence[str]) -> None:
    """Put nodes back to the state before their first boot: stopped, local database as shipped, no search index, no mark."""
    home = carbon.home_of(ctx.spec)
    script = f"""set -eu
systemctl stop {carbon.UNIT} || true
[ -d {home} ] || exit 0
cd {home}
if [ -d .runbook-database ]; then rm -rf repository/database; cp -a .runbook-database repository/database; fi
rm -rf solr/data .runbook-first-boot
"""

    def reset(host: Host) -> None:
        done = host.run("sudo -n sh", script.encode(), timeout=ctx.spec.timeouts.stop + SILENCE)
        if done.rc:
            raise HostError(
                f"{host.name} could not be put back to before its first boot: {done.stderr.strip()}",
                host.name,
                "run the chapter again",
            )

    fleet.each(reset, names)


def forget_first_boots(fleet: Fleet, ctx: Context) -> None:
    """Stop all nodes and put them back to the state before their first boot; needed whenever the databases are re-created."""
    _stop_and_reset(fleet, ctx, [node.name for node in ctx.topology.wso2_nodes])


def stop_all(fleet: Fleet, ctx: Context) -> None:
    """Stop the product on all nodes, in parallel. Raises HostError for one that does not stop."""
    fleet.each(lambda host: leave(host, ctx), [node.name for node in ctx.topology.wso2_nodes])


def leave(host: Host, ctx: Context) -> float:
    """Stop the product on a node, where it is installed; the node leaves its cluster by it. Return the seconds that this took. Raises HostError."""
    began = time.monotonic()
    done = host.run(f"sudo -n systemctl stop {carbon.UNIT}", timeout=ctx.spec.timeouts.stop + SILENCE)
    if done.rc not in (0, NOT_INSTALLED):
        raise HostError(f"{host.name} does not stop: {done.stderr.strip()}", host.name, f"journalctl -u {carbon.UNIT} on the node says why")
    return time.monotonic() - began


def _interrupted_boot_error(begun: Sequence[str], ctx: Context) -> RunbookError:
    """Return the error for a first boot that was cut short while other nodes already use the databases."""
    names, others = ", ".join(begun), ", ".join(sorted(ctx.booted)) or "nodes before it"
    return RunbookError(
        f"the first boot of {names} was cut short, and the databases already hold what {others} made",
        f"{names}: {mark_of(ctx)}",
        f"replace the node: terminate {names}, then run chapter 01 and this one again; if the verification shows "
        "duplicates in the registry, deployment.mysql.recreate(confirm=…) dumps the databases and makes them anew; "
        "after a restore: ./runbook restore PARAMS again",
    )


def _refuse_duplicates(database: Host) -> None:
    """Raise RunbookError when the registry holds a resource twice."""
    found = registry.duplicates(database)
    if found:
        raise RunbookError(
            f"the registry holds {len(found)} resources twice, such as {found[0]}: two nodes first booted at once",
            f"{database.name}: REG_RESOURCE",
            "nothing cures this but fresh databases: deployment.mysql.recreate(confirm=…), then this chapter again",
        )
