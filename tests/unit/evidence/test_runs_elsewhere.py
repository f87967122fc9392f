"""A run elsewhere in runs/ that this version cannot read, a newer one's or a damaged one, stops no other run from getting its report and manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.evidence import continuity, manifest, report
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.pictures.sign_on import walk_of
from tests.support.recorded_proof import CHAPTER, recorded


def field(row: dict[str, Any]) -> None:
    for request in row.get("requests", ()):
        request["http_version"] = "2"


def kind(row: dict[str, Any]) -> None:
    if row["verb"] == "verdict":
        row["kind"] = "partly"


def lacking(verb: str, *names: str) -> Callable[[dict[str, Any]], None]:
    """Return what takes a field away from every row of this verb, or one field of its field."""

    def change(row: dict[str, Any]) -> None:
        if row["verb"] == verb:
            inner = row if len(names) == 1 else row[names[0]]
            for one in inner if isinstance(inner, list) else [inner]:
                one.pop(names[-1])

    return change


def other(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda row: row.update({name: value})


UNREADABLE = {
    "another kind of verdict": kind,
    "a check without an id": lacking("check", "check", "id"),
    "rows without an end": lacking("verify", "ok"),
    "rows without a time": lacking("prove", "utc"),
    "times in another form": other("utc", 1764000000),
    "verbs in another form": other("verb", ["prove"]),
    "requests without an address": lacking("attempt", "requests", "url"),
    "requests that are no list of fields": lambda row: row.update(requests=["GET /"]) if row.get("requests") else None,
}


def rewritten(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rows = [json.loads(line) for line in (run / "journal.jsonl").read_text().split("\n") if line]
    for row in rows:
        change(row)
    (run / "journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("same_deployment", [False, True], ids=["another deployment's", "the deployment's own, earlier"])
def test_a_run_that_cannot_be_read_is_left_out(tmp_path: Path, same_deployment: bool, change: Callable[[dict[str, Any]], None]) -> None:
    _, mine = recorded(tmp_path, "full", "separated")
    _, leak = recorded(tmp_path, "single", "leak")
    if same_deployment:
        leak = leak.replace(mine.parent / "20250101T000000Z")
        rewritten(leak, lambda row: row.update(pattern="greg-separated", expect="separated") if row["verb"] == "begin" else None)
    rewritten(leak, change)
    assert report.finish(Journal(mine))["statement"]["expected"] and (mine / "report.html").is_file()
    assert not manifest.verify(mine).problems
    later = Journal(mine.parent / "20270101T000000Z", {"pattern": "greg-separated", "hardening": "full", "expect": "separated"})
    later.write(CHAPTER, "works")
    report.finish(later)


def test_a_result_without_a_journal_that_lacks_a_field_is_left_out(tmp_path: Path) -> None:
    _, mine = recorded(tmp_path, "full", "separated")
    for name, text in {"a": '{"statement": {"kind": "leak"}}', "b": "half of a docum", "c": "[]"}.items():
        run = tmp_path / name / "20260101T000000Z"
        run.mkdir(parents=True)
        (run / "result.json").write_text(text)
    assert report.finish(Journal(mine))["ok"]


def test_of_a_newer_versions_requests_the_known_fields_are_drawn(tmp_path: Path) -> None:
    _, run = recorded(tmp_path, "single", "leak")
    before = walk_of(run)
    rewritten(run, field)
    assert before and walk_of(run) == before and len(report.render(run)) > 1000


def test_what_a_run_did_that_cannot_be_read_nobody_knows(tmp_path: Path) -> None:
    _, first = recorded(tmp_path, "full", "separated")
    head = {"pattern": "greg-separated", "hardening": "full", "expect": "separated"}
    between = Journal(first.parent / "20260102T000000Z", head)
    between.write("05_configure_nginx", "change")
    rewritten(between.folder, other("utc", None))
    found = continuity.proven(Journal(first.parent / "20260103T000000Z", head).open().folder)
    assert found and found[1] == first.name and found[0].outdated == f"proven before run {between.folder.name}, which this version cannot read; prove again"
