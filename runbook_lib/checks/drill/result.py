"""What a drill found: counted values, checks and a chart, all computed from the requests of its stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from runbook_lib.charts import as_image, draw
from runbook_lib.check import Check, CheckTable, answered
from runbook_lib.checks.drill.load import Sample
from runbook_lib.checks.drill.ramp import Ramp
from runbook_lib.tables import Table

SLOW = 1.0  # seconds; a slower request had to wait until Nginx gave up a node
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
