"""The command line's contract: names, exit codes, and errors without a traceback."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from runbook_cli import main as front
from runbook_lib.chapters import teardown as teardown_
from runbook_lib.check import Check, CheckTable
from runbook_lib.errors import ChecksFailed, CloudError, RunbookError
from runbook_lib.evidence.journal import Journal
from runbook_lib.headless import cli, doctor, runner
from runbook_lib.launch import teardown
from tests.conftest import ROOT

PARAMS = "params/greg-separated.lab.yaml"


def test_every_command_of_the_contract_is_there() -> None:
    promised = {"rehearse", "test", "run", "plan", "verify", "destroy", "lab", "open", "doctor", "site"}
    assert promised <= set(cli.COMMANDS)


@pytest.mark.parametrize("pending, status", [(True, 2), (False, 0)])
def test_plan_exits_with_2_when_something_is_pending(monkeypatch: pytest.MonkeyPatch, pending: bool, status: int) -> None:
    monkeypatch.setattr(runner, "plan", lambda *_: 2 if pending else 0)
    assert cli.main(["plan", PARAMS]) == status


@pytest.mark.parametrize(
    "argv",
    [
        ["plan"],
        ["plan", PARAMS, "--nope"],
        ["paln", PARAMS],
        ["plan", PARAMS, "--set", "nodes.store"],
        ["plan", "params/none.yaml"],
        ["plan", PARAMS, "--set", "nodes.stor=2"],
        ["run", PARAMS, "--from", "03"],
        ["run", PARAMS, "--from", "07", "--to", "02"],
        ["destroy", PARAMS],
    ],
    ids=" ".join,
)
def test_a_mistake_is_1_and_never_2(argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "begin", lambda *_: pytest.fail("a run was begun"))
    try:
        status = cli.main(argv)
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_misspelt_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["verfiy", PARAMS])
    assert "did you mean verify?" in capsys.readouterr().err


def test_an_error_is_shown_as_its_three_parts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> int:
        raise CloudError("what", "where", "what next")

    monkeypatch.setattr(runner, "plan", fail)
    assert cli.main(["plan", PARAMS]) == 1
    assert capsys.readouterr().err.split() == ["what", "where:", "where", "next:", "what", "next"]


def test_a_folder_of_this_machine_that_cannot_be_written_is_told_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(runner, "plan", lambda *_: Path("/proc/none/runs").mkdir(parents=True))
    assert cli.main(["plan", PARAMS]) == 1
    assert "/proc/none on this machine" in capsys.readouterr().err


def test_destroy_wants_the_name_or_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(runner, "destroy", lambda spec, confirm, say: seen.append(confirm) or 0)
    assert cli.main(["destroy", PARAMS]) == 1
    assert cli.main(["destroy", PARAMS, "--yes"]) == 0
    assert seen == ["greg-separated"]


@pytest.mark.parametrize("stdin", ["closed", "at its end"])
def test_destroy_without_anybody_to_ask_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: str) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", None if stdin == "closed" else terminal)
    monkeypatch.setattr(runner, "destroy", lambda *_: pytest.fail("it was destroyed"))
    assert cli.main(["destroy", PARAMS]) == 1
    assert "greg-separated was not destroyed: not confirmed" in capsys.readouterr().err


def test_destroy_fails_when_something_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left = CheckTable(
        [Check("gone-machines", "Machines", "pass", "nothing", "nothing", "EC2"), Check("gone-disks", "Volumes", "fail", "nothing", "vol-1", "EC2")]
    )
    monkeypatch.setattr(teardown, "destroy", lambda *_: left)
    deployment, journal = MagicMock(), Journal(tmp_path / "run")
    deployment.spec.deployment, deployment.journal = "d", journal
    with pytest.raises(ChecksFailed, match="something of d is left: Volumes: vol-1"):
        teardown_.destroy(deployment, "d")
    assert [(check["id"], check["status"]) for check in journal.result()["checks"]] == [("gone-machines", "pass"), ("gone-disks", "fail")]
    assert not journal.result()["ok"]


@pytest.mark.parametrize("argv", [["lab"], ["lab", "nope"], ["lab", "status", "--nope"], ["lab", "ssh"]], ids=" ".join)
def test_a_mistake_in_a_command_of_the_lab_is_1_as_well(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SystemExit) as end:
        front.main(argv)
    assert end.value.code == 1


def test_open_finds_the_params_as_every_command_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(subprocess, "run", lambda *_, env, **__: seen.append(env) or argparse.Namespace(returncode=0))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["open", PARAMS]) == 0
    assert seen[0]["RUNBOOK_PARAMS"] == str(ROOT / PARAMS)


def test_doctor_tells_a_mistake_in_the_params_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert front.main(["doctor", PARAMS, "--set", "nodes.stor=2"]) == 1
    said = capsys.readouterr()
    assert (said.out + said.err).count("nodes.stor = 2") == 1


def test_overrides_are_typed_as_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(runner, "plan", lambda params, overrides, say: seen.update(overrides) or 0)
    cli.main(["plan", PARAMS, "--set", "nodes.store=3", "--set", "clustering=false"])
    assert seen == {"nodes.store": 3, "clustering": False}


UNIT_TESTS, MACHINE_TESTS = (
    ["tests/unit", "tests/repository"],
    [f"tests/{name}" for name in ("browser", "cluster", "lab", "notebooks", "practice", "processes")],
)


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ([], [["-n", "auto", *UNIT_TESTS], MACHINE_TESTS]),
        (["--full", "-x"], [["--full", "-n", "auto", "-x", *UNIT_TESTS], ["--full", "-x", *MACHINE_TESTS]]),
        (["--fast", "-x"], [["--fast", "-n", "auto", "-x", *UNIT_TESTS]]),
        (["--fast", "tests/unit/test_pki.py"], [["--fast", "-n", "auto", "tests/unit/test_pki.py"]]),
        (["-k", "pki"], [["-k", "pki"]]),
    ],
)
def test_what_needs_no_machine_is_tested_on_every_processor_and_first(monkeypatch: pytest.MonkeyPatch, words: list[str], runs: list[list[str]]) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> argparse.Namespace:
        seen.append(command[3:])
        return argparse.Namespace(returncode=-9 if len(seen) == 1 else 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert cli.main(["test", *words]) == -9, "a failure of the first is not covered by the second"
    assert seen == runs


def test_the_library_alone_says_where_the_lab_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rehearse"]) == 1
    assert "./runbook" in capsys.readouterr().err


def test_a_lab_is_brought_up_only_for_params_that_name_one(tmp_path: Path) -> None:
    def args(*set_: str) -> argparse.Namespace:
        return argparse.Namespace(params=PARAMS, set=list(set_))

    assert front.lab_of(args()) == "lab"
    assert front.lab_of(args("cloud.aws_config=/run/ec2lab/two/aws-config")) == "two"
    assert front.lab_of(args("cloud.aws_config=null")) is None


def test_sudo_passes_on_which_lab_and_which_mirror_were_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sudo").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/called\n')
    (tmp_path / "sudo").chmod(0o755)
    for name, value in (("PATH", f"{tmp_path}:{os.environ['PATH']}"), ("RUNBOOK_DEBIAN_MIRROR", "http://mirror.test/debian"), ("RUNBOOK_LAB", "mine")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert front.main(["lab", "up"]) == 0
    called = (tmp_path / "called").read_text().split()
    assert {"RUNBOOK_DEBIAN_MIRROR=http://mirror.test/debian", "RUNBOOK_LAB=mine"} <= set(called) and called[-2:] == ["lab", "up"]


def test_doctor_fails_only_for_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def findings(needed: bool) -> list[doctor.Finding]:
        return [doctor.Finding("x", False, "lacking", "get it", needed)]

    said: list[str] = []
    monkeypatch.setattr(doctor, "_machine", lambda: findings(False))
    assert doctor.examine(None, {}, said.append) == 0
    monkeypatch.setattr(doctor, "_machine", lambda: findings(True))
    assert doctor.examine(None, {}, said.append) == 1
    assert "fix: get it" in said[-1]


def test_a_plan_does_not_pay_for_jupyter() -> None:
    """The cold start of plan, verify and status must stay near two seconds: no papermill, no widgets."""
    heavy = ("papermill", "ipywidgets", "IPython", "moto")
    code = f"import sys, runbook_lib.chapters.deployment, runbook_lib.headless.runner; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_family_of_errors_is_told_from_the_rest() -> None:
    assert runner._is_ours("HostError")
    assert runner._is_ours(RunbookError.__name__)
    assert not runner._is_ours("ValueError")
