"""Words boxes, answers and the glossary in JupyterLab: folded until a reader unfolds them, legible for everybody, and one click from each other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runbook_lib.spec.glossary import glossary
from tests.conftest import ROOT
from tests.support.accessibility import hindrances
from tests.support.jupyterlab_server import PATIENCE, chromium_running, idle, jupyterlab

CHAPTER = "07_verify_sso_separation"


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_words_and_answers_unfold_by_keyboard_and_lead_to_the_glossary(tmp_path: Path, theme: str) -> None:
    for name in ("notebooks", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("example"))
    with jupyterlab(tmp_path) as desk, chromium_running() as browser:
        desk.setting("apputils-extension/themes", f'{{"theme": "JupyterLab {theme}"}}')
        desk.setting("notebook-extension/tracker", '{"windowingMode": "none"}')
        page = browser.new_page(viewport={"width": 1200, "height": 1100})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{desk.url}/lab/tree/notebooks/{CHAPTER}.ipynb?token=token&reset")
        folded = page.locator(".jp-MarkdownOutput details")
        page.locator("summary", has_text="What may you tell an auditor").wait_for()
        idle(page)  # until then JupyterLab moves the focus to its first cell
        assert [folded.nth(number).locator("ul, p").first.is_visible() for number in range(4)] == [False] * 4
        for number in range(4):
            folded.nth(number).locator("summary").press("Enter")
            folded.nth(number).locator("ul, p").first.wait_for()
        assert page.locator(".jp-mod-editMode").count() == 0, "the key unfolds, and does not open the cell's text"
        assert folded.first.locator("li b, li strong").filter(has_text="AuthnRequest").count() == 1
        assert hindrances(page, ".jp-MarkdownOutput") == []
        folded.first.get_by_role("link", name="security group", exact=True).click()
        heading = page.locator(".jp-MarkdownViewer h2", has_text="security group")
        heading.wait_for()
        page.wait_for_function(
            "heading => { const box = heading.getBoundingClientRect(); return box.top >= 0 && box.bottom < innerHeight }", arg=heading.element_handle()
        )
        page.locator(".jp-MarkdownViewer").get_by_text(glossary()["security group"].text[:40]).wait_for()
