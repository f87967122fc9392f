"""Tamper-evidence: every change of a run's files is found and named, and no run that nobody touched is accused."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib import pki
from runbook_lib.evidence import manifest, report
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.manifest import JOURNAL
from runbook_lib.files import write_whole
from tests.support.recorded_proof import CHAPTER, recorded

CHANGES = 1000


@pytest.fixture(scope="module")
def key() -> str:
    return pki.make_ssh_key()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, key: str) -> Path:
    """A closed run with journal, result, report, topology, pictures and an executed notebook."""
    _, folder = recorded(tmp_path_factory.mktemp("runs"), "single", "leak")
    journal = Journal(folder)
    journal.screenshot(CHAPTER, "opens", "Opens", bytes(range(256)) * 8, "seen")
    journal.keep("topology.svg", "<svg>\n<title>six</title>\n</svg>\n")
    (folder / "01_launch_ec2.ipynb").write_text(json.dumps({"cells": [{"source": ["one\n", "two"]}]}, indent=1))
    journal.signing_key = lambda: key
    report.finish(journal)
    return folder


def test_a_run_that_nobody_touched_is_not_accused(run: Path, key: str) -> None:
    found = manifest.verify(run)
    assert found.problems == () and found.files == 6 and found.rows == len((run / "journal.jsonl").read_text().splitlines())
    assert found.fingerprint == pki.ssh_fingerprint(key) and found.public_key == pki.ssh_public_key(key).strip()


def test_a_line_break_within_a_row_of_the_signature_is_found_in_that_row(run: Path) -> None:
    path = run / manifest.SIGNATURE
    whole = path.read_bytes()
    for row, at in ((1, 17), (2, whole.index(b"\n") + 20)):
        path.write_bytes(whole[:at] + b"\n" + whole[at + 1 :])
        try:
            (problem,) = manifest.verify(run).problems
        finally:
            path.write_bytes(whole)
        assert problem.startswith(f"{manifest.SIGNATURE}, row {row}: changed")


def test_a_thousand_changes_of_one_byte_are_all_found_in_their_file_and_row(run: Path) -> None:
    chance = random.Random(15)
    paths = sorted(path for path in run.rglob("*") if path.is_file())
    for number in range(CHANGES):
        path = paths[number % len(paths)] if number % 2 else chance.choices(paths, [p.stat().st_size for p in paths])[0]
        whole = path.read_bytes()
        at = chance.randrange(len(whole))
        other = chance.choice([value for value in range(256) if value != whole[at]])
        path.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
        try:
            problems = manifest.verify(run).problems
        finally:
            path.write_bytes(whole)
        name, row = path.relative_to(run).as_posix(), whole[:at].count(b"\n") + 1
        assert problems and problems[0].startswith(f"{name}, row"), (name, row, at, problems)
        told = problems[0].split("row ")[1].split(":")[0]
        assert told == str(row) or (name == manifest.MANIFEST and "unknown" in told), (name, row, problems)
    assert manifest.verify(run).problems == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda run: (run / "report.html").unlink(), "report.html: missing"),
        (lambda run: (run / "more.html").write_text("x"), "more.html: was not there when the run was closed"),
        (lambda run: (run / "manifest.sig").unlink(), "manifest.sig: missing"),
        (lambda run: (run / "manifest.json").unlink(), "manifest.json: there is none"),
        (lambda run: Journal(run).write(CHAPTER, "verify"), "1 rows were added after the run was closed"),
        (lambda run: manifest.close(run, None, "later"), ""),
    ],
)
def test_what_is_missing_added_or_unsigned_is_named(run: Path, tmp_path: Path, change: Callable[[Path], object], problem: str) -> None:
    copy = tmp_path / "demo" / run.name
    shutil.copytree(run, copy)
    change(copy)
    found = manifest.verify(copy)
    assert any(problem in one for one in found.problems) if problem else not found.signed and not found.problems


def test_a_file_that_is_being_written_is_neither_signed_nor_accused(run: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "demo" / run.name
    shutil.copytree(run, copy)
    beside: list[str] = []

    def replace(source: Path, target: Path) -> None:
        monkeypatch.undo()
        beside.append(source.name)
        manifest.close(copy, key, "meanwhile")  # as by another process, at the moment before the file is in its place
        source.replace(target)

    monkeypatch.setattr("os.replace", replace)
    write_whole(copy / "report.html", (copy / "report.html").read_text())
    signed = json.loads((copy / "manifest.json").read_text())["files"]
    assert beside and beside[0] not in signed and len(signed) == 6 and manifest.verify(copy).problems == ()
    (copy / beside[0]).write_text("half")  # left by a process that was killed
    assert manifest.verify(copy).problems == ()


@pytest.mark.parametrize(
    "files", [[], "", {JOURNAL: None}, {JOURNAL: {}}, {JOURNAL: {"sha256": 1, "bytes": 0, "rows": ""}}, {JOURNAL: {"sha256": "", "bytes": 0, "rows": 1}}]
)
def test_a_manifest_that_somebody_made_and_signed_in_another_form_is_named(run: Path, tmp_path: Path, key: str, files: object) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    said = json.loads((copy / manifest.MANIFEST).read_text()) | {"files": files}
    text = json.dumps(said)
    (copy / manifest.MANIFEST).write_text(text)
    (copy / manifest.SIGNATURE).write_text(f"{manifest.digest(text.encode())}\n{pki.sign(key, text.encode())}\n")
    [problem] = manifest.verify(copy).problems
    assert problem.endswith("changed, and not readable any more")


def test_a_run_signed_again_by_another_key_shows_that_keys_fingerprint(run: Path, tmp_path: Path, key: str) -> None:
    copy = tmp_path / "demo" / run.name
    shutil.copytree(run, copy)
    (copy / "report.html").write_text("all is well")
    manifest.close(copy, pki.make_ssh_key(), "later")
    found = manifest.verify(copy)
    assert found.problems == () and found.fingerprint != pki.ssh_fingerprint(key)


def chained(folder: Path, rows: int = 20) -> Journal:
    journal = Journal(folder, {"deployment": "demo"})
    for number in range(rows):
        journal.write(CHAPTER, "change", key=str(number), change="x" * (number * 997))
    return journal


def test_rows_of_a_journal_that_is_not_closed_are_chained(tmp_path: Path) -> None:
    path = chained(tmp_path / "run").path
    lines = path.read_bytes().splitlines(keepends=True)
    assert manifest.broken_link(path) == 0 and len(lines) == 21
    for number in range(1, 21):  # the last row has none after it: until the run is closed nothing vouches for it
        path.write_bytes(b"".join([*lines[: number - 1], lines[number - 1].replace(b'"ok": true', b'"ok": fals'), *lines[number:]]))
        assert manifest.broken_link(path) == (number if number > 1 else 0)
        path.write_bytes(b"".join([*lines[: number - 1], lines[number - 1].replace(b'"verb": "', b'"verb":  "'), *lines[number:]]))
        assert manifest.broken_link(path) == number
        path.write_bytes(b"".join([*lines[: number - 1], *lines[number:]]))
        assert manifest.broken_link(path) in (number - 1, number), "a row was taken out"


def test_threads_leave_one_chain(tmp_path: Path) -> None:
    journals = [Journal(tmp_path / "run", {"deployment": "demo"}) for _ in range(3)]
    journals[0].open()
    work = [threading.Thread(target=lambda j=j: [j.write(CHAPTER, "change", change="y" * 70_000) for _ in range(20)]) for j in journals]  # type: ignore[misc]
    [thread.start() for thread in work]
    [thread.join() for thread in work]
    path = journals[0].path
    assert manifest.broken_link(path) == 0 and len(path.read_bytes().splitlines()) == 61


@pytest.mark.parametrize(
    ("rows", "left", "verbs"),
    [
        (2, b'{"verb": "cut sho', ["begin", "change", "change", "verify"]),
        (2, b"\0" * 70_000, ["begin", "change", "change", "verify"]),
        (2, b'{"verb": "long", "change": "' + b"x" * 200_000, ["begin", "change", "change", "verify"]),
        (0, b'{"utc": "2030-01-', ["begin", "verify"]),
        (0, b"", ["begin", "verify"]),
    ],
    ids=["half a row", "zeros", "more than a block", "half of the first row", "nothing"],
)
def test_what_a_power_failure_left_of_a_row_is_cut_off_and_the_chain_goes_on(tmp_path: Path, rows: int, left: bytes, verbs: list[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    whole = chained(folder, rows).path.read_bytes() if rows else b""
    (folder / "journal.jsonl").write_bytes(whole + left)
    journal = Journal(folder, {"deployment": "demo"})  # another process: the one before is gone
    journal.write(CHAPTER, "verify")
    assert [entry["verb"] for entry in journal.entries()] == verbs
    assert journal.path.read_bytes().startswith(whole) and manifest.broken_link(journal.path) == 0


def test_a_last_row_that_lacks_only_its_newline_is_kept(tmp_path: Path) -> None:
    journal = chained(tmp_path / "run", 2)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole.removesuffix(b"\n"))
    journal.write(CHAPTER, "verify")
    assert journal.path.read_bytes().startswith(whole) and manifest.broken_link(journal.path) == 0


def test_a_run_that_is_closed_with_half_a_row_in_it_is_not_accused(tmp_path: Path, key: str) -> None:
    journal = chained(tmp_path / "demo" / "run", 2)
    journal.path.write_bytes(journal.path.read_bytes() + b'{"verb": "cut sho')
    journal.signing_key = lambda: key
    report.finish(journal)
    assert manifest.verify(journal.folder).problems == ()


def test_a_journal_that_is_redacted_later_is_chained_anew(tmp_path: Path) -> None:
    path = chained(tmp_path / "run", 3).path
    path.write_text(path.read_text().replace("xxx", "[a secret]"))
    assert manifest.broken_link(path) > 0
    manifest.rechain(path)
    assert manifest.broken_link(path) == 0 and "[a secret]" in path.read_text()
