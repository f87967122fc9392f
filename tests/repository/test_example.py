"""The executed example in docs/example: whole, small, without traces of who made it, and of the chapters as they are now."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from pathlib import Path

import nbformat
import pytest

from runbook_lib.evidence import runs
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.patterns import PATTERNS
from tests.conftest import ROOT

EXAMPLE = ROOT / "docs" / "example"
AGAIN = "make it anew: docs/make_example.py says how"
EXPECTED = {"greg-single": "leak", "greg-original": "leak", "greg-separated": "separated", "as-cluster": None}
TRACES = re.compile(r"BEGIN [A-Z ]*PRIVATE KEY|/root/|/home/\w|/tmp/|/work/|\w+@(?!laptop\b|lab\.|example\.)[\w-]+ \(process")


def headings(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines() if re.match("##? ", line)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pattern_has_a_whole_run_with_the_result_that_its_story_tells(pattern: str) -> None:
    result = json.loads((EXAMPLE / pattern / "result.json").read_text())
    assert result["ok"] and result["schema"] == runs.SCHEMA and (result["statement"] or {}).get("kind") == EXPECTED[pattern]
    assert (EXAMPLE / pattern / "report.html").is_file()


@pytest.mark.parametrize(("pattern", "chapter"), [(pattern, chapter.name) for pattern in PATTERNS for chapter in chapters_of(pattern)])
def test_its_chapters_are_built_as_the_chapters_are_now(pattern: str, chapter: str) -> None:
    assert headings(EXAMPLE / pattern / f"{chapter}.ipynb") == headings(ROOT / "notebooks" / f"{chapter}.ipynb"), AGAIN


def test_it_is_small_and_says_nothing_of_who_made_it() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10_000_000
    assert (ROOT / "docs" / "walk.png").stat().st_size <= 3_000_000
    found = {str(path.relative_to(EXAMPLE)): traces.group() for path in files if (traces := TRACES.search(path.read_text()))}
    assert found == {}


def test_its_pictures_are_whole() -> None:
    """Replacing a word in a file once changed what a picture's base64 said."""
    found = 0
    for path in EXAMPLE.rglob("*"):
        for text in re.findall(r"data:image/png;base64,([\w+/=]+)", path.read_text()) if path.is_file() else ():
            picture, at = base64.b64decode(text, validate=True), 8
            while at < len(picture):
                length, kind = struct.unpack(">I4s", picture[at : at + 8])
                (told,) = struct.unpack(">I", picture[at + 8 + length : at + 12 + length])
                assert told == zlib.crc32(picture[at + 4 : at + 8 + length]), f"{path.relative_to(EXAMPLE)}: {kind!r}"
                at += length + 12
            found += 1
    assert found >= 12
