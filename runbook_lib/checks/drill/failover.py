"""The failover drill: counts failed requests and lost sessions during a power cut, a rolling restart or a reload of Nginx.

    drill(deployment)                                   # cut a node of the first host, and restore it
    drill(deployment, rate=20)                          # requests per second; by default `drill.rate` or measured (`ramp.py`)
    drill(deployment, kind="rolling-restart")
    drill(deployment, kind="nginx-reload", seconds=15)
    drill(deployment, kind="manager-cut")               # the manager of an AS cluster; its applications stay available

A steady stream of GET requests over TLS runs meanwhile (`load.py`). A request has failed when it gets an error status,
when its connection ends without a response, or when there is no complete response within 10 s. The product does not
replicate sessions (facts 3.8): visitors of a stopped node lose their session, and they lose the next one when the node
is back and the route cookie sends them to it again. The drill counts the two losses separately.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from runbook_lib.charts import as_image, draw
from runbook_lib.check import Check, CheckTable, answered
from runbook_lib.checks.drill.load import Sample, Stream, Target
from runbook_lib.checks.drill.ramp import Ramp, measured
from runbook_lib.errors import RunbookError
from runbook_lib.operations import demo_app, startup
from runbook_lib.operations.rolling_restart import rolling_restart
from runbook_lib.tables import Table, counted
from runbook_lib.waiting import wait_until

if TYPE_CHECKING:
    from runbook_lib.session import Session
    from runbook_lib.topology.model import Node

# Pages that create a session for every visitor, so that a loss can be seen. The Store's first page creates none for visitors who are not signed in.
PATHS = {"as": demo_app.PATH, "store": "/store/pages/sso-login", "publisher": "/publisher/pages/sso-login"}
CHAPTERS = {"as": "06_verify_as_cluster", "greg": "07_verify_sso_separation"}
SLOW = 1.0  # seconds; a slower request had to wait until Nginx gave up a node
FAIR = 0.5  # part of a node's former share of the requests from which the balance counts as restored
WINDOW, ENOUGH = 2.0, 20  # seconds and requests over which a share is taken at least
VISITORS, LEAST, OFTEN = 60, 20, 5  # most and least visitors; each makes a request at least every OFTEN seconds where LEAST allows it


@dataclass(frozen=True)
class Drill:
    """The result of a drill.

    `rate`: requests per second asked for; `seconds`: how long the stream ran; `marks`: events, with seconds after the start.
    `balance`: seconds from the node's restored power until it served its share again (None: it never did, or no node was cut).
    `touched`: nodes that were stopped; only their visitors may lose sessions. `ramp`: how the rate was measured (None: it was
    given). `homes`: the node that served each visitor first.
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
    holders: int | None = None  # number of visitors who had a session; None: all of them
    ramp: Ramp | None = None
    homes: Mapping[int, str] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Sample, ...]:
        """The requests that failed."""
        return tuple(sample for sample in self.samples if sample.failure)

    @property
    def achieved(self) -> float:
        """Requests per second that were made; 0 when the stream did not run."""
        return len(self.samples) / self.seconds if self.seconds else 0.0

    @property
    def lost(self) -> int:
        """Number of visitors who lost a session at least once."""
        return len({sample.visitor for sample in self.samples if sample.lost})

    @property
    def lost_away(self) -> int:
        """Number of visitors who lost their session because their first node was stopped."""
        return len({sample.visitor for sample in self._losses() if sample.node != self._homes[sample.visitor]})

    @property
    def lost_home(self) -> int:
        """Number of visitors who lost the session made on another node meanwhile, because their first node served again."""
        return len({sample.visitor for sample in self._losses() if sample.node == self._homes[sample.visitor]})

    @cached_property
    def _homes(self) -> Mapping[int, str]:
        """The first node of each visitor: from `homes`, else the node of its first response."""
        by_time = sorted(self.samples, key=lambda sample: sample.at, reverse=True)
        return {**{sample.visitor: sample.node for sample in by_time if sample.node}, **self.homes}

    def _losses(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.lost]

    @property
    def longest(self) -> float:
        """Seconds that the slowest request took."""
        return max((sample.took for sample in self.samples), default=0.0)

    def per_second(self) -> Sequence[Mapping[str, int]]:
        """Return, for each second, the number of responses per node, and of failures as `failed`."""
        found = [Counter[str]() for _ in range(int(max((s.at for s in self.samples), default=0)) + 1)]
        for sample in self.samples:
            found[int(sample.at)]["failed" if sample.failure else sample.node or "?"] += 1
        return found

    @property
    def table(self) -> Table:
        """The measured values, in words."""
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
            *self._control_rows(),
            *self._session_rows(),
        ]
        if self.kind == "power-cut":
            rows.append(("balance back", "no" if self.balance is None else f"{self.balance:.0f} s after the power"))
        return Table(("What", "Seen"), rows, f"{TITLES[self.kind]}: {self.host}", self.note)

    def _ramp_rows(self) -> list[tuple[str, object]]:
        if not self.ramp:
            return []
        return [*((f"beforehand, at {step.rate:.0f}/s", str(step)) for step in self.ramp.steps), ("chosen", self.ramp.why)]

    def _control_rows(self) -> list[tuple[str, object]]:
        late = max((sample.late for sample in self.samples), default=0.0)
        return [("this machine was late itself, by at most", f"{late:.1f} s")] if late else []

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
        """Why sessions were lost; empty when no node was stopped."""
        return SESSIONS_NOTE if self.touched else ""

    def svg(self) -> str:
        """Return the chart of responses per second and node, with the events, as SVG."""
        return draw(f"{TITLES[self.kind]}: {self.host}", self.per_second(), self.nodes, self.marks)

    def _repr_html_(self) -> str:
        events = "; ".join(f"{at:.1f} s: {text}" for at, text in self.marks)
        return self.table._repr_html_() + as_image(self.svg(), f"answers per second by node; {events}") + self.checks._repr_html_()

    def __str__(self) -> str:
        events = "\n".join(f"  {at:6.1f} s  {text}" for at, text in self.marks)
        return f"{self.table}\n{events}\n{self.checks}"

    __repr__ = __str__

    @property
    def checks(self) -> CheckTable:
        """The checks: the stream had the rate asked for, no GET failed, no session was lost without a reason, the node serves its share again.

        What is only seen while this machine was late itself is undecided: a busy machine is no fault of the cluster.
        """
        asked, made = f"{self.rate:.0f}/s", f"{self.achieved:.0f}/s"
        steady = self.achieved >= 0.95 * self.rate
        rate = self._row("rate", "the stream was as steady as asked", steady, asked, made)
        table = CheckTable([rate if steady else replace(rate, status="undecided")])
        table.append(self._blamed(self._row("failed", "GETs that failed", not self.failed, "0", self._failures()), self.failed))
        if not self.touched:
            losses = [sample for sample in self.samples if sample.lost]
            table.append(self._blamed(self._row("sessions", "sessions that were lost", self.lost == 0, "0", str(self.lost)), losses))
        else:
            table.append(self._sessions())
        if self.kind == "power-cut":
            observed = "it did not" if self.balance is None else f"after {self.balance:.0f} s"
            table.append(self._row("balance", "the node serves its share again", self.balance is not None, "it does", observed))
        return table

    def _failures(self) -> str:
        """Return how many requests failed, for which reasons, and when: after which event."""
        if not self.failed:
            return "0"
        reasons = Counter(sample.failure for sample in self.failed)
        first, last = min(sample.at for sample in self.failed), max(sample.at for sample in self.failed)
        after = next((f", after: {text}" for at, text in reversed(self.marks) if at <= first), "")
        told = "; ".join(f"{count} times {reason}" for reason, count in reasons.most_common(3))
        return f"{len(self.failed)}: {told}{'; …' if len(reasons) > 3 else ''}; from {first:.1f} to {last:.1f} s{after}"

    def _blamed(self, row: Check, samples: Sequence[Sample]) -> Check:
        """Return the row of what these samples show, undecided when each of them fell into a time in which this machine was late itself."""
        if row.ok or not all(sample.doubtful for sample in samples):
            return row
        late = max(sample.late for sample in samples)
        return replace(row, status="undecided", observed=f"{row.observed}; this machine was {late:.1f} s late itself: drill again when it has less to do")

    def _sessions(self) -> Check:
        """Return the check that only visitors served by a stopped node lost a session; undecided when no visitor had one."""
        met: dict[int, set[str]] = {visitor: {node} for visitor, node in self.homes.items()}
        strange: dict[int, Sample] = {}
        for sample in sorted(self.samples, key=lambda sample: sample.at):
            if sample.lost and not (met.get(sample.visitor, set()) | {sample.node}) & set(self.touched):
                strange.setdefault(sample.visitor, sample)
            met.setdefault(sample.visitor, set()).add(sample.node)
        expected = f"only visitors of {', '.join(self.touched)}: sessions are not replicated"
        observed = f"of {self._with_session} {self.lost_away} lost it when it went, {self.lost_home} the next one when it was back"
        observed += f"; {len(strange)} without a reason" if strange else ""
        title = "sessions are lost with their node only"
        if self.holders == 0:  # without a session none can be lost
            return replace(self._row("sessions", title, False, expected, "nobody had a session: this page gives none"), status="undecided")
        return self._blamed(self._row("sessions", title, not strange, expected, observed), [*strange.values()])

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
    """Run a drill on a public host and return its result.

    `kind`: power-cut, manager-cut, rolling-restart or nginx-reload. `host`: key of the public host (`as`, `store`, …; default:
    the pattern's first). `node`: the node to cut (default: the last behind the host). `path`: the page to request. `rate`:
    requests per second (default: `drill.rate` of the parameters, else a rate that is measured). `seconds`: the least length of
    the stream, which goes on until the node serves again or its time limit is over. `visitors`: 60 by default, fewer at a low rate.
    It begins once every node behind the host serves new visitors, and none loses a session (`settle`).
    Raises `RunbookError` for an unknown kind or node, when requests fail before the drill or a node does not serve, and when an operation
    of the drill fails.
    """
    if kind not in KINDS:
        raise RunbookError(f"no drill {kind!r}", "kind", f"there is: {', '.join(KINDS)}")
    key = host or deployment.spec.design.hosts[0]
    behind = deployment.topology.upstream(key)
    chosen = next((found for found in behind if found.name == node), behind[-1])
    if node and chosen.name != node:
        raise RunbookError(f"{node} is not behind {key}", "node", f"there is: {', '.join(n.name for n in behind)}")
    target = target_of(deployment, key, path)
    settle(target, [found.name for found in behind], deployment.spec.timeouts.ssh + deployment.spec.timeouts.boot)
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


def settle(target: Target, nodes: Sequence[str], seconds: float) -> None:
    """Wait until new visitors are led to every one of these nodes and keep their sessions: what was restarted before is back in Nginx's balance.

    Nginx leaves out a node that failed for a while (`fail_timeout`). Who arrives meanwhile is led home later and loses a session by it, which
    a drill would take for a loss of its own. Raises `RunbookError` when it is not so after `seconds`.
    """

    def lacking() -> str:
        with Stream(target, LEAST, max(LEAST, 4 * len(nodes))) as stream:
            stream.until(WINDOW)
        absent = [name for name in nodes if name not in stream.homes.values()]
        lost = sum(sample.lost for sample in stream.samples)
        return f"no new visitor is led to {', '.join(absent)}" if absent else f"{counted(lost, 'visitor')} lost a session" if lost else ""

    found = wait_until(lacking, seconds, pause=0, enough=lambda reason: not reason)
    if found:
        raise RunbookError(f"before the drill {found}", target.host, "verify the chapters before; then drill again")


def people_for(rate: float) -> int:
    """Return the number of visitors for this rate (requests per second): few enough that each sends a request often and notices a lost session."""
    return min(VISITORS, max(LEAST, round(OFTEN * rate)))


def target_of(deployment: Session, key: str, path: str = "") -> Target:
    """Return the target of a stream: `path` (default: a page of the host's application) on the public host `key`."""
    host, lb = deployment.topology.host(key), deployment.topology.lb_for(key)
    return Target(host, deployment.public_addresses()[lb.name], path or PATHS.get(key, "/"), deployment.vault.get("ca.pem"))


@dataclass(frozen=True)
class _Run:
    """One drill: the deployment, the node to cut, the nodes behind the public host, the length in seconds."""

    deployment: Session
    node: Node
    behind: Sequence[Node]
    seconds: float

    def power_cut(self, stream: Stream) -> float | None:
        """Cut the node's power and restore it; return the seconds from then until it serves its share again, or None if it does not.

        A quarter of the time passes before the cut, and a quarter without the node. Its boot is followed in the product's log; what it
        may take for its share afterwards is the time that a host and the product may take to boot. Raises `RunbookError` when EC2 does not
        report the instance as stopped or running in time, and `HostError` with the log's words when the product does not start.
        """
        name, patience = self.node.name, self.deployment.spec.timeouts
        stream.until(self.seconds / 4)
        before = list(stream.homes.values()).count(name) / stream.visitors
        self._cut(stream, name)
        stream.until(self.seconds / 2)
        restored = self._restore(stream, name)
        limit = stream.now + patience.ssh + patience.boot
        if not stream.wait(lambda: share(stream.ended_since(restored), name) > 0, limit - stream.now):
            return None
        stream.mark(f"{name} answers again")
        if not stream.wait(lambda: _balanced(stream, name, before), limit - stream.now):
            return None
        at = stream.mark(f"{name} serves its share again")
        stream.until(at + window(stream.rate))
        return at - restored

    def manager_cut(self, stream: Stream) -> None:
        """Cut the manager's power and restore it. The stream uses the workers only, so no request may fail.

        Raises `RunbookError` when there is no manager, or when it does not start again in time.
        """
        name = next((node.name for node in self.deployment.topology.of("as-manager")), "")
        if not name:
            raise RunbookError("there is no manager here", "kind", "this drill is for an Application Server cluster")
        stream.until(self.seconds / 4)
        self._cut(stream, name)
        stream.until(self.seconds * 3 / 4)
        self._restore(stream, name)
        stream.mark(f"{name} serves again")

    def _restore(self, stream: Stream, name: str) -> float:
        """Give the node its power back and follow its boot to the end; return when the power was back, in seconds after the stream's start."""
        d = self.deployment
        d.cloud.start(name)
        restored = stream.mark(f"power of {name} back")
        _state(d, name, "running")
        d.wait_for_ssh([name])
        startup.start(d.fleet(), d.context(), name, "watch")
        return restored

    def _cut(self, stream: Stream, name: str) -> None:
        self.deployment.fleet()[name].close()  # after the cut our SSH session would get no response but look open
        stream.mark(f"power of {name} cut")
        self.deployment.cloud.power_cut(name)
        _state(self.deployment, name, "stopped")

    def rolling_restart(self, stream: Stream) -> None:
        """Restart the nodes in turn, and go on until each serves visitors again: the sessions that are lost on the way home are part of it."""
        names, patience = [node.name for node in self.behind], self.deployment.spec.timeouts
        stream.until(self.seconds / 6)
        rolling_restart(self.deployment, names, stream.mark)
        ended = stream.mark("the last node is back")
        stream.wait(lambda: all(share(stream.ended_since(ended), name) > 0 for name in names), patience.ssh + patience.boot)
        stream.until(stream.now + window(stream.rate))

    def nginx_reload(self, stream: Stream) -> None:
        """Reload Nginx three times, at equal intervals."""
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
    """Return the key of the first public host that has exactly these nodes."""
    return next(key for key in deployment.spec.design.hosts if tuple(deployment.topology.upstream(key)) == tuple(behind))


def share(samples: Sequence[Sample], node: str) -> float:
    """Return the share (0 to 1) of the requests that this node served; 0 without requests."""
    return sum(sample.node == node for sample in samples) / len(samples) if samples else 0.0


def window(rate: float) -> float:
    """Return the seconds over which a share is taken: at least WINDOW, and enough for ENOUGH requests."""
    return max(WINDOW, ENOUGH / rate)


def _balanced(stream: Stream, node: str, before: float) -> bool:
    """Return whether the node's share over the last `window` seconds is at least FAIR of `before`; False when it had no share before."""
    return share(stream.ended_since(stream.now - window(stream.rate)), node) >= FAIR * before > 0


def _state(deployment: Session, node: str, wanted: str) -> None:
    """Wait until the instance has the wanted EC2 state: it cannot be started before it is stopped.

    Raises `RunbookError` when it does not reach the state in time.
    """
    seconds = deployment.spec.timeouts.running
    state = wait_until(lambda: deployment.cloud.instance(node).state, seconds, pause=0.5, enough=lambda state: state == wanted)
    if state != wanted:
        raise RunbookError(f"{node} is not {wanted} after {seconds} s but {state}", "EC2", "look at the machine in the EC2 console")
