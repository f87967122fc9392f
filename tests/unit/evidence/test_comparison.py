"""A finding finds its opposite among the runs kept here."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook_lib.evidence.comparison import MISSING, side_by_side
from runbook_lib.evidence.journal import Journal

CHAPTER = "07_verify_sso_separation"


def a_run(runs: Path, deployment: str, when: str, verdict: str, picture: str = "Opens the Publisher") -> Path:
    """A run with a verdict and, unless its title is empty, a picture."""
    folder = runs / deployment / when
    pattern = "greg-separated" if verdict == "separated" else "greg-single"
    journal = Journal(folder, {"deployment": deployment, "pattern": pattern, "hardening": "full", "expect": "leak"})
    journal.write("", "run")
    if picture:
        journal.screenshot(CHAPTER, "opens", picture, f"{deployment} {when}".encode(), f"seen by {deployment}")
    kind = {"separated": "separated", "not decided": "undecided"}.get(verdict, "leak")
    journal.verdict(CHAPTER, kind, verdict, True)
    return folder


def test_the_leak_stands_left_of_the_repair_whichever_of_them_is_asked(tmp_path: Path) -> None:
    repair = a_run(tmp_path, "repaired", "20260102T000000Z", "separated")
    leak = a_run(tmp_path, "leaky", "20260101T000000Z", "leaks (27 ways)")
    for asked in (repair, leak):
        both = side_by_side(asked, tmp_path)
        assert [one.deployment for one in both.found] == ["leaky", "repaired"]
    page = both._repr_html_()
    assert page.index("leaky") < page.index("System: ✘ LEAKS") < page.index("repaired") < page.index("System: ✔ SEPARATED")
    assert page.count("data:image/png;base64,") == 2
    assert "seen by leaky" in str(both) and "seen by repaired" in str(both)


@pytest.mark.parametrize(
    ("verdict", "picture"),
    [("separated", "Opens the Publisher"), ("not decided", "Opens the Publisher"), ("leaks (1 way)", "")],
    ids=["the same finding", "no finding", "no picture"],
)
def test_what_is_no_counterpart_is_not_set_beside(tmp_path: Path, verdict: str, picture: str) -> None:
    asked = a_run(tmp_path, "repaired", "20260102T000000Z", "separated")
    a_run(tmp_path, "other", "20260101T000000Z", verdict, picture)
    both = side_by_side(asked, tmp_path)
    assert not both.found
    assert str(both) == MISSING and "data:image" not in both._repr_html_()


def test_of_several_counterparts_the_newest_is_taken(tmp_path: Path) -> None:
    asked = a_run(tmp_path, "repaired", "20260109T000000Z", "separated")
    for deployment, when in (("single", "20260103T000000Z"), ("original", "20260105T000000Z"), ("third", "20260104T000000Z")):
        a_run(tmp_path, deployment, when, "leaks (3 ways)")
    a_run(tmp_path, "original", "20260101T000000Z", "leaks (2 ways)")
    leak = side_by_side(asked, tmp_path).found[0]
    assert (leak.deployment, leak.folder.name) == ("original", "20260105T000000Z")
