"""The Words boxes are written into their cells, and nothing else in a chapter changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runbook_lib.errors import RunbookError
from runbook_lib.notebook import words_cell
from tests.conftest import ROOT

NAME = "05_configure_nginx"


@pytest.fixture
def chapters(tmp_path: Path) -> Path:
    """Copies of the chapters."""
    return shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")


def change(path: Path, ends: str, source: list[str]) -> str:
    """Give the cell whose id ends so another source; returns what the file said before."""
    before = path.read_text()
    book = json.loads(before)
    next(cell for cell in book["cells"] if cell["id"].endswith(ends))["source"] = source
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n")
    return before


def test_a_box_that_somebody_changed_is_made_anew_byte_for_byte(chapters: Path) -> None:
    path = chapters / f"{NAME}.ipynb"
    before = change(path, "-words", ["something else"])
    assert words_cell.texts(chapters)[path] == before


def test_a_word_that_a_chapter_begins_to_use_comes_into_its_box(chapters: Path) -> None:
    path = chapters / f"{NAME}.ipynb"
    change(path, "-q3", ["Through a bastion?"])
    assert "- **bastion**: " not in path.read_text() and "- **bastion**: " in words_cell.texts(chapters)[path]


def test_neither_code_nor_addresses_nor_the_box_itself_are_prose() -> None:
    cells = [
        {"cell_type": "markdown", "id": "05-words", "source": ["- **upstream**: it"]},
        {"cell_type": "markdown", "id": "05-1", "source": ["See [this](../docs/glossary.md#tier).\n", "```nginx\n", "upstream x\n", "```\n"]},
        {"cell_type": "code", "id": "05-2", "source": ["plan"]},
    ]
    assert words_cell.prose({"cells": cells}) == "See [this ."


def test_a_chapter_without_the_cell_is_named(chapters: Path) -> None:
    path = chapters / f"{NAME}.ipynb"
    path.write_text(path.read_text().replace('"05-words"', '"05-other"'))
    with pytest.raises(RunbookError, match="no Words box") as caught:
        words_cell.texts(chapters)
    assert caught.value.where == path.name and "05-words" in str(caught.value.next_step)
