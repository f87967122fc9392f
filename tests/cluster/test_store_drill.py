"""The drill on a Store node, as chapter 07 does it when it is asked to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.full


def test_chapter_07_shows_the_drill_on_a_store_node_as_table_and_chart(separated: Any, tmp_path: Path) -> None:
    executed = tmp_path / "executed.ipynb"
    parameters = json.dumps({"params_file": separated.params, "overrides": {**separated.overrides, "drill": True}})
    command = [sys.executable, "-m", "papermill", "notebooks/07_verify_sso_separation.ipynb", str(executed), "-y", parameters]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    cells = {cell["id"]: cell for cell in json.loads(executed.read_text())["cells"]}
    [shown] = [output["data"] for output in cells["07-21"]["outputs"] if output["output_type"] == "execute_result"]
    page = "".join(shown["text/html"])
    assert 'class="rb-drill"' in page and "power of store-2 cut" in page and "store-2 serves its share again" in page
    assert "beforehand, at 12/s" in page and "the fastest that" in page, "no rate is given: it was measured, and the table says so"
    sessions = next(check["observed"] for check in separated.result["checks"] if check["id"] == "drill-power-cut-sessions")
    assert sessions.startswith("of 60 who had one ") and "one 0 lost" not in sessions, sessions
    failing = {check["id"]: check["observed"] for check in separated.result["checks"] if check["id"].startswith("drill-") and check["status"] != "pass"}
    assert set(failing) <= {"drill-power-cut-rate"}, failing  # the rate says how busy this machine is
    assert "drill-power-cut-failed" in {check["id"] for check in separated.result["checks"]}
