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
FIRST_PART = ("tests/cluster", "tests/notebooks", "tests/processes")  # take about as long as all others that need machines
SECOND_LAB = "other 10.219.0.0/16"  # name and range, as tests/support/lab_fixtures.py reads them
SECOND_RUNS = ROOT / "runs" / "_second"  # both parts make deployments of the same names


def run_tests(given: Sequence[str], options: Sequence[str], *, fast: bool, full: bool) -> int:
    """Run all tests, or those that are `given`, and return pytest's exit status. pytest reports what was skipped and why (-ra).

    Tests that need no machine are run on every processor, and first: they fail soonest. The others wait for machines most of the time, so they go
    in two parts at once, each with a lab and a folder of runs of its own. Raises RunbookError where there are no tests.
    """
    if not TESTS.is_dir():
        raise RunbookError("there are no tests here", str(ROOT), "they come with a clone of the repository")
    options = [*(["--full"] if full else []), *(["--fast"] if fast else []), *options]
    if given:
        return _pytest([*options, *(ON_EVERY_PROCESSOR if fast else ()), *given])
    ended = _pytest([*options, *ON_EVERY_PROCESSOR, *WITHOUT_MACHINES])
    if fast:
        return ended
    with_machines = {f"tests/{each.parent.name}" for each in TESTS.glob("*/test_*.py")} - {*WITHOUT_MACHINES}
    return _pytest([*options, *FIRST_PART], beside=[*options, *sorted(with_machines - {*FIRST_PART})]) or ended


def _pytest(words: Sequence[str], beside: Sequence[str] = ()) -> int:
    """Run pytest, and a second one with the words `beside` at the same time; return the first status that is not 0. The second's words follow the first's."""
    environment = {name: value for name, value in os.environ.items() if name != "RUNBOOK_HOME"}  # tests make folders of their own
    command = [sys.executable, "-m", "pytest"]
    if not beside:
        return subprocess.run([*command, *words], cwd=ROOT, env=environment).returncode
    with ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
        second = {**environment, "RUNBOOK_TEST_LAB": SECOND_LAB, "RUNBOOK_RUNS": str(SECOND_RUNS)}
        process = stack.enter_context(subprocess.Popen([*command, *beside], cwd=ROOT, env=second, stdout=said, stderr=subprocess.STDOUT))
        status = _pytest(words)
        ended = process.wait()
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout.buffer)
    return status or ended
