"""What `./runbook test` does: pytest over the tests of this clone, as much at once as the machine carries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

from runbook_lib.errors import RunbookError
from runbook_lib.files import ROOT

TESTS = ROOT / "tests"
WITHOUT_MACHINES = ("tests/unit", "tests/repository")
ON_EVERY_PROCESSOR = ("-n", str(2 * (os.cpu_count() or 1)), "--dist", "worksteal")  # half of these tests wait for processes of their own
# What runs beside all other tests that need machines, by the lab that it may make: name and range, as tests/support/lab_fixtures.py reads them
BESIDE = {
    "other 10.219.0.0/16": ("tests/browser", "tests/lab"),
    "third 10.212.0.0/16": ("tests/practice", "tests/processes"),  # they make none, and wait most of the time
}


def run_tests(given: Sequence[str], options: Sequence[str], *, fast: bool, full: bool) -> int:
    """Run all tests, or those that are `given`, and return pytest's exit status. pytest reports what was skipped and why (-ra).

    Tests that need no machine are run on every processor, and first: they fail soonest. The others wait for machines and servers, so they go
    in three parts at once, each with a lab and a folder of runs of its own. Raises RunbookError where there are no tests.
    """
    if not TESTS.is_dir():
        raise RunbookError("there are no tests here", str(ROOT), "they come with a clone of the repository")
    options = [*(["--full"] if full else []), *(["--fast"] if fast else []), *options]
    if given:
        return _pytest([*options, *(ON_EVERY_PROCESSOR if fast else ()), *given])
    ended = _pytest([*options, *ON_EVERY_PROCESSOR, *WITHOUT_MACHINES])
    if fast:
        return ended
    beside = [[*options, *folders] for folders in BESIDE.values()]
    others = {f"tests/{each.parent.name}" for each in TESTS.glob("*/test_*.py")}.difference(WITHOUT_MACHINES, *BESIDE.values())
    return _pytest([*options, *sorted(others)], beside) or ended


def _pytest(words: Sequence[str], beside: Sequence[Sequence[str]] = ()) -> int:
    """Run pytest, and one for each of `beside` at the same time; return the first status that is not 0. Their words follow the first's."""
    environment = {name: value for name, value in os.environ.items() if name != "RUNBOOK_HOME"}  # tests make folders of their own
    command = [sys.executable, "-m", "pytest"]
    begun = []
    with ExitStack() as stack:
        for lab, more in zip(BESIDE, beside, strict=False):
            said = stack.enter_context(tempfile.TemporaryFile())
            own = {**environment, "RUNBOOK_TEST_LAB": lab, "RUNBOOK_RUNS": str(ROOT / "runs" / f"_{lab.split()[0]}")}  # deployments have the same names
            begun.append((stack.enter_context(subprocess.Popen([*command, *more], cwd=ROOT, env=own, stdout=said, stderr=subprocess.STDOUT)), said))
        status = subprocess.run([*command, *words], cwd=ROOT, env=environment).returncode
        for process, said in begun:
            status = process.wait() or status
            said.seek(0)
            shutil.copyfileobj(said, sys.stdout.buffer)
    return status
