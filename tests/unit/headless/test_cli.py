"""The command line's contract: names, exit codes, and errors without a traceback."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ec2lab.paths import find_lab

from runbook_cli import lab
from runbook_cli import main as front
from runbook_lib import errors
from runbook_lib.changes import Change, Pending, Plan
from runbook_lib.chapters import teardown as teardown_
from runbook_lib.chapters.status_board import Board, Record
from runbook_lib.check import Check, CheckTable
from runbook_lib.errors import ChecksFailed, CloudError, RunbookError
from runbook_lib.evidence import report
from runbook_lib.evidence.journal import Journal
from runbook_lib.headless import arguments, cli, documents, runner
from runbook_lib.headless.batch import command
from runbook_lib.headless.doctor import machine as doctor
from runbook_lib.launch import teardown
from runbook_lib.spec import loader
from runbook_lib.spec.chapters import CHAPTERS, chapters_of
from runbook_lib.ssh import knock
from runbook_lib.tables import Link
from runbook_lib.waiting import wait_until
from tests.conftest import ROOT
from tests.support.practice_nodes import free_port

PARAMS = "params/greg-separated.lab.yaml"


def test_every_command_of_the_contract_is_there() -> None:
    promised = {
        "rehearse",
        "test",
        "run",
        "plan",
        "verify",
        "backup",
        "backups",
        "restore",
        "rotate",
        "patch",
        "replace",
        "destroy",
        "lab",
        "open",
        "doctor",
        "site",
        "papermill",
        "completion",
    }
    assert promised <= set(cli.COMMANDS)


@pytest.mark.parametrize("pending, status", [(True, 2), (False, 0)])
def test_plan_exits_with_2_when_something_is_pending(monkeypatch: pytest.MonkeyPatch, pending: bool, status: int) -> None:
    monkeypatch.setattr(runner, "plan", lambda *_: 2 if pending else 0)
    assert cli.main(["plan", PARAMS]) == status


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), "runs/x on this machine"),
        (OSError(errno.ENOSPC, "No space left on device"), "a disk on this machine"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "a disk on this machine"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_one_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, where: str) -> None:
    def fails(*_: Any) -> int:
        raise error

    monkeypatch.setattr(runner, "plan", fails)
    assert cli.main(["plan", PARAMS]) == 1
    said = capsys.readouterr().err
    assert str(error.strerror) in said and f"where: {where}" in said and "Traceback" not in said


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
        ["restore", PARAMS, "--empty", "--at", "2026-11-26"],
        ["restore", PARAMS, "--empty"],
        ["rotate", PARAMS],
        ["rotate", PARAMS, "database"],
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
    monkeypatch.setattr(runner, "destroy", lambda spec, confirm, say, backups, made: seen.append((confirm, backups)) or 0)
    assert cli.main(["destroy", PARAMS]) == 1
    assert cli.main(["destroy", PARAMS, "--yes"]) == 0
    assert cli.main(["destroy", PARAMS, "--yes", "--backups"]) == 0
    assert seen == [("greg-separated", False), ("greg-separated", True)], "backups go only when it is said"


@pytest.mark.parametrize("stdin", ["closed", "at its end"])
def test_destroy_without_anybody_to_ask_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: str) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", None if stdin == "closed" else terminal)
    monkeypatch.setattr(runner, "destroy", lambda *_, **__: pytest.fail("it was destroyed"))
    assert cli.main(["destroy", PARAMS]) == 1
    assert "greg-separated was not destroyed: not confirmed" in capsys.readouterr().err


def test_destroy_fails_when_something_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left = CheckTable(
        [Check("gone-machines", "Machines", "pass", "nothing", "nothing", "EC2"), Check("gone-disks", "Volumes", "fail", "nothing", "vol-1", "EC2")]
    )
    monkeypatch.setattr(teardown, "destroy", lambda *_: left)
    deployment, journal = MagicMock(), Journal(tmp_path / "run")
    deployment.spec.deployment, deployment.journal, deployment.cloud.aws.endpoint = "d", journal, "http://endpoint.example"
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


DEPLOYMENT_DOCUMENT = {"schema", "deployment", "pattern"}


def test_a_plan_as_a_document_has_every_change(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pending = Pending("lb-1", "configuration", Change("configuration /etc/nginx/nginx.conf", "modify", "2 lines differ", "+a\n-b"))
    monkeypatch.setattr(runner, "plans", lambda *_: [("05_configure_nginx", Plan("Nginx", {}, (pending,)))])
    assert cli.main(["plan", PARAMS, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == DEPLOYMENT_DOCUMENT | {"changes", "pending"} and found["changes"] == 1
    assert found["pending"] == [
        {
            **{"chapter": "05_configure_nginx", "host": "lb-1", "stage": "configuration", "key": "configuration /etc/nginx/nginx.conf"},
            **{"verb": "modify", "summary": "2 lines differ", "diff": "+a\n-b"},
        }
    ]


def a_run(runs: Path, deployment: str, name: str = "20260101T000000Z", chapter: str = "01_launch_ec2") -> Path:
    journal = Journal(runs / deployment / name, {"deployment": deployment})
    journal.write(chapter, "chapter", seconds=1, ok=True)
    report.finish(journal)
    return journal.folder


@pytest.mark.parametrize("command", ["run", "verify", "destroy"])
def test_a_run_as_a_document_is_its_result_and_where_it_lies(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def work(*_: object, say: Any, made: runner.Made, **__: object) -> int:
        made(a_run(tmp_path, "greg-separated"))
        a_run(tmp_path, "greg-separated", "20260102T000000Z", "02_install_mysql")  # a colleague's, which is the newest by the end
        say("words for people")
        return 0

    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    monkeypatch.setattr(runner, command, work)
    assert cli.main([command, PARAMS, "--json", *(["--yes"] if command == "destroy" else [])]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.err == "words for people\n" and found["ok"] and found["run"].endswith("greg-separated/20260101T000000Z")
    assert [chapter["name"] for chapter in found["chapters"]] == ["01_launch_ec2"]


@pytest.mark.parametrize("argv", [["drill", "disaster", PARAMS], ["patch", PARAMS], ["replace", PARAMS, "store-1"]], ids=lambda argv: argv[0])
def test_work_on_the_second_day_as_a_document_is_of_its_own_run(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    deployment, own = MagicMock(), a_run(tmp_path, "greg-separated")
    deployment.journal.folder, deployment.patch.look.return_value = own, {}

    @contextmanager
    def one_verb(_: object, what: str, say: object, made: runner.Made = lambda folder: None) -> Iterator[None]:
        made(own)
        yield
        a_run(tmp_path, "greg-separated", "20260102T000000Z", "02_install_mysql")  # a colleague's

    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    monkeypatch.setattr(runner, "opened", lambda *_: nullcontext(deployment))
    monkeypatch.setattr(runner, "one_verb", one_verb)
    assert cli.main([*argv, "--yes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == str(own) and [chapter["name"] for chapter in found["chapters"]] == ["01_launch_ec2"]


def test_several_runs_as_one_document_are_the_runs_that_were_begun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = a_run(tmp_path, "greg-separated")
    a_run(tmp_path, "greg-separated", "20260102T000000Z")
    rows = [{"name": "greg-separated", "report": os.path.relpath(own / "report.html", ROOT)}, {"name": "greg-single", "report": ""}]
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    monkeypatch.setattr(command, "_done", lambda *_: ({"rows": rows}, tmp_path))
    monkeypatch.setattr(command, "say_result", lambda *_: 1)
    assert cli.main(["run", PARAMS, "params/greg-single.lab.yaml", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"] and [each["run"] for each in found["deployments"]] == [str(own), None]


@pytest.mark.parametrize(
    "record, state",
    [
        (Record(True, "", ""), "verified"),
        (Record(True, "", "", leaks="✘ LEAKS (3 ways)"), "leaks, as expected"),
        (Record(False, "", ""), "failed"),
        (Record(False, "", "", applied=True), "applied, not verified"),
        (Record(False, "", "", changed=True), "changed since"),
    ],
)
def test_the_board_as_a_document(record: Record, state: str) -> None:
    chapter = CHAPTERS["05_configure_nginx"]
    row = (Link("05_configure_nginx.ipynb", "05_configure_nginx", "Configure Nginx"), record.state, "2026-01-01T00:00:00Z", "root@vm")
    found = documents.of_status(
        Board("d", "greg-single", [("lb-1", "10.0.0.1", "t3.micro", "● running", "store.lab.test")], [row], chapter, 1, public={"lb-1": "203.0.113.9"})
    )
    machine = {"node": "lb-1", "address": "10.0.0.1", "public": "203.0.113.9", "type": "t3.micro", "state": "running", "serves": "store.lab.test"}
    assert found["machines"] == [machine]
    assert found["chapters"] == [{"name": "05_configure_nginx", "state": state, "when": "2026-01-01T00:00:00Z", "by": "root@vm"}]
    assert state in (ROOT / "docs/command-line.md").read_text()
    assert (found["running"], found["next"], found["trouble"]) == (1, "05_configure_nginx", None)


def test_an_error_as_a_document_has_its_three_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "params/none.yaml", "--json"]) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["ok"] is False and found["error"]["kind"] == "ParamsError" and found["error"]["what"] == "no params file params/none.yaml"
    assert said.err.startswith("no params file params/none.yaml\n  where: ")


def test_a_missing_params_file_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run"])
    assert capsys.readouterr().err.endswith("the following arguments are required: PARAMS\n")


@pytest.mark.parametrize(("words", "offered"), [("pla", {"plan"}), ("run --f", {"--from"}), ("lab do", {"down"}), ("completion z", {"zsh"})])
def test_the_shell_completes_commands_and_options(words: str, offered: set[str]) -> None:
    line = f"runbook {words}"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SUPPRESS_SPACE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "IFS": "\n"}
    command = [sys.executable, "-m", "runbook_cli"]
    done = subprocess.run(["bash", "-c", '"$@" 8>&1 >/dev/null', "bash", *command], cwd=ROOT, env=os.environ | asked, capture_output=True, text=True)
    assert set(done.stdout.split()) == offered, done.stderr


@pytest.mark.parametrize("shell", arguments.SHELLS)
def test_every_shell_gets_its_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "runbook" in capsys.readouterr().out


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's notebooks and params elsewhere."""
    for name in ("notebooks", "exercises", "params", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("kernel-ipc*"))
    for module in (cli, loader):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were to be run."""
    seen: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: seen.append(command) or nullcontext(argparse.Namespace(wait=lambda: 0)))
    return seen


@pytest.mark.slow
def test_jupyterlab_ends_with_the_command_that_opened_it(workspace: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "runbook_lib", "open", "--no-browser", f"--port={port}"]
    with subprocess.Popen(command, env={**os.environ, "RUNBOOK_HOME": str(workspace)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as opened:
        try:
            assert wait_until(lambda: knock("127.0.0.1", port, None) == "open", 90, pause=0.1)
            [child] = map(int, Path(f"/proc/{opened.pid}/task/{opened.pid}/children").read_text().split())
        finally:
            opened.terminate()
        opened.wait(60)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # nothing of a test that fails is left
        pytest.fail("JupyterLab runs on without the command that opened it")


def test_open_takes_a_port(opened: list[list[str]], workspace: Path) -> None:
    assert cli.main(["open", "--no-browser", "--port", "9999"]) == 0
    assert {"--port=9999", "--no-browser"} <= set(opened[0])


@pytest.mark.parametrize(("words", "params"), [(["params/greg-single.lab.yaml"], "greg-single"), ([], "greg-separated")])
def test_open_leads_every_chapter_to_the_params_and_changes_no_exemplar(
    words: list[str], params: str, opened: list[list[str]], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exemplars = {path: path.read_bytes() for path in (workspace / "notebooks").glob("*.ipynb")}
    monkeypatch.chdir(workspace.parent)
    assert cli.main(["open", *words]) == 0
    assert f"--LabApp.default_url=/lab/tree/work/{params}/notebooks/00_start_here.ipynb" in opened[0]
    pattern = ("00_start_here", "99_tear_down", *(chapter.name for chapter in chapters_of(params)))
    texts = [(workspace / "work" / params / "notebooks" / f"{name}.ipynb").read_text() for name in pattern]
    assert all(f'params_file = \\"../../../params/{params}.lab.yaml\\"' in text for text in texts)
    assert {path: path.read_bytes() for path in (workspace / "notebooks").glob("*.ipynb")} == exemplars


def test_open_takes_params_that_the_form_is_to_complete(
    opened: list[list[str]], workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace)
    assert cli.main(["open", "params/greg-separated.aws.yaml"]) == 0
    assert "--LabApp.default_url=/lab/tree/work/greg-separated/notebooks/00_start_here.ipynb" in opened[0]
    assert "greg-separated.aws.yaml is not complete: " in (said := capsys.readouterr().out) and "product.pack" in said and "chapter 00" in said
    assert 'params_file = \\"../../../params/greg-separated.aws.yaml\\"' in (workspace / "work/greg-separated/notebooks/00_start_here.ipynb").read_text()


def test_open_makes_nothing_for_a_name_that_cannot_be(opened: list[list[str]], workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = workspace / "params" / "mine.yaml"
    params.write_text((workspace / "params/greg-separated.lab.yaml").read_text().replace("deployment: greg-separated", "deployment: ../../out"))
    assert cli.main(["open", str(params)]) == 1
    assert "deployment = '../../out'" in capsys.readouterr().err and not opened and not (workspace / "work").exists()


def test_doctor_tells_a_mistake_in_the_params_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert front.main(["doctor", PARAMS, "--set", "nodes.stor=2"]) == 1
    said = capsys.readouterr()
    assert (said.out + said.err).count("nodes.stor = 2") == 1


def test_overrides_are_typed_as_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(runner, "plan", lambda params, overrides, say: seen.update(overrides) or 0)
    cli.main(["plan", PARAMS, "--set", "nodes.store=3", "--set", "clustering=false"])
    assert seen == {"nodes.store": 3, "clustering": False}


def test_the_library_alone_says_where_the_lab_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rehearse"]) == 1
    assert "./runbook" in capsys.readouterr().err


def test_a_lab_is_brought_up_only_for_params_that_name_one(tmp_path: Path) -> None:
    def args(*set_: str) -> argparse.Namespace:
        return argparse.Namespace(params=PARAMS, set=list(set_))

    assert front.lab_of(args()) == "lab"
    assert front.lab_of(args("cloud.aws_config=/run/ec2lab/two/aws-config")) == "two"
    assert front.lab_of(args("cloud.aws_config=null")) is None


@pytest.mark.parametrize(("argv", "printed"), [(["lab", "up"], "err"), (["rehearse", PARAMS], "err"), (["doctor"], "out")], ids=str)
def test_who_has_no_linux_is_told_in_a_line_what_works_there(
    argv: list[str], printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(front, "as_root", lambda *_: pytest.fail("root was asked for"))
    monkeypatch.setattr(sys, "platform", "darwin")
    front.main(argv)
    lines = [line for line in getattr(capsys.readouterr(), printed).splitlines() if "this is macOS" in line]
    assert len(lines) == 1 and "here works what is on AWS" in lines[0]


def test_a_missing_file_is_looked_for_in_each_place_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["plan", "params/none.yaml"]) == 1
    assert capsys.readouterr().err.count(str(ROOT)) == 1


@pytest.mark.parametrize("named", [("RUNBOOK_DEBIAN_MIRROR", "RUNBOOK_LAB"), ("EC2LAB_DEBIAN_MIRROR", "EC2LAB_NAME")], ids=str)
def test_sudo_passes_on_which_lab_and_which_mirror_were_named(named: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the lab's own names as well: its messages tell these."""
    (tmp_path / "sudo").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/called\n')
    (tmp_path / "sudo").chmod(0o755)
    for pair in front.LAB_SETTINGS.items():
        for name in pair:
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
    for name, value in zip(("PATH", *named), (f"{tmp_path}:{os.environ['PATH']}", "http://mirror.test/debian", "mine"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert front.main(["lab", "up"]) == 0
    called = (tmp_path / "called").read_text().split()
    assert {"RUNBOOK_DEBIAN_MIRROR=http://mirror.test/debian", "RUNBOOK_LAB=mine"} <= set(called) and called[-2:] == ["lab", "up"]


@pytest.mark.parametrize(
    ("params", "ranges", "told"),
    [
        ("greg-separated", ["0.0.0.0/0"], True),
        ("greg-separated", ["203.0.113.0/24"], False),
        ("greg-single", ["0.0.0.0/0"], False),
        ("as-cluster", ["0.0.0.0/0"], False),
    ],
)
def test_doctor_says_where_a_separated_publisher_is_open_to_everybody(params: str, ranges: list[str], told: bool) -> None:
    found = list(doctor._parameters(loader.load_spec(f"params/{params}.lab.yaml", {"publisher_allow_cidr": ranges})))
    assert [(one.ok, one.needed) for one in found] == [(False, False)] * told


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


def test_who_imports_papermill_builds_no_grammars() -> None:
    code = "import sys, runbook_lib.headless.runner, papermill; print('jsonschema' in sys.modules, 'lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split() == ["True", "False"]


def test_the_family_of_errors_is_told_from_the_rest() -> None:
    assert "HostError" in errors.by_name()
    assert RunbookError.__name__ in errors.by_name()
    assert "ValueError" not in errors.by_name()


def test_a_command_ends_without_looking_through_what_it_imported_for_garbage() -> None:
    code = "import atexit, gc; from runbook_lib.headless import cli; atexit.register(lambda: print(gc.get_freeze_count() > 0)); cli.main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


def test_every_option_of_the_lab_s_up_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(lab, "up", lambda found, *positional, **named: given.update(named))
    assert lab.main(["up", "--any-network", "--as-slow-as-aws", "--images", "debian-13"]) == 0
    assert given["any_network"] and given["pace"] and given["images"] == ("debian-13",)
    monkeypatch.undo()
    for name in ("check_machine", "offer"):
        monkeypatch.setattr(lab, name, lambda *_: None)
    monkeypatch.setattr(lab.lifecycle, "up", lambda *made: given.update(made=made))
    lab.up(find_lab(), any_network=True)
    assert given["made"][-1] is True


@pytest.mark.parametrize("words", [("watch", PARAMS), ("backup", PARAMS)], ids=str)
def test_airflow_is_offered_to_batches_only_which_a_notebook_can_do(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*words, "--every", "6h", "--as", "airflow"])
    assert "choose from" in capsys.readouterr().err
    assert arguments.parser().parse_args(["batch", "sweep.yaml", "--every", "6h", "--as", "airflow"]).timer == "airflow"
