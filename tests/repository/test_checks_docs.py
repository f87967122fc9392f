"""docs/checks.md names every check; what it says of an attempt is what the matrix says."""

from __future__ import annotations

import re

from runbook_lib.checks.sso.attempts import Attempt, matrix
from runbook_lib.checks.sso.crawl import WALKS
from tests.conftest import ROOT

TEXT = (ROOT / "docs/checks.md").read_text(encoding="utf-8")
SHOWN = ("single", "original", "hosts", "allow-list", "app-removed", "full")


def row(attempt: Attempt) -> str:
    known = [name for name in SHOWN if name in attempt.leaks_in]
    open_ = [f"({name})" for name in SHOWN if name in attempt.either_in]
    leaks = "-" if attempt.kind == "control" else ", ".join(known + open_) or "nowhere"
    place = f"{attempt.place} ({attempt.at})" if attempt.at else attempt.place
    cells = (
        f"`{attempt.id}`",
        attempt.title,
        attempt.kind,
        attempt.class_ or "-",
        attempt.severity or "-",
        attempt.who,
        place,
        leaks,
        attempt.why,
        attempt.closed_by or "-",
    )
    return f"| {' | '.join(cells)} |"


def test_every_attempt_has_its_row() -> None:
    assert [line for line in map(row, matrix()[0]) if line not in TEXT.splitlines()] == []


def test_no_row_is_left_of_an_attempt_that_is_gone() -> None:
    documented = re.findall(r"^\| `([\w-]+)` \|(?:[^|\n]*\|){9}$", TEXT, re.MULTILINE)
    assert documented == [attempt.id for attempt in matrix()[0]]


def test_the_ids_of_the_cluster_checks_are_named() -> None:
    source = "".join((ROOT / "runbook_lib/checks" / name).read_text() for name in ("cluster.py", "sso/publishing.py"))
    ids = {found.split("{")[0] for found in re.findall(r'f?"((?:cluster|asset)-[a-z-]+(?:\{)?)', source)}
    assert ids and [one for one in ids if f"`{one}" not in TEXT] == []


def test_every_walk_of_the_crawler_is_named() -> None:
    assert [f"works-{who}-{app}" for who, _kind, app, _words in WALKS] == re.findall(r"^\| `(works-[\w-]+)` \|", TEXT, re.MULTILINE)
