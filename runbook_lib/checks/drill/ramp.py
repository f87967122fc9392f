"""Measures how many requests per second a cluster can serve, so that a drill measures the power cut and not an overload.

    ramp = measured(target, visitors=60)
    ramp.rate            # requests per second for the drill
    ramp.why             # how it was chosen, in words

The rate doubles from step to step while the steps hold: no request failed, and 95 of 100 had a response within half a
second. The drill uses half of the best step, because the other node serves all visitors while one of two is stopped. A real
node serves 9 to 216 pages a second (facts 12.3), depending on the page and the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runbook_lib.checks.drill.load import POLL, Sample, Stream, Target

STEPS = (12.0, 25.0, 50.0, 100.0, 200.0, 400.0)  # requests per second; a drill uses half of the last one at most
STEP_SECONDS = 1.5
SOON = 0.5  # seconds within which a request should have its response
MOST = 0.95  # share of the requests of a step that must meet SOON
SHARE = 0.5  # share of the best step that is the rate of the drill
TRIES = 2  # a step that does not hold is tried once more, because a single garbage collection of the node can make it fail


@dataclass(frozen=True)
class RampStep:
    """One step at `rate` requests per second.

    `asked`: requests that were due; `soon`: those with a good response within half a second; `failed`: those that failed.
    `within`: seconds that 95 of 100 took, None when they took longer than half a second.
    """

    rate: float
    asked: int
    soon: int
    failed: int
    within: float | None

    @property
    def holds(self) -> bool:
        """Whether no request failed and enough of them had their response in time."""
        return not self.failed and self.soon >= MOST * self.asked

    def __str__(self) -> str:
        late = self.asked - self.soon - self.failed
        words = [f"95 of 100 within {1000 * self.within:.0f} ms"] if self.within is not None else []
        words += [f"{self.failed} of {self.asked} failed"] if self.failed else []
        words += [f"{late} of {self.asked} not within {1000 * SOON:.0f} ms"] if not self.holds and late else []
        return f"{'held' if self.holds else 'did not hold'}: {', '.join(words)}"


@dataclass(frozen=True)
class Ramp:
    """The steps in the order in which they were tried, and the rate of the drill that follows from them."""

    steps: tuple[RampStep, ...]

    @property
    def best(self) -> float | None:
        """The rate of the fastest step that held; None when none did."""
        return max((step.rate for step in self.steps if step.holds), default=None)

    @property
    def rate(self) -> float:
        """Requests per second for the drill: half of the best step, or half of the first step when none held."""
        return SHARE * (self.best or STEPS[0])

    @property
    def why(self) -> str:
        """How the rate was chosen, in words."""
        share = f"{self.rate:.0f}/s: {SHARE:.0%} of"
        if self.best is None:
            return f"{share} {STEPS[0]:.0f}/s, the slowest that was tried; not even that held, so expect failures"
        return f"{share} {self.best:.0f}/s, the fastest that {'was tried' if self.best == STEPS[-1] else 'held'}"


def climb(try_at: Callable[[float], RampStep]) -> Ramp:
    """Try the steps in order, each at most twice, up to the first that does not hold; return all that were tried."""
    tried: list[RampStep] = []
    for rate in STEPS:
        for _ in range(TRIES):
            tried.append(try_at(rate))
            if tried[-1].holds:
                break
        else:
            break
    return Ramp(tuple(tried))


def measured(target: Target, visitors: int) -> Ramp:
    """Measure what the cluster behind `target` can serve to so many visitors and return the ramp.

    This takes about 13 s when every step holds at once. Raises `RunbookError` when first requests already fail.
    """
    with Stream(target, STEPS[0], visitors) as stream:
        return climb(lambda rate: _tried(stream, rate))


def _tried(stream: Stream, rate: float) -> RampStep:
    """Run one step on the stream and return it."""
    began = stream.pace(rate) + 2 * POLL  # the stream has changed its rate by then
    stream.until(began + STEP_SECONDS + SOON)  # so that the last requests of the step have half a second too
    due = [sample for sample in stream.since(began) if sample.at < began + STEP_SECONDS]
    return step_of(rate, int(rate * STEP_SECONDS) - 1, due)


def step_of(rate: float, asked: int, answered: Sequence[Sample]) -> RampStep:
    """Return the step that these requests make; `asked` is the number that was due.

    A due request that is missing in `answered` has no response yet, or was never sent because the local host is too slow.
    Missing requests count as late, so the step does not hold in either case.
    """
    took = sorted(sample.took for sample in answered if not sample.failure and sample.took <= SOON)
    failed = sum(bool(sample.failure) for sample in answered)
    asked = max(asked, len(answered))
    enough = -(-asked * 95 // 100)
    return RampStep(rate, asked, len(took), failed, took[enough - 1] if len(took) >= enough else None)
