"""What `./runbook test` runs, and which of it stays together."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from runbook_lib.headless import cli
from runbook_lib.headless.programs import own_tests
from tests.support import at_once

FOLDERS = {each.parent.name for each in own_tests.TESTS.glob("*/test_*.py")}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of each pytest that would run; it fails."""
    found: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        found.append(command[3:])
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(own_tests.subprocess, "run", run)
    return found


@pytest.mark.parametrize(
    ("words", "asked_for"),
    [
        (["--full", "-x"], ["--full", "-x", *own_tests.AT_ONCE, "tests"]),
        (["--fast"], ["--fast", *own_tests.ON_EVERY_PROCESSOR, *own_tests.WITHOUT_MACHINES]),
        (["-x", "tests/lab"], ["-x", "tests/lab"]),
    ],
    ids=["everything at once", "what needs no machine", "given tests alone"],
)
def test_pytest_gets_these_words_and_its_status_is_returned(words: list[str], asked_for: list[str], asked: list[list[str]]) -> None:
    assert (cli.main(["test", *words]), asked) == (3, [asked_for])


def test_every_folder_of_tests_has_its_turn() -> None:
    assert set(at_once.FOLDERS) == FOLDERS


@pytest.mark.parametrize(
    ("folder", "fixtures", "group"),
    [
        ("cluster", ["lab", "separated", "opened"], "separated"),
        ("browser", ["separated"], "separated"),
        ("cluster", ["either", "as_cluster"], "as_cluster"),  # "as_cluster" is the parameter
        ("cluster", ["lab", "net"], ""),
        ("practice", ["nodes"], "practice"),
    ],
)
def test_who_shares_a_cluster_stays_together(folder: str, fixtures: list[str], group: str) -> None:
    assert at_once.group_of(folder, fixtures) == group


@pytest.mark.parametrize(
    ("test", "together"),
    [
        ("tests/cluster/test_a.py::test_one[x@y]@separated", "separated"),
        ("tests/cluster/test_a.py::test_one[x@y]", "tests/cluster/test_a.py"),
        ("tests/unit/a/test_a.py::test_two", "tests/unit/a/test_a.py"),
    ],
)
def test_what_shares_no_cluster_goes_by_files(test: str, together: str) -> None:
    assert at_once.ByCluster._split_scope(object.__new__(at_once.ByCluster), test) == together
