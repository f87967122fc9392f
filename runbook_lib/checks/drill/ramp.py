"""How many requests per second a cluster can serve: a short ramp before a drill, so that the drill measures the power cut
and not an overload.

    ramp = measured(target, visitors=60)
    ramp.rate            # requests per second for the drill
    ramp.why             # how it was chosen, in words

Steps double as long as they hold: nothing failed, and 95 of 100 requests were answered within half a second. Half of
the best step is drilled at: while one of two nodes is gone, the other serves everybody. A real node serves 9 to 216 pages a
second (facts 12.3), depending on the page and the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runbook_lib.checks.drill.load import POLL, Sample, Stream, Target

STEPS = (12.0, 25.0, 50.0, 100.0, 200.0, 400.0)  # requests per second; half of the last is the most that is drilled at
STEP_SECONDS = 1.5
SOON = 0.5  # seconds within which a request is to be answered
MOST = 0.95  # so many of them
SHARE = 0.5  # of the best step
TRIES = 2  # a step that does not hold is tried once more: a pause of the node's garbage collection is no limit


@dataclass(frozen=True)
class RampStep:
    """One step: `asked` requests were due, `soon` of them were answered well within half a second, `failed` failed;
    `within`: the seconds that 95 of 100 took, None when they took longer than half a second."""

    rate: float
    asked: int
    soon: int
    failed: int
    within: float | None

    @property
    def holds(self) -> bool:
        return not self.failed and self.soon >= MOST * self.asked

    def __str__(self) -> str:
        late = self.asked - self.soon - self.failed
        words = [f"95 of 100 within {1000 * self.within:.0f} ms"] if self.within is not None else []
        words += [f"{self.failed} of {self.asked} failed"] if self.failed else []
        words += [f"{late} of {self.asked} not within {1000 * SOON:.0f} ms"] if not self.holds and late else []
        return f"{'held' if self.holds else 'did not hold'}: {', '.join(words)}"


@dataclass(frozen=True)
class Ramp:
    """The steps as they were tried, and what follows from them. `rate`: requests per second to drill at."""

    steps: tuple[RampStep, ...]

    @property
    def best(self) -> float | None:
        """The fastest step that held; None when not even the first did."""
        return max((step.rate for step in self.steps if step.holds), default=None)

    @property
    def rate(self) -> float:
        return SHARE * (self.best or STEPS[0])

    @property
    def why(self) -> str:
        share = f"{self.rate:.0f}/s: {SHARE:.0%} of"
        if self.best is None:
            return f"{share} {STEPS[0]:.0f}/s, the slowest that was tried; not even that held, so expect failures"
        return f"{share} {self.best:.0f}/s, the fastest that {'was tried' if self.best == STEPS[-1] else 'held'}"


def climb(try_at: Callable[[float], RampStep]) -> Ramp:
    """Try the steps in order, each at most twice, up to the first that does not hold."""
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
    """What the cluster behind `target` serves to so many visitors now: takes up to 10 s where all steps hold. Raises
    `RunbookError` where it serves nobody."""
    with Stream(target, STEPS[0], visitors) as stream:
        return climb(lambda rate: _tried(stream, rate))


def _tried(stream: Stream, rate: float) -> RampStep:
    began = stream.pace(rate) + 2 * POLL  # by then the stream has changed its pace
    stream.until(began + STEP_SECONDS + SOON)  # the last ones have their half second too
    due = [sample for sample in stream.since(began) if sample.at < began + STEP_SECONDS]
    return step_of(rate, int(rate * STEP_SECONDS) - 1, due)


def step_of(rate: float, asked: int, answered: Sequence[Sample]) -> RampStep:
    """The step that these requests make, of `asked` at least. One that is not among them was not answered yet, or never made:
    then this machine is too slow to ask more, and the step does not hold either."""
    took = sorted(sample.took for sample in answered if not sample.failure and sample.took <= SOON)
    failed = sum(bool(sample.failure) for sample in answered)
    asked = max(asked, len(answered))
    enough = -(-asked * 95 // 100)
    return RampStep(rate, asked, len(took), failed, took[enough - 1] if len(took) >= enough else None)
