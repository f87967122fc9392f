"""When which job is begun. The work is a function of each test, done by threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from runbook_lib.headless.batch.job import FAILED, SKIPPED, STOPPED, VERIFIED, Job, JobResult
from runbook_lib.headless.batch.scheduler import Limits, Schedule

PASSING = {"kind": "HostError", "what": "db-1 does not answer", "where": None, "next": None}
HELD = {"kind": "LockHeld", "what": "somebody works on it", "where": None, "next": None}


class Batch:
    """Runs jobs of these names; keeps the order in which they began and how many were under way at most."""

    def __init__(self, work: Callable[[str, int], JobResult | None], **limits: Any):
        self.work, self.limits = work, Limits(**{"at_once": 4, "first_backoff": 0.01, **limits})
        self.begun: list[str] = []
        self.most, self._now, self._lock = 0, 0, threading.Lock()
        self.stop = threading.Event()

    def run(self, names: str, **after: list[str]) -> dict[str, JobResult]:
        jobs = [Job(name, "") for name in names.split()]
        schedule = Schedule(jobs, after, self.limits, lambda outcome: outcome, lambda job: self.begun.append(job.name))
        with ThreadPoolExecutor(8) as executor:
            return schedule.run(executor, self._done, self.stop)

    def _done(self, job: Job) -> JobResult:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            tries = self.begun.count(job.name)
        try:
            return self.work(job.name, tries) or JobResult(job.name, VERIFIED)
        finally:
            with self._lock:
                self._now -= 1


def failing(*names: str, transient: bool = False, error: Any = PASSING, times: int = 99) -> Callable[[str, int], JobResult | None]:
    return lambda name, tries: JobResult(name, FAILED, error=error, transient=transient) if name in names and tries <= times else None


def test_no_more_are_under_way_than_allowed() -> None:
    both = threading.Barrier(2, timeout=60)  # two come to it: two were under way at once
    batch = Batch(lambda name, tries: both.wait() and None, at_once=2)
    assert all(outcome.ok for outcome in batch.run("a b c d e f").values())
    assert batch.most == 2


def test_a_task_waits_for_those_before_it_and_is_not_begun_when_one_of_them_failed() -> None:
    batch = Batch(failing("b"))
    ended = batch.run("d c b a", c=["a"], d=["b"], a=[])
    assert batch.begun.index("a") < batch.begun.index("c") and "d" not in batch.begun
    assert (ended["c"].state, ended["d"].state, ended["d"].words) == (VERIFIED, SKIPPED, "it waits for b, which is not verified")


def test_what_waits_for_a_task_that_is_not_begun_is_not_begun_either() -> None:
    ended = Batch(failing("a")).run("a b c", b=["a"], c=["b"])
    assert [ended[name].state for name in "abc"] == [FAILED, SKIPPED, SKIPPED]


def test_after_max_errors_nothing_is_begun() -> None:
    batch = Batch(failing("a", "b", "c", "d", "e", "f"), at_once=1, errors=2)
    ended = batch.run("a b c d e f")
    assert batch.begun == ["a", "b"]
    assert {ended[name].words for name in "cdef"} == {"max_errors: 2 failed before"}


@pytest.mark.parametrize(
    ("transient", "times", "retries", "begun", "state"),
    [(True, 1, 1, 2, VERIFIED), (True, 2, 1, 2, FAILED), (True, 2, 3, 3, VERIFIED), (False, 1, 3, 1, FAILED), (True, 1, 0, 1, FAILED)],
)
def test_only_an_error_that_may_pass_is_tried_again_and_only_so_often(transient: bool, times: int, retries: int, begun: int, state: str) -> None:
    batch = Batch(failing("a", transient=transient, times=times), retries=retries)
    ended = batch.run("a b")
    assert (batch.begun.count("a"), ended["a"].state, ended["a"].attempts) == (begun, state, begun)
    assert batch.begun.count("b") == 1


def test_another_try_goes_on_with_what_was_verified_since_the_batch_began() -> None:
    seen: list[tuple[bool, str]] = []

    def work(job: Job) -> JobResult:
        seen.append((job.resume, job.since))
        return JobResult(job.name, VERIFIED if len(seen) > 1 else FAILED, transient=True)

    schedule = Schedule([Job("a", "", since="2026-01-01T00:00:00Z")], {}, Limits(1, retries=1, first_backoff=0.01), lambda outcome: outcome, lambda job: None)
    with ThreadPoolExecutor(1) as executor:
        schedule.run(executor, work, threading.Event())
    assert seen == [(False, "2026-01-01T00:00:00Z"), (True, "2026-01-01T00:00:00Z")]


def test_a_lock_that_somebody_holds_is_waited_for_without_retries() -> None:
    batch = Batch(failing("a", transient=True, error=HELD, times=3), retries=0)
    assert batch.run("a")["a"].ok and len(batch.begun) == 4


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("the worker is gone"), "the worker was lost: ConnectionError: the worker is gone"),
        (CancelledError(), "the connection to the scheduler was lost; the run may go on there"),
    ],
)
def test_a_worker_that_is_lost_is_a_failure_that_may_pass(error: Exception, words: str) -> None:
    def work(name: str, tries: int) -> JobResult | None:
        if tries == 1:
            raise error
        return None

    batch = Batch(work, retries=1)
    assert batch.run("a")["a"].ok and batch.begun == ["a", "a"]
    [left] = Batch(work, retries=0).run("a").values()
    assert (left.state, left.words, left.transient) == (FAILED, words, True)


def test_an_executor_that_takes_no_job_any_more_fails_what_is_left_and_loses_no_outcome() -> None:
    executor = ThreadPoolExecutor(1)

    def work(job: Job) -> JobResult:
        executor.shutdown(wait=False)
        return JobResult(job.name, VERIFIED)

    ended = Schedule([Job("a", ""), Job("b", "")], {}, Limits(1), lambda outcome: outcome, lambda job: None).run(executor, work, threading.Event())
    assert {name: outcome.state for name, outcome in ended.items()} == {"a": VERIFIED, "b": FAILED}
    assert "cannot schedule new futures after shutdown" in ended["b"].words


def test_once_stopped_nothing_is_begun_and_what_is_under_way_is_waited_for() -> None:
    def work(name: str, tries: int) -> JobResult:
        batch.stop.set()
        return JobResult(name, STOPPED)

    batch = Batch(work, at_once=1, retries=3)
    ended = batch.run("a b")
    assert (ended["a"].state, ended["b"].state, batch.begun) == (STOPPED, SKIPPED, ["a"])


@pytest.mark.parametrize(("errors", "why"), [(None, "the batch was stopped"), (1, "max_errors: 1 failed before")])
def test_a_task_that_failed_and_waits_for_another_try_when_the_batch_ends_is_told_as_it_failed(errors: int | None, why: str) -> None:
    def work(name: str, tries: int) -> JobResult:
        if name == "b":
            if errors is None:
                batch.stop.set()
            return JobResult(name, FAILED, "a failed check")
        return JobResult(name, FAILED, "db-1 does not answer", report="runs/a/1/report.html", error=PASSING, transient=True)

    batch = Batch(work, at_once=1, retries=3, first_backoff=60.0, errors=errors)
    ended = batch.run("a b c")
    assert batch.begun == ["a", "b"]
    told = (ended["a"].state, ended["a"].words, ended["a"].attempts, ended["a"].error, ended["a"].report)
    assert told == (FAILED, f"db-1 does not answer (no other try: {why})", 1, PASSING, "runs/a/1/report.html")
    assert (ended["c"].state, ended["c"].words) == (SKIPPED, why)
