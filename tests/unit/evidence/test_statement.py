"""The two statements about a proof and its one count: the same in notebook, result, report and site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runbook_lib.check import Check, CheckTable
from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.evidence import report, runs
from runbook_lib.evidence.comparison import proof_facts, sides_of
from runbook_lib.evidence.journal import Journal, now
from runbook_lib.evidence.statement import CLASSES, Statement, tally
from runbook_lib.evidence.statement import matrix as class_by_user
from runbook_lib.headless import runner
from runbook_lib.waiting import wait_until
from tests.support.recorded_proof import CHAPTER, recorded


@pytest.mark.parametrize(
    ("found", "lines", "classes"),
    [
        (Statement("leak", 27, "leak", True), ("System: ✘ LEAKS (27 ways)", "As expected: ✔ yes (expected: a leak)"), ["leak", "yes"]),
        (Statement("leak", 1, "separated", False), ("System: ✘ LEAKS (1 way)", "As expected: ✘ NO (expected: separated)"), ["leak", "no"]),
        (Statement("separated", 0, "separated", True), ("System: ✔ SEPARATED", "As expected: ✔ yes (expected: separated)"), ["separated", "yes"]),
        (Statement("separated", 0, "leak", False), ("System: ✔ SEPARATED", "As expected: ✘ NO (expected: a leak)"), ["separated", "no"]),
        (Statement("undecided", 0, "separated", False), ("System: ? NOT DECIDED", "As expected: ✘ NO (expected: separated)"), ["undecided", "no"]),
        (Statement("", 0, "separated", False), ("System: ○ NOT TESTED", "As expected: ○ not known"), ["undecided", "undecided"]),
    ],
)
def test_two_statements_in_two_colours(found: Statement, lines: tuple[str, str], classes: list[str]) -> None:
    assert found.lines == lines and str(found) == "\n".join(lines)
    assert re.findall(r'class="rb-statement (\w+)"', found._repr_html_()) == classes


@pytest.mark.parametrize("configuration", ["single", "original", "hosts", "allow-list", "app-removed", "full"])
def test_ways_attempts_and_rows_are_one_count_everywhere(tmp_path: Path, configuration: str) -> None:
    expect = "separated" if configuration == "full" else "leak"
    proof, run = recorded(tmp_path, configuration, expect)
    result = report.finish(Journal(run))
    page = (run / "report.html").read_text()
    count = proof.tally
    assert count.ways == len(proof.ways) == len(re.findall("rb-leak", proof.checks._repr_html_()))
    assert result["counts"] == vars(count) and result["statement"]["ways"] == count.ways
    assert result["verdict"] == (f"leaks ({count.ways} ways)" if count.ways else "separated")
    assert f"System: {result['statement']['system']}" in str(proof) and str(count) in str(proof)
    assert result["statement"]["system"] in page and str(count) in page
    assert page.count('<td class="mark">✘ leaks, ') == count.ways
    assert page.count("△ open (limit of the product)") == count.limits_open == 3
    users, rows = class_by_user(entry for entry in runs.read(run) if entry["verb"] == "attempt")
    assert users[-1] == rows[-1][0] == "all"
    assert rows[-1][1][-1].leak == count.ways and rows[-1][1][-1].held == count.attempts - count.ways
    assert [sum(cell.leak for cell in cells[:-1]) for _, cells in rows] == [cells[-1].leak for _, cells in rows]
    (side,) = sides_of([run])
    assert side.tally == count and len(proof_facts([side])["rows"]) == count.attempts


def test_a_leaking_run_is_green_nowhere_however_expected_it_is(tmp_path: Path) -> None:
    proof, run = recorded(tmp_path, "single", "leak")
    report.finish(Journal(run))
    page = (run / "report.html").read_text()
    for line in re.findall(r"<tr class=\"rb-pass\">.*|<p class=\"rb-statement (?:yes|separated).*", page):
        assert "leak" not in line.split("<details")[0].replace("expected: a leak", "").replace("leaks in", "")
    assert "✔ verified" not in page and "✘ LEAKS (" in page
    assert 'class="verdict"' not in page
    assert 'class="rb-statement yes"' in proof._repr_html_() and "rb-statement separated" not in proof._repr_html_()


def test_the_report_says_what_was_not_tested_and_which_risks_remain(tmp_path: Path) -> None:
    _, run = recorded(tmp_path, "full", "separated")
    Journal(run).checked(
        CHAPTER, [Check("sso.browser-admin", "In the browser", "skipped", "-", "no browser is installed", "Chromium", CHAPTER, "browser", "undecided")]
    )
    page = report.render(run)
    scope = page[page.index('id="scope"') :]
    for words in (
        "Known vulnerabilities (CVEs)",
        "In the browser: no browser is installed",
        "out of support",
        "An assertion used a second time",
        "this deployment is full",
    ):
        assert words in scope, words


def test_every_attempt_has_a_class_and_a_severity_with_its_reason() -> None:
    for attempt in matrix()[0]:
        if attempt.kind == "control":
            assert not attempt.class_ and not attempt.severity
        else:
            assert attempt.class_ in CLASSES and attempt.severity in ("critical", "high", "medium", "low") and len(attempt.severity_reason) > 20, attempt.id


def test_a_walk_in_the_browser_that_got_through_leaves_nothing_separated(tmp_path: Path) -> None:
    _, run = recorded(tmp_path, "full", "separated")
    Journal(run).checked(CHAPTER, [Check("sso.browser-admin", "In the browser", "fail", "-", "in", "Chromium", CHAPTER, "browser", "leak")])
    found = runs.statement_of(runs.read(run))
    assert (found.system, found.expected) == ("? NOT DECIDED", False) and not runs.summarise(runs.read(run))["ok"]


NGINX_CHAPTER = "05_configure_nginx"
AFTER = {
    "nothing": ((), ""),
    "a look at what would change": ((("plan", NGINX_CHAPTER, {}),), ""),
    "the chapters verified again": ((("verify", NGINX_CHAPTER, {}),), ""),
    "a drill that changes nothing": ((("failover", CHAPTER, {}),), ""),
    "the walk in a browser": ((("browser", CHAPTER, {}), ("works", CHAPTER, {})), ""),
    "an apply that found nothing to change": ((("apply", NGINX_CHAPTER, {}),), ""),
    "a repair of what had drifted": ((("change", NGINX_CHAPTER, {}), ("apply", NGINX_CHAPTER, {})), "proven before the change of 05 at "),
    "an apply that failed half way": ((("change", NGINX_CHAPTER, {}), ("apply", NGINX_CHAPTER, {"ok": False})), "proven before the change of 05 at "),
    "another proof that failed": ((("prove", CHAPTER, {"ok": False}),), "and another proof came to no verdict at "),
    "another proof that was killed before its verdict": ((("prove", CHAPTER, {}),), "and another proof came to no verdict at "),
    "a rotation": ((("change", NGINX_CHAPTER, {}), ("rotate", "", {"seconds": 60.0})), ""),
    "a restore": ((("change", "01_launch_ec2", {}), ("restore", "", {"seconds": 60.0})), ""),
    "a disaster drill": ((("change", "01_launch_ec2", {}), ("disaster", "", {"seconds": 60.0})), ""),
    "a rotation that failed": ((("change", NGINX_CHAPTER, {}), ("rotate", "", {"seconds": 60.0, "ok": False})), "proven before the change of 05 at "),
    "a teardown of what is left": ((("change", "99_tear_down", {}),), ""),
}


@pytest.mark.parametrize(("lines", "words"), AFTER.values(), ids=AFTER)
def test_what_comes_after_a_proof_makes_it_outdated_in_result_and_report(tmp_path: Path, lines: tuple, words: str) -> None:
    _, run = recorded(tmp_path, "full", "separated")
    for verb, chapter, more in lines:
        Journal(run).write(chapter, verb, **more)
    result, page = report.finish(Journal(run)), (run / "report.html").read_text()
    assert words in result["statement"]["outdated"] and bool(words) == bool(result["statement"]["outdated"])
    proven = next(chapter for chapter in result["chapters"] if chapter["name"] == CHAPTER)
    if words:
        assert not result["ok"] and not result["statement"]["expected"] and not proven["ok"]
        assert "✔ SEPARATED, when it was proven" in page and f"As expected: ○ not known: {result['statement']['outdated']}" in page
        assert result["statement"]["outdated"].endswith("; prove again") and sides_of([run])[0].statement.outdated == result["statement"]["outdated"]
    else:
        assert result["statement"]["expected"] and proven["ok"] and "✔ yes (expected: separated)" in page


def proved(folder: Path, hardening: str = "full") -> Path:
    """A run of the deployment `a` that proved it separated."""
    journal = Journal(folder, {"deployment": "a", "pattern": "greg-separated", "hardening": hardening, "expect": "separated"})
    journal.write(CHAPTER, "prove")
    journal.verdict(CHAPTER, "separated", "separated", True)
    journal.write(CHAPTER, "verify")
    return folder


def later(first: Path, *lines: tuple, day: int = 2, hardening: str = "full") -> Journal:
    journal = Journal(first.parent / f"2026010{day}T000000Z", {"deployment": "a", "pattern": "greg-separated", "hardening": hardening, "expect": "separated"})
    for verb, chapter, more in lines:
        journal.write(chapter, verb, **more)
    return journal.open()


LATER = {**AFTER, "a teardown that left something": ((("destroy", "99_tear_down", {"ok": False}),), "proven before the teardown at ")}


@pytest.mark.parametrize(("lines", "words"), LATER.values(), ids=LATER)
def test_what_a_later_run_did_makes_the_proof_outdated_in_all_that_it_says(tmp_path: Path, lines: tuple, words: str) -> None:
    first = proved(tmp_path / "a" / "20260101T000000Z")
    journal = later(first, *lines)
    result, page = report.finish(journal), (journal.folder / "report.html").read_text()
    row = next(row for row in result["standing"] if row["chapter"] == CHAPTER)
    (side,), said = sides_of([journal.folder]), []
    runner._summary(result, journal, True, said.append)
    assert words in row["outdated"] and bool(words) == bool(row["outdated"]) and row["ok"] is not bool(words)
    assert side.statement.outdated == row["outdated"] and (f"{CHAPTER}: {row['outdated']}" in map(str, said)) is bool(words)
    if words:
        assert "System: ✔ SEPARATED, when it was proven (proven in run 20260101T000000Z" in page and f"As expected: ○ not known: {row['outdated']}" in page
        assert f"△ outdated, prove again</td><td>{CHAPTER}" in page
    else:
        assert "System: ✔ SEPARATED (proven in run 20260101T000000Z, not in this one)" in page and "outdated" not in page


CHANGED = ("change", NGINX_CHAPTER, {})


def test_a_run_that_changes_and_proves_again_outdates_nothing(tmp_path: Path) -> None:
    first = proved(tmp_path / "a" / "20260101T000000Z")
    second = proved(later(first, CHANGED).folder)
    assert not any(row["outdated"] for row in report.finish(Journal(second))["standing"])
    assert not sides_of([later(first, day=3).folder])[0].statement.outdated


def test_a_run_of_another_design_that_changed_the_machines_outdates_the_proof(tmp_path: Path) -> None:
    first = proved(tmp_path / "a" / "20260101T000000Z")
    proved(later(first, CHANGED, hardening="hosts").folder)
    [side] = sides_of([later(first, ("verify", NGINX_CHAPTER, {}), day=3).folder])
    assert side.statement.outdated.startswith("proven before the change of 05 at ")


def test_a_change_before_the_proof_or_before_a_rotation_that_followed_is_told_apart(tmp_path: Path) -> None:
    """The rotation's time does not cover what was changed before it began."""
    run = tmp_path / "a" / "20260101T000000Z"
    journal = Journal(run, {"deployment": "a", "pattern": "greg-separated", "expect": "separated"})
    journal.write(NGINX_CHAPTER, "change")
    journal.write(CHAPTER, "prove")
    journal.verdict(CHAPTER, "separated", "separated", True)
    assert not runs.statement_of(journal.entries()).outdated
    journal.write(NGINX_CHAPTER, "change")
    changed = journal.entries()[-1]
    wait_until(now, 5, pause=0.002, enough=lambda utc: utc > changed["utc"])
    journal.write("", "rotate")
    assert runs.statement_of(journal.entries()).outdated.startswith("proven before the change of 05")


def test_only_the_newest_proof_of_a_journal_is_counted(tmp_path: Path) -> None:
    _, run = recorded(tmp_path, "full", "separated")
    journal = Journal(run)
    journal.write(CHAPTER, "prove")
    row = Check("sso.one", "An attempt", "pass", "-", "in", "outside", CHAPTER, "attempt", "leak")
    journal.checked(CHAPTER, CheckTable([row]))
    assert tally(runs.checks_of(runs.read(run)).values()).attempts == 1
