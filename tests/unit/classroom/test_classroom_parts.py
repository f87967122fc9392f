"""Parts of the classroom that need no root: walls as text, logins, progress out of what learners write."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_cli.classroom import cli, lifecycle, logins, room, users, walls
from runbook_cli.classroom.page import progress, recent
from runbook_lib.errors import RunbookError

ADA, GRACE = room.seats(["ada", "grace"], IPv4Network("10.160.0.0/16"))


def test_a_learners_range_and_address_are_for_him_and_root_alone() -> None:
    text = walls.table([ADA, GRACE], [7001, 7002])
    assert "ip daddr { 10.160.0.0/20, 127.77.0.1 } meta skuid != { 0, 57001 } counter reject" in text
    assert "ip daddr { 10.160.16.0/20, 127.77.0.2 } meta skuid != { 0, 57002 } counter reject" in text
    assert 'meta skuid { 57001, 57002 } oifname "ec-*" ip daddr != { 10.160.0.0/20, 10.160.16.0/20 } counter reject' in text
    assert "tcp dport { 7001, 7002 } meta skuid != 0 counter reject" in text


def test_a_password_fits_its_own_login_only(tmp_path: Path) -> None:
    made, file = logins.make(["ada", "grace"]), tmp_path / "logins.json"
    logins.store(made, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(password in file.read_text() for password in made.values())
    tried = {(name, whose): logins.fits(name, made[whose], file) for name in made for whose in made}
    assert tried == {("ada", "ada"): True, ("grace", "grace"): True, ("ada", "grace"): False, ("grace", "ada"): False}
    assert not logins.fits("nobody", made["ada"], file)
    assert not logins.fits("ada", "", file)


def test_passwords_are_long_and_never_the_same() -> None:
    made = logins.make([f"learner{number}" for number in range(99)])
    assert len(set(made.values())) == 99
    assert all(len(password) == 19 for password in made.values())


CHAPTERS = {
    "01_launch_ec2": '{"ok": true, "utc": "2026-01-01T00:00:00Z", "by": "ada"}',
    "02_install_mysql": '{"ok": false, "applied": true}',
    "05_configure_nginx": '{"ok": false}',
    "07_verify_sso_separation": '{"ok": true, "leaks": "the Store leads to the Publisher"}',
}


def test_chapters_and_exercises_are_read_from_parameters() -> None:
    parameters = {f"/runbook/mine/chapters/{name}": text for name, text in CHAPTERS.items()}
    parameters |= {
        f"/runbook/mine/exercises/nginx-{number}": json.dumps({"state": state}) for number, state in enumerate(["passed", "passed", "solved", "open"])
    }
    [found] = progress._deployments(parameters, {"mine": "greg-single"})
    assert dict(found.chapters) == {
        "01_launch_ec2": "verified",
        "02_install_mysql": "applied, not verified",
        "04_configure_greg_nodes": "to do",
        "05_configure_nginx": "failed",
        "07_verify_sso_separation": "leaks, as expected",
    }
    assert (found.verified, dict(found.exercises)) == (2, {"passed": 2, "solution shown": 1})


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "null", '{"ok": ', "[" * 5000, '"x"', "{}"])
def test_a_record_that_is_none_does_not_stop_the_page(text: str) -> None:
    parameters = {"/runbook/mine/chapters/01_launch_ec2": text, "/runbook/mine/exercises/a": text, "/runbook/": text, "/runbook/mine": text}
    found = progress._deployments(parameters, {"mine": "no such pattern"})
    assert [each.name for each in found][-1] == "mine"
    assert dict(found[-1].chapters) == {"01_launch_ec2": "failed"}


def journal(runs: Path, deployment: str, run: str, *lines: Any) -> None:
    folder = runs / deployment / run
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))


def test_the_last_error_of_the_newest_run_is_found(tmp_path: Path) -> None:
    failed = {"verb": "apply", "utc": "2026-01-02T00:00:00.123Z", "chapter": "02_install_mysql", "ok": False}
    journal(tmp_path, "mine", "20260101T000000Z", {"verb": "begin", "pattern": "greg-original"}, {**failed, "error": "an older run"})
    last = json.dumps({**failed, "error": "second\n\x85\u2028  where: db-1"}, ensure_ascii=False)  # as a journal is written
    lines = [{"verb": "begin", "pattern": "greg-single"}, {**failed, "error": "first"}, last, "cut in the mid", [1]]
    journal(tmp_path, "mine", "20260102T000000Z", *lines)
    error = {"utc": "2026-01-02T00:00:00Z", "chapter": "02_install_mysql", "what": "second where: db-1"}
    assert recent.recent(tmp_path) == {"mine": {"pattern": "greg-single", "error": error}}


def test_what_a_learner_writes_is_printable_on_every_page_and_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a pair of surrogates cannot be encoded, and an escape code is obeyed by the terminal."""
    bad, good = "\ud800\x1b]0;x\x07\u202eé", "??]0;x??é"
    runs = {"mine": {"pattern": "greg-single", "error": {"utc": bad, "chapter": bad, "what": bad + "x" * 5000, "more": bad}}}
    monkeypatch.setattr(progress.labs, "usage", lambda learner: (1, 1))
    monkeypatch.setattr(progress, "_recent", lambda learner: runs)
    instance = {"State": {"Name": "running"}, "InstanceId": "i-1", "Tags": [{"Key": "runbook:node", "Value": bad}]}
    clients = {
        "ec2": SimpleNamespace(describe_instances=lambda: {"Reservations": [{"Instances": [instance]}]}),
        "ssm": SimpleNamespace(get_parameters_by_path=lambda **_: {"Parameters": [{"Name": f"/runbook/{bad}/chapters/x", "Type": "String", "Value": "{}"}]}),
    }
    monkeypatch.setattr(progress, "_client", lambda lab, service: clients[service])
    found = progress.of(ADA)
    assert found.error == {"utc": good, "chapter": good, "what": good + "x" * (progress.LONGEST - len(good))}
    assert (found.machines, [each.name for each in found.deployments]) == (((good, "running"),), [good])
    room_ = room.Room((ADA,), 1, 2, 3, 4, 5, 6, ("class.example.org",))
    assert "".join(cli._row(room_, found)).isprintable()
    json.dumps(asdict(found), ensure_ascii=False).encode()


@contextmanager
def a_classroom_that_is_up(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[list[str]]:
    """One learner with a run; gives what is done to the classroom."""
    done: list[str] = []
    journal(home / "homes/ada/runbook/runs", "mine", "20260101T000000Z", {"verb": "begin"})
    monkeypatch.setattr(users, "HOME", home)
    monkeypatch.setattr(users, "made", lambda: [SimpleNamespace(pw_name="ada", pw_uid=57001)])
    monkeypatch.setattr(users, "end_processes", lambda uids: done.append("programs ended"))
    for name, value in {
        "check_machine": lambda: None, "_alone": nullcontext, "found": lambda: ["something"], "hub_pids": list,
        "_end": lambda pids: done.append("hub ended"), "_sweep": lambda say: done.append("removed"),
    }.items():  # fmt: skip
        monkeypatch.setattr(lifecycle, name, value)
    yield done


def test_an_archive_that_cannot_be_made_is_told_before_anything_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "there.tar.gz").write_text("mine")
    with a_classroom_that_is_up(monkeypatch, tmp_path / "home") as done:
        for file in (tmp_path / "nowhere/runs.tar.gz", tmp_path / "there.tar.gz"):
            with pytest.raises(RunbookError, match="the archive cannot be written"):
                lifecycle.down(print, file)
        assert done == [] and (tmp_path / "there.tar.gz").read_text() == "mine"


def test_an_archive_that_is_cut_short_is_removed_and_the_homes_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "add", full)
    with a_classroom_that_is_up(monkeypatch, tmp_path / "home") as done:
        with pytest.raises(RunbookError, match="cannot be kept: No space left on device") as error:
            lifecycle.down(print, tmp_path / "runs.tar.gz")
        assert str(tmp_path / "runs.tar.gz") in str(error.value) and "make room" in str(error.value)
        assert "removed" not in done and not (tmp_path / "runs.tar.gz").exists()


def test_runs_are_kept_in_an_archive_for_its_owner_alone_before_the_homes_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with a_classroom_that_is_up(monkeypatch, tmp_path / "home") as done:
        lifecycle.down(lambda text: None, tmp_path / "runs.tar.gz")
    assert done == ["hub ended", "programs ended", "removed"] and (tmp_path / "runs.tar.gz").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "runs.tar.gz") as kept:
        assert "ada/runs/mine/20260101T000000Z/journal.jsonl" in kept.getnames()


@pytest.mark.parametrize("link", ["runbook", "runbook/runs"])
def test_a_neighbours_runs_are_not_kept_as_ones_own(link: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with a_classroom_that_is_up(monkeypatch, tmp_path / "home"):
        own = tmp_path / "home/homes/eve" / link
        own.parent.mkdir(parents=True)
        own.symlink_to(tmp_path / "home/homes/ada" / link)
        with open(tmp_path / "runs.tar.gz", "wb") as file:
            users.keep_runs([SimpleNamespace(pw_name="ada"), SimpleNamespace(pw_name="eve")], file)
    with tarfile.open(tmp_path / "runs.tar.gz") as kept:
        assert {name.split("/")[0] for name in kept.getnames()} == {"ada"}


def test_where_no_runs_are_nothing_is_found(tmp_path: Path) -> None:
    assert recent.recent(tmp_path / "runs") == {}


def test_recent_runs_with_the_standard_library_alone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", recent.__file__, str(tmp_path)], capture_output=True, text=True, check=True, env={})
    assert done.stdout.strip() == "{}"


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_a_file_that_only_root_can_read_is_not_read_for_a_learner(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A learner links his journal to somebody else's: it is read as him, and so it is not."""
    secret = tmp_path_factory.mktemp("secret") / "journal.jsonl"
    secret.write_text(json.dumps({"verb": "apply", "error": "a secret"}))
    secret.chmod(0o600)
    shared = Path("/tmp") / f"classroom-{os.getpid()}"
    run = shared / "runs" / "mine" / "20260101T000000Z"
    run.mkdir(parents=True)
    try:
        (run / "journal.jsonl").symlink_to(secret)
        for path in (shared, shared / "runs", shared / "runs" / "mine", run):
            path.chmod(0o755)
        command = ["/usr/bin/python3", "-I", "-S", "-", str(shared / "runs")]
        done = subprocess.run(
            command, input=Path(recent.__file__).read_text(), capture_output=True, text=True, user=65534, group=65534, extra_groups=[], cwd="/"
        )
        assert "a secret" not in done.stdout + done.stderr
    finally:
        subprocess.run(["rm", "-rf", str(shared)], check=True)
