"""The rate of a drill: what a cluster that serves so many requests per second is found to serve, and what is drilled at."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, pairwise

import pytest

from runbook_lib.checks.drill import ramp
from runbook_lib.checks.drill.failover import people_for, window
from runbook_lib.checks.drill.load import Sample
from runbook_lib.checks.drill.ramp import SOON, STEP_SECONDS, STEPS, Ramp, RampStep, climb, step_of
from tests.support.drill_server import Server, good, result, sample


class Cluster:
    """Answers `serves` requests per second, one after the other, each in `takes` seconds at least: what comes faster queues."""

    def __init__(self, serves: float, takes: float = 0.02, hiccup: int = 0, breaks: float = 1e9, asks: float = 1e9):
        self.serves, self.takes, self.hiccup, self.breaks, self.asks, self.tried = serves, takes, hiccup, breaks, asks, []

    def __call__(self, rate: float) -> RampStep:
        self.tried.append(int(rate))
        samples, free = [], 0.0
        for number in range(int(min(rate, self.asks) * STEP_SECONDS)):
            at = number / rate
            free = max(free, at) + 1 / self.serves
            took = free - at + self.takes + (1.0 if len(self.tried) == self.hiccup else 0)
            if at + took <= STEP_SECONDS + SOON:  # the rest is not answered yet
                samples.append(Sample(at, took, 0, "one", "status 502" if rate >= self.breaks else "", False, False))
        return step_of(rate, int(rate * STEP_SECONDS), samples)


@pytest.mark.parametrize(
    ("cluster", "tried", "rate"),
    [
        (Cluster(5000), [12, 25, 50, 100, 200, 400], 200),  # more than anybody drills at: as fast as ever
        (Cluster(450), [12, 25, 50, 100, 200, 400], 200),
        (Cluster(210), [12, 25, 50, 100, 200, 400, 400], 100),
        (Cluster(142), [12, 25, 50, 100, 200, 200], 50),  # a login page of a real node
        (Cluster(28), [12, 25, 50, 50], 12.5),
        (Cluster(15), [12, 25, 25], 6),  # a page of assets of a real node
        (Cluster(5), [12, 12], 6),  # nothing slower is tried
        (Cluster(5000, takes=0.6), [12, 12], 6),  # not one answer is soon
        (Cluster(5000, hiccup=1), [12, 12, 25, 50, 100, 200, 400], 200),  # a pause once is no limit
        (Cluster(5000, hiccup=4), [12, 25, 50, 100, 100, 200, 400], 200),
        (Cluster(5000, breaks=100), [12, 25, 50, 100, 100], 25),  # it fails, however fast
        (Cluster(5000, asks=150), [12, 25, 50, 100, 200, 200], 50),  # it is this machine that cannot ask more
    ],
)
def test_the_rate_is_half_of_the_fastest_step_that_held(cluster: Cluster, tried: list[int], rate: float):
    found = climb(cluster)
    assert (cluster.tried, found.rate) == (tried, rate)


@pytest.mark.parametrize(
    ("took", "failed", "holds", "says"),
    [
        ([0.02] * 100, 0, True, "held: 95 of 100 within 20 ms"),
        ([0.02] * 95 + [3.0] * 5, 0, True, "held: 95 of 100 within 20 ms"),
        ([0.02] * 94 + [3.0] * 6, 0, False, "did not hold: 6 of 100 not within 500 ms"),
        ([0.02] * 94, 0, False, "did not hold: 6 of 100 not within 500 ms"),
        ([0.02] * 99, 1, False, "did not hold: 95 of 100 within 20 ms, 1 of 100 failed"),
        ([], 0, False, "did not hold: 100 of 100 not within 500 ms"),
    ],
)
def test_a_step_holds_when_nothing_fails_and_nearly_all_come_soon(took: list[float], failed: int, holds: bool, says: str):
    step = step_of(67.0, 100, [sample(took=one) for one in took] + [sample(failure="status 502")] * failed)
    assert (step.holds, str(step)) == (holds, says)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([(200.0, True), (400.0, False)], "100/s: 50% of 200/s, the fastest that held"),
        ([(400.0, True)], "200/s: 50% of 400/s, the fastest that was tried"),
        ([(12.0, False)], "6/s: 50% of 12/s, the slowest that was tried; not even that held, so expect failures"),
    ],
)
def test_why_a_rate_was_chosen_is_said(steps: list[tuple[float, bool]], why: str):
    assert Ramp(tuple(RampStep(rate, 100, 100 if held else 0, 0, 0.01) for rate, held in steps)).why == why


def test_a_drill_shows_what_was_tried_and_what_was_chosen():
    drill = result([sample()])
    tried = Ramp((RampStep(12.0, 18, 18, 0, 0.02), RampStep(25.0, 37, 3, 0, None)))
    shown = str(replace(drill, ramp=tried).table)
    assert "beforehand, at 12/s" in shown and "34 of 37 not within 500 ms" in shown and tried.why in shown
    assert "beforehand" not in str(drill.table), "a rate that was given was not measured"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow steps and much time for an answer: how busy this machine is decides nothing."""
    monkeypatch.setattr(ramp, "STEPS", (20.0, 40.0, 80.0))
    monkeypatch.setattr(ramp, "SOON", 4.0)


@pytest.mark.usefixtures("patient")
def test_a_server_is_measured_by_a_stream_that_changes_its_pace(tmp_path):
    with Server(tmp_path, good) as server:
        found = ramp.measured(server.target(), 4)
    assert [step.rate for step in found.steps if step.holds] == [20.0, 40.0, 80.0], found
    assert all(abs(step.asked - step.rate * STEP_SECONDS) < 2 for step in found.steps), found


@pytest.mark.usefixtures("patient")
def test_a_server_that_begins_to_fail_ends_the_ramp(tmp_path):
    asked = count()
    with Server(tmp_path, lambda number, cookies: (200 if next(asked) < 80 else 503, [])) as server:
        found = ramp.measured(server.target(), 4)
    assert found.best == 20.0 and not found.steps[-1].holds and found.steps[-1].failed, found


@pytest.mark.parametrize(("rate", "people", "seconds"), [(200, 60, 2.0), (12.5, 60, 2.0), (6, 30, 20 / 6), (1, 20, 20.0)])
def test_a_slow_drill_has_fewer_visitors_and_takes_longer_to_tell_a_share(rate: float, people: int, seconds: float):
    assert (people_for(rate), window(rate)) == (people, seconds)


def test_the_steps_double_and_half_of_the_last_is_what_was_drilled_at_before():
    assert STEPS[-1] / 2 == 200.0 and all(1.9 < after / before < 2.1 for before, after in pairwise(STEPS))
