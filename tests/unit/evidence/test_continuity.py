"""Continuity: chapters run by hand share a run, and the newest state of every chapter is shown, whichever run it is of."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from runbook_lib.evidence import continuity, provenance, report
from runbook_lib.evidence.journal import Journal
from runbook_lib.headless.book.runs import chosen
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.model import Spec

SPEC = load_spec("params/greg-separated.lab.yaml")
HEAD = {"deployment": "greg-separated", "pattern": "greg-separated", "hardening": "full", "expect": "separated"}
CHAPTERS = ("01_launch_ec2", "02_install_mysql", "04_configure_greg_nodes", "05_configure_nginx", "07_verify_sso_separation")


def by_hand(runs: Path, spec: Spec = SPEC) -> Journal:
    """The journal of one chapter's kernel, as a session opens it."""
    journal = Journal.begin(spec, runs, report.finish)
    journal.provenance = lambda: provenance.head(spec, "http://lab", {})
    return journal


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNBOOK_RUN", raising=False)


def test_chapters_by_hand_share_one_run_and_its_report(tmp_path: Path) -> None:
    for name in CHAPTERS:
        with by_hand(tmp_path).attempt(name, "verify"):
            pass
    folders = list((tmp_path / SPEC.deployment).glob("2*Z*"))
    assert len(folders) == 1
    result = json.loads((folders[0] / "result.json").read_text())
    assert [chapter["name"] for chapter in result["chapters"]] == list(CHAPTERS)
    assert result["covered"] == "5 of 5 chapters verified in this run" and result["complete"]


@pytest.mark.parametrize(
    ("between", "goes_on"),
    [
        ("nothing", True),
        ("other parameters", False),
        ("a run of the runner", False),
        ("a teardown", False),
        ("a day", False),
    ],
)
def test_a_session_goes_on_only_with_the_same_parameters_and_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str, goes_on: bool) -> None:
    first, spec = by_hand(tmp_path), SPEC
    first.write(CHAPTERS[0], "verify")
    if between == "other parameters":
        spec = load_spec("params/greg-separated.lab.yaml", {"nodes.store": 3})
    elif between == "a run of the runner":
        Journal.begin(SPEC, tmp_path, new=True).write("", "run")
    elif between == "a teardown":
        first.write("99_tear_down", "destroy")
    elif between == "a day":
        going_on = continuity.session_run
        monkeypatch.setattr(continuity, "session_run", lambda parent, head: going_on(parent, head, datetime.now(UTC) + timedelta(days=1)))
    assert (by_hand(tmp_path, spec).folder == first.folder) is goes_on


def a_run(runs: Path, when: str, *chapters: str, failed: str = "", skipped: tuple[str, ...] = (), verdict: str = "") -> Path:
    """A run of the runner with executed notebooks; chapters that were left out have none."""
    folder = runs / "greg-separated" / f"2026010{when}T000000Z"
    journal = Journal(folder, HEAD)
    journal.write("", "run", who="me@here", versions={}, params="params/x.yaml", machine="Linux")
    for name in skipped:
        journal.write(name, "chapter", skipped="verified before, nothing to change")
    for name in chapters:
        journal.write(name, "chapter", ok=name != failed, error="no" if name == failed else "")
        cells = [nbformat.v4.new_markdown_cell(f"# {name} of {when}\n[00](00_start_here.ipynb)")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    if verdict:
        journal.verdict(CHAPTERS[-1], "separated", verdict, True)
    report.finish(journal)
    return folder


@pytest.mark.parametrize(("made", "holds"), [(True, True), (False, False)], ids=["made", "failed"])
def test_a_backup_that_was_made_leaves_its_chapter_verified(tmp_path: Path, made: bool, holds: bool) -> None:
    a_run(tmp_path, "1", *CHAPTERS, verdict="separated")
    second = a_run(tmp_path, "2", CHAPTERS[0])  # another machine for the database, say: a backup comes first
    Journal(second, {}).write(CHAPTERS[1], "backup", ok=made)
    assert next(row for row in continuity.standing(second) if row.chapter == CHAPTERS[1]).ok is holds


DATABASE, NODES, FRONT = CHAPTERS[1], CHAPTERS[2], CHAPTERS[3]
ROTATED = [("", "rotate-run"), (CHAPTERS[0], "apply"), (DATABASE, "change"), (NODES, "apply"), (NODES, "verify"), (FRONT, "change"), (FRONT, "rotate")]
RESTORED = [("", "restore-run"), (DATABASE, "backup"), (DATABASE, "restore"), (NODES, "apply"), (DATABASE, "restore")]
NOT_YET = "△ applied, not verified"


@pytest.mark.parametrize(
    ("rows", "ok", "states"),
    [
        ([(DATABASE, "apply")], False, {DATABASE: NOT_YET}),
        ([(DATABASE, "apply"), (DATABASE, "verify")], True, {DATABASE: "✔ verified"}),
        ([(DATABASE, "apply"), (DATABASE, "verify"), (DATABASE, "apply")], False, {DATABASE: NOT_YET}),
        ([(DATABASE, "verify"), (DATABASE, "apply"), (NODES, "verify")], False, {DATABASE: NOT_YET, NODES: "✔ verified"}),
        ([(DATABASE, "apply"), (DATABASE, "verify", False)], False, {DATABASE: "✘ not"}),
        ([(DATABASE, "verify"), (DATABASE, "apply", False)], False, {DATABASE: "✘ not"}),
        ([(NODES, "apply"), (CHAPTERS[0], "chapter")], True, {CHAPTERS[0]: "✔ verified", NODES: NOT_YET}),
        ([(CHAPTERS[0], "chapter"), (NODES, "apply")], False, {CHAPTERS[0]: "✔ verified", NODES: NOT_YET}),
        (ROTATED, True, {NODES: "✔ verified"}),
        ([*ROTATED[:-1], (FRONT, "rotate", False)], False, {CHAPTERS[0]: NOT_YET, DATABASE: "✘ not", NODES: "✔ verified", FRONT: "✘ not"}),
        ([("", "rotate-run"), (FRONT, "rotate")], True, {}),
        ([(FRONT, "verify"), (FRONT, "rotate")], True, {FRONT: "✔ verified"}),
        (RESTORED, True, {DATABASE: NOT_YET, NODES: NOT_YET}),
        ([*RESTORED[:-1], (DATABASE, "restore", False)], False, {DATABASE: "✘ not", NODES: NOT_YET}),
        ([("", "restore-run"), (DATABASE, "recreate")], True, {DATABASE: NOT_YET}),
    ],
    ids=[
        "applied", "applied and verified", "and applied again", "and another verified", "verification failed", "apply failed",
        "by the chapter that a run was to do", "a run killed before it verified", "rotated", "rotation failed", "nothing but a rotation", "rotated by hand",
        "restored", "restore failed", "begun anew",
    ],
)  # fmt: skip
def test_a_chapter_is_verified_only_when_it_was_not_changed_since(tmp_path: Path, rows: list[tuple[Any, ...]], ok: bool, states: dict[str, str]) -> None:
    a_run(tmp_path, "1", *CHAPTERS)
    journal = Journal(tmp_path / "greg-separated" / "20260102T000000Z", HEAD)
    for chapter, verb, *ended in rows:
        journal.write(chapter, verb, ok=not ended)
    result, page = report.finish(journal), (journal.folder / "report.html").read_text()
    assert result["ok"] is ok
    assert {name: state for state, name in re.findall(r'"mark">([^<]+)</td><td>(\w+)</td><td>[\d.]+</td>', page)} == states
    newest = {name: state for state, name, run in re.findall(r'"mark">([^<]+)</td><td>(\w+)</td><td>[^<]+</td><td>(\w+)</td>', page)}
    assert newest == dict.fromkeys(CHAPTERS, "✔ verified") | states


BY_HAND = {  # a verb by hand, and whether it verifies the chapter; None: it says nothing of it
    **{f"07 {verb}": (CHAPTERS[4], verb, True, None) for verb in ("works", "browser", "walk_pages", "prove", "failover")},
    **{f"07 {verb}": (CHAPTERS[4], verb, True, True) for verb in ("verify", "verdict")},
    "07 walk_pages failed": (CHAPTERS[4], "walk_pages", False, False),
    "04 verify": (NODES, "verify", True, True),
    "04 deploy": (NODES, "deploy", True, None),
    "02 dump": (DATABASE, "dump", True, None),
    "01 change": (CHAPTERS[0], "change", True, False),
}


@pytest.mark.parametrize(("chapter", "verb", "ended", "verifies"), BY_HAND.values(), ids=BY_HAND)
@pytest.mark.parametrize("before", [True, False], ids=["verified before", "red before"])
def test_a_chapter_by_hand_is_verified_by_a_proof_only_and_without_one_stays_as_it_was(
    tmp_path: Path, chapter: str, verb: str, ended: bool, verifies: bool | None, before: bool
) -> None:
    first = a_run(tmp_path, "1", *CHAPTERS, failed="" if before else chapter)
    journal = Journal(tmp_path / "greg-separated" / "20260102T000000Z", HEAD)
    journal.write(chapter, verb, ok=ended)
    result = report.finish(journal)
    assert [(each["name"], each["ok"]) for each in result["chapters"]] == [(chapter, bool(verifies))]
    newest = next(row for row in continuity.standing(journal.folder) if row.chapter == chapter)
    assert (newest.ok, newest.run) == ((before, first.name) if verifies is None else (verifies, journal.folder.name))


@pytest.mark.parametrize(("chapter", "verb"), [("06_verify_as_cluster", "failover"), ("08_second_day", "disaster"), ("99_tear_down", "destroy")])
def test_a_drill_and_a_teardown_prove_their_chapters(tmp_path: Path, chapter: str, verb: str) -> None:
    journal = Journal(tmp_path / "as" / "20260102T000000Z", {"deployment": "as", "pattern": "as-cluster"})
    journal.write(chapter, verb)
    assert [(each["name"], each["ok"]) for each in report.finish(journal)["chapters"]] == [(chapter, True)]


def test_the_newest_state_of_every_chapter_comes_with_its_run_time_and_notebook(tmp_path: Path) -> None:
    a_run(tmp_path, "1", *CHAPTERS, verdict="separated")
    second = a_run(tmp_path, "2", "04_configure_greg_nodes", failed="04_configure_greg_nodes", skipped=CHAPTERS[:2])
    found = {row.chapter: row for row in continuity.standing(second)}
    assert {name: (row.ok, row.run[:8]) for name, row in found.items()} == {
        "01_launch_ec2": (True, "20260101"),
        "02_install_mysql": (True, "20260101"),
        "04_configure_greg_nodes": (False, "20260102"),
        "05_configure_nginx": (True, "20260101"),
        "07_verify_sso_separation": (True, "20260101"),
    }
    assert found["01_launch_ec2"].notebook == "20260101T000000Z/01_launch_ec2.ipynb" and len(found["01_launch_ec2"].sha256) == 64
    page = (second / "report.html").read_text()
    assert "2 of 5 chapters verified in this run; with earlier runs 4 of 5" in page
    assert "System: ✔ SEPARATED (proven in run 20260101T000000Z, not in this one)" in page


@pytest.mark.parametrize("what", ["a teardown", "another expectation"])
def test_what_was_before_a_teardown_or_of_another_design_counts_no_more(tmp_path: Path, what: str) -> None:
    first = a_run(tmp_path, "1", *CHAPTERS)
    if what == "a teardown":
        Journal(first).write("99_tear_down", "destroy")
    else:
        path = first / "journal.jsonl"
        path.write_text(path.read_text().replace('"expect": "separated"', '"expect": "leak"'))
    second = a_run(tmp_path, "2", CHAPTERS[0])
    assert continuity.covered(second)["covered"] == "1 of 5 chapters verified in this run"
    assert [row.ok for row in continuity.standing(second)] == [True, None, None, None, None]


@pytest.mark.parametrize("by_hand", [False, True], ids=["a run of its own", "the session that proved"])
def test_nothing_stands_after_a_teardown(tmp_path: Path, by_hand: bool) -> None:
    first = a_run(tmp_path, "1", *CHAPTERS, verdict="separated")
    last = Journal(first if by_hand else first.parent / "20260102T000000Z", HEAD)
    last.write("99_tear_down", "change")
    last.write("99_tear_down", "destroy")
    result, page = report.finish(last), (last.folder / "report.html").read_text()
    assert result["ok"] and [row["ok"] for row in result["standing"]] == [None] * 5
    assert result["covered"] == "0 of 5 chapters verified in this run since its teardown" and not result["complete"]
    assert page.count("○ not run") == 5
    if by_hand:
        assert "System: ✔ SEPARATED, when it was proven" in page and "As expected: ○ not known: proven before the teardown at " in page
    else:
        assert "SEPARATED" not in page


def test_what_was_verified_after_the_teardown_of_the_same_run_stands(tmp_path: Path) -> None:
    first = a_run(tmp_path, "1", *CHAPTERS)
    Journal(first).write("99_tear_down", "destroy")
    Journal(first).write(CHAPTERS[0], "verify")
    assert [row.ok for row in continuity.standing(first)] == [True, None, None, None, None]


def test_backups_by_themselves_do_not_push_earlier_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "MOST", 2)
    a_run(tmp_path, "1", *CHAPTERS)
    for day in "234":
        Journal(tmp_path / "greg-separated" / f"2026010{day}T000000Z", HEAD).write(CHAPTERS[1], "backup")
    a_run(tmp_path, "5", CHAPTERS[0])
    sixth = a_run(tmp_path, "6", CHAPTERS[0])
    assert continuity.covered(sixth)["covered"] == "1 of 5 chapters verified in this run; with earlier runs 5 of 5"


def test_the_book_of_a_resumed_run_keeps_the_earlier_chapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    a_run(tmp_path, "1", *CHAPTERS[:3], failed=CHAPTERS[2])
    a_run(tmp_path, "2", *CHAPTERS[2:], skipped=CHAPTERS[:2], verdict="separated")
    (run,) = chosen([])
    assert sorted(run.notebooks) == list(CHAPTERS) == [chapter.name for chapter in run.chapters]
    texts = {name: path.read_text() for name, path in run.notebooks.items()}
    assert "01_launch_ec2 of 1" in texts["01_launch_ec2"] and "04_configure_greg_nodes of 2" in texts["04_configure_greg_nodes"]
    assert run.statement["system"] == "✔ SEPARATED" and "run" not in run.statement
    a_run(tmp_path, "3", CHAPTERS[0])
    assert chosen([])[0].statement["run"] == "20260102T000000Z"
