"""One row of a batch, done in a process of its own: what a worker gets, what it gives back, and the process between.

A job is text and numbers, and no secret: a worker reads secrets where every run does, from Parameter Store with its own credentials.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from runbook_lib import __version__
from runbook_lib.aws.client import Aws
from runbook_lib.errors import RunbookError
from runbook_lib.evidence import runs
from runbook_lib.files import ROOT, write_whole
from runbook_lib.headless.batch import evidence
from runbook_lib.headless.batch.sweep import params_place

PRELOADED = ["runbook_lib.headless.preloaded"]
OURS = "batch "  # begins the names of the processes
POLL = 0.5  # seconds between two looks whether to stop
GRACE = 60.0  # seconds for a run that is interrupted to come to a safe point
HEAD = "# Made by a batch.\n"  # of a params file
REPORT = "the log there has more; please report it (CONTRIBUTING.md)"
VERIFIED, FAILED, TIMED_OUT, STOPPED, SKIPPED = "verified", "failed", "timed out", "stopped", "not begun"
Tell = Callable[[str, str], None]  # of a row's name and the chapter that begins


@dataclass(frozen=True)
class Job:
    """What is to be done with one deployment. `params`: its parameters as YAML; times in seconds; `version`: of the package that made the job.

    `since` (UTC, to the second): a run with `resume` leaves out only what was verified from then on; "": whatever holds.
    `evidence`: where the run's folder goes besides the worker's own: "" nowhere, "back" with the outcome, or an address in S3.
    """

    name: str
    params: str
    verb: str = "run"
    first: str | None = None
    last: str | None = None
    resume: bool = False
    since: str = ""
    agreed: bool = False
    timeout: float | None = None
    chapter_timeout: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""
    version: str = __version__


@dataclass(frozen=True)
class JobResult:
    """How a job ended. `words`: what was found; `transient`: whether the same again may succeed.

    `report`: on the machine of the `worker`, or its address in S3; `archive`: the run's folder, packed, where it comes back with the outcome.
    `left_out`: an earlier batch did it.
    """

    name: str
    state: str
    words: str = ""
    passed: int = 0
    checks: int = 0
    changed: int = 0
    seconds: float = 0.0
    chapters: tuple[Mapping[str, Any], ...] = ()
    error: Mapping[str, Any] | None = None
    transient: bool = False
    report: str = ""
    worker: str = ""
    attempts: int = 1
    archive: bytes = b""
    left_out: bool = False

    @property
    def ok(self) -> bool:
        return self.state == VERIFIED

    def as_dict(self) -> dict[str, Any]:
        """Return all fields but the archive, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "archive"}


class Stopping(Protocol):
    """What says whether the batch was stopped; an event of `threading` does."""

    def is_set(self) -> bool: ...


def perform(job: Job, tell: Tell = lambda name, chapter: None, stop: Stopping | None = None) -> JobResult:
    """Do the job in a process of its own and return how it ended; never raises for what goes wrong in there.

    When `stop` is set, or a time is over, the process is interrupted, which ends it at a safe point, and after `GRACE` seconds killed.
    """
    if job.version != __version__:
        words = f"this worker has version {__version__} of the runbook, and the batch {job.version}"
        return JobResult(job.name, FAILED, words, error=_card("RunbookError", words, platform.node(), "install the same version on both"), worker=_worker())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe()
    began = time.monotonic()
    process = context.Process(target=_child, args=(job, theirs), name=f"{OURS}{job.name}")
    process.start()
    theirs.close()
    found, reason = _followed(job, ours, process, tell, stop or threading.Event())
    process.join(GRACE)
    seconds = round(time.monotonic() - began, 1)
    if reason and not (found and found.ok):  # what was done just in time is done
        state, words, step = reason
        ended = found or JobResult(job.name, state)
        card = _card("Stopped", words, job.name, step)
        return replace(ended, state=state, words=words, error=card, seconds=seconds, worker=_worker(), transient=False)
    if found is None:
        words = f"its process ended with status {process.exitcode} before it said what it found"
        card = _card("RunbookError", words, job.name, "it was killed, or memory is short (dmesg tells): ./runbook batch … --resume goes on")
        return JobResult(job.name, FAILED, words, error=card, seconds=seconds, worker=_worker(), transient=True)
    return replace(found, seconds=seconds, worker=_worker())


def kill_all(*_: Any) -> None:
    """Kill the processes of all jobs that are done here, as a handler of a signal. `perform` returns how each ended."""
    for process in multiprocessing.active_children():
        if process.name.startswith(OURS):
            process.kill()


def _followed(job: Job, pipe: Connection, process: Any, tell: Tell, stop: Stopping) -> tuple[JobResult | None, tuple[str, str, str] | None]:
    """Return what the process said at its end, and why it was ended before: state, words, next step. Either may be None."""
    began = chapter_began = time.monotonic()
    chapter, reason, killed_at = "", None, 0.0
    while True:
        try:
            said = pipe.recv() if pipe.poll(POLL) else None
        except (EOFError, OSError):
            return None, reason or _reason(job, 0.0, 0.0, chapter, stop)  # killed before it could be told to stop
        if isinstance(said, JobResult):
            return said, reason
        if said:
            chapter, chapter_began = said, time.monotonic()
            with suppress(Exception):  # a full disk, a reader or a scheduler that is gone: no reason to end a run that is well
                tell(job.name, chapter)
        now = time.monotonic()
        if reason is None:
            reason = _reason(job, now - began, now - chapter_began, chapter, stop)
            if reason:
                killed_at = now + GRACE
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
        elif now > killed_at:
            process.kill()


def _reason(job: Job, seconds: float, in_chapter: float, chapter: str, stop: Stopping) -> tuple[str, str, str] | None:
    if stop.is_set():
        return STOPPED, "the batch was stopped", "./runbook batch … --resume goes on"
    if job.timeout and seconds > job.timeout:
        return TIMED_OUT, f"not done after {job.timeout:.0f} s, in {chapter or 'its beginning'}", "raise `timeout`, or look at its report, then --resume"
    if job.chapter_timeout and chapter and in_chapter > job.chapter_timeout:
        return TIMED_OUT, f"{chapter} was not done after {job.chapter_timeout:.0f} s", "raise `chapter_timeout`, or look at its report, then --resume"
    return None


def _worker() -> str:
    return f"{platform.node()}:{os.getpid()}"


def _card(kind: str, what: str, where: str | None, step: str | None) -> dict[str, Any]:
    return {"kind": kind, "what": what, "where": where, "next": step}


def params_file(job: Job) -> Path:
    """Return the file of the deployment's parameters, where a person can use them as well (`./runbook status FILE`). It is made where there is none.

    One that is there stays: a run that is under way may read it at each chapter. Who holds the deployment's lock replaces it.
    """
    file = params_place(job.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), open(file, "x", encoding="utf-8") as new:
        new.write(HEAD + job.params)
    return file


def _child(job: Job, pipe: Connection) -> None:
    """Do the job and send how it ended. Chapters that begin are sent by name. What is printed goes to the log beside the parameters."""
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    os.setsid()  # an interrupt at the terminal reaches the batch, which tells its runs
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = params_file(job)
    with open(file.with_suffix(".log"), "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno() if sys.stdout else 1)
        os.dup2(log.fileno(), sys.stderr.fileno() if sys.stderr else 2)
        try:
            outcome = _done(job, file, pipe.send)
        except KeyboardInterrupt:
            outcome = JobResult(job.name, STOPPED)
        except RunbookError as error:
            card = _card(type(error).__name__, error.what, error.where, error.next_step)
            outcome = JobResult(job.name, FAILED, error.what, error=card, transient=error.transient)
        except Exception as error:  # a fault of ours: its traceback is in the log, and nothing else of the batch suffers
            traceback.print_exc()
            what = f"{type(error).__name__}: {error}"
            outcome = JobResult(job.name, FAILED, what, error=_card(type(error).__name__, what, str(file.with_suffix(".log").relative_to(ROOT)), REPORT))
    pipe.send(outcome)


def _end_with(pipe: Connection) -> None:
    """End this process when the one that began it has ended: nobody would hear of the run any more. Nothing is ever sent this way."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def _done(job: Job, file: Path, tell: Callable[[str], None]) -> JobResult:
    from runbook_lib.headless import runner
    from runbook_lib.spec import params_yaml
    from runbook_lib.spec.loader import load_spec

    spec = load_spec(params_yaml.read(job.params, str(file)))
    spec._source = file
    made: list[Path] = []

    def begun(run: Path) -> None:
        made.append(run)
        write_whole(file, HEAD + job.params)  # for the chapters' kernels: the lock is held by now

    if job.verb == "plan":
        return _planned(job, runner.plans(spec), tell)
    if job.verb == "run":
        runner.run(spec, None, job.first, job.last, job.resume, job.agreed, parameters=job.parameters, began=tell, made=begun, since=job.since)
    elif job.verb == "verify":
        runner.verify(spec, None, job.agreed, made=made.append)
    else:
        runner.destroy(spec, spec.deployment, made=begun)
    run = made[0].resolve() if made else None
    outcome = outcome_of(job.name, run, "gone" if job.verb == "destroy" else "verified")
    if run is None or not job.evidence or not outcome.report:
        return outcome
    if job.evidence == evidence.BACK:
        return replace(outcome, archive=evidence.packed(run))
    return replace(outcome, report=evidence.upload(run, job.evidence, Aws(spec.cloud)))


def _planned(job: Job, plans: Any, tell: Callable[[str], None]) -> JobResult:
    changed = 0
    for chapter, plan in plans:
        tell(chapter)
        changed += len(plan.pending)
    return JobResult(job.name, VERIFIED, f"{changed} to change" if changed else "nothing to change", changed=changed)


def outcome_of(name: str, run: Path | None, well: str) -> JobResult:
    """Return the outcome of a deployment's run, read from its folder. `well`: said of a run that ended so."""
    if run is None:
        return JobResult(name, FAILED, "no run was begun")
    entries = runs.read(run)
    result = runs.summarise(entries)
    failed = next((entry for entry in reversed(entries) if not entry.get("ok", True) and entry.get("error")), None)
    words = str(failed["error"]).partition("\n")[0] if failed else result["statement"]["system"] if result["verdict"] else ""
    card = _card(failed.get("kind", ""), *_parts(str(failed["error"]))) if failed and not result["ok"] else None
    return JobResult(
        name,
        VERIFIED if result["ok"] else FAILED,
        words or (well if result["ok"] else f"not {well}"),
        sum(check["status"] == "pass" for check in result["checks"]),
        len(result["checks"]),
        sum(chapter["changed"] for chapter in result["chapters"]),
        chapters=tuple(result["chapters"]),
        error=card,
        transient=any(entry.get("transient") for entry in entries if not entry.get("ok", True)),
        report=os.path.relpath(run / "report.html", ROOT),
    )


def _parts(text: str) -> tuple[str, str | None, str | None]:
    """Return the three parts of an error that was written as text (`RunbookError.__str__`)."""
    what, *more = text.split("\n")
    found = {name: line.partition(":")[2].strip() for line in more for name in ("where", "next") if line.strip().startswith(f"{name}:")}
    return what, found.get("where"), found.get("next")
