"""An error's card leads to what explains it: the parameters cell, the key's line in the reference, the chapter it names."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from runbook_lib.check import Check, CheckTable
from runbook_lib.errors import ChecksFailed, HostError, LockHeld, ParamsError, PlanOvertaken, RunbookError, Stopped
from runbook_lib.notebook.error_card import NOTEBOOKS, REFERENCE, SECTIONS, error_card, linked, links_of
from runbook_lib.spec.chapters import CHAPTERS
from runbook_lib.spec.chapters import NOTEBOOKS as FOLDER
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.model import Spec
from tests.conftest import ROOT

PARAMS = "params/greg-separated.lab.yaml"


def headings(notebook: Path) -> set[str]:
    """Anchors as JupyterLab and nbconvert make them of a notebook's headings."""
    cells = json.loads(notebook.read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {heading.replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("overrides", "key", "line"),
    [
        ({"cloud.disk_gb": 5}, "cloud.disk_gb", "cloud.disk_gb"),
        ({"nodes.store": 99}, "nodes.store", "nodes"),
        ({"hardening": "none"}, "hardening", "hardening"),
        ({"cloud.network": "10.0.0.1/24"}, "cloud.network", "cloud.network"),
    ],
)
def test_a_wrong_key_leads_to_its_line_in_the_reference(overrides: dict[str, object], key: str, line: str) -> None:
    with pytest.raises(ParamsError) as caught:
        load_spec(PARAMS, overrides)
    assert caught.value.key == key
    card = error_card(caught.value)
    assert f'href="{REFERENCE}#{line}"' in card
    assert 'href="#Parameters"' in card
    meaning = next(row.description for row in Spec.reference() if row.key == line)
    assert html.escape(meaning) in card


def test_a_key_that_is_unknown_leads_to_the_whole_reference() -> None:
    with pytest.raises(ParamsError) as caught:
        load_spec(PARAMS, {"colour": "red"})
    assert f'href="{REFERENCE}">every parameter' in error_card(caught.value)


def test_the_reference_has_an_anchor_for_every_key() -> None:
    page = (ROOT / "docs" / "parameters.md").read_text()
    assert [row.key for row in Spec.reference() if f'<a id="{row.key}"></a>' not in page] == []


def test_the_card_of_a_failed_verification_has_each_row_that_failed_once_and_all_of_them_folded() -> None:
    checks = CheckTable([Check(f"nginx.{status}", f"Check {status}", status, "1", f"seen {status}", "lb-1") for status in ("pass", "fail", "undecided")])
    with pytest.raises(ChecksFailed) as caught:
        checks.raise_if_failed()
    card = error_card(caught.value)
    above, _, folded = card.partition("<details><summary>All 3 checks")
    assert "2 of 3 checks did not pass" in above
    assert [above.count(f"seen {status}") for status in ("pass", "fail", "undecided")] == [0, 1, 1]
    assert [folded.count(f"seen {status}") for status in ("pass", "fail", "undecided")] == [1, 1, 1]
    assert str(caught.value).count("seen fail") == 1, "a terminal has the rows as lines"


def test_a_stop_that_was_asked_for_is_amber_and_has_no_way_below() -> None:
    try:
        raise Stopped("stopped before configuration on lb-1, as asked", "lb-1")
    except Stopped as error:
        card = error_card(error)
    assert 'class="rb-stopped"' in card and "rb-error" not in card and "<details>" not in card and "it goes on from here" in card


@pytest.mark.parametrize("kind", SECTIONS)
def test_the_section_that_a_card_leads_to_is_in_every_chapter_that_can_stop_so(kind: type[RunbookError]) -> None:
    anchor = SECTIONS[kind][0]
    for chapter in CHAPTERS.values():
        if kind is not PlanOvertaken or chapter.converges:
            assert anchor in headings(FOLDER / f"{chapter.name}.ipynb"), f"{chapter.name}: {anchor}"


def test_in_an_exercise_every_link_of_a_card_leads_to_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "exercises")
    errors = [
        ParamsError("x", None, "y", "nodes.store"), PlanOvertaken("x"), LockHeld("see chapter 01"), ChecksFailed("x", "demo", chapter=NOTEBOOKS["07"]),
        HostError("x", "lb-1", "run chapters 04 and 05"),
    ]  # fmt: skip
    links = [link for error in errors for link in re.findall(r'href="([^"]+)"', error_card(error))]
    assert {"#Parameters", "#Where-the-deployment-stands", "../notebooks/01_launch_ec2.ipynb", "../notebooks/07_verify_sso_separation.ipynb"} <= set(links)
    for link in links:
        path, _, anchor = link.partition("#")
        assert Path(path).is_file() if path else all(anchor in headings(part) for part in Path.cwd().glob("*.ipynb")), link


@pytest.mark.parametrize("folder", ["notebooks", "work/mine/notebooks", "work/mine/exercises"])
def test_a_chapter_is_reached_from_work_copies_too(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("notebooks", "work/mine/notebooks", "work/mine/exercises"):
        (tmp_path / place).mkdir(parents=True)
    for name in ("05_configure_nginx", "99_tear_down"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
        (tmp_path / "work/mine/notebooks" / f"{name}.ipynb").touch()
    monkeypatch.chdir(tmp_path / folder)
    [link] = re.findall(r'href="([^"]+)"', linked("see chapter 05"))
    assert Path(link).resolve().parent == (tmp_path / folder).with_name("notebooks")


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("run chapter 01: it launches", ["01_launch_ec2"]),
        ("run chapter 01_launch_ec2: it makes every secret", ["01_launch_ec2"]),
        ("correct it in chapter 04 or 05 and prove again", ["04_configure_greg_nodes", "05_configure_nginx"]),
        ("the plans of chapters 04 and 05", ["04_configure_greg_nodes", "05_configure_nginx"]),
        ("tear it down (chapter 99)", ["99_tear_down"]),
        ("chapter 42 of 05 books; 01:02 in chapter 01x", []),
    ],
)
def test_a_chapter_that_the_words_name_is_a_link(text: str, targets: list[str]) -> None:
    assert re.findall(r'href="(\w+)\.ipynb"', linked(text)) == targets
    assert re.sub(r"<[^>]+>", "", linked(text)) == text


def test_failed_checks_lead_to_their_chapter_and_a_held_lock_to_the_board() -> None:
    assert (f"{NOTEBOOKS['07']}.ipynb", "chapter 07") in links_of(ChecksFailed("x", "demo", chapter=NOTEBOOKS["07"]))
    assert links_of(LockHeld("x"))[0][0] == "#Where-the-deployment-stands"


def test_words_of_a_host_are_not_taken_for_markup() -> None:
    card = error_card(HostError("<script>alert(1)</script>", "lb-1", "see chapter 05"))
    assert "<script>" not in card
    assert '<a href="05_configure_nginx.ipynb">05</a>' in card
