"""Nothing that axe-core calls critical, serious or moderate: in report and book, and in what the chapters show in JupyterLab, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.report import finish
from runbook_lib.headless.book.builder import build_book
from tests.conftest import ROOT
from tests.support.accessibility import hindrances, pages_of
from tests.support.jupyterlab_server import Desk, chromium_running, idle, open_chapter
from tests.support.recorded_proof import recorded

SCHEMES = ("light", "dark")
# One page of each kind; --full looks at all of them.
KINDS = (
    "book/index.html", "book/search.html", "book/proof.html", "book/README.html", "course/index.html", "course/sso.html", "docs/parameters.html",
    "docs/notebook-api.html", "decisions/index.html", "notebooks/00*.html", "a-full/index.html", "a-full/04*.html", "a-full/07*.html",
    "a-full/report.html", "a-original/07_verify_sso_separation.html", "a-original/report.html",
)  # fmt: skip
# Chapters with the theme that each test run opens them in, and those of the long sequence.
CHAPTERS = [("00_start_here", "Dark"), ("05_configure_nginx", "Light")]
CONVERGING = ("01_launch_ec2", "02_install_mysql", "04_configure_greg_nodes")
MORE = [(name, "Dark") for name in (*CONVERGING, "05_configure_nginx", "07_verify_sso_separation", "99_tear_down")]
MORE += [(name, "Light") for name in ("00_start_here", *CONVERGING, "07_verify_sso_separation")]


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium_running() as found:
        yield found


@pytest.fixture
def pages(tmp_path: Path) -> list[Path]:
    """Report and book of a system that leaks and of one that does not, with the chapters of a real run, solutions and slides."""
    runs = []
    for configuration, expect, example in (("original", "leak", "greg-original"), ("full", "separated", "greg-separated")):
        _, run = recorded(tmp_path, configuration, expect)
        for chapter in (ROOT / "docs" / "example" / example).glob("*.ipynb"):
            shutil.copy(chapter, run)
        finish(Journal(run))
        runs.append(run)
    return pages_of(build_book(runs, tmp_path / "book", "instructor", slides=True))


def test_report_and_book(request: pytest.FixtureRequest, browser: Any, pages: list[Path]) -> None:
    found = {}
    assert len(pages) > 50
    if not request.config.getoption("--full"):
        pages = [path for path in pages if any(path.match(kind) for kind in KINDS)]
        assert len(pages) > len(KINDS)
    for scheme in SCHEMES:
        page = browser.new_page(color_scheme=scheme)
        for path in pages:
            page.goto(path.as_uri())
            if wrong := hindrances(page):
                found[scheme, path.name] = wrong
    assert found == {}


@pytest.mark.parametrize(("name", "theme"), [*CHAPTERS, *(pytest.param(*each, marks=pytest.mark.full) for each in MORE)])
def test_what_a_chapter_shows_in_jupyterlab(browser: Any, desk: Desk, name: str, theme: str) -> None:
    desk.setting("apputils-extension/themes", f'{{"theme": "JupyterLab {theme}"}}')
    page = open_chapter(browser, desk, name)
    page.locator(".rb-board, .rb-form, .rb-error").first.wait_for()
    idle(page)
    assert hindrances(page, ".jp-OutputArea-output") == []


@pytest.mark.full
@pytest.mark.parametrize("name", ["03_configure_as_nodes", "06_verify_as_cluster"])
def test_what_a_chapter_of_the_as_cluster_shows_in_jupyterlab(browser: Any, as_desk: Desk, name: str) -> None:
    page = open_chapter(browser, as_desk, name)
    page.set_default_timeout(600_000)  # three drills
    page.locator(".rb-board").first.wait_for()
    idle(page)
    assert hindrances(page, ".jp-OutputArea-output") == []
