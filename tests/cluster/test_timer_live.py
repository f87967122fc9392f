"""The units of `--every` under a real systemd: begun once at a time, by the clock or the last start, with the file of credentials, stopped as by Ctrl-C."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.headless import schedule
from runbook_lib.headless.schedule import Repeated, units
from tests.support.lab_fixtures import Box, eventually

DOOR = """#!/bin/bash
echo "begun in $PWD by $RUNBOOK_HOME with $TOKEN: $*" >> said
trap 'echo stopped >> said; exit 1' INT
sleep 600 & wait
"""


@pytest.fixture
def machine(launch: Callable[..., Box], monkeypatch: pytest.MonkeyPatch) -> Box:
    """A machine with the units of every day and of every seven hours, and a front door that waits."""
    monkeypatch.setattr(schedule, "ROOT", Path("/srv/a book"))
    monkeypatch.setattr(schedule, "program", lambda: ("/srv/a book/runbook",))
    box = launch().booted()
    files = {"/srv/a book/runbook": DOOR, "/etc/runbook/environment": "TOKEN=from-the-file\n"}
    for every in ("1d", "7h"):
        made = units(Repeated(f"runbook-{every}", "The sweep 50%", ("batch", "/srv/$x 5%.yaml"), schedule.interval(every)))
        files |= {f"/etc/systemd/system/{name}": text for name, text in made.items()}
    parts = [
        f'sudo mkdir -p "{Path(path).parent}"; echo {base64.b64encode(text.encode()).decode()} | base64 -d | sudo tee "{path}" >/dev/null'
        for path, text in files.items()
    ]
    box.run("; ".join([*parts, 'sudo chmod 755 "/srv/a book/runbook"', "sudo systemctl daemon-reload"]))
    return box


def test_systemd_begins_it_once_at_a_time_and_stops_it_as_ctrl_c_does(machine: Box) -> None:
    def said() -> list[str]:
        return machine.run('sudo cat "/srv/a book/said" 2>/dev/null || true').splitlines()

    machine.run("sudo systemctl enable --now runbook-1d.timer")
    assert machine.run("systemctl show -P NextElapseUSecRealtime runbook-1d.timer").strip(), "it goes by the clock"
    assert machine.run("systemctl show -P FixedRandomDelay runbook-1d.timer").strip() == "yes"
    for _ in range(2):
        machine.run("sudo systemctl start --no-block runbook-1d.service")
        eventually(said, "the command")
    assert said() == ["begun in /srv/a book by /srv/a book with from-the-file: batch /srv/$x 5%.yaml"]
    machine.run("sudo systemctl stop runbook-1d.service")
    assert said()[1:] == ["stopped"]
    assert machine.run("systemctl show -P Result runbook-1d.service").strip() == "exit-code", "whoever looks sees that it did not end well"


def test_what_the_clock_cannot_say_counts_from_the_last_start(machine: Box) -> None:
    def upcoming() -> dict[str, str]:
        timers = machine.run("systemctl show -P TimersMonotonic runbook-7h.timer")
        return dict(re.findall(r"\{ (\w+=\w+) ; next_elapse=(.*?) \}", timers))

    machine.run("sudo systemctl start runbook-7h.timer")
    before = upcoming()
    assert before.keys() == {"OnBootUSec=15min", "OnUnitActiveUSec=7h"}
    machine.run("sudo systemctl start --no-block runbook-7h.service")
    eventually(lambda: machine.run('sudo cat "/srv/a book/said" 2>/dev/null || true'), "the command")
    machine.run("sudo systemctl stop runbook-7h.service")
    eventually(lambda: upcoming()["OnUnitActiveUSec=7h"] != before["OnUnitActiveUSec=7h"], "seven hours from the start")
