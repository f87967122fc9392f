"""A person before JupyterLab: real JupyterLab, real Chromium, a real cluster. Pictures: runs/pictures/."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest

from runbook_lib.spec.loader import load_spec
from tests.support.deployments import Deployed
from tests.support.jupyterlab_server import PATIENCE, Desk, chromium_running, open_chapter, picture

OpenChapter = Callable[..., Any]


@pytest.fixture
def chapter(desk: Desk) -> Iterator[OpenChapter]:
    """Opens a chapter in Chromium and runs all of its cells."""
    with chromium_running() as browser:

        def opened(name: str, dark: bool = False) -> Any:
            if dark:
                desk.setting("apputils-extension/themes", '{"theme": "JupyterLab Dark"}')
            return open_chapter(browser, desk, name)

        yield opened


def test_a_newcomer_chooses_errs_corrects_and_saves(chapter: OpenChapter, desk: Desk, separated: Deployed) -> None:
    from playwright.sync_api import expect

    page = chapter("00_start_here")
    page.get_by_text("✔ 6 machines").wait_for()
    page.locator(".rb-pattern img").nth(3).wait_for()
    assert page.locator(".rb-pattern img").count() == 4
    page.get_by_role("tab", name="cloud").click()
    page.get_by_label("cloud.disk_gb").fill("5")
    page.get_by_label("cloud.disk_gb").press("Enter")
    card = page.locator(".rb-error")
    card.get_by_text("cloud.disk_gb = 5").wait_for()
    assert "from 8 to 1000" in card.inner_text()
    expect(page.locator("button:has-text('Save')")).to_be_disabled(timeout=PATIENCE)
    picture(page, "00-wrong-value")
    page.get_by_label("cloud.disk_gb").fill("30")
    page.get_by_label("cloud.disk_gb").press("Enter")
    page.get_by_text("✔ 6 machines").wait_for()
    page.get_by_role("tab", name="deployment").click()
    page.get_by_label("deployment", exact=True).fill("walkthrough-saved")
    page.get_by_label("deployment", exact=True).press("Enter")
    saved = desk.root / "params" / "walkthrough-saved.yaml"
    exemplars = {path: path.read_bytes() for path in desk.notebook("05_configure_nginx").parent.glob("0[1-9]*.ipynb")}
    page.locator("button:has-text('Save')").click()
    page.get_by_text("params/walkthrough-saved.yaml").first.wait_for()
    page.locator(".rb-chapters").get_by_text("○ to do").first.wait_for()
    spec = load_spec(saved)
    assert (spec.deployment, spec.cloud.disk_gb) == ("walkthrough-saved", 30)
    assert "# size of each root volume" in saved.read_text()
    page.get_by_text(f"{separated.name} (greg-separated): 6 of 6 machines run").wait_for()
    picture(page, "00-whole")
    assert "params/walkthrough-saved.yaml" in (desk.root / "work/walkthrough-saved/notebooks/05_configure_nginx.ipynb").read_text()
    assert {path: path.read_bytes() for path in exemplars} == exemplars
    page.locator(".rb-chapters a").first.click()  # the first chapter opens beside it, and names the saved file
    page.get_by_role("tab", name="01_launch_ec2.ipynb").wait_for()
    page.locator(".jp-Notebook:visible .cm-content").get_by_text("params/walkthrough-saved.yaml").wait_for()
    picture(page, "01-opened-from-00")


def test_an_errors_card_leads_to_the_parameters_cell_and_to_the_key_in_the_reference(chapter: OpenChapter, desk: Desk) -> None:
    book = nbformat.read(desk.notebook("05_configure_nginx"), as_version=4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = re.sub(r"overrides = .*", 'overrides = {"cloud.disk_gb": 5}', cell.source)
    nbformat.write(book, desk.notebook("05_configure_nginx"))
    page = chapter("05_configure_nginx")
    from playwright.sync_api import expect

    page.set_viewport_size({"width": 1400, "height": 700})  # so that there is something to scroll to
    card = page.locator(".rb-error")
    card.wait_for()
    heading = page.locator(".jp-RenderedMarkdown h2", has_text="Parameters")
    page.locator(".jp-Cell").last.scroll_into_view_if_needed()
    card.get_by_text("the parameters cell of this notebook").click()
    expect(heading).to_be_in_viewport(timeout=PATIENCE)
    card.get_by_text("cloud.disk_gb among all parameters").click()
    page.get_by_role("tab", name="parameters.md").wait_for()
    expect(page.locator(".jp-MarkdownViewer td", has_text="cloud.disk_gb")).to_be_in_viewport(timeout=PATIENCE)
    picture(page, "05-reference")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_chapter_shows_where_things_stand_and_verifies(chapter: OpenChapter, dark: bool) -> None:
    page = chapter("05_configure_nginx", dark)
    page.get_by_text(re.compile(r"(\d+) of \1 checks passed")).first.wait_for()
    page.wait_for_function("document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt').length >= 6")
    page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg="false" if dark else "true")
    assert page.locator(".rb-error").count() == 0
    board = page.locator(".rb-status").inner_text()
    assert "6 of 6 machines run" in board
    assert "✔ verified" in board
    overflow = page.evaluate("[...document.querySelectorAll('.rb-board')].some(e => e.scrollWidth > e.clientWidth + 1)")
    assert not overflow
    picture(page, f"05-{'dark' if dark else 'light'}")


def test_an_error_is_a_card_with_the_way_folded_below(chapter: OpenChapter) -> None:
    page = chapter("99_tear_down")
    card = page.locator(".rb-error")
    card.wait_for()
    assert "confirm" in card.inner_text()
    assert card.locator("details").count() == 1
    assert not card.locator("details pre").is_visible()
    assert page.get_by_text("Traceback (most recent call last)").count() == 0
    picture(page, "99-not-confirmed")


def test_the_drift_of_a_host_is_seen_shown_and_repaired(chapter: OpenChapter, separated: Deployed) -> None:
    separated.open().fleet()["lb-1"].run("sudo sh -c 'echo \"# by hand\" >> /etc/nginx/nginx.conf'")
    page = chapter("05_configure_nginx")
    page.get_by_text("1 change pending").wait_for()
    page.get_by_text("1 resource changed on 1 host").wait_for()
    page.get_by_text("nothing to change on 1 host").first.wait_for()
    picture(page, "05-drift")
    assert not separated.open().nginx.plan()
