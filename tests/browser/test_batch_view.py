"""The chapter about batches as a person walks it in real JupyterLab: the table that changes, the button that stops, and the matrix in the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ec2lab import cleanup

from tests.conftest import ROOT
from tests.support.accessibility import hindrances
from tests.support.deployments import in_lab, with_parameters
from tests.support.jupyterlab_server import chromium_running, idle, jupyterlab, menu, open_chapter, picture

CHAPTER = "10_batch"


@contextmanager
def answering_nobody(lab: Any) -> Iterator[None]:
    """The lab's API answers after the block: until then whoever asked it waits."""
    [daemon] = cleanup.daemons(lab.lab)
    os.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon, signal.SIGCONT)


def test_a_person_watches_a_batch_reads_the_matrix_and_stops_another(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    for name in ("docs", "params"):
        shutil.copytree(ROOT / name, tmp_path / name)
    copy = with_parameters(CHAPTER, in_lab(lab, "greg-separated", "test-batch", 9), tmp_path / "notebooks")  # it plans, and makes no machine
    assert copy.read_text().count("keys = {") == 1
    copy.write_text(copy.read_text().replace("keys = {", 'keys = {\\"max_parallel\\": 2, '))  # so that there are some that are not begun yet
    with jupyterlab(tmp_path) as desk, chromium_running() as browser:
        page = open_chapter(browser, desk, CHAPTER, run=False)
        idle(page)
        with answering_nobody(lab):  # else the batch may be over, in a second, before it is seen
            menu(page, "Run", "Run All Cells")
            page.locator(".rb-batch").get_by_text("running").first.wait_for()
            picture(page, "batch-running")
        begin, *_, last = page.locator(".jp-CodeCell").all()[3:]
        last.locator(".rb-batch td.good").nth(4).wait_for()
        idle(page)
        assert [begin.locator(f".rb-batch td.{kind}").count() for kind in ("good", "bad")] == [4, 1]
        assert "there is nothing at s3://runbook-packs/wso2greg-5.1.O.zip" in begin.locator(".rb-batch .card").inner_text()
        assert page.locator(".rb-error").count() == 0, "the last cell finds all well"
        assert hindrances(page, ".rb-batch") == []
        picture(page, "batch-done")

        begin.locator(".cm-content").click()
        with answering_nobody(lab):
            page.keyboard.press("Control+Enter")
            begin.get_by_role("button", name="Stop").click()
            begin.get_by_text("Stopping …").or_(begin.get_by_text("not begun")).first.wait_for()
        begin.get_by_text("not begun").first.wait_for()
        idle(page)
        picture(page, "batch-stopped")
    newest = json.loads((tmp_path / "runs/_batches/tiers/latest/batch.json").read_text())
    assert newest["states"].get("not begun", 0) >= 1 and newest["states"].keys() <= {"verified", "stopped", "not begun"}
