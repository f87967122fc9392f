"""The journal: append-only, redacted, and the one source of result.json, the board and --resume."""

from __future__ import annotations

import io
import json
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from runbook_lib.changes import Change, Pending, Plan, Result
from runbook_lib.chapters.mysql import Mysql
from runbook_lib.check import Check, CheckTable
from runbook_lib.errors import RunbookError
from runbook_lib.evidence import journal as journals
from runbook_lib.evidence import manifest, report, runs
from runbook_lib.evidence.journal import Journal
from runbook_lib.redaction import redactor
from runbook_lib.tables import Table

SPEC = SimpleNamespace(deployment="demo", pattern="greg-separated", hardening="full", expect="separated")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.delenv("RUNBOOK_RUN", raising=False)
    return Journal.begin(SPEC, tmp_path, report.finish)


def check(id_: str, status: str = "pass", where: str = "store-1") -> Check:
    return Check(id_, f"title of {id_}", status, "yes", "yes", where)  # type: ignore[arg-type]


def test_a_plan_alone_leaves_no_run_behind(journal: Journal) -> None:
    with journal.attempt("02_install_mysql", "plan"):
        pass
    assert not journal.folder.exists()


def test_plans_come_before_what_follows_them(journal: Journal) -> None:
    journal.write("02_install_mysql", "plan")
    journal.write("02_install_mysql", "apply")
    assert [entry["verb"] for entry in journal.entries()] == ["begin", "plan", "apply"]


def test_a_look_at_the_plan_leaves_a_closed_run_as_it_was_signed(journal: Journal) -> None:
    with journal.attempt("02_install_mysql", "verify"):
        pass
    signed = journal.path.read_bytes()
    with journal.attempt("02_install_mysql", "plan"):
        journal.observed("02_install_mysql", "pack", {"product": "x"})
    assert journal.path.read_bytes() == signed and manifest.verify(journal.folder).problems == ()
    journal.write("02_install_mysql", "apply")
    assert [entry["verb"] for entry in journal.entries()] == ["begin", "verify", "observed", "plan", "apply"]


def test_latest_leads_to_the_newest_run(tmp_path: Path, journal: Journal) -> None:
    first = journal.open()
    second = Journal.begin(SPEC, tmp_path, report.finish, new=True).open()
    assert first.folder != second.folder
    assert runs.latest("demo", tmp_path) is None
    for ended in (first, second, first):
        report.finish(ended)
    assert (tmp_path / "demo" / "latest").resolve() == second.folder.resolve()
    assert runs.latest("demo", tmp_path) == second.folder.resolve()


def test_latest_stays_with_the_run_that_has_a_report_when_a_backup_is_made(tmp_path: Path, journal: Journal) -> None:
    with journal.attempt("02_install_mysql", "verify"):
        pass
    backup = Journal.begin(SPEC, tmp_path, report.finish, new=True)
    with backup.attempt("02_install_mysql", "backup"):
        pass
    assert backup.path.exists() and runs.latest("demo", tmp_path) == journal.folder.resolve()


def test_chapters_of_a_run_write_into_the_same_folder(tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.open()
    monkeypatch.setenv("RUNBOOK_RUN", str(journal.folder))
    other = Journal.begin(SPEC, tmp_path, report.finish)
    other.write("02_install_mysql", "apply")
    assert [entry["verb"] for entry in journal.entries()] == ["begin", "apply"]


def test_an_attempt_that_fails_is_written_with_its_words_and_raised(journal: Journal) -> None:
    with pytest.raises(ValueError, match="no"), journal.attempt("05_configure_nginx", "apply"):
        raise ValueError("no")
    last = journal.entries()[-1]
    assert (last["ok"], last["error"], last["kind"]) == (False, "no", "ValueError")


@pytest.mark.parametrize("verb", ["apply", "destroy"])
def test_a_session_by_hand_that_fails_has_its_result_too(journal: Journal, verb: str) -> None:
    with pytest.raises(RunbookError), journal.attempt("02_install_mysql", verb):
        raise RunbookError("no")
    assert json.loads((journal.folder / "result.json").read_text())["ok"] is False


def test_what_was_changed_before_a_failure_is_counted(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RunbookError("db-1 is full")
    error.changed = (Pending("db-1", "settings", Change("file /a", "create", "1 byte")),)

    def fail(*_: object) -> Result:
        raise error

    monkeypatch.setattr(Mysql, "work", fail)
    monkeypatch.setattr(Mysql, "announce", lambda self: None)  # of a deployment that is none
    deployment = MagicMock()
    deployment.journal = journal
    with pytest.raises(RunbookError):
        Mysql(deployment).apply(Plan("MySQL", {}, ()))
    assert [(c["name"], c["ok"], c["changed"]) for c in journal.result()["chapters"]] == [("02_install_mysql", False, 1)]


def test_a_plan_that_fails_leaves_no_run_behind(journal: Journal) -> None:
    with pytest.raises(RunbookError), journal.attempt("02_install_mysql", "plan"):
        raise RunbookError("no")
    assert not journal.folder.exists()


def test_no_secret_reaches_the_file_in_any_field(journal: Journal) -> None:
    secret = 'a"b<c&d\nsecond line of it'
    redactor.add("db/test", secret)
    journal.write("02_install_mysql", "apply", host=secret, key=f"file:{secret}", change=secret, more=[{"deep": secret}])
    journal.keep("topology.svg", f"<svg>{secret}</svg>")
    text = journal.path.read_text() + (journal.folder / "topology.svg").read_text()
    assert "second line" not in text
    assert "[db/test]" in text


def test_the_path_of_this_checkout_is_not_written(journal: Journal) -> None:
    journal.write("02_install_mysql", "apply", change=f"{journals.ROOT}/params/x.yaml")
    assert str(journals.ROOT) not in journal.path.read_text()


def test_threads_do_not_mix_their_lines(journal: Journal) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            journal.write("04_configure_greg_nodes", "change", host=f"store-{number}", change="x" * 500)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    lines = journal.path.read_text().splitlines()
    assert len(lines) == 201
    assert all(json.loads(line) for line in lines)


def test_a_line_cut_short_is_left_out(journal: Journal) -> None:
    journal.write("02_install_mysql", "apply")
    with journal.path.open("a") as file:
        file.write('{"utc": "2026-01-01T00:00:00.000Z", "verb": "ver')
    assert [entry["verb"] for entry in journal.entries()] == ["begin", "apply"]


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: what does not fit is written in part, and then refused, as by a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("begun", [True, False], ids=["in a run", "with its first row"])
def test_a_full_disk_is_an_error_and_loses_no_row(journal: Journal, begun: bool) -> None:
    whole = b""
    if begun:
        journal.write("02_install_mysql", "apply")
        whole = journal.path.read_bytes()
    with room(len(whole) + 100):
        for id_ in ("first", "second"):
            with pytest.raises(OSError, match="File too large"):
                journal.checked("02_install_mysql", [check(id_)])
            assert journal.path.read_bytes() == whole, "no half row is left"
    journal.write("02_install_mysql", "verify")
    assert [entry["verb"] for entry in journal.entries()] == ["begin", *["apply"][: len(whole)], "check", "check", "verify"]
    assert manifest.broken_link(journal.path) == 0


def test_a_text_that_is_no_unicode_holds_up_no_row(journal: Journal) -> None:
    journal.write("02_install_mysql", "apply", change="caf\udce9")
    journal.write("02_install_mysql", "verify")
    assert [entry.get("change") for entry in journal.entries()[1:]] == ["caf?", ""]


def test_a_write_that_takes_a_part_at_a_time_is_ended(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data)[:7])

    monkeypatch.setattr(journals, "open", lambda path, mode, buffering: Slow(path, mode), raising=False)
    journal.write("02_install_mysql", "apply", change="x" * 500)
    assert [entry["verb"] for entry in journal.entries()] == ["begin", "apply"] and manifest.broken_link(journal.path) == 0


def test_a_write_that_makes_no_progress_is_an_error(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(io.FileIO):
        def write(self, _: Any) -> int:
            return 0

    with monkeypatch.context() as patch:
        patch.setattr(journals, "open", lambda path, mode, buffering: Stuck(path, mode), raising=False)
        with pytest.raises(OSError, match="No space left"):
            journal.write("02_install_mysql", "apply")
    journal.write("02_install_mysql", "verify")
    assert [entry["verb"] for entry in journal.entries()] == ["begin", "apply", "verify"]


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"], ids=["U+0085", "U+2028", "U+2029"])
def test_a_text_with_a_line_separator_of_unicode_hides_no_row(journal: Journal, separator: str) -> None:
    """The product's pages may hold one, and JSON writes it as it is."""
    journal.checked("05_configure_nginx", [check("nginx.tls"), check("nginx.path", "fail", where=f"lb{separator}1")])
    journal.write("05_configure_nginx", "verify")
    assert [row["where"] for row in report.finish(journal)["checks"]] == ["store-1", f"lb{separator}1"]


def test_the_result_has_the_shape_of_the_contract(journal: Journal) -> None:
    result = Result("x", (Pending("db-1", "s", Change("package:x", "install", "absent")),), ("db-1",), 1.0)
    journal.changed("02_install_mysql", result)
    journal.checked("02_install_mysql", CheckTable([check("db.account")]))
    journal.write("02_install_mysql", "chapter", seconds=12.34)
    journal.verdict("07_verify_sso_separation", "separated", "separated", True)
    found = report.finish(journal)
    assert {"covered", "complete", "standing"} <= set(found)
    assert set(found) - {"covered", "complete", "standing"} == {
        "environment", "schema", "provenance", "deployment", "pattern", "hardening", "expect", "verdict", "statement", "recovery", "counts",
        "started", "finished", "ok", "chapters", "checks",
    }  # fmt: skip
    assert found["chapters"][0] == {"name": "02_install_mysql", "ok": True, "seconds": 12.3, "changed": 1}
    assert set(found["checks"][0]) == {"id", "title", "status", "expected", "observed", "where", "chapter", "kind", "state"}
    assert (found["verdict"], found["ok"]) == ("separated", True)
    assert json.loads((journal.folder / "result.json").read_text()) == found
    assert (journal.folder / "report.html").is_file()


@pytest.mark.parametrize(("passed", "ok"), [(True, True), (False, False)])
def test_a_run_is_all_right_only_with_the_expected_verdict(journal: Journal, passed: bool, ok: bool) -> None:
    journal.write("07_verify_sso_separation", "chapter")
    journal.verdict("07_verify_sso_separation", "leak", "leaks (2 ways)", passed)
    assert journal.result()["ok"] is ok


def test_a_run_without_any_chapter_is_not_all_right(journal: Journal) -> None:
    assert journal.open().result()["ok"] is False


def test_a_later_answer_to_the_same_check_counts(journal: Journal) -> None:
    journal.checked("05_configure_nginx", [check("nginx.tls", "fail")])
    journal.checked("05_configure_nginx", [check("nginx.tls"), check("nginx.tls", where="lb-2")])
    assert [row["status"] for row in journal.result()["checks"]] == ["pass", "pass"]


def test_a_journal_that_grew_or_is_gone_is_read_anew(journal: Journal) -> None:
    journal.write("02_install_mysql", "verify")
    before = len(runs.read(journal.folder))
    journal.write("02_install_mysql", "apply")
    assert len(runs.read(journal.folder)) == before + 1
    runs.read(journal.folder).clear()
    assert len(runs.read(journal.folder)) == before + 1
    (journal.folder / "journal.jsonl").unlink()
    assert runs.read(journal.folder) == []


def test_proven_are_the_chapters_that_ended_well(journal: Journal) -> None:
    journal.write("01_launch_ec2", "chapter")
    journal.write("02_install_mysql", "chapter", ok=False, error="no")
    assert runs.proven(journal.folder) == {"01_launch_ec2"}


def test_the_newest_attempt_decides_what_a_chapter_is(tmp_path: Path, journal: Journal) -> None:
    journal.write("02_install_mysql", "verify")
    later = Journal(tmp_path / "demo" / "29990101T000000Z")
    later.write("02_install_mysql", "apply", ok=False, error="disk full")
    found = runs.attempts("demo", tmp_path)["02_install_mysql"]
    assert (found.ok, found.words) == (False, "disk full")


def test_tables_and_pictures_are_kept_for_the_report(journal: Journal) -> None:
    journal.table("06_verify_as_cluster", "Drill", Table(("what", "how many"), [("failed", 0)], note="of 6000"))
    path = journal.screenshot("07_verify_sso_separation", "store-as-admin", "Store as admin", b"\x89PNG", "signed in")
    report.finish(journal)
    page = (journal.folder / "report.html").read_text()
    assert path.read_bytes() == b"\x89PNG"
    assert "Drill" in page
    assert "of 6000" in page
    assert "data:image/png;base64,iVBORw==" in page


@pytest.mark.parametrize("runner", [False, True], ids=["by hand", "under the runner"])
def test_a_session_by_hand_has_its_result_after_each_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: bool) -> None:
    monkeypatch.delenv("RUNBOOK_RUN", raising=False)
    if runner:
        monkeypatch.setenv("RUNBOOK_RUN", str(tmp_path / "run"))
    journal = Journal.begin(SPEC, tmp_path, report.finish)
    with journal.attempt("02_install_mysql", "verify"):
        pass
    assert (journal.folder / "result.json").exists() is not runner
