"""A batch as a notebook holds it: written, watched while another process does it, gone on with, and checked."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.errors import ChecksFailed, ParamsError, RunbookError
from runbook_lib.headless import batch_view
from runbook_lib.headless.batch import record
from runbook_lib.headless.batch.job import FAILED, VERIFIED, JobResult
from runbook_lib.headless.batch.live import LiveTable
from runbook_lib.headless.batch.record import BatchRecord
from runbook_lib.headless.batch.sweep import load_sweep
from runbook_lib.headless.batch_view import Batch, BatchResult, open_batch, write_sweep
from runbook_lib.headless.terminal import Terminal
from runbook_lib.spec.chapters import NOTEBOOKS
from runbook_lib.waiting import wait_until
from tests.conftest import ROOT
from tests.support.batch_workspace import Workspace

pytest_plugins = ["tests.support.aws_endpoint"]

KEYS: dict[str, Any] = {"params": ["greg-single.lab.yaml"], "matrix": {"clustering": [True, False]}, "networks": "10.9.0.0/16", "do": "plan"}
CARD = {"kind": "HostError", "what": "db-1 does not answer <b>", "where": "db-1, port 22", "next": "look at its console"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(batch_view, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def batch(place: Path) -> Batch:
    return open_batch(write_sweep("wide", **KEYS))


@pytest.fixture
def under_way(batch: Batch) -> Iterator[BatchRecord]:
    begun = BatchRecord(batch.sweep, "plan")
    yield begun
    begun.release()


def outcomes(batch: Batch) -> dict[str, JobResult]:
    [one, two] = [row.name for row in batch.sweep.rows]
    return {one: JobResult(one, VERIFIED, "7 to change", seconds=2.0), two: JobResult(two, FAILED, CARD["what"], error=CARD)}


def test_a_sweep_is_written_as_a_file_that_the_command_line_takes(batch: Batch, place: Path) -> None:
    assert batch.file == place / "work/sweeps/wide.yaml"
    assert yaml.safe_load(batch.file.read_text()) == {"sweep": "wide", **KEYS}
    assert [row.name for row in load_sweep(batch.file).rows] == ["wide-clustering", "wide-no-clustering"]
    assert "2 deployments, 6 machines" in str(batch) and "wide-no-clustering" in batch._repr_html_()


def test_what_is_no_sweep_is_not_written(place: Path) -> None:
    write_sweep("wide", **KEYS)
    before = (place / "work/sweeps/wide.yaml").read_text()
    with pytest.raises(ParamsError, match="clusterin"):
        write_sweep("wide", **KEYS | {"matrix": {"clusterin": [True]}})
    assert [file.name for file in (place / "work/sweeps").iterdir()] == ["wide.yaml"]
    assert (place / "work/sweeps/wide.yaml").read_text() == before


@pytest.mark.parametrize("pack", ["s3://mine/wso2greg-5.1.0.zip", "https://packs.example.com/greg/wso2greg-5.1.0-with-ours.zip"])
def test_the_chapter_takes_its_packs_from_the_params_and_needs_none_for_a_sweep_of_ones_own(place: Path, pack: str) -> None:
    given = {"params_file": str(ROOT / "params/greg-separated.lab.yaml"), "overrides": {"product.pack": pack, "product.sha256": "0" * 64}}
    said = {"networks": "10.9.0.0/16", "do": "plan", "sweep_file": "", **given}
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads((NOTEBOOKS / "10_batch.ipynb").read_text())["cells"]}
    packs = []
    for id in ("10-05", "10-15"):
        exec(cells[id].replace("batch.run(resume=True)", ""), said)
        packs.append([row.spec.product.pack for row in load_sweep(place / "work/sweeps/tiers.yaml").rows])
    assert packs == [[pack] * 4 + [f"{pack[:-5]}O.zip"], [pack] * 5]
    exec(cells["10-05"], said | {"sweep_file": "mine.yaml", "params_file": "none.yaml"})


def test_params_files_are_named_from_the_sweeps_folder_wherever_the_notebook_lies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "notebooks").mkdir()
    (place / "params").mkdir()
    (place / "params/own.yaml").write_text(load_sweep(Path(write_sweep("a", **KEYS))).rows[0].text)
    monkeypatch.chdir(place / "notebooks")
    written = write_sweep("wide", **KEYS | {"params": "../params/own.yaml"})
    assert yaml.safe_load(written.text)["params"] == ["../../params/own.yaml"]


def test_a_batch_of_another_process_is_shown_from_its_first_event_to_its_end(batch: Batch, under_way: BatchRecord, capsys: pytest.CaptureFixture[str]) -> None:
    ended = outcomes(batch)
    [one, two] = ended
    under_way.began_row(one)
    under_way.began_row(one, "02_install_mysql")
    found: list[BatchResult] = []
    watching = threading.Thread(target=lambda: found.append(batch.watch()), daemon=True)
    watching.start()
    assert wait_until(lambda: "02_install_mysql" in capsys.readouterr().out, 20, pause=0.1)
    for outcome in ended.values():
        under_way.ended_row(outcome)
    assert wait_until(lambda: f"✘ {two}  failed" in capsys.readouterr().out, 20, pause=0.1)
    assert watching.is_alive(), "the batch is not closed yet"
    under_way.close(ended)
    under_way.release()
    watching.join(20)
    [result] = found
    assert (result.found["verified"], result.note) == (1, "") and "db-1 does not answer &lt;b&gt;" in result._repr_html_()
    assert "✘ 1 of 2 deployments done" in result._repr_html_() and "next:  look at its console" in str(result)


def test_a_batch_whose_process_has_ended_before_it_says_so_with_what_was_done(batch: Batch, under_way: BatchRecord) -> None:
    under_way.ended_row(outcomes(batch)["wide-clustering"])
    under_way.release()
    result = batch.watch()
    assert result.found["states"] == {"verified": 1, "not begun": 1}
    assert "its process ended before the batch did" in str(result) and "run(resume=True)" in result._repr_html_()


def test_an_event_that_is_half_written_is_read_once_it_is_whole(batch: Batch, under_way: BatchRecord) -> None:
    events = record.follow(under_way.folder)
    assert next(events)["event"] == "begin"
    with open(under_way.folder / record.EVENTS, "a") as file:
        file.write('{"event": "row", "na')
        file.flush()
        heard: list[Any] = []
        reading = threading.Thread(target=lambda: heard.append(next(events)), daemon=True)
        reading.start()
        file.write('me": "wide-clustering"}\n')
    reading.join(20)
    assert heard == [{"event": "row", "name": "wide-clustering"}]


def test_who_comes_later_sees_for_how_long_a_row_has_been_at_it(batch: Batch, under_way: BatchRecord) -> None:
    table = LiveTable(Terminal(quiet=True), 2)
    batch_view._told(table, {"event": "row", "name": "wide-clustering", "utc": "2026-01-01T00:00:00.000Z"})
    [(cells, ended)] = table.lines()[1]
    assert float(cells[2]) > 3600 and ended is None


def test_verify_raises_what_failed_and_how_to_go_on(batch: Batch, under_way: BatchRecord) -> None:
    ended = outcomes(batch)
    under_way.close(ended)
    with pytest.raises(ChecksFailed, match="1 of 2 deployments of wide did not end well: wide-no-clustering"):
        batch.verify()
    under_way.close({name: replace(outcome, state=VERIFIED, error=None) for name, outcome in ended.items()})
    assert batch.verify().ok


def test_verify_does_not_answer_with_the_batch_before_one_that_goes_on_or_was_killed(batch: Batch, under_way: BatchRecord) -> None:
    well = {name: replace(outcome, state=VERIFIED, error=None) for name, outcome in outcomes(batch).items()}
    under_way.close(well)
    assert batch.verify().ok
    newest = BatchRecord(batch.sweep, "plan")
    with pytest.raises(RunbookError, match="the newest batch of wide is under way"):
        batch.verify()
    newest.release()
    with pytest.raises(ChecksFailed, match="its process ended before the batch did"):
        batch.verify()


def test_without_a_batch_there_is_nothing_to_watch_or_to_verify(batch: Batch) -> None:
    for verb in (batch.watch, batch.verify):
        with pytest.raises(RunbookError, match="on this machine yet"):
            verb()


def test_nothing_is_destroyed_without_a_word_here_either(place: Path) -> None:
    batch = open_batch(write_sweep("wide", **KEYS | {"do": "destroy"}))
    with pytest.raises(RunbookError, match="not confirmed"):
        batch.run()
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_a_batch_that_the_command_line_does_is_watched_and_one_that_is_killed_is_noticed(
    tmp_path: Path, aws_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Workspace(tmp_path, aws_config)
    here.sweep(["well", "waits-once"])
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    process = here.begin("batch", "sweep.yaml", "--jobs", "2")
    try:
        assert wait_until(lambda: here.tries("waits-once") and here.tries("well")[-1:] == ["ended"], 200, pause=0.2)
        found: list[BatchResult] = []
        watching = threading.Thread(target=lambda: found.append(open_batch("sweep.yaml").watch()), daemon=True)
        watching.start()
        assert wait_until(lambda: "✔ s-well  verified" in capsys.readouterr().out, 60, pause=0.1)
        process.send_signal(signal.SIGKILL)
        watching.join(60)
    finally:
        process.kill()
        process.wait()
    assert found and found[0].found["states"] == {"verified": 1, "not begun": 1}
    assert "its process ended before" in found[0].note
