"""What `./runbook test` does: pytest over the tests of this clone, as much at once as the machine carries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from runbook_lib.errors import RunbookError
from runbook_lib.files import ROOT

TESTS = ROOT / "tests"
WITHOUT_MACHINES = ("tests/unit", "tests/repository")
PROCESSORS = os.cpu_count() or 1
# tests/support/at_once.py says which tests go together; its order begins with those that take longest
AT_ONCE = ("-n", str(min(PROCESSORS + 1, 8)), "--dist", "loadgroup", "--no-loadscope-reorder")
ON_EVERY_PROCESSOR = ("-n", str(2 * PROCESSORS), "--dist", "worksteal")  # half of the tests without machines wait for processes of their own


def run_tests(given: Sequence[str], options: Sequence[str], *, fast: bool, full: bool) -> int:
    """Run all tests, or those that are `given`, and return pytest's exit status. pytest reports what was skipped and why (-ra).

    Those that need machines wait for them half of the time: all are spread over a few of pytest's processes, each with a lab of its own. Raises
    RunbookError where there are no tests.
    """
    if not TESTS.is_dir():
        raise RunbookError("there are no tests here", str(ROOT), "they come with a clone of the repository")
    words = [*(["--full"] if full else []), *(["--fast"] if fast else []), *options]
    if fast:
        words += [*ON_EVERY_PROCESSOR, *(given or WITHOUT_MACHINES)]
    else:
        words += given or [*AT_ONCE, "tests"]
    environment = {name: value for name, value in os.environ.items() if name != "RUNBOOK_HOME"}  # tests make folders of their own
    return subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment).returncode
