"""The program that runs on a host: a probe imports nothing that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.converge import agent
from runbook_lib.converge.agent import config_tree, core, system
from runbook_lib.converge.resources import Absent, Directory, Exec, File, Resource
from tests.support.listeners import web_listener

SLOW = {"subprocess", "tempfile", "shutil", "contextlib", "base64", "urllib.request", "zipfile", "tarfile", "gzip", "socket"}


def test_a_command_of_a_probe_has_no_input_and_is_told_by_its_output_and_status(capfd: pytest.CaptureFixture[str]) -> None:
    assert core.asked(["sh", "-c", "cat; echo out; echo err >&2; exit 3"]) == (3, "out\n")
    assert core.asked(["sh", "-c", "kill -PIPE $$"]) == (-13, ""), "Python ignores this signal, and a shell would inherit that"
    assert capfd.readouterr().err == ""
    with pytest.raises(FileNotFoundError):
        core.asked(["no-such-program"])


def test_what_a_command_said_of_its_failure_is_kept_however_much_it_said_before() -> None:
    with pytest.raises(core.Failed, match="E: Could not get lock"):
        core.run(["sh", "-c", "echo 'E: Could not get lock' >&2; seq 1000; exit 100"])


@pytest.mark.parametrize(
    "words",
    [
        "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7",
        "E: Unable to lock directory /var/cache/apt/archives/",
        "dpkg: error: dpkg frontend lock was locked by another process with pid 7",
        "dpkg: error: dpkg frontend lock is locked by another process",
    ],
)
def test_who_holds_a_lock_of_apt_or_dpkg_is_waited_for(tmp_path: Path, words: str) -> None:
    free = tmp_path / "free"
    command = f"[ -e {free} ] && exit 0; touch {free}; echo '{words}' >&2; exit 2"
    assert system.unlocked(["sh", "-c", command]) == "" and free.exists()


def test_a_probe_imports_nothing_that_only_an_apply_needs(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    wish: list[Resource] = [File(f"{tmp_path}/a", b"x"), Directory(str(tmp_path)), Absent(f"{tmp_path}/b"), Exec("made", "true", "false")]
    kinds = {*agent.KINDS} - {"updates"}  # which is asked for by `patch` alone
    source = agent.program(kinds).split(b"\n", 1)[1] + b"sys.stderr.write(' '.join(sys.modules))\n"
    request = json.dumps({"verb": "probe", "resources": [resource.question() for resource in wish]}).encode()
    done = subprocess.run([sys.executable, "-IS", "-c", source.decode()], input=request, capture_output=True)
    assert json.loads(done.stdout)["facts"][3] == {"done": True}, done.stderr.decode()
    assert not SLOW & {*done.stderr.decode().split()}


def test_a_service_that_answers_without_its_version_is_told_from_one_that_does_not_answer() -> None:
    with web_listener() as (url, _):
        status = url.removeprefix("http://")
        assert config_tree.running({"status": status}) == "other"
    assert config_tree.running({"status": status}) is None
