"""What is looked at without having been run: report and site on a telephone, an executed chapter in a JupyterLab that does not trust it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from runbook_lib.evidence.site import build_site

from runbook_lib.check import Check
from runbook_lib.evidence import report
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.report import write_report
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology.diagram import image
from runbook_lib.topology.model import topology_of
from tests.support.jupyterlab_server import PATIENCE, chromium_running, jupyterlab

NARROW = {"width": 390, "height": 800}
CHAPTER = "05_configure_nginx"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
NARROWEST = "Math.min(...[...document.querySelectorAll('#checks td')].filter(cell => cell.innerText.trim()).map(cell => cell.clientWidth))"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a check and a change of the usual length."""
    journal = Journal(tmp_path / "runs" / "demo" / "20260101T000000Z", {"deployment": "demo", "pattern": "greg-single", "expect": "leak"})
    with journal.attempt(CHAPTER, "apply"):
        journal.write(CHAPTER, "change", host="lb-1", key="configuration /etc/nginx/nginx.conf", change="create: 6 files, tested before they are used")
    title, address = "/store/ is answered by the product", "302 https://store.lab.test/store/pages/top-assets"
    journal.checked(CHAPTER, [Check("nginx-serves-store.lab.test", title, "pass", "an answer without :9443", address, "outside")])
    report.finish(journal)
    (journal.folder / f"{CHAPTER}.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    write_report(journal.folder)
    return journal.folder


@pytest.fixture
def page() -> Iterator[Any]:
    with chromium_running() as browser:
        yield browser.new_page(viewport=NARROW)


def test_the_report_is_as_narrow_as_a_telephone_and_its_checks_keep_their_headings(run: Path, page: Any) -> None:
    page.goto((run / "report.html").as_uri())
    assert page.evaluate(WIDER) <= 0
    assert page.evaluate(NARROWEST) > 200
    cell = page.locator("#checks td", has_text="an answer without :9443")
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Expected: "'
    assert page.get_by_role("columnheader", name="Expected").count() == 1  # still a table for a screen reader


def test_every_page_of_the_site_is_as_narrow_as_a_telephone(run: Path, page: Any, tmp_path: Path) -> None:
    for path in build_site([run], tmp_path / "site").rglob("*.html"):
        page.goto(path.as_uri())
        assert page.evaluate(WIDER) <= 0, path.name
        assert page.get_by_role("heading", level=1).count() == 1 or path.stem == CHAPTER, path.name


def test_pictures_of_an_executed_chapter_are_seen_by_who_did_not_run_it(page: Any, tmp_path: Path) -> None:
    """JupyterLab and code hosts take markup that they do not trust to pieces: an SVG was a paragraph of all its words."""
    topology = topology_of(load_spec("params/greg-single.lab.yaml"))
    output = nbformat.v4.new_output("display_data", {"text/html": image(topology)})
    (tmp_path / "notebooks").mkdir()
    chapter = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("deployment", outputs=[output])])
    chapter.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}  # else JupyterLab asks which
    nbformat.write(chapter, tmp_path / "notebooks" / "seen.ipynb")
    with jupyterlab(tmp_path) as desk:
        page.goto(f"{desk.url}/lab/tree/notebooks/seen.ipynb?token=token&reset")
        picture = page.get_by_role("img", name=f"lb-1 at {topology.lbs[0].address}")
        picture.wait_for(timeout=PATIENCE)
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
        assert topology.lbs[0].address not in page.locator(".jp-OutputArea").inner_text()
