"""The forms by keyboard alone, what a screen reader is told of them, and colours that can be read: JupyterLab and Chromium, without a lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support.jupyterlab_server import Desk, chromium_running, clone, jupyterlab, open_chapter

FORM = 'from runbook_lib import choose_params\nfrom runbook_lib.notebook import display\ndisplay.install()\nchoose_params("../params/greg-separated.lab.yaml")'
APPLY = """from runbook_lib.changes import Event
from runbook_lib.notebook import display, progress
display.install()
with progress.progress("an apply", ["db-1"]) as shown:
    shown(Event("db-1", "files", "file /etc/example", 2, 5))
    while not shown.stop.is_set():
        shown.stop.wait(0.1)"""

STATES = """from runbook_lib.check import Check, CheckTable
from runbook_lib.notebook import display
display.install()
CheckTable(Check("id", "title", state, "this", "that", "here") for state in ("pass", "fail", "skipped", "undecided") * 2)"""
CONTRAST = """cell => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const opaque = colour => (parts(colour)[3] ?? 1) === 1;
  let ground = cell;
  while (!opaque(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
  const [a, b] = [getComputedStyle(cell).color, getComputedStyle(ground).backgroundColor].map(colour => light(parts(colour)));
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """JupyterLab over a clone, beside its chapters a notebook of one cell per case."""
    clone(tmp_path)
    for name, source in (("form", FORM), ("apply", APPLY), ("states", STATES)):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, tmp_path / "notebooks" / f"{name}.ipynb")
    with jupyterlab(tmp_path, {"PYTHONPATH": str(tmp_path)}) as found:
        yield found


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium_running() as found:
        yield found


def test_every_group_of_the_form_is_reached_and_changed_without_a_mouse(browser: Any, desk: Desk) -> None:
    page = open_chapter(browser, desk, "form")
    page.get_by_text("✔ 6 machines").wait_for()
    page.get_by_label("Pattern", exact=True).focus()
    page.keyboard.press("Tab")
    page.wait_for_function("document.activeElement.getAttribute('role') === 'tab'")
    for group in ("cloud", "product", "java", "database", "nginx", "memory", "timeouts"):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.get_by_role("tab", name=group, selected=True).wait_for()
    page.keyboard.press("Tab")
    page.wait_for_function("document.activeElement.labels?.[0]?.textContent === 'timeouts.running'")
    page.keyboard.press("Control+a")
    page.keyboard.type("0")
    page.keyboard.press("Tab")
    page.get_by_role("alert").get_by_text("timeouts.running = 0").wait_for()
    assert page.get_by_role("tab", name="timeouts", selected=True).count() == 1, "the focus that moved on left the group open"


def test_every_field_of_the_form_has_a_name(browser: Any, desk: Desk) -> None:
    page = open_chapter(browser, desk, "form")
    page.get_by_text("✔ 6 machines").wait_for()
    named = "element => (element.labels && [...element.labels].some(label => label.textContent.trim())) || element.getAttribute('aria-label')"
    fields = page.locator(".jp-OutputArea input, .jp-OutputArea select")
    fields.nth(30).wait_for(state="attached")
    assert all(field.evaluate(named) for field in fields.all())


def test_no_field_of_the_form_is_cut_where_the_window_is_narrow(browser: Any, desk: Desk) -> None:
    page = open_chapter(browser, desk, "form")
    page.get_by_text("✔ 6 machines").wait_for()
    page.set_viewport_size({"width": 800, "height": 2000})
    edge = page.locator(".rb-form .widget-tab-contents").bounding_box()
    fields = [field.bounding_box() for field in page.locator(".rb-form .widget-tab-contents input:visible").all()]
    assert len(fields) >= 4
    assert all(field["x"] + field["width"] <= edge["x"] + edge["width"] for field in fields)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_states_in_colour_are_readable_in_both_themes(browser: Any, desk: Desk, theme: str) -> None:
    desk.setting("apputils-extension/themes", f'{{"theme": "JupyterLab {theme}"}}')
    page = open_chapter(browser, desk, "states")
    page.get_by_text("2 of 8 checks passed").wait_for()
    page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg=str(theme == "Light").lower())
    marks = page.locator(".rb-table tbody td:first-child")
    assert marks.all_inner_texts() == ["✔ pass", "✘ fail", "- skipped", "? undecided"] * 2
    assert [mark.inner_text() for mark in marks.all() if mark.evaluate(CONTRAST) < 4.5] == []


def test_the_progress_of_an_apply_is_told_as_such_and_stopped_without_a_mouse(browser: Any, desk: Desk) -> None:
    page = open_chapter(browser, desk, "apply")
    bar = page.get_by_role("progressbar", name="db-1")
    bar.wait_for()
    page.get_by_text("2 of 5: file /etc/example").wait_for()
    assert (bar.get_attribute("value"), bar.get_attribute("max")) == ("2", "5")
    page.get_by_role("tab", name="Hosts").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator(".rb-progress pre", has_text="files: file /etc/example").wait_for()
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    page.locator(".rb-progress").wait_for(state="detached")
