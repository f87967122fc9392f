"""What a batch costs beside what it does: many short runs at once, the driver's memory, notebooks beside papermill and millrun.

.venv/bin/python benchmarks/batch.py [--deployments 12] [--write]       # needs a lab: ./runbook lab up
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import page
from converge import environment

sys.path.insert(0, str(page.ROOT))

from runbook_lib.headless import runner
from runbook_lib.headless.batch import command, engine
from runbook_lib.headless.batch.job import VERIFIED, Job, JobResult, perform
from runbook_lib.headless.batch.scheduler import Limits, Schedule
from runbook_lib.headless.batch.sweep import Row, Sweep, SweepFile, load_sweep
from runbook_lib.headless.kernels import kernels
from runbook_lib.headless.terminal import Terminal

ROOT = page.ROOT
NOTEBOOKS, RUNS = 100, 10  # notebooks that do nothing, and in how many runs ours does them
PLANS = 100
QUEUED = (10, 100, 1000)
JOBS = 4


def work(batch: str, *more: str) -> float:
    """The seconds of `./runbook batch`; its words when it fails."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "runbook_cli", "batch", batch, "-q", *more], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{batch} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.monotonic() - began


def sweep_of(folder: Path, name: str, networks: str, deployments: int, do: str = "run") -> str:
    """A sweep file of so many greg-single deployments. Its networks lie beside it, so what was built is found again."""
    file = folder / f"{name}.yaml"
    rows = [{"name": str(number)} for number in range(deployments)]
    given = {"sweep": name, "params": [str(ROOT / "params/greg-single.lab.yaml")], "networks": networks, "include": rows, "do": do, "retries": 0}
    file.write_text(json.dumps(given))
    return str(file)


def builds(folder: Path) -> list[tuple[str, str]]:
    """One greg-single from nothing, and two at once."""
    taken = {}
    for number in (1, 2):
        made = sweep_of(folder, f"build{number}", f"10.213.{100 + 4 * number}.0/22", number)
        taken[number] = work(made, "--jobs", "2")
        work(sweep_of(folder, f"build{number}", f"10.213.{100 + 4 * number}.0/22", number, "destroy"), "--yes")
    return [
        ("greg-single from nothing, chapters 01 to 07", f"{taken[1]:.0f} s"),
        ("two of them at once (target: 1.35 times)", f"{taken[2]:.0f} s: {taken[2] / taken[1]:.2f} times"),
    ]


def standing(folder: Path, deployments: int) -> list[tuple[str, str]]:
    """Short runs on standing deployments: one after the other and several at once; then what the engine adds to a plan."""
    name, networks = "stand", "10.213.128.0/18"
    work(sweep_of(folder, name, networks, deployments))
    try:
        taken = {jobs: sum(work(sweep_of(folder, name, networks, deployments, do), "--jobs", str(jobs)) for do in ("plan", "verify")) for jobs in (1, JOBS)}
        plans = sweep_of(folder, name, networks, deployments, "plan")
        alone, through = overhead(load_sweep(plans))
    finally:
        work(sweep_of(folder, name, networks, deployments, "destroy"), "--yes", "--jobs", "4")
    return [
        (f"plan and verify of {deployments} standing deployments, one after the other", f"{taken[1]:.0f} s"),
        (f"the same, `--jobs {JOBS}` (target: 2.5 times faster)", f"{taken[JOBS]:.0f} s: {taken[1] / taken[JOBS]:.1f} times faster"),
        (f"{PLANS} plans one after the other in one process that is warm, each (median)", f"{alone:.2f} s"),
        ("the same through the engine, a process each (target: 0.3 s more)", f"{through:.2f} s: {through - alone:.2f} s more"),
    ]


def overhead(sweep: Sweep) -> tuple[float, float]:
    """Seconds of a plan inside of one process, and of one through the engine, one after the other."""
    specs = [row.spec for row in sweep.rows]
    times = []
    for number in range(PLANS):
        began = time.monotonic()
        list(runner.plans(specs[number % len(specs)]))
        times.append(time.monotonic() - began)
    jobs = [Job(f"plan-{number}", sweep.rows[number % len(sweep.rows)].text, "plan") for number in range(PLANS)]
    perform(jobs[0])  # the server that the processes are forked from is up
    return statistics.median(times), statistics.median(result.seconds for result in scheduled(jobs, 1, perform).values())


def scheduled(jobs: Sequence[Job], at_once: int, done: Callable[[Job], JobResult]) -> dict[str, JobResult]:
    """Do the jobs on this machine's engine."""
    stop = threading.Event()
    with engine.local(at_once, lambda *_: None, stop) as mine:
        found = Schedule(jobs, {}, Limits(at_once), lambda result: result, lambda job: None).run(mine.executor, done, stop)
    if failed := [result for result in found.values() if not result.ok]:
        raise SystemExit(f"{failed[0].name}: {failed[0].words}")
    return found


def queue(rows: int) -> None:
    """Print seconds and MB of this process for a batch of so many rows that do nothing: schedule, record, live view, page."""
    from runbook_lib.spec import params_yaml

    values = params_yaml.read((ROOT / "params/greg-single.lab.yaml").read_text(), "")
    sweep = Sweep(
        "nothing", tuple(Row(f"row-{number}", "greg-single", {"number": number}, values) for number in range(rows)), SweepFile(sweep="nothing", params=("-",))
    )
    command.engines.local = lambda slots, tell, stop: nothing(slots)  # type: ignore[assignment]
    began = time.monotonic()
    command.run(sweep, Terminal(quiet=True), slots=JOBS)
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": time.monotonic() - began, "mb": peak / 1024}))


def nothing(slots: int | None) -> Any:
    """This machine's engine, whose runs end at once."""
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import nullcontext

    return nullcontext(engine.Engine(ThreadPoolExecutor(slots), lambda job: JobResult(job.name, VERIFIED), slots or 1, "nothing to do"))


def driver() -> list[tuple[str, str]]:
    rows = []
    for queued in QUEUED:
        with tempfile.TemporaryDirectory() as runs:
            env = {**os.environ, "RUNBOOK_RUNS": runs}
            said = subprocess.run([sys.executable, __file__, "--queue", str(queued)], env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        found = json.loads(said.splitlines()[-1])
        rows.append(
            (f"driver of {queued} queued runs that do nothing: each, and its memory", f"{1000 * found['seconds'] / queued:.1f} ms, {found['mb']:.0f} MB")
        )
    return rows


def notebooks(folder: Path) -> list[tuple[str, str]]:
    """The same notebooks by papermill in a loop, by millrun, and by our engine with a process per run and its warm kernels; every tenth fails."""
    source = folder / "nothing.ipynb"
    parameters = nbformat.v4.new_code_cell("number = 0", metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell("assert number % 10 != 9")])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, source)
    (folder / "numbers.json").write_text(json.dumps([{"number": number} for number in range(NOTEBOOKS)]))
    rows = []
    for words, run in (("papermill in a loop", loop), ("millrun", millrun), (f"ours, {RUNS} runs, {JOBS} at once", ours)):
        out = folder / run.__name__
        out.mkdir()
        began = time.monotonic()
        said = run(source, out)
        seconds = time.monotonic() - began
        executed = len(list(out.glob("*.ipynb")))
        shutil.rmtree(out)
        rows.append(
            (f"{NOTEBOOKS} notebooks that do nothing, every tenth fails: {words}", f"{NOTEBOOKS / seconds:.1f} per second; {executed} executed; {said}")
        )
    return rows


def loop(source: Path, out: Path) -> str:
    """`papermill` as a user's shell loop calls it, in one process."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    failed = 0
    for number in range(NOTEBOOKS):
        try:
            papermill.execute_notebook(str(source), str(out / f"{number}.ipynb"), parameters={"number": number}, progress_bar=False)
        except PapermillExecutionError:
            failed += 1
    return f"{failed} failures raised"


def millrun(source: Path, out: Path) -> str:
    tool = environment("millrun")
    done = subprocess.run(
        [tool / "millrun", "run", source, source.parent / "numbers.json", "--output-dir", out, "--prepend", "number"], capture_output=True, text=True
    )
    return f"exit status {done.returncode}"


def ours(source: Path, out: Path) -> str:
    done = [f"{number}" for number in range(RUNS)]
    jobs = [Job(name, json.dumps([str(source), str(out), int(name)])) for name in done]
    found = scheduled(jobs, JOBS, in_a_process)
    return f"{sum(result.changed for result in found.values())} failures recorded"


def in_a_process(job: Job) -> JobResult:
    """A run of a tenth of the notebooks in a process of its own, as `job.perform` makes one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["papermill", "runbook_lib.headless.kernels"])
    here, there = context.Pipe()
    process = context.Process(target=executed, args=(*json.loads(job.params), there))
    process.start()
    failed = here.recv()
    process.join()
    return JobResult(job.name, VERIFIED, changed=failed)


def executed(source: str, out: str, tenth: int, pipe: Any) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    failed, each = 0, NOTEBOOKS // RUNS
    with kernels([["json"]] * each) as warm:
        for number in range(tenth * each, (tenth + 1) * each):
            try:
                with warm.one() as kernel:
                    papermill.execute_notebook(source, f"{out}/{number}.ipynb", parameters={"number": number}, progress_bar=False, km=kernel)
            except PapermillExecutionError:
                failed += 1
    pipe.send(failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployments", type=int, default=12)
    parser.add_argument("--queue", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("builds", "standing", "driver", "notebooks"))
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    given, load = parser.parse_args(), os.getloadavg()[0]
    if given.queue:
        return queue(given.queue)
    parts = {"builds": builds, "standing": lambda folder: standing(folder, given.deployments), "driver": lambda _: driver(), "notebooks": notebooks}
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items():
            if given.only in (None, name):
                rows += part(Path(folder))
                print(*(f"{what}: {figure}" for what, figure in rows[-4:]), sep="\n", flush=True)
    body = "\n".join(["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])
    text = page.section("batch", "The batch", body, load, "`./runbook batch` on this machine; its runs are processes of their own.")
    print(text)
    if given.write:
        page.write(text)
    return None


if __name__ == "__main__":
    main()
