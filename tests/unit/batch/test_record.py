"""What a batch leaves: its document, the JUnit file, the page, and what is left out when it goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from runbook_lib.headless.batch.job import FAILED, SKIPPED, VERIFIED, JobResult
from runbook_lib.headless.batch.notify import letter, notify
from runbook_lib.headless.batch.page import grid, trend, write_page
from runbook_lib.headless.batch.record import BatchRecord, done_before, earlier
from runbook_lib.headless.batch.sweep import Sweep, load_sweep
from runbook_lib.redaction import redactor
from tests.support.listeners import web_listener

CARD = {"kind": "HostError", "what": "db-1 does not answer <b>", "where": "db-1, port 22", "next": "look at its console"}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "sweep.yaml"
    keys = {"matrix": {"nginx.tls": ["intermediate", "modern"], "clustering": [True, False]}, "exclude": [{"nginx.tls": "modern", "clustering": False}]}
    file.write_text(yaml.safe_dump({"sweep": "wide", "params": ["greg-single.lab.yaml"], "networks": "10.9.0.0/16", **keys}, sort_keys=False))
    return load_sweep(file)


@pytest.fixture
def outcomes() -> dict[str, JobResult]:
    ended = [
        JobResult("wide-intermediate-clustering", VERIFIED, "LEAKS in 26 of 60 ways", 40, 40, seconds=80.5, report="runs/a/1/report.html"),
        JobResult("wide-intermediate-no-clustering", FAILED, CARD["what"], 3, 40, seconds=20.0, error=CARD, attempts=2),
        JobResult("wide-modern-clustering", SKIPPED, "max_errors: 1 failed before"),
    ]
    return {outcome.name: outcome for outcome in ended}


def closed(sweep: Sweep, outcomes: dict[str, JobResult], verb: str = "run") -> tuple[BatchRecord, dict]:
    record = BatchRecord(sweep, verb)
    for outcome in outcomes.values():
        record.ended_row(outcome)
    return record, record.close(outcomes)


def test_the_document_has_every_row_in_the_sweeps_order_with_how_it_ended(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    record, found = closed(sweep, outcomes)
    assert json.loads((record.folder / "batch.json").read_text()) == json.loads(json.dumps(found))
    assert (found["ok"], found["verified"], found["states"]) == (False, 1, {"verified": 1, "failed": 1, "not begun": 1})
    assert [row["name"] for row in found["rows"]] == [row.name for row in sweep.rows]
    assert (record.folder.parent / "latest").resolve() == record.folder


def test_a_system_for_continuous_integration_sees_failures_and_what_was_not_begun(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    record, _ = closed(sweep, outcomes)
    suite = ElementTree.parse(record.folder / "junit.xml").getroot()
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {"tests": "3", "failures": "1", "skipped": "1"}
    [failure] = suite.iter("failure")
    assert failure.get("type") == "HostError" and "next: look at its console" in str(failure.text)


def test_the_page_has_the_matrix_each_failure_and_the_earlier_batches(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    all_well = {name: replace(outcome, state=VERIFIED, error=None) for name, outcome in outcomes.items()}
    closed(sweep, all_well)
    record, found = closed(sweep, outcomes)
    table = grid(found)
    assert (table["across"], table["columns"]) == ("clustering", ["true", "false"])
    assert [(title, [cell and cell["state"] for cell in cells]) for title, cells in table["lines"]] == [
        ("nginx.tls = intermediate", ["verified", "failed"]),
        ("nginx.tls = modern", ["not begun", None]),
    ]
    page = write_page(record.folder, found, earlier("wide")[:-1]).read_text()
    assert "db-1 does not answer &lt;b&gt;" in page and "look at its console" in page and "excluded" in page
    assert re.findall(r"<strong>(\d of \d)</strong>", page) == ["1 of 3", "3 of 3"]
    assert "✘ failed" in page[page.index("deployments over time") :]
    assert "http" not in re.sub(r'xmlns="[^"]*"|http-equiv', "", page), "it loads nothing from elsewhere"


def test_latest_leads_to_the_batch_under_way_and_after_a_kill_to_nothing_that_says_well(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    closed(sweep, {name: replace(outcome, state=VERIFIED, error=None) for name, outcome in outcomes.items()})
    killed = BatchRecord(sweep, "run")
    latest = killed.folder.parent / "latest"
    assert latest.resolve() == killed.folder
    killed.release()
    assert [file.name for file in latest.iterdir()] == ["batch.jsonl"]


def test_a_batch_that_was_cut_off_is_told_by_the_next_ones_page_and_one_under_way_is_not(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    first, second, third = outcomes
    killed = BatchRecord(sweep, "run")
    for name in (first, second):
        killed.began_row(name)
    killed.ended_row(outcomes[first])
    assert earlier("wide") == []
    killed.release()
    record, found = closed(sweep, {name: replace(outcome, state=VERIFIED, error=None) for name, outcome in outcomes.items()})
    table = trend([*earlier("wide")[:-1], found])
    assert [(one["cut_off"], one["ok"], one["well"], one["failed"]) for one in table["batches"]] == [(True, False, 1, [second, third]), (False, True, 3, [])]
    assert {name: states[0]["state"] for name, states in table["lines"]} == {second: "cut off", third: SKIPPED}
    assert "<strong>1 of 3</strong>, cut off</td>" in write_page(record.folder, found, earlier("wide")[:-1]).read_text()


def test_the_trend_shows_which_deployments_did_not_always_end_well_when_the_same_was_done(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    first, second, third = (row.name for row in sweep.rows)
    all_well = {name: replace(outcome, state=VERIFIED, error=None) for name, outcome in outcomes.items()}
    found = [
        closed(sweep, all_well, "plan")[1],
        closed(sweep, all_well)[1],
        closed(sweep, {**all_well, third: replace(outcomes[second], name=third)})[1],
        closed(sweep, outcomes)[1],
    ]
    table = trend(found)
    assert [(one["verb"], one["well"], one["failed"]) for one in table["batches"]] == [
        ("plan", 3, []),
        ("run", 3, []),
        ("run", 2, [third]),
        ("run", 1, [second, third]),
    ]
    assert [(name, [row["ok"] for row in states]) for name, states in table["lines"]] == [(third, [True, False, False]), (second, [True, True, False])]
    assert first in found[0]["rows"][0]["name"] and trend(found[:1])["lines"] == [] and trend(found[:1])["times"] == ""


def test_what_was_done_well_is_left_out_when_the_same_sweep_goes_on_with_the_same_verb(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    record, _ = closed(sweep, outcomes)
    assert list(done_before(sweep, "run")) == ["wide-intermediate-clustering"]
    assert done_before(sweep, "verify") == {}
    with open(record.folder / "batch.jsonl", "a") as cut:
        cut.write('{"event": "outcome", "name": "wide-mod')  # as a crash leaves it
    assert list(done_before(sweep, "run")) == ["wide-intermediate-clustering"]


def test_a_row_whose_parameters_changed_is_done_again_though_its_name_is_the_same(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    closed(sweep, outcomes)
    first, *others = sweep.rows
    changed = replace(sweep, rows=(replace(first, values={**first.values, "drill": True}), *others))
    assert list(done_before(sweep, "run")) == [first.name] and done_before(changed, "run") == {}


@pytest.mark.parametrize(("ran", "asked"), [("01-03", ""), ("01-03", "01-07"), ("", "01-03"), (None, "")])
def test_rows_are_done_again_where_the_batch_before_ran_other_chapters_or_does_not_say_which(
    sweep: Sweep, outcomes: dict[str, JobResult], ran: str | None, asked: str
) -> None:
    def of(chapters: str) -> Sweep:
        return replace(sweep, options=sweep.options.model_copy(update={"chapters": chapters}))

    record, _ = closed(of(ran or ""), outcomes)
    assert list(done_before(of(ran or ""), "run")) == ["wide-intermediate-clustering"]
    if ran is None:  # as it was written before
        begin, *rest = (record.folder / "batch.jsonl").read_text().splitlines(keepends=True)
        (record.folder / "batch.jsonl").write_text(begin.replace('"chapters": "", ', "") + "".join(rest))
    assert done_before(of(asked), "run") == {}


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"], ids=["U+0085", "U+2028", "U+2029"])
def test_a_row_whose_words_hold_a_line_separator_of_unicode_is_not_done_again(sweep: Sweep, separator: str) -> None:
    name = sweep.rows[0].name
    closed(sweep, {name: JobResult(name, VERIFIED, f"words{separator}of a page")})
    assert list(done_before(sweep, "run")) == [name]


@pytest.mark.parametrize(
    ("verb", "then", "left_out"),
    [
        ("run", "destroy", [1]),
        ("destroy", "run", [1]),
        ("verify", "run", [1]),
        ("run", "plan", [0, 1]),
        ("run", "verify", [0, 1]),
    ],
)
def test_a_row_that_a_later_batch_ran_or_destroyed_is_done_again(
    sweep: Sweep, outcomes: dict[str, JobResult], verb: str, then: str, left_out: list[int]
) -> None:
    names = [row.name for row in sweep.rows]
    closed(sweep, {name: JobResult(name, VERIFIED) for name in names[:2]}, verb)
    later = BatchRecord(sweep, then)
    later.began_row(names[0])
    later.ended_row(JobResult(names[1], SKIPPED, "the batch was stopped"))
    assert list(done_before(sweep, verb)) == [names[number] for number in left_out]


def test_no_secret_gets_into_what_a_batch_leaves(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    redactor.add("admin-password", "correct-horse-battery-staple")
    told = {name: replace(outcome, words="the password correct-horse-battery-staple is wrong") for name, outcome in outcomes.items()}
    record, found = closed(sweep, told)
    write_page(record.folder, found, [])
    for file in record.folder.iterdir():
        assert "correct-horse" not in file.read_text(), file.name


@pytest.fixture
def listener() -> Iterator[tuple[str, list[dict]]]:
    with web_listener() as heard:
        yield heard


def test_the_webhook_is_told_what_failed_and_one_that_refuses_is_named_without_its_address(
    sweep: Sweep, outcomes: dict[str, JobResult], listener: tuple[str, list[dict]]
) -> None:
    address, heard = listener
    record, found = closed(sweep, outcomes)
    assert list(notify(found, record.folder, f"{address}/token-4711", None)) == []
    assert heard[0]["text"] == "wide: 1 of 3 verified" and [one["name"] for one in heard[0]["failed"]] == [row.name for row in sweep.rows[1:]]
    [line] = notify(found, record.folder, f"{address}/refuse", None)
    assert "not told" in line and address not in line


def test_the_mail_names_each_failure_and_carries_the_page(sweep: Sweep, outcomes: dict[str, JobResult]) -> None:
    record, found = closed(sweep, outcomes)
    write_page(record.folder, found, [])
    message = letter("wide: 1 of 3 verified", found, record.folder, "ops@example.org")
    body = message.get_body(("plain",))
    assert body is not None and "wide-modern-clustering: not begun: max_errors: 1 failed before" in body.get_content()
    assert [part.get_filename() for part in message.iter_attachments()] == ["batch.html", "batch.json"]
