"""Report and site in a browser as narrow as a telephone: nothing is cut, nothing is squeezed to a letter a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.check import Check
from runbook_lib.evidence import report
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.report import write_report
from runbook_lib.evidence.site import build_site
from tests.support.jupyterlab_server import chromium_running

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
