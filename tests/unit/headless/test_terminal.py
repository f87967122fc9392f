"""What the command line prints: at a terminal (a pseudo-terminal of 60 columns), into a pipe, quietly and verbosely."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from runbook_lib.changes import Change, Event, Pending, Plan
from runbook_lib.check import Check, CheckTable
from runbook_lib.headless import cli
from runbook_lib.headless.terminal import Essential, Terminal
from runbook_lib.notebook.progress import Progress
from tests.conftest import ROOT

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WIDTH = 60
LONG = "a sentence that is longer than a terminal with sixty columns, and goes on after its comma for a while"
DIFF = "@@ -1 +1 @@\n-old\n+new"
PLAN = Plan("Nginx", {}, (Pending("lb-1", "configuration", Change("configuration /etc/nginx/nginx.conf", "modify", LONG, DIFF)),))
CHECKS = CheckTable([Check("nginx.up", LONG, "pass", "yes", "yes", "lb-1"), Check("nginx.down", "Down", "fail", "no", LONG, "lb-1")])
PROGRAM = """
import importlib
here = importlib.import_module("tests.unit.headless.test_terminal")
say = here.Terminal()
with say.fitted():
    for thing in (here.LONG, here.PLAN, here.CHECKS): say(thing)
"""


def at_a_terminal(program: str, **more: str) -> str:
    """What a program prints at a terminal of 60 columns."""
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")} | {"TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=slave, stderr=subprocess.STDOUT, env=environment | more)
    os.close(slave)
    found = b""
    while True:
        try:
            read = os.read(master, 4096)
        except OSError:  # Linux: the other end is closed
            break
        if not read:
            break
        found += read
    os.close(master)
    assert process.wait() == 0, found.decode()
    return found.decode()


def test_at_a_terminal_no_line_is_longer_than_it_and_no_word_is_broken() -> None:
    text = ESCAPES.sub("", at_a_terminal(PROGRAM))
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert {"sentence", "terminal", "columns,", "configuration", "/etc/nginx/nginx.conf:"} <= set(text.split())
    assert "nginx.down" in text and "1 of 2 checks passed" in text


def test_marks_and_diffs_are_coloured_unless_no_color_is_set() -> None:
    assert {"\x1b[32m      +new\x1b[0m", "\x1b[31m      -old\x1b[0m"} <= set(at_a_terminal(PROGRAM).splitlines())
    plain = at_a_terminal(PROGRAM, NO_COLOR="1")
    assert "\x1b[3" not in plain and "      +new" in plain.splitlines()


def test_into_a_pipe_goes_plain_text_with_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    out = io.StringIO()
    say = Terminal(stream=out)
    with say.fitted():
        for thing in (LONG, PLAN, CHECKS):
            say(thing)
    assert out.getvalue() == f"{LONG}\n{PLAN}\n{CHECKS}\n"


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ("01_launch_ec2  Launch the machines …", ""),
        (Essential("all verified"), "all verified\n"),
        (PLAN, "Nginx: 1 change pending (1 modify)\n"),
        (CHECKS, "1 of 2 checks passed\n"),
    ],
    ids=["progress", "result", "plan", "checks"],
)
def test_quietly_only_results_are_printed(thing: object, said: str) -> None:
    out = io.StringIO()
    Terminal(quiet=True, stream=out)(thing)
    assert out.getvalue() == said


def test_verbosely_each_step_of_a_host_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    say = Terminal(verbose=True, stream=out)
    with say.watching():
        Progress("Nginx", ["lb-1"])(Event("lb-1", "packages", "package nginx", 0, 1))
        Progress("Nginx", ["lb-1"])(Event("lb-1", "packages", "packages done", 1, 1))
    lines = [line.split(" s  ")[1] for line in out.getvalue().splitlines()]
    assert lines == ["lb-1: packages, 0 of 1: package nginx", "lb-1: packages, 1 of 1: packages done"]
    assert "RUNBOOK_PROGRESS" not in os.environ


def test_at_a_terminal_a_running_chapter_shows_where_each_host_stands(tmp_path: Path) -> None:
    steps = [Event("lb-1", "packages", "package nginx", 1, 3), Event("db-1", "packages", LONG, 2, 7)]
    written = "".join(json.dumps(asdict(step)) + "\n" for step in steps)
    (tmp_path / "steps").write_text(written)
    text = at_a_terminal(f"""
import os, shutil, time
from runbook_lib.headless.terminal import Terminal
say = Terminal()
with say.watching():
    shutil.copy({str(tmp_path / "steps")!r}, os.environ["RUNBOOK_PROGRESS"])
    deadline = time.monotonic() + 30
    while len(say._standing) < 2 and time.monotonic() < deadline: time.sleep(0.05)
    print(say.console.file and "".join(map(str, say._picture().renderables[1:])))
""")
    shown = ESCAPES.sub("", text)
    assert "lb-1: packages, 1 of 3: package nginx" in shown and "db-1: packages, 2 of 7: a sentence" in shown


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    ("before", "ends"),
    [(signal.SIG_DFL, True), (signal.SIG_IGN, False)],
    ids=["nobody said otherwise", "below nohup"],
)
@pytest.mark.parametrize("background", [False, True], ids=["", "where Ctrl-C is ignored"])
def test_a_signal_that_ends_programs_interrupts_a_command_unless_it_is_ignored(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, before: signal.Handlers, ends: bool, background: bool
) -> None:
    monkeypatch.setitem(cli.VERBS, "plan", lambda args: signal.raise_signal(number) or 0)  # type: ignore[func-returns-value]
    if background:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    former = signal.signal(number, before)
    try:
        assert cli.main(["plan", "params/greg-single.lab.yaml"]) == ends
        assert signal.getsignal(number) == before
    finally:
        signal.signal(number, former)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("together", "heard"), [(60.0, 1), (0.0, 2)], ids=["as timeout sends it", "a second one later"])
def test_a_signal_to_a_process_and_its_group_is_one_interrupt_and_a_later_one_a_second(monkeypatch: pytest.MonkeyPatch, together: float, heard: int) -> None:
    interrupts: list[int] = []

    def twice(_: object) -> int:
        signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))  # as a batch has its own
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        return 0

    monkeypatch.setattr(cli, "TOGETHER", together)
    monkeypatch.setitem(cli.VERBS, "plan", twice)
    assert cli.main(["plan", "params/greg-single.lab.yaml"]) == 0
    assert interrupts == [signal.SIGINT] * heard


AT_WORK = """
import sys, time
from pathlib import Path
from runbook_lib.headless import cli
def work(args):
    try:
        print("at work", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("comes to a safe point", flush=True)
        Path(sys.argv[1]).write_text("undone")
        return 0
cli.VERBS["plan"] = work
sys.exit(cli.main(["plan", "params/greg-single.lab.yaml"]))
"""


def test_a_command_whose_terminal_is_lost_comes_to_its_safe_point_although_nothing_can_be_said_any_more(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # of tests under nohup it is ignored
        os.execv(sys.executable, [sys.executable, "-c", AT_WORK, str(tmp_path / "end")])
    assert b"at work" in os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "end").read_text() == "undone"
