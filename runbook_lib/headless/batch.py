"""Several deployments in one run: each params file is run as by `./runbook run`, one after the other, then one table shows all results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.evidence import runs
from runbook_lib.headless import runner
from runbook_lib.headless.terminal import Essential
from runbook_lib.spec.loader import load_spec
from runbook_lib.tables import text_table

COLUMNS = ("", "Params", "Deployment", "Found", "Checks", "Seconds", "Report")


def run_all(params_files: Sequence[str], overrides: Mapping[str, Any], say: runner.Say, **options: Any) -> int:
    """Run every params file and return 0 when every deployment is verified and as its parameters expect, else 1.

    A deployment that fails does not prevent the others from being run. `options`: those of `runner.run`.
    Raises ParamsError, before anything starts, when one of the files is wrong.
    """
    specs = [load_spec(params, overrides) for params in params_files]
    rows, good = [], []
    for params, spec in zip(params_files, specs, strict=True):
        say(f"— {params}")
        before = runs.latest(spec.deployment)
        status = _tried(lambda spec=spec: runner.run(spec, overrides, say=say, **options), say)  # type: ignore[misc]
        after = runs.latest(spec.deployment)
        good.append(status == 0)
        rows.append(("✔" if good[-1] else "✘", params, spec.deployment, *_found(after if after != before else None)))
    say("")
    say(Essential(text_table(COLUMNS, rows, f"{sum(good)} of {len(rows)} deployments verified")))
    return 0 if all(good) else 1


def _tried(work: Callable[[], int], say: runner.Say) -> int:
    try:
        return work()
    except RunbookError as error:
        say(Essential(error))
        return 1


def _found(run: Path | None) -> tuple[str, str, str, str]:
    """Return the cells of a run's row (result, checks, seconds, report); `run` is None when no run was begun."""
    if run is None:
        return "not begun", "", "", ""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    passed = sum(check["status"] == "pass" for check in result["checks"])
    seconds = sum(chapter["seconds"] for chapter in result["chapters"])
    words = result["statement"]["system"] if result["verdict"] else "verified" if result["ok"] else "not verified"
    return words, f"{passed} of {len(result['checks'])}", f"{seconds:.0f}", os.path.relpath(run / "report.html")
