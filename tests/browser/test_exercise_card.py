"""An exercise as a person does it: the card's buttons in real JupyterLab, before a real cluster."""

from __future__ import annotations

from typing import Any

import nbformat

from runbook_lib.chapters.exercises.card import course
from tests.conftest import ROOT
from tests.support.accessibility import hindrances
from tests.support.deployments import Deployed
from tests.support.jupyterlab_server import PATIENCE, Desk, chromium_running, idle, menu, picture

PART, EXERCISE, RIGHT, WRONG = "nginx", "nginx-1", "publisher-2", "publisher-1"


def exercises_for(deployed: Deployed, desk: Desk) -> None:
    """A copy of a part's notebook that names this deployment, with the cells up to the first card."""
    book = nbformat.read(ROOT / "exercises" / f"{PART}.ipynb", as_version=4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = f"params_file = {deployed.params!r}\noverrides = {dict(deployed.overrides)!r}"
    last = next(number for number, cell in enumerate(book.cells) if f'"{EXERCISE}"' in cell.source)
    del book.cells[last + 1 :]
    (desk.root / "exercises").mkdir(exist_ok=True)
    nbformat.write(book, desk.root / "exercises" / f"{PART}.ipynb")


def test_a_person_starts_errs_takes_a_hint_passes_and_resets(desk: Desk, separated: Deployed) -> None:
    exercises_for(separated, desk)
    deployment = separated.open()
    deployment.vault.delete(f"exercises/{EXERCISE}")  # another test may have passed it
    from playwright.sync_api import expect

    with chromium_running() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 3000})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{desk.url}/lab/tree/exercises/{PART}.ipynb?token=token&reset")
        page.get_by_text("| Idle").wait_for()
        menu(page, "Run", "Run All Cells")
        card = page.locator(".rb-exercise-card")
        button(card, "Start").wait_for()
        card.get_by_text("○ open").wait_for()
        assert button(card, "Check").is_disabled()
        picture(page, "exercise-open")

        button(card, "Start").click()
        card.get_by_text(f"{EXERCISE} is started").first.wait_for()
        expect(button(card, "Start")).to_be_disabled(timeout=PATIENCE)
        button(card, "Check").click()
        card.locator(".rb-error").get_by_text("asks for an answer").first.wait_for()
        card.get_by_label("Answer").select_option(WRONG)
        button(card, "Check").click()
        card.get_by_text(f"{EXERCISE}: not yet").first.wait_for()
        button(card, "Hint").click()
        card.get_by_text("hint 1:").first.wait_for()
        picture(page, "exercise-hint")
        card.get_by_label("Answer").select_option(RIGHT)
        button(card, "Check").click()
        card.get_by_text(f"{EXERCISE}: passed, 4 points").first.wait_for()
        picture(page, "exercise-passed")
        assert hindrances(page, ".rb-exercise-card") == []
        button(card, "Reset").click()
        card.get_by_text("the deployment is as its parameters want it").first.wait_for()
        expect(button(card, "Start")).to_be_enabled(timeout=PATIENCE)
        idle(page)
    assert [record.points for row, record in course(deployment).rows if row.id == EXERCISE] == [4]
    assert not deployment.nginx.plan()
    deployment.close()


def button(card: Any, name: str) -> Any:
    return card.get_by_role("button", name=name)
