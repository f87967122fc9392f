"""Which job is begun when: at most so many at once, after those that it waits for, again where the same again may succeed.

The jobs are done by a `concurrent.futures.Executor`, whichever: threads of this process, Dask's, Parsl's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass, replace

from runbook_lib.aws.lock import PATIENCE
from runbook_lib.headless.batch.job import FAILED, SKIPPED, Job, JobResult

FIRST_BACKOFF, LONGEST_BACKOFF = 5.0, 120.0  # seconds before another try, doubled each time
TICK = 0.5  # seconds; an interrupt is noticed that soon
Work = Callable[[Job], JobResult]


@dataclass(frozen=True)
class Limits:
    """`at_once`: jobs under way; `errors`: failures after which no job is begun (None: no limit); `retries`: further tries of a job."""

    at_once: int
    errors: int | None = None
    retries: int = 0
    first_backoff: float = FIRST_BACKOFF


class Schedule:
    """The jobs of one batch on their way. `begun` is called with each job, and `heard` with each outcome, which it returns as it is kept."""

    def __init__(
        self, jobs: Sequence[Job], after: Mapping[str, Sequence[str]], limits: Limits, heard: Callable[[JobResult], JobResult], begun: Callable[[Job], None]
    ):
        self.waiting = {job.name: job for job in jobs}
        self.after, self.limits, self.heard, self.begun = after, limits, heard, begun
        self.ended: dict[str, JobResult] = {}
        self._running: dict[Future[JobResult], Job] = {}
        self._tried: dict[str, JobResult] = {}  # how the last try of a job ended that waits for another
        self._not_before: dict[str, float] = {}
        self._locked_since: dict[str, float] = {}

    def run(self, executor: Executor, work: Work, stop: threading.Event) -> dict[str, JobResult]:
        """Do all jobs and return the outcomes by name. Once `stop` is set no job is begun; those under way are waited for."""
        while self.waiting or self._running:
            self._leave_out(stop)
            self._begin(executor, work)
            self._hear(stop)
        return self.ended

    def _leave_out(self, stop: threading.Event) -> None:
        """End what will not be begun: everything once there was an interrupt or one failure too many, otherwise what waits for a failed one."""
        failures = sum(not outcome.ok for outcome in self.ended.values() if outcome.state != SKIPPED)
        reason = "the batch was stopped" if stop.is_set() else ""
        if self.limits.errors is not None and failures >= self.limits.errors:
            reason = reason or f"max_errors: {failures} failed before"
        for name in list(self.waiting):
            failed = next((each for each in self.after.get(name, ()) if each in self.ended and not self.ended[each].ok), None)
            if reason or failed:
                why = reason or f"it waits for {failed}, which is not verified"
                tried = self._tried.get(name)
                self._end(replace(tried, words=f"{tried.words} (no other try: {why})") if tried else JobResult(name, SKIPPED, why))
                del self.waiting[name]

    def _begin(self, executor: Executor, work: Work) -> None:
        now = time.monotonic()
        for name in list(self.waiting):
            if len(self._running) >= self.limits.at_once:
                return
            if self._not_before.get(name, 0.0) <= now and all(each in self.ended for each in self.after.get(name, ())):
                job = self.waiting.pop(name)
                self.begun(job)
                self._running[_submitted(executor, work, job)] = job

    def _hear(self, stop: threading.Event) -> None:
        """Take what has ended; with nothing under way, wait for the next try."""
        if not self._running:
            if self.waiting:
                stop.wait(TICK)
            return
        done, _ = wait(self._running, timeout=TICK, return_when=FIRST_COMPLETED)
        for future in done:
            job = self._running.pop(future)
            before = self._tried.get(job.name)
            outcome = replace(_of(future, job), attempts=before.attempts + 1 if before else 1)
            if not stop.is_set() and self._worth_another(outcome):
                pause = min(self.limits.first_backoff * 2 ** (outcome.attempts - 1), LONGEST_BACKOFF)
                self._not_before[job.name] = time.monotonic() + pause
                self._tried[job.name] = outcome
                self.waiting[job.name] = replace(job, resume=job.verb == "run")
            else:
                self._end(outcome)

    def _worth_another(self, outcome: JobResult) -> bool:
        """Return whether to try again. A lock that somebody else holds is waited for, however few tries there are."""
        if outcome.ok or not outcome.transient:
            return False
        if (outcome.error or {}).get("kind") == "LockHeld":
            return time.monotonic() - self._locked_since.setdefault(outcome.name, time.monotonic()) < PATIENCE
        return outcome.attempts <= self.limits.retries

    def _end(self, outcome: JobResult) -> None:
        self.ended[outcome.name] = self.heard(outcome)


def _submitted(executor: Executor, work: Work, job: Job) -> Future[JobResult]:
    """Return the job's future. Where the executor takes no job any more, the future has its error."""
    try:
        return executor.submit(work, job)
    except Exception as error:
        refused: Future[JobResult] = Future()
        refused.set_exception(error)
        return refused


def _of(future: Future[JobResult], job: Job) -> JobResult:
    """Return what the future holds. What an executor raises (a worker died, it was shut down) is an outcome: another try may succeed."""
    try:
        return future.result()
    except Exception as error:  # of the executor: our own work returns what went wrong
        words = f"the worker was lost: {type(error).__name__}: {error}"
        if isinstance(error, CancelledError):  # nothing here cancels: Dask's client does, of all its futures, when its connection breaks
            words = "the connection to the scheduler was lost; the run may go on there"
        return JobResult(
            job.name, FAILED, words, error={"kind": type(error).__name__, "what": words, "where": job.name, "next": "--resume goes on"}, transient=True
        )
