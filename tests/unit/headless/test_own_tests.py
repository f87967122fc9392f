"""What `./runbook test` runs: which tests beside which others, with which lab, and whose failure it returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from runbook_lib.headless import cli
from runbook_lib.headless.programs import own_tests

FOLDERS = {f"tests/{each.parent.name}" for each in own_tests.TESTS.glob("*/test_*.py")} | {*own_tests.WITHOUT_MACHINES}


Words = list[str]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Words, list[Words]]]:
    """The words of each pytest that would run, and of those beside it. The first one fails."""
    found: list[tuple[Words, list[Words]]] = []

    def run(words: Sequence[str], beside: Sequence[Words] = ()) -> int:
        found.append((list(words), list(beside)))
        return -9 if len(found) == 1 else 0

    monkeypatch.setattr(own_tests, "_pytest", run)
    return found


def test_everything_is_run_once_and_the_tests_of_machines_in_parts_at_once(asked: list[tuple[Words, list[Words]]]) -> None:
    assert cli.main(["test", "--full", "-x"]) == -9, "a failure of the first is not covered by the second"
    (first, alone), (cluster, beside) = asked
    assert alone == [] and cluster and len(beside) == len(own_tests.BESIDE)
    for words in (first, cluster, *beside):
        assert words[:2] == ["--full", "-x"]
    folders = [word for words in (first, cluster, *beside) for word in words if word.startswith("tests/")]
    assert sorted(folders) == sorted(FOLDERS)


def test_what_needs_no_machine_is_all_of_the_fast_ones(asked: list[tuple[Words, list[Words]]]) -> None:
    cli.main(["test", "--fast"])
    assert asked == [(["--fast", *own_tests.ON_EVERY_PROCESSOR, *own_tests.WITHOUT_MACHINES], [])]


def test_given_tests_are_run_alone(asked: list[tuple[Words, list[Words]]]) -> None:
    cli.main(["test", "-x", "tests/lab"])
    assert asked == [(["-x", "tests/lab"], [])]


LAB = "import os\ndef test_lab():\n    print('lab:', *map(os.environ.get, ('RUNBOOK_TEST_LAB', 'RUNBOOK_RUNS')))\n    assert {condition}\n"


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["", "first", "third"])
def test_each_part_beside_has_its_own_lab_and_runs_and_any_failure_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails: str
) -> None:
    for name in ("RUNBOOK_TEST_LAB", "RUNBOOK_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(own_tests, "ROOT", tmp_path)
    for part in ("first", "second", "third"):
        (tmp_path / f"test_{part}_part.py").write_text(LAB.format(condition=fails != part))
    status = own_tests._pytest(["-s", "test_first_part.py"], [["-s", "test_second_part.py"], ["-s", "test_third_part.py"]])
    assert status == (1 if fails else 0)
    said = capfd.readouterr().out
    found = [said.index(f"lab: {lab} {tmp_path}/runs/_{lab.split()[0]}") for lab in own_tests.BESIDE]
    assert [said.index("lab: None None"), *found] == sorted([said.index("lab: None None"), *found])
