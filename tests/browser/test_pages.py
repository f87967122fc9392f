"""What is looked at without having been run: report and book on a telephone, an executed chapter in a JupyterLab that does not trust it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from runbook_lib.check import Check
from runbook_lib.evidence import report
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.report import write_report
from runbook_lib.headless.book.builder import build_book
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology.diagram import image
from runbook_lib.topology.model import topology_of
from tests.conftest import ROOT
from tests.support.accessibility import pages_of
from tests.support.jupyterlab_server import PATIENCE, chromium_running, jupyterlab

NARROW = {"width": 390, "height": 800}
CHAPTER = "05_configure_nginx"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
NARROWEST = "Math.min(...[...document.querySelectorAll('#checks td')].filter(cell => cell.innerText.trim()).map(cell => cell.clientWidth))"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a check and a change of the usual length."""
    journal = Journal(tmp_path_factory.mktemp("of") / "runs" / "demo" / "20260101T000000Z", {"deployment": "demo", "pattern": "greg-single", "expect": "leak"})
    with journal.attempt(CHAPTER, "apply"):
        journal.write(CHAPTER, "change", host="lb-1", key="configuration /etc/nginx/nginx.conf", change="create: 6 files, tested before they are used")
    title, address = "/store/ is answered by the product", "302 https://store.lab.test/store/pages/top-assets"
    journal.checked(CHAPTER, [Check("nginx-serves-store.lab.test", title, "pass", "an answer without :9443", address, "outside")])
    report.finish(journal)
    (journal.folder / f"{CHAPTER}.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    write_report(journal.folder)
    return journal.folder


@pytest.fixture(scope="module")
def book(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The instructor's book of that run and of a cluster of each product, with slides."""
    examples = [ROOT / "docs" / "example" / name for name in ("greg-separated", "as-cluster")]
    return build_book([run, *examples], tmp_path_factory.mktemp("book") / "book", "instructor", slides=True)


@pytest.fixture
def page() -> Iterator[Any]:
    with chromium_running() as browser:
        found = browser.new_page(viewport=NARROW)
        found.set_default_timeout(PATIENCE)
        yield found


def test_the_report_is_as_narrow_as_a_telephone_and_its_checks_keep_their_headings(run: Path, page: Any) -> None:
    page.goto((run / "report.html").as_uri())
    assert page.evaluate(WIDER) <= 0
    assert page.evaluate(NARROWEST) > 200
    cell = page.locator("#checks td", has_text="an answer without :9443")
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Expected: "'
    assert page.get_by_role("columnheader", name="Expected").count() == 1  # still a table for a screen reader


def test_every_page_of_the_book_is_as_narrow_as_a_telephone(book: Path, page: Any) -> None:
    for path in pages_of(book):
        page.goto(path.as_uri())
        assert page.evaluate(WIDER) <= 0 or path.name == "report.html", path
        assert page.get_by_role("heading", level=1).count() == 1, path


def test_the_book_is_searched_and_darkened_and_its_slides_are_turned_from_a_file(book: Path, page: Any) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto((book / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type("wso2carbon")
    page.keyboard.press("Enter")
    page.locator("#search-results a", has_text="Configure the Application Server nodes").first.click()
    page.wait_for_url(re.compile(r"/03_configure_as_nodes\.html(\?|$)"))
    page.get_by_role("button", name="Color mode").click()
    page.locator(".theme-change-button[data-mode=dark]").click()
    page.locator("html[data-theme=dark]").wait_for()
    page.goto((book / "as-cluster/06_verify_as_cluster.slides.html").as_uri())
    seen = page.locator(".slide:visible")
    first = seen.inner_text()
    page.keyboard.press("ArrowRight")
    expect(seen).to_have_attribute("aria-label", re.compile("slide 2 of"))
    assert seen.count() == 1 and seen.inner_text() != first
    page.keyboard.press("End")
    expect(page.locator("#place")).to_have_text(re.compile(r"^(\d+) / \1$"))
    page.keyboard.press("Home")
    expect(seen).to_have_attribute("aria-label", re.compile("slide 1 of"))
    assert seen.inner_text() == first
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)


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
        picture.wait_for()
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
        assert topology.lbs[0].address not in page.locator(".jp-OutputArea").inner_text()
