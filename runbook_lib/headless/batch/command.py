"""`./runbook batch SWEEP.yaml`, and `run A B C`: what is run is said, run, written down and told."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from runbook_lib.aws.client import Aws
from runbook_lib.errors import RunbookError
from runbook_lib.evidence import journal
from runbook_lib.files import ROOT
from runbook_lib.headless.batch import engine as engines
from runbook_lib.headless.batch.evidence import BACK, announce, unpack
from runbook_lib.headless.batch.job import SKIPPED, STOPPED, VERIFIED, Job, JobResult
from runbook_lib.headless.batch.live import LiveTable
from runbook_lib.headless.batch.notify import notify
from runbook_lib.headless.batch.on_dask import Keys, dask
from runbook_lib.headless.batch.page import write_page
from runbook_lib.headless.batch.record import BatchRecord, done_before, earlier
from runbook_lib.headless.batch.scheduler import Limits, Schedule
from runbook_lib.headless.batch.sweep import MINUTE, Row, Sweep, SweepFile, former_words, keep_networks
from runbook_lib.headless.batch.workers import Workers
from runbook_lib.headless.runner import Made
from runbook_lib.headless.schedule import Repeated, interval
from runbook_lib.headless.terminal import Essential, Terminal
from runbook_lib.spec import params_yaml
from runbook_lib.spec.chapters import NOTEBOOKS, chapters_of
from runbook_lib.spec.loader import find_params, load_spec, override
from runbook_lib.tables import Table, counted, text_table
from runbook_lib.topology.cost import monthly_cost
from runbook_lib.topology.model import topology_of

LISTED = ("Deployment", "Params", "Sets", "Network", "Machines", "US$ per month", "After")
FOUND = ("", "Deployment", "Params", "Found", "Checks", "Seconds", "Report")


def of_files(params_files: Sequence[str], overrides: Mapping[str, Any]) -> Sweep:
    """Return several params files as a sweep that sets nothing: each is the deployment that it names. Raises ParamsError when one is wrong."""
    rows: list[Row] = []
    for name in params_files:
        file = find_params(name)
        deployment = load_spec(file, overrides).deployment
        values = params_yaml.read(file.read_text(encoding="utf-8"), str(file))
        for key, value in overrides.items():
            override(values, key, value)
        if any(row.name == deployment for row in rows):
            raise RunbookError(f"two of these params files are of the deployment {deployment}", " ".join(params_files), "name each deployment once")
        rows.append(Row(deployment, str(name), {}, values))
    return Sweep("several", tuple(rows), SweepFile(sweep="several", params=tuple(params_files), retries=0))


def jobs_of(
    sweep: Sweep,
    first: str | None = None,
    last: str | None = None,
    resume: bool = False,
    agreed: bool = False,
    parameters: Mapping[str, Any] | None = None,
    evidence: str = "",
) -> list[Job]:
    """Return the job of every row. Raises RunbookError for a chapter that a row's pattern does not have.

    Another try of a job goes on from where the one before stopped: with what is verified from now on, and not with proofs of any age, as `resume` does.
    """
    options, since = sweep.options, "" if resume else f"{journal.now()[:19]}Z"
    for row in sweep.rows:
        chapters_of(str(row.values["pattern"]), first, last)
    return [
        Job(
            row.name,
            row.text,
            options.do,
            first,
            last,
            resume,
            since,
            agreed or options.agreed,
            options.timeout and options.timeout * MINUTE,
            options.chapter_timeout and options.chapter_timeout * MINUTE,
            dict(parameters or {}),
            evidence,
        )
        for row in sweep.rows
    ]


def dry_run(sweep: Sweep) -> Table:
    """Return what would be run: the deployments, how many machines these are, and what they would cost per month. Raises RunbookError as `run` does."""
    jobs_of(sweep, *chapters(sweep))
    rows, machines, cost, unknown = [], 0, 0.0, False
    for row in sweep.rows:
        topology = topology_of(row.spec)
        month = monthly_cost(topology)
        machines, cost, unknown = machines + len(topology.nodes), cost + month.total, unknown or bool(month.unknown)
        rows.append((row.name, row.params, row.sets, row.spec.cloud.network, str(len(topology.nodes)), f"{month.total:,.2f}", ", ".join(row.after)))
    least = "at least " if unknown else ""
    caption = f"{counted(len(rows), 'deployment')}, {counted(machines, 'machine')}, {least}US$ {cost:,.2f} per month; to do: {sweep.options.do}"
    return Table(LISTED, rows, "\n".join(filter(None, [caption, former_words(sweep)])))


def repeated(sweep: Sweep, given: argparse.Namespace) -> Repeated:
    """Return the sweep as something that is done every so often, with the options of this command. Raises RunbookError for some that do not go together.

    --yes agrees to the timer being written. The command has it where it would do nothing without: what is to be destroyed.
    """
    if given.every is None:
        raise RunbookError(f"--as {given.timer} says how, and nothing says how often", "--as", "add --every, such as --every 6h")
    if wrong := [option for option, value in (("--resume", given.resume), ("--dry-run", given.dry_run), ("--json", given.json)) if value]:
        step = "each batch of a timer begins anew: what was done well the last time would be left out for ever" if given.resume else f"take {wrong[0]} away"
        raise RunbookError(f"--every does not go with {wrong[0]}", "--every", step)
    minutes = interval(given.every)
    options = {"--jobs": given.jobs, "--scheduler": given.scheduler, "--evidence": given.evidence}
    words = [word for option, value in options.items() if value for word in (option, str(value))]
    if words and given.timer == "airflow":
        raise RunbookError(
            f"the notebook that Airflow executes does not take {words[0]}", "--as airflow", "write max_parallel into the sweep, or take --as cron"
        )
    jobs_of(sweep, *chapters(sweep))
    file = Path(given.sweep).resolve()
    words += ["--yes"] if sweep.options.do == "destroy" else []
    words += ["--quiet"] if given.quiet else []
    return Repeated(
        f"runbook-batch-{sweep.name}",
        f"The runbook's sweep {sweep.name} ({sweep.options.do})",
        ("batch", str(file), *words),
        minutes,
        NOTEBOOKS / "10_batch.ipynb",
        {"sweep_file": str(file)},
    )


def chapters(sweep: Sweep) -> tuple[str | None, str | None]:
    """Return the numbers of the first and the last chapter that the sweep names, None where it names none."""
    first, _, last = sweep.options.chapters.partition("-")
    return first or None, last or first or None


def run(
    sweep: Sweep,
    say: Terminal,
    *,
    slots: int | None = None,
    resume: bool = False,
    agreed: bool = False,
    scheduler: str | None = None,
    evidence: str | None = None,
    table: type[LiveTable] = LiveTable,
) -> tuple[dict[str, Any], Path]:
    """Do the sweep; return what was found (`batch.json`) and the folder of its record. Raises RunbookError before anything is begun.

    `slots`: rows at once, which `max_parallel` of the sweep limits as well. `resume`: leave out what the sweep's newest batch did.
    `scheduler`: of Dask, whose workers do the rows; None: this machine. Where it is that of the sweep's own `workers`, it is shown their keys.
    `evidence`: an address in S3 that every run's folder goes to; without one, what other machines made comes back with the result.
    `table`: what shows the rows on their way.
    """
    if evidence:
        announce(sweep.name, evidence, Aws(sweep.rows[0].spec.cloud))  # refused before anything is begun
    jobs = jobs_of(sweep, *chapters(sweep), resume, agreed, evidence=evidence or (BACK if scheduler else ""))
    before = done_before(sweep, sweep.options.do) if resume else {}
    keep_networks(sweep)
    if former := former_words(sweep):
        say(Essential(former))
    return _done(sweep, jobs, before, say, slots, scheduler, _keys(sweep, scheduler), table)


def _keys(sweep: Sweep, scheduler: str | None) -> Keys | None:
    own = Workers(sweep) if scheduler and sweep.options.workers else None
    return own.keys() if own and own.address == scheduler else None


def run_files(params_files: Sequence[str], overrides: Mapping[str, Any], say: Terminal, slots: int, made: Made, **options: Any) -> int:
    """Run chapters of several params files, `slots` at once, and return 0 when all are verified, else 1. `options`: those of `jobs_of`.
    `made` is called, in the end, with the folder of each run that was begun.

    A deployment that fails does not keep the others from being run. `resume` is each deployment's own: chapters that hold are left out.
    Raises RunbookError, before anything begins, when one of the files is wrong.
    """
    sweep = of_files(params_files, overrides)
    found, folder = _done(sweep, jobs_of(sweep, **options), {}, say, slots)
    for row in found["rows"]:
        if row["report"]:
            made((ROOT / row["report"]).parent)
    return say_result(found, folder, say)


def _done(
    sweep: Sweep,
    jobs: Sequence[Job],
    before: Mapping[str, JobResult],
    say: Terminal,
    slots: int | None,
    scheduler: str | None = None,
    keys: Keys | None = None,
    table: type[LiveTable] = LiveTable,
) -> tuple[dict[str, Any], Path]:
    """Do the jobs but those in `before`. An interrupt stops each at a safe point."""
    options, stop = sweep.options, threading.Event()
    heard = Ears(sweep, table(say, len(jobs), stop))
    after = {row.name: [name for name in row.after if name not in before] for row in sweep.rows}
    with dask(scheduler, heard.chapter, stop, keys) if scheduler else engines.local(slots, heard.chapter, stop) as engine, heard.writing() as record:
        at_once = min(slots or engine.at_once, options.max_parallel or engine.at_once, len(jobs))
        say(f"{counted(len(jobs), 'deployment')}, {at_once} at once ({'max_parallel' if at_once == options.max_parallel else engine.words})")
        left_out = {name: heard.ended(_left_out(outcome)) for name, outcome in before.items()}
        limits = Limits(at_once, options.max_errors, options.retries)
        schedule = Schedule([job for job in jobs if job.name not in before], after, limits, heard.ended, heard.begun)
        with _interruptible(stop, say, engine.kill), heard.watch.shown():
            ended = schedule.run(engine.executor, engine.work, stop)
        found = record.close({**left_out, **ended})
        write_page(record.folder, found, [one for one in earlier(sweep.name) if one["started"] < found["started"]])
    for line in notify(found, record.folder, options.webhook, options.mail):
        say(Essential(line))
    return found, record.folder


class Ears:
    """Hears what happens, writes it down and shows it. The record is begun with `writing`: a batch that is refused leaves none."""

    def __init__(self, sweep: Sweep, watch: LiveTable):
        self.sweep, self.watch = sweep, watch
        self.record: BatchRecord

    @contextmanager
    def writing(self) -> Iterator[BatchRecord]:
        """Give the record, which is under way until the block ends."""
        self.record = BatchRecord(self.sweep, self.sweep.options.do)
        try:
            yield self.record
        finally:
            self.record.release()

    def begun(self, job: Job) -> None:
        self.record.began_row(job.name)
        self.watch.began(job.name)

    def chapter(self, name: str, began: str) -> None:
        self.record.began_row(name, began)
        self.watch.chapter(name, began)

    def ended(self, outcome: JobResult) -> JobResult:
        """Return the outcome as it is kept: a run that came with it lies among the runs of this machine then."""
        if outcome.archive:
            report = unpack(outcome.archive) / "report.html"
            outcome = replace(outcome, archive=b"", report=os.path.relpath(report, ROOT))
        self.record.ended_row(outcome)
        self.watch.ended(outcome)
        return outcome


def _left_out(result: JobResult) -> JobResult:
    """Return the result of a row that an earlier batch did: what that one found, in no time."""
    return JobResult(result.name, VERIFIED, result.words, result.passed, result.checks, chapters=result.chapters, report=result.report, left_out=True)


@contextmanager
def _interruptible(stop: threading.Event, say: Terminal, kill: Callable[..., Any]) -> Iterator[None]:
    """Set `stop` at an interrupt; a second one calls `kill`."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return

    def interrupted(*_: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, kill)
        say(Essential("stopping: each deployment comes to a safe point first; a second interrupt does not wait for that"))

    former = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def say_result(found: Mapping[str, Any], folder: Path, say: Terminal) -> int:
    """Say what a batch found and where its page lies; return 0 when every row ended well, else 1."""
    say("")
    say(Essential(as_text(found)))
    say(Essential(f"batch: {os.path.relpath(folder / 'batch.html')}"))
    if STOPPED in found["states"]:
        say(Essential("stopped; go on with --resume, which leaves out what is done"))
    return 0 if found["ok"] else 1


def as_text(found: Mapping[str, Any]) -> str:
    """Return what a batch found as a table of text."""
    rows = []
    for row in found["rows"]:
        mark = "✔" if row["ok"] else "○" if row["state"] == SKIPPED else "✘"
        checks = f"{row['passed']} of {row['checks']}" if row["checks"] else ""
        found_words = f"{'left out: ' if row['left_out'] else ''}{row['words'] or row['state']}"
        rows.append((mark, row["name"], row["params"], found_words, checks, f"{row['seconds']:.0f}", row["report"]))
    done = "done" if found["verb"] in ("plan", "destroy") else "verified"
    return text_table(FOUND, rows, f"{found['verified']} of {len(rows)} deployments {done}")
