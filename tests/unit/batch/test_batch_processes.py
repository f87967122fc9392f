"""`./runbook batch` as a user types it: every row in a process of its own, which may fail, wait, be stopped or be killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.headless.batch.job import GRACE
from runbook_lib.waiting import wait_until
from tests.support.batch_workspace import Workspace

pytest_plugins = ["tests.support.aws_endpoint"]
pytestmark = pytest.mark.slow  # a kernel per chapter


@pytest.fixture
def here(tmp_path: Path, aws_config: Path) -> Iterator[Workspace]:
    yield Workspace(tmp_path, aws_config)


def awaited(condition: Callable[[], Any], what: str) -> None:
    assert wait_until(condition, 200, pause=0.2), f"waited for: {what}"


def test_each_row_ends_in_its_own_way_and_the_batch_says_how(here: Workspace) -> None:
    here.sweep(["well", "unreachable-once", "unreachable", "refused", "dies"], retries=1)
    status, said = here.run("batch", "sweep.yaml", "--jobs", "2")
    assert status == 1 and "batch: " in said, said
    rows = here.found()
    assert {word: (row["state"], row["attempts"]) for word, row in rows.items()} == {
        "well": ("verified", 1),
        "unreachable-once": ("verified", 2),
        "unreachable": ("failed", 2),
        "refused": ("failed", 1),
        "dies": ("failed", 1),
    }
    assert rows["refused"]["error"] == {"kind": "RunbookError", "what": "the pack is not a zip", "where": "product.pack", "next": "name another"}
    assert "the chapter's kernel died" in rows["dies"]["error"]["what"]
    assert "2 of 5 deployments verified" in said
    page = here.folder / "runs/_batches/s/latest/batch.html"
    assert "the pack is not a zip" in page.read_text() and (page.parent / "junit.xml").is_file()
    assert (here.folder / rows["well"]["report"]).is_file()


def test_a_chapter_that_takes_too_long_is_ended_and_a_run_goes_on_from_there(here: Workspace) -> None:
    here.sweep(["well"])  # which takes as long as this machine is busy
    status, said = here.run("batch", "sweep.yaml")
    assert status == 0, said
    here.sweep(["well", "waits-once"], chapter_timeout=0.4)
    status, said = here.run("batch", "sweep.yaml", "--resume")
    assert status == 1, said
    assert here.found()["waits-once"]["state"] == "timed out" and "02_install_mysql was not done after 24 s" in said
    status, said = here.run("batch", "sweep.yaml", "--resume")
    assert status == 0, said
    assert here.tries("waits-once") == ["begun", "begun", "ended"] and here.tries("well") == ["begun", "ended"]
    assert here.found()["well"]["left_out"]


def test_after_a_kill_nothing_goes_on_unseen_and_resume_does_the_rest_and_nothing_twice(here: Workspace) -> None:
    here.sweep(["well", "waits-once", "other"])
    process = here.begin("batch", "sweep.yaml", "--jobs", "2")
    try:
        awaited(lambda: here.tries("well")[-1:] == ["ended"] and here.tries("waits-once") and here.tries("other")[-1:] == ["ended"], "two that are done")
        awaited(lambda: (here.folder / "runs/_batches/s").glob("*/batch.jsonl") and _outcomes(here) == 2, "both noted")
    finally:
        process.kill()
        process.wait()
    status, said = here.run("batch", "sweep.yaml", "--jobs", "2", "--resume")
    assert status == 0, said
    assert here.tries("well") == here.tries("other") == ["begun", "ended"]
    assert here.tries("waits-once") == ["begun", "begun", "ended"]


def _outcomes(here: Workspace) -> int:
    [events] = (here.folder / "runs/_batches/s").glob("2*/batch.jsonl")
    return events.read_text().count('"event": "outcome"')


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupt_ends_what_is_under_way_and_says_how_to_go_on(here: Workspace, number: signal.Signals) -> None:
    here.sweep(["waits-once", "well"], max_parallel=1)
    process = here.begin("batch", "sweep.yaml")
    try:
        awaited(lambda: here.tries("waits-once"), "the chapter that waits")
        process.send_signal(number)
        if number == signal.SIGTERM:
            os.killpg(process.pid, number)  # as `timeout` does
        said, _ = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "stopping: each deployment comes to a safe point" in said and "go on with --resume" in said
    assert {word: row["state"] for word, row in here.found().items()} == {"waits-once": "stopped", "well": "not begun"}
    status, said = here.run("batch", "sweep.yaml", "--resume")
    assert status == 0, said


def test_a_second_interrupt_does_not_wait_and_the_batch_has_its_record(here: Workspace) -> None:
    here.sweep(["well", "halts", "other"], max_parallel=1)
    process = here.begin("batch", "sweep.yaml")
    assert process.stdout
    try:
        awaited(lambda: here.tries("halts"), "the chapter that halts its run")
        os.killpg(process.pid, signal.SIGTERM)
        assert any("a second interrupt does not wait" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=GRACE / 2)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1 and "go on with --resume" in said and "Traceback" not in said
    assert {word: row["state"] for word, row in here.found().items()} == {"well": "verified", "halts": "stopped", "other": "not begun"}


def test_two_batches_of_one_sweep_never_do_a_run_at_the_same_time(here: Workspace) -> None:
    here.sweep(["well", "other", "third"])
    both = [here.begin("batch", "sweep.yaml", "--jobs", "2") for _ in range(2)]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for word in ("well", "other", "third"):
        assert here.tries(word) == ["begun", "ended", "begun", "ended"], "one began while the other was at it"
    documents = [json.loads(file.read_text()) for file in (here.folder / "runs/_batches/s").glob("2*/batch.json")]
    assert len({row["report"] for document in documents for row in document["rows"]}) == 6, "each tells of its own runs, though the other's may be newer"


def test_a_row_that_is_only_planned_or_refused_leaves_the_parameters_of_the_run_under_way(here: Workspace) -> None:
    here.sweep(["waits-once"])
    first = here.begin("batch", "sweep.yaml")
    second = None
    try:
        awaited(lambda: here.tries("waits-once"), "the chapter that waits")
        file = here.folder / "work/batch/s-waitsonce.yaml"
        used = file.read_text()
        here.sweep(["waits-once"], set={"drill": True}, do="plan")
        _, said = here.run("batch", "sweep.yaml")
        assert "s-waitsonce  01_launch_ec2" in said, "it was being planned"
        assert file.read_text() == used
        here.sweep(["waits-once"], set={"drill": True})
        second = here.begin("batch", "sweep.yaml")
        awaited(lambda: _begun(here) == 2, "another try of the row, which was refused the lock")
        assert file.read_text() == used
        first.send_signal(signal.SIGINT)
        assert second.wait(200) == 0
        assert "drill: true" in file.read_text(), "the run that has the lock now has its parameters there"
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.communicate()


def _begun(here: Workspace) -> int:
    newest = max((here.folder / "runs/_batches/s").glob("2*/batch.jsonl"))
    return newest.read_text().count('"event": "row"')


def test_several_params_files_need_no_sweep(here: Workspace) -> None:
    here.files(a="well", b="refused")
    status, said = here.run("run", "params/a.yaml", "params/b.yaml", "--to", "02", "--jobs", "2")
    assert status == 1 and "1 of 2 deployments verified" in said
    assert "the pack is not a zip" in said
    here.write("params/c.yaml", {"deployment": "s-c", "pattern": "nothing"})
    status, said = here.run("run", "params/a.yaml", "params/c.yaml", "--to", "02")
    assert status == 1 and "pattern" in said and "…" not in said


def test_several_params_files_as_a_document_are_what_was_found_of_each(here: Workspace) -> None:
    here.files(a="well", b="refused")
    status, said = here.run("run", "params/a.yaml", "params/b.yaml", "--to", "02", "--json", apart=True)
    document = json.loads(said)
    assert status == 1 and document["ok"] is False
    assert [(each["deployment"], each["ok"], bool(each["run"])) for each in document["deployments"]] == [("s-a", True, True), ("s-b", False, True)]


def test_nothing_is_destroyed_without_a_word(here: Workspace) -> None:
    here.sweep(["well", "other"], do="destroy", chapters="")
    status, said = here.run("batch", "sweep.yaml")
    assert status == 1 and "2 deployments would be destroyed: not confirmed" in said and "--yes" in said
    assert not (here.folder / "runs").exists()
    here.write("sweep.networks.yaml", {"s-former": "10.9.0.0/24"})
    status, said = here.run("batch", "sweep.yaml", "--yes")
    assert status == 0, said
    assert "1 deployment that this sweep had may still stand: s-former; ./runbook destroy params/one.yaml --set deployment=s-former --yes" in said
