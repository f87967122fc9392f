"""The failover drill: what visitors lose while a node's power is cut, while nodes restart in turn, while Nginx reloads.

    drill(deployment)                                   # cut a node of the first host, and restore it
    drill(deployment, rate=20)                          # requests per second; else it is measured first (`ramp.py`)
    drill(deployment, kind="rolling-restart")
    drill(deployment, kind="nginx-reload", seconds=15)
    drill(deployment, kind="manager-cut")               # the manager of an AS cluster: applications go on

A steady stream of GETs over TLS runs meanwhile (`load.py`). Failed is: an error status, a connection that ends
without an answer, no whole answer within 10 s. Sessions are not replicated by the product (facts 3.8): visitors of a
node that goes lose theirs, and lose the next one when it is back and the route cookie leads them home. The drill
counts both, apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from runbook_lib.charts import draw
from runbook_lib.check import Check, CheckTable, answered
from runbook_lib.checks.drill.load import Sample, Stream, Target
from runbook_lib.checks.drill.ramp import Ramp, measured
from runbook_lib.errors import RunbookError
from runbook_lib.operations import demo_app, startup
from runbook_lib.operations.rolling_restart import rolling_restart
from runbook_lib.tables import Table
from runbook_lib.waiting import wait_until

if TYPE_CHECKING:
    from runbook_lib.session import Session
    from runbook_lib.topology.model import Node

# Pages that give everybody a session, or none could be lost: the Store's first page gives strangers none.
PATHS = {"as": demo_app.PATH, "store": "/store/pages/sso-login", "publisher": "/publisher/pages/sso-login"}
CHAPTERS = {"as": "06_verify_as_cluster", "greg": "07_verify_sso_separation"}
SLOW = 1.0  # seconds; a request above it had to wait for a node to be given up
FAIR = 0.5  # of a node's share before: with so much of it again, the balance is back
WINDOW, ENOUGH = 2.0, 20  # seconds over which the share is taken; longer where that makes fewer requests
VISITORS, LEAST, OFTEN = 60, 20, 5  # a visitor comes every five seconds or more often: few requests, fewer visitors


@dataclass(frozen=True)
class Drill:
    """What came of it. `balance`: seconds from the node's power coming back until it served its share again (None: it
    never did, or nothing was cut). `touched`: nodes that went; only their visitors may lose sessions. `ramp`: how the rate
    was found (None: it was given). `homes`: the node at which each visitor arrived.
    """

    kind: str
    host: str
    chapter: str
    rate: float
    seconds: float
    samples: tuple[Sample, ...]
    marks: tuple[tuple[float, str], ...]
    nodes: tuple[str, ...]
    touched: tuple[str, ...]
    visitors: int
    balance: float | None = None
    holders: int | None = None  # visitors who had a session; None: all of them
    ramp: Ramp | None = None
    homes: Mapping[int, str] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.failure)

    @property
    def achieved(self) -> float:
        """Requests per second that were really made."""
        return len(self.samples) / self.seconds if self.seconds else 0.0

    @property
    def lost(self) -> int:
        """Visitors who lost a session at least once."""
        return len({sample.visitor for sample in self.samples if sample.lost})

    @property
    def lost_away(self) -> int:
        """Visitors who lost their session because their own node was gone."""
        return len({sample.visitor for sample in self._losses() if sample.node != self._homes[sample.visitor]})

    @property
    def lost_home(self) -> int:
        """Visitors who lost the session they had elsewhere meanwhile, because their own node served again."""
        return len({sample.visitor for sample in self._losses() if sample.node == self._homes[sample.visitor]})

    @cached_property
    def _homes(self) -> Mapping[int, str]:
        """The node of each visitor before anything happened: where it arrived, else its first answer's."""
        by_time = sorted(self.samples, key=lambda sample: sample.at, reverse=True)
        return {**{sample.visitor: sample.node for sample in by_time if sample.node}, **self.homes}

    def _losses(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.lost]

    @property
    def longest(self) -> float:
        """Seconds that the slowest answer took."""
        return max((sample.took for sample in self.samples), default=0.0)

    def per_second(self) -> Sequence[Mapping[str, int]]:
        """For each second: answers per node, and `failed`."""
        found = [Counter[str]() for _ in range(int(max((s.at for s in self.samples), default=0)) + 1)]
        for sample in self.samples:
            found[int(sample.at)]["failed" if sample.failure else sample.node or "?"] += 1
        return found

    @property
    def table(self) -> Table:
        reasons = Counter(sample.failure for sample in self.failed)
        took = sorted(sample.took for sample in self.samples) or [0.0]
        rows: list[tuple[str, object]] = [
            *self._ramp_rows(),
            (
                "requests",
                f"{len(self.samples)} in {self.seconds:.0f} s ({self.achieved:.0f}/s, asked {self.rate:.0f}/s)",
            ),
            ("failed", "; ".join(f"{count} times {reason}" for reason, count in reasons.items()) or 0),
            ("tried again on a new connection", sum(sample.retried for sample in self.samples)),
            ("half of the answers within", f"{1000 * took[len(took) // 2]:.0f} ms"),
            ("99 of 100 within", f"{1000 * took[int(len(took) * 0.99)]:.0f} ms"),
            (f"slower than {SLOW:.0f} s", f"{sum(t > SLOW for t in took)}, the slowest {self.longest:.1f} s"),
            *self._session_rows(),
        ]
        if self.kind == "power-cut":
            rows.append(("balance back", "no" if self.balance is None else f"{self.balance:.0f} s after the power"))
        return Table(("What", "Seen"), rows, f"{TITLES[self.kind]}: {self.host}", self.note)

    def _ramp_rows(self) -> list[tuple[str, object]]:
        if not self.ramp:
            return []
        return [*((f"beforehand, at {step.rate:.0f}/s", str(step)) for step in self.ramp.steps), ("chosen", self.ramp.why)]

    def _session_rows(self) -> list[tuple[str, object]]:
        if not self.touched:
            return [("visitors who lost their session", f"{self.lost} of {self._with_session}")]
        return [
            ("visitors who lost their session when their node went", f"{self.lost_away} of {self._with_session}"),
            ("visitors who lost the next one when it was back", f"{self.lost_home} of {self._with_session}"),
        ]

    @property
    def _with_session(self) -> str:
        return f"{self.visitors if self.holders is None else self.holders} who had one"

    @property
    def note(self) -> str:
        """What a reader must know to judge the sessions; empty where none are lost by nature."""
        return SESSIONS_NOTE if self.touched else ""

    def svg(self) -> str:
        return draw(f"{TITLES[self.kind]}: {self.host}", self.per_second(), self.nodes, self.marks)

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + self.svg() + self.checks._repr_html_()

    def __str__(self) -> str:
        events = "\n".join(f"  {at:6.1f} s  {text}" for at, text in self.marks)
        return f"{self.table}\n{events}\n{self.checks}"

    __repr__ = __str__

    @property
    def checks(self) -> CheckTable:
        """Zero failed GETs is the bar; the stream must have been what was asked, or the zero says nothing."""
        asked, made = f"{self.rate:.0f}/s", f"{self.achieved:.0f}/s"
        steady = self.achieved >= 0.95 * self.rate
        rate = self._row("rate", "the stream was as steady as asked", steady, asked, made)
        table = CheckTable([rate if steady else replace(rate, status="undecided")])  # the visitors' machine was busy: not the cluster's fault
        table.append(self._row("failed", "no GET failed", not self.failed, "0", str(len(self.failed))))
        if not self.touched:
            table.append(self._row("sessions", "no session was lost", self.lost == 0, "0", str(self.lost)))
        else:
            table.append(self._sessions())
        if self.kind == "power-cut":
            observed = "it did not" if self.balance is None else f"after {self.balance:.0f} s"
            table.append(self._row("balance", "the node serves its share again", self.balance is not None, "it does", observed))
        return table

    def _sessions(self) -> Check:
        """Each loss must have a reason: the visitor was served by a node that went."""
        met: dict[int, set[str]] = {visitor: {node} for visitor, node in self.homes.items()}
        strange = set()
        for sample in sorted(self.samples, key=lambda sample: sample.at):
            if sample.lost and not (met.get(sample.visitor, set()) | {sample.node}) & set(self.touched):
                strange.add(sample.visitor)
            met.setdefault(sample.visitor, set()).add(sample.node)
        expected = f"only visitors of {', '.join(self.touched)}: sessions are not replicated"
        observed = f"of {self._with_session} {self.lost_away} lost it when it went, {self.lost_home} the next one when it was back"
        observed += f"; {len(strange)} without a reason" if strange else ""
        title = "sessions are lost with their node only"
        if self.holders == 0:  # then it says nothing that none was lost
            return replace(self._row("sessions", title, False, expected, "nobody had a session: this page gives none"), status="undecided")
        return self._row("sessions", title, not strange, expected, observed)

    def _row(self, name: str, title: str, holds: bool, expected: str, observed: str) -> Check:
        return answered(f"drill-{self.kind}-{name}", title, holds, expected, observed, self.host, self.chapter)


SESSIONS_NOTE = (
    "Sessions live in one node's memory. A visitor whose node goes signs in again on another one; when the node is back, "
    "the route cookie leads the visitor home at once, and the session made meanwhile stays behind: signed in again, a second time. "
    "Leaving visitors where they are would spare them that, and leave the node that came back idle until new visitors come."
)
TITLES = {
    "power-cut": "A node's power is cut",
    "manager-cut": "The manager's power is cut",
    "rolling-restart": "Nodes restart in turn",
    "nginx-reload": "Nginx reloads",
}


def drill(
    deployment: Session,
    kind: str = "power-cut",
    host: str = "",
    node: str = "",
    path: str = "",
    rate: float | None = None,
    seconds: float = 30.0,
    visitors: int | None = None,
) -> Drill:
    """Run `kind` (power-cut, manager-cut, rolling-restart, nginx-reload) under `rate` requests per second on the public `host`.

    `host` is a key (`as`, `store`, …; default: the pattern's first), `node` the one to cut (default: the last behind
    the host), `seconds` the least length of the stream: it goes on until the node serves again, or has had its time.
    `rate` is by default that of the parameters (`drill.rate`), else what the cluster is measured to serve; `visitors` 60,
    or fewer where the rate is low.
    """
    if kind not in KINDS:
        raise RunbookError(f"no drill {kind!r}", "kind", f"there is: {', '.join(KINDS)}")
    key = host or deployment.spec.design.hosts[0]
    behind = deployment.topology.upstream(key)
    chosen = next((found for found in behind if found.name == node), behind[-1])
    if node and chosen.name != node:
        raise RunbookError(f"{node} is not behind {key}", "node", f"there is: {', '.join(n.name for n in behind)}")
    target = target_of(deployment, key, path)
    rate = rate or deployment.spec.drill_rate
    ramp = None if rate else measured(target, visitors or VISITORS)
    rate = rate or ramp.rate  # type: ignore[union-attr]
    visitors = visitors or people_for(rate)
    began = _Run(deployment, chosen, behind, seconds)
    with Stream(target, rate, visitors) as stream:
        if ramp:
            stream.mark(ramp.why)
        balance = KINDS[kind](began, stream)
        stream.until(seconds)
    touched = {"power-cut": (chosen,), "rolling-restart": behind}.get(kind, ())
    return Drill(
        kind=kind,
        host=target.host,
        chapter=CHAPTERS[deployment.spec.design.product],
        rate=rate,
        seconds=stream.seconds,
        samples=tuple(stream.samples),
        marks=tuple(stream.marks),
        nodes=tuple(found.name for found in behind),
        touched=tuple(found.name for found in touched),
        visitors=visitors,
        balance=balance,
        holders=stream.holders,
        ramp=ramp,
        homes=stream.homes,
    )


def people_for(rate: float) -> int:
    """How many visitors make so many requests per second, so that each is heard of often enough to miss its session."""
    return min(VISITORS, max(LEAST, round(OFTEN * rate)))


def target_of(deployment: Session, key: str, path: str = "") -> Target:
    """What a stream asks for: `path` (by default a page of the host's application) on the public host `key`."""
    host, lb = deployment.topology.host(key), deployment.topology.lb_for(key)
    return Target(host, deployment.public_addresses()[lb.name], path or PATHS.get(key, "/"), deployment.vault.get("ca.pem"))


@dataclass(frozen=True)
class _Run:
    """What a kind of drill works with."""

    deployment: Session
    node: Node
    behind: Sequence[Node]
    seconds: float

    def power_cut(self, stream: Stream) -> float | None:
        """A quarter of the time in balance, a quarter without the node, then until it serves its share again.

        It has the time that its machine and then the product may take to boot.
        """
        cloud, name, patience = self.deployment.cloud, self.node.name, self.deployment.spec.timeouts
        stream.until(self.seconds / 4)
        before = list(stream.homes.values()).count(name) / stream.visitors
        self._cut(stream, name)
        stream.until(self.seconds / 2)
        cloud.start(name)
        restored = stream.mark(f"power of {name} back")
        limit = restored + patience.ssh + patience.boot
        if not stream.wait(lambda: share(stream.ended_since(restored), name) > 0, limit - stream.now):
            return None
        stream.mark(f"{name} answers again")
        if not stream.wait(lambda: _balanced(stream, name, before), limit - stream.now):
            return None
        at = stream.mark(f"{name} serves its share again")
        stream.until(at + window(stream.rate))
        return at - restored

    def manager_cut(self, stream: Stream) -> None:
        """Nobody of the stream is on the manager: they must not notice."""
        d, name = self.deployment, next((node.name for node in self.deployment.topology.of("as-manager")), "")
        if not name:
            raise RunbookError("there is no manager here", "kind", "this drill is for an Application Server cluster")
        stream.until(self.seconds / 4)
        self._cut(stream, name)
        stream.until(self.seconds * 3 / 4)
        d.cloud.start(name)
        stream.mark(f"power of {name} back")
        _state(d, name, "running")
        d.fleet().wait_for_ssh([name], d.spec.timeouts.ssh)
        startup.start(d.fleet(), d.context(), name, "watch")
        stream.mark(f"{name} serves again")

    def _cut(self, stream: Stream, name: str) -> None:
        self.deployment.fleet()[name].close()  # our own session to it would go silent too, and be taken for a live one
        stream.mark(f"power of {name} cut")
        self.deployment.cloud.power_cut(name)
        _state(self.deployment, name, "stopped")

    def rolling_restart(self, stream: Stream) -> None:
        stream.until(self.seconds / 6)
        rolling_restart(self.deployment, [node.name for node in self.behind], stream.mark)
        stream.until(stream.now + WINDOW)

    def nginx_reload(self, stream: Stream) -> None:
        """Three reloads, spread over the time."""
        host = self.deployment.fleet()[self.deployment.topology.lb_for(_key(self.deployment, self.behind)).name]
        for part in (1, 2, 3):
            stream.until(self.seconds * part / 4)
            stream.mark("Nginx reloads")
            host.run("sudo -n systemctl reload nginx", timeout=60)


KINDS: Mapping[str, Callable[[_Run, Stream], float | None]] = {
    "power-cut": _Run.power_cut,
    "manager-cut": _Run.manager_cut,
    "rolling-restart": _Run.rolling_restart,
    "nginx-reload": _Run.nginx_reload,
}


def _key(deployment: Session, behind: Sequence[Node]) -> str:
    return next(key for key in deployment.spec.design.hosts if tuple(deployment.topology.upstream(key)) == tuple(behind))


def share(samples: Sequence[Sample], node: str) -> float:
    """The part of the answers that came from this node."""
    return sum(sample.node == node for sample in samples) / len(samples) if samples else 0.0


def window(rate: float) -> float:
    """The seconds over which a share is taken: long enough for enough requests."""
    return max(WINDOW, ENOUGH / rate)


def _balanced(stream: Stream, node: str, before: float) -> bool:
    """Whether the node's share of the last seconds is most of what it was."""
    return share(stream.ended_since(stream.now - window(stream.rate)), node) >= FAIR * before > 0


def _state(deployment: Session, node: str, wanted: str) -> None:
    """Until EC2 says so: a cut machine cannot be started before it counts as stopped."""
    seconds = deployment.spec.timeouts.running
    state = wait_until(lambda: deployment.cloud.instance(node).state, seconds, pause=0.5, enough=lambda state: state == wanted)
    if state != wanted:
        raise RunbookError(f"{node} is not {wanted} after {seconds} s but {state}", "EC2", "look at the machine in the EC2 console")
