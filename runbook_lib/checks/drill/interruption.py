"""What visitors notice of work on a cluster that serves: a few requests a second to every public host, and what came back meanwhile.

A request counts by when it was due, so that one which hangs is laid to the work that was going on when it was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType

from runbook_lib.checks.drill.failover import target_of
from runbook_lib.checks.drill.load import Sample, Stream, Target
from runbook_lib.errors import RunbookError
from runbook_lib.operations import demo_app
from runbook_lib.session import Session
from runbook_lib.tables import counted

# Pages for everybody, to which anybody goes often. The failover drill asks others: those that create a session for who is not signed in.
PATHS = {"as": demo_app.PATH, "store": "/store/pages/top-assets", "publisher": "/publisher/"}
RATE, VISITORS = 2.0, 16  # of each public host: a small node of the real product makes nine of its pages a second at most (facts 12.3)


@dataclass(frozen=True)
class Noticed:
    """What visitors met while one machine was worked on.

    `holders`: how many of them held a session, `lost`: how often one was replaced by another. `interrupted`: the longest time in seconds
    without a good answer of a host.
    """

    requests: int
    failed: int
    holders: int
    lost: int
    interrupted: float

    def __str__(self) -> str:
        if not self.requests:
            return "not measured"
        sessions = f"{self.lost} sessions lost of {counted(self.holders, 'visitor')} with one" if self.holders else "no visitor had a session to lose"
        return f"{self.failed} of {self.requests} requests failed, {sessions}, interrupted for {self.interrupted:.1f} s"


def interruption(samples: Iterable[Sample]) -> float:
    """Return the longest time in seconds from a failed request of one host to the next good one. Where none followed: until the last one ended."""
    longest, since, ordered = 0.0, None, sorted(samples, key=lambda sample: sample.at)
    for sample in ordered:
        if sample.failure:
            since = sample.at if since is None else since
            longest = max(longest, sample.at + sample.took - since if sample is ordered[-1] else 0.0)
        elif since is not None:
            longest, since = max(longest, sample.at - since), None
    return longest


@dataclass
class VisitorWatch:
    """Streams of requests to the hosts that served when it began, in the block; `during` marks what is worked on, `noticed` what visitors met.

    A host that did not serve when the watch began is not watched: `unwatched` says why.
    """

    targets: Sequence[Target]
    streams: list[Stream] = field(default_factory=list)
    unwatched: list[str] = field(default_factory=list)
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # by machine, per stream: from when to when
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> VisitorWatch:
        with ExitStack() as begun:  # ends those that have begun when an interrupt comes in between
            for target in self.targets:
                try:
                    self.streams.append(begun.enter_context(Stream(target, RATE, VISITORS)))
                except RunbookError as error:
                    self.unwatched.append(f"{target.host}: {error.what}")
            self._stack = begun.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    @property
    def note(self) -> str:
        """How it was watched, in words, for a table."""
        if not self.targets:
            return "nobody was served yet"
        every = f"meanwhile {RATE:.0f} requests a second to each of {', '.join(target.host for target in self.targets)}"
        return "; ".join((every, *(f"not watched: {words}" for words in self.unwatched)))

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """The block works on this machine."""
        began = [stream.now for stream in self.streams]
        try:
            yield
        finally:
            self.spans[name] = [(since, stream.now) for since, stream in zip(began, self.streams, strict=True)]

    def noticed(self, name: str) -> Noticed:
        """Return what visitors met while this machine was worked on; whole once the watch has ended."""
        spans = self.spans.get(name, [])
        met = [[s for s in stream.samples if since <= s.at < until] for stream, (since, until) in zip(self.streams, spans, strict=False)]
        every = [sample for samples in met for sample in samples]
        failed, lost = sum(bool(sample.failure) for sample in every), sum(sample.lost for sample in every)
        holders = sum(stream.holders for stream in self.streams)
        return Noticed(len(every), failed, holders, lost, max(map(interruption, met), default=0.0))


def watch(deployment: Session) -> VisitorWatch:
    """Return a watch over every public host that has a page for everybody."""
    # Also a redirect shows that the host serves, where the demonstration application is not deployed.
    return VisitorWatch([replace(target_of(deployment, key, PATHS[key]), status=0) for key in deployment.spec.design.hosts if key in PATHS])
