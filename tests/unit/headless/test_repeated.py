"""`--every`: what systemd, cron and Airflow are told, by their own judges where they are here, and one clear error for what cannot be."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from runbook_lib.errors import RunbookError
from runbook_lib.headless import cli, schedule
from runbook_lib.headless.schedule import EVEN, Repeated, calendar, cron, in_words, interval, offer, units
from tests.conftest import need

INTERVALS = {"1m": 1, "30m": 30, "6h": 360, "7h": 420, "1d": 1440, "1w": 10080, "1h30m": 90, " 6H ": 360, "90m": 90}
WRONG = ["", "6", "h", "6x", "0h", "-1h", "1.5h", "90s", "6 h", "400d", "every 6h", "1h 30m"]
CRON = {
    "1m": r"\*/1 \* \* \* \*",
    "15m": r"\*/15 \* \* \* \*",
    "1h": r"\d+ \* \* \* \*",
    "6h": r"\d+ \*/6 \* \* \*",
    "1d": r"\d+ 0 \* \* \*",
    "1w": r"\d+ 0 \* \* 0",
}


def task(every: str = "6h", **more: object) -> Repeated:
    given = {
        "words": ("batch", "/srv/a sweep/50%.yaml", "--jobs", "2"),
        "notebook": Path("/srv/notebooks/10_batch.ipynb"),
        "parameters": {"sweep_file": "/srv/x"},
    }
    return Repeated(**{"name": "runbook-batch-x", "title": "The sweep x", "minutes": interval(every), **given, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", INTERVALS)
def test_an_interval_is_read(text: str) -> None:
    assert interval(text) == INTERVALS[text]
    assert interval(in_words(INTERVALS[text])) == INTERVALS[text]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_interval_is_one_error_that_says_how_to_write_one(text: str) -> None:
    with pytest.raises(RunbookError, match="is no interval") as error:
        interval(text)
    assert "30m, 6h, 1d or 1h30m" in str(error.value)


@pytest.mark.parametrize("every", CRON)
def test_cron_is_told_the_time_the_place_and_a_lock(every: str) -> None:
    line = cron(task(every))
    assert re.match(rf"{CRON[every]} cd \S+ && mkdir -p work && flock -n -E 0 work/runbook-batch-x-[0-9a-f]{{8}}.lock /", line)
    log = "work/runbook-batch-x.log"
    ends = f" batch '/srv/a sweep/50\\%.yaml' --jobs 2 >> {log} 2>&1 || echo 'runbook-batch-x failed: see {schedule.ROOT}/{log}'"
    assert line.endswith(ends), "a bare % would end the line"


@pytest.mark.parametrize(("every", "instead"), [("7h", "6h or 8h"), ("90m", "1h or 2h"), ("45m", "30m or 1h"), ("2d", "1d or 1w"), ("30d", "1d or 1w")])
def test_what_cron_cannot_say_is_refused_with_what_it_can(every: str, instead: str) -> None:
    with pytest.raises(RunbookError, match=f"cannot say every {in_words(interval(every))}") as error:
        cron(task(every))
    assert instead in str(error.value) and "--as systemd" in str(error.value)


def test_a_command_of_cron_is_left_out_while_the_one_before_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(shutil.which("flock"), "flock is missing (util-linux)")
    monkeypatch.setattr(schedule, "ROOT", tmp_path)
    door = tmp_path / "runbook"
    door.write_text('#!/bin/sh\necho "$@" >> begun\n[ "$(wc -l < begun)" -gt 2 ] || sh again\n')  # it begins the same while it is at work
    door.chmod(0o755)
    command = cron(task()).split(" ", 5)[5].replace("\\%", "%")  # as cron hands it to the shell
    (tmp_path / "again").write_text(command)
    done = subprocess.run(["sh", "-c", command], timeout=60, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0), "cron would send it as a mail"
    assert (tmp_path / "begun").read_text() == "batch /srv/a sweep/50%.yaml --jobs 2\n", "the second was begun inside of the first"


def test_a_command_of_cron_that_fails_says_so_for_crons_mail_and_has_the_variables_of_this_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(shutil.which("flock"), "flock is missing (util-linux)")
    root = tmp_path / "a 50% book"
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedule, "ROOT", root)
    monkeypatch.setenv("AWS_PROFILE", "a person's 50% $HOME")
    monkeypatch.setenv("RUNBOOK_RUNS", "my runs")
    monkeypatch.setenv("RUNBOOK_SMTP", "relay.example.org:2525")
    door = root / "runbook"
    door.write_text('#!/bin/sh\nprintf "%s|%s|%s\\n" "$AWS_PROFILE" "$RUNBOOK_RUNS" "$RUNBOOK_SMTP"\nexit 2\n')
    door.chmod(0o755)
    line = cron(task())
    assert not re.search(r"(?<!\\)%", line), "a bare % would end the line"
    command = line.split(" ", 5)[5].replace("\\%", "%")
    done = subprocess.run(["sh", "-c", command], timeout=60, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    log = root / "work/runbook-batch-x.log"
    assert (done.stdout, done.stderr) == (f"runbook-batch-x failed: see {log}\n", "")
    assert log.read_text() == f"a person's 50% $HOME|{tmp_path}/my runs|relay.example.org:2525\n"


def test_cron_does_not_leave_out_another_file_that_has_the_same_name() -> None:
    locks = {re.search(r"work/\S+\.lock", cron(task(words=("backup", file, "--quiet"))))[0] for file in ("/srv/a.yaml", "/srv/b.yaml")}  # type: ignore[index]
    assert len(locks) == 2


@pytest.mark.parametrize("every", ["1m", "15m", "1h", "6h", "7h", "1d", "1w", "30d"])
def test_systemd_takes_the_units(tmp_path: Path, every: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need(shutil.which("systemd-analyze"), "systemd-analyze is missing (Debian's package systemd)")
    monkeypatch.setenv("AWS_PROFILE", "a person's profile")
    for name, text in units(task(every)).items():
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / f"runbook-batch-x.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "runbook-batch-x" in line], done.stderr


@pytest.mark.parametrize("minutes", EVEN)
def test_what_goes_by_the_clock_goes_evenly(minutes: int) -> None:
    need(shutil.which("systemd-analyze"), "systemd-analyze is missing (Debian's package systemd)")
    done = subprocess.run(["systemd-analyze", "calendar", "--iterations=30", calendar(minutes)], capture_output=True, text=True, env={"TZ": "UTC"})
    found = [datetime.strptime(when, "%Y-%m-%d %H:%M:%S") for when in re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", done.stdout)]
    assert len(found) == 30 and {(b - a).total_seconds() for a, b in itertools.pairwise(found)} == {minutes * 60.0}, done.stdout


def test_the_service_has_the_place_the_path_and_no_secret_and_stops_as_after_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "ops")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalr-not-here")
    monkeypatch.setenv("RUNBOOK_SMTP", "relay.example.org")
    monkeypatch.setenv("RUNBOOK_RUNS", "mine")
    monkeypatch.setenv("PATH", "/usr/bin:/opt/x")
    service, timer = units(task("6h")).values()
    assert 'batch "/srv/a sweep/50%%.yaml" --jobs 2\n' in service and "Environment=PATH=/usr/bin:/opt/x\n" in service
    assert "Environment=RUNBOOK_SMTP=relay.example.org\n" in service and f"Environment=RUNBOOK_RUNS={Path.cwd()}/mine\n" in service
    assert "Environment=AWS_PROFILE=ops\n" in service and "wJalr" not in service and "KillSignal=SIGINT" in service
    assert "OnCalendar=*-*-* 00/6:00:00" in timer and "Persistent=true" in timer and "RandomizedDelaySec=15min" in timer
    assert "OnUnitActiveSec=420min" in units(task("7h"))["runbook-batch-x.timer"]


def test_units_are_shown_first_and_written_once_that_is_agreed(tmp_path: Path) -> None:
    said: list[str] = []
    no: Callable[[str], bool] = lambda question: False  # noqa: E731
    offer(task(), "systemd", said.append, no, tmp_path / "user")
    assert "OnCalendar" in "".join(said) and said[-1].startswith("nothing was written") and not list(tmp_path.iterdir())
    questions: list[str] = []
    offer(task(), "systemd", said.append, lambda question: not questions.append(question), tmp_path / "user")
    assert questions == [f"Write runbook-batch-x.service and runbook-batch-x.timer to {tmp_path}/user?"]
    assert {path.name: path.read_text() for path in (tmp_path / "user").iterdir()} == units(task())
    assert "systemctl --user enable --now runbook-batch-x.timer" in said[-1] and "journalctl --user -u runbook-batch-x.service" in said[-1]
    offer(task(), "systemd", said.append, no, tmp_path / "user")
    assert "as they should be" in said[-1]
    offer(task("1d"), "systemd", said.append, no, tmp_path / "user")
    assert "-OnCalendar=*-*-* 00/6:00:00\n+OnCalendar=*-*-* 00:00:00\n" in "".join(said[-2:])


OTHER_FILES = {
    "backup /srv/b.yaml": False,
    "backup /srv/a.yaml --quiet": True,
    "backup /srv/a.yaml": True,
    "backup '/srv/a.yaml more'": False,
    "backup /srv/a": False,
}


@pytest.mark.parametrize("words", OTHER_FILES)
def test_a_timer_of_the_same_name_for_another_params_file_is_not_replaced_though_that_was_agreed(tmp_path: Path, words: str) -> None:
    def timer(words: str) -> None:
        offer(task(words=tuple(shlex.split(words))), "systemd", lambda text: None, lambda question: True, tmp_path)

    timer("backup /srv/a.yaml --set nodes.store=2")
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    if OTHER_FILES[words]:
        timer(words)
        assert {path: path.read_text() for path in tmp_path.iterdir()} != before
        return
    with pytest.raises(RunbookError, match="is of other files") as error:
        timer(words)
    assert "disable --now runbook-batch-x.timer, then remove both files" in str(error.value) and "backup /srv/a.yaml" in str(error.value)
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


def test_who_has_a_webhook_is_told_where_its_line_belongs_and_never_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for address in ("", "https://hooks.example.org/token-4711"):
        monkeypatch.setenv("RUNBOOK_WEBHOOK", address) if address else monkeypatch.delenv("RUNBOOK_WEBHOOK", raising=False)
        offer(task("6h" if address else "1d"), "systemd", said.append, lambda question: True, tmp_path)
    assert [("RUNBOOK_WEBHOOK=…" in text, "environment" in text) for text in said if text.startswith("written")] == [(False, True), (True, True)]
    assert "4711" not in "".join([*said, *(path.read_text() for path in tmp_path.iterdir())])


def test_a_unit_that_is_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "runbook-batch-x.timer").write_text("[Timer]\n")
    with pytest.raises(RunbookError, match="not of the runbook"):
        offer(task(), "systemd", print, lambda question: True, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["runbook-batch-x.timer"]


def test_the_dag_is_python_that_executes_the_notebook_and_what_is_no_notebook_is_refused() -> None:
    text = schedule.airflow(task("90m"))
    ast.parse(text)
    assert "schedule=timedelta(minutes=90)" in text and "'/srv/notebooks/10_batch.ipynb'" in text and "{'sweep_file': '/srv/x'}" in text
    with pytest.raises(RunbookError, match="is no notebook"):
        schedule.airflow(task(notebook=None))


TOGETHER = {
    "--as cron": ("nothing says how often", "--every 6h"),
    "--every 6h --resume": ("does not go with --resume", "begins anew"),
    "--every 6h --dry-run": ("does not go with --dry-run", "take --dry-run away"),
    "--every 6h --as airflow --jobs 2": ("does not take --jobs", "max_parallel"),
    "--every soon": ("'soon' is no interval", "6h"),
}


@pytest.mark.parametrize("options", TOGETHER)
def test_options_that_do_not_go_together_are_one_error(tmp_path: Path, options: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"sweep": "x", "params": ["greg-single.lab.yaml"], "do": "plan"}))
    assert cli.main(["batch", str(file), *options.split()]) == 1
    said = capsys.readouterr().err
    assert all(words in said for words in TOGETHER[options]) and "Traceback" not in said


def test_only_what_is_to_be_destroyed_is_agreed_to_in_the_command_of_a_timer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sweep.yaml"
    for verb, ends in (("verify", f"{file} --jobs 3 >>"), ("destroy", f"{file} --jobs 3 --yes >>")):
        file.write_text(yaml.safe_dump({"sweep": "x", "params": ["greg-single.lab.yaml"], "do": verb}))
        assert cli.main(["batch", str(file), "--every", "1d", "--as", "cron", "--jobs", "3", "--yes"]) == 0
        assert ends in capsys.readouterr().out
