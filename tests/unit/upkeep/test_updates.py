"""What a machine says of its updates, and what a patch does about it: which packages, which restarts, in which order of machines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.changes import Change
from runbook_lib.checks.drill.interruption import Noticed, interruption
from runbook_lib.checks.drill.load import Sample
from runbook_lib.converge import agent
from runbook_lib.converge.agent.updates import UpdatesHandler
from runbook_lib.errors import HostError
from runbook_lib.operations.upkeep import turns
from runbook_lib.operations.upkeep.updates import Update, Updates, pending_of, refuse_unfinished, updates_of
from tests.fakes import context

LINES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
NOTICE = Change("service", "drain", "nobody notices")
FIX = Update("libssl3", "1", "2", "Debian-Security:12/stable-security")
KERNEL = Update("linux-image-6.1.0-37-amd64", "", "6.1.140-1", "Debian-Security:12/stable-security")


@pytest.fixture(scope="module")
def on_machine() -> dict[str, Any]:
    """The names of the program that runs on a machine."""
    source = agent.program(["updates"]).split(b"\n", 1)[1].decode()
    names: dict[str, Any] = {}
    exec(compile(source.removesuffix("main()\n"), "agent", "exec"), names)
    return names


@pytest.mark.parametrize("case", LINES, ids=[case["it"] for case in LINES])
def test_a_line_of_apt_is_read(on_machine: dict[str, Any], case: dict[str, Any]) -> None:
    [found] = on_machine["parse_simulation"](f"Reading package lists...\n{case['line']}\n{case['line'].replace('Inst', 'Conf')}\n", True)
    assert {name: found[name] for name in ("name", "old", "new", "security")} == {name: case[name] for name in ("name", "old", "new", "security")}


def test_where_no_suite_holds_security_updates_every_update_counts(on_machine: dict[str, Any]) -> None:
    assert on_machine["parse_simulation"]("Inst curl [8.1] (8.2 Debian:unstable [amd64])", False)[0]["security"]


def test_a_security_fix_that_another_suite_has_superseded_is_still_one(on_machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    newest = "Inst nginx [1.1] (1.3 Ubuntu:22.04/jammy-updates [amd64])\nInst bash [5.0] (5.1 Ubuntu:22.04/jammy-updates [amd64])\n"
    said = {"jammy-security": "Inst nginx [1.1] (1.2 Ubuntu:22.04/jammy-security [amd64])\nInst bash [5.0] (5.1 Ubuntu:22.04/jammy-updates [amd64])\n"}
    monkeypatch.setitem(on_machine, "run", lambda command, env: said[command[command.index("-t") + 1]] if "-t" in command else newest)
    found = on_machine["pending"](["jammy", "jammy-security", "jammy-updates"])
    assert [(each["name"], each["new"], each["security"]) for each in found] == [("nginx", "1.3", True), ("bash", "5.1", False)]


@pytest.mark.parametrize(
    ("line", "due"),
    [
        ("Inst mariadb-server [1:11.8.6-0+deb13u1] (1:11.8.9+ds-0+deb13u1 Debian:13.5/stable [amd64])", True),
        ("Inst galera-4 [26.4.22-1] (26.4.23-0+deb13u1 Debian:13.5/stable [amd64])", True),
        ("Inst openjdk-21-jre-headless [21.0.8] (21.0.9 Debian-Security:13/stable-security [amd64])", True),
        ("Inst tzdata [2025a] (2025b Debian:13.5/stable [all])", False),  # unattended-upgrades takes it
    ],
)
def test_what_no_machine_updates_by_itself_is_due_whatever_suite_it_comes_from(
    on_machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch, line: str, due: bool
) -> None:
    monkeypatch.setitem(on_machine, "run", lambda command, env: line + "\n")
    found = updates_of("db-1", said(updates=on_machine["pending"](["trixie", "trixie-security"])))
    assert (len(found.due), found.others) == ((1, 0) if due else (0, 1))


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/nginx.service", "nginx.service"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("0::/init.scope", "init.scope"),
        ("0::/user.slice/user-1000.slice/session-3.scope", ""),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope", ""),
        ("0::/", ""),
    ],
)
def test_a_process_belongs_to_a_service_or_to_a_session(on_machine: dict[str, Any], cgroup: str, unit: str) -> None:
    assert on_machine["unit_of"](cgroup + "\n") == unit


def said(**more: Any) -> dict[str, Any]:
    """What the agent says of a machine on which nothing is due, but for `more`."""
    return {
        "updates": [], "held": [], "half": False, "kernel": {"runs": "6.1", "installed": "6.1"}, "flag": False, "packages": [], "stale": {}, **more,
    }  # fmt: skip


DUE = (  # what the machine says, and the verbs of what a patch does about it
    ({}, []),
    ({"updates": [{"name": "tzdata", "old": "1", "new": "2", "from": "Debian", "security": False}]}, []),
    ({"updates": [{"name": "libssl3", "old": "1", "new": "2", "from": "x-security", "security": True}]}, ["drain", "update"]),
    ({"half": True}, ["drain", "run"]),
    ({"stale": {"nginx.service": ["/usr/lib/libssl.so.3"]}}, ["drain", "restart"]),
    ({"stale": {"dbus.service": ["/usr/lib/libc.so.6"]}}, ["drain", "reboot"]),
    ({"flag": True, "packages": ["linux-base"]}, ["drain", "reboot"]),
    ({"kernel": {"runs": "6.1.0-35-amd64", "installed": "6.1.0-37-amd64"}}, ["drain", "reboot"]),
    ({"kernel": {"runs": "6.18.44-fc", "installed": ""}}, []),  # a container: the kernel is not its own
    ({"updates": [{"name": "linux-image-6.1.0-37-amd64", "old": "", "new": "1", "from": "x-security", "security": True}]}, ["drain", "update", "reboot"]),
)


@pytest.mark.parametrize(("fact", "verbs"), DUE)
def test_what_is_due_follows_from_what_the_machine_says(fact: dict[str, Any], verbs: list[str]) -> None:
    assert [p.change.verb for p in pending_of(updates_of("store-1", said(**fact)), NOTICE)] == verbs


def test_the_products_own_restart_comes_last_because_it_is_waited_for() -> None:
    stale = {name: ("/usr/lib/x",) for name in ("wso2carbon.service", "init.scope", "zabbix.service", "dbus.service")}
    assert Updates("store-1", stale=stale).restarts == ("init.scope", "zabbix.service", "wso2carbon.service")


def test_a_machine_that_asks_for_another_reboot_after_one_is_an_error() -> None:
    refuse_unfinished(Updates("db-1", due=(FIX, KERNEL)))
    with pytest.raises(HostError, match="has rebooted and still needs to: the kernel"):
        refuse_unfinished(Updates("db-1", runs="6.1", installed="6.2"))


@pytest.mark.parametrize(
    ("pattern", "settings", "expected"),
    [
        ("greg-separated", {}, ["store-1", "store-2", "publisher-1", "publisher-2", "lb-1", "db-1"]),
        ("greg-separated", {"nodes": {"store": 2, "publisher": 1}}, ["store-1", "store-2", "publisher-1", "lb-1", "db-1"]),
        ("as-cluster", {}, ["as-worker-1", "as-worker-2", "as-manager-1", "lb-1", "db-1"]),
    ],
)
def test_who_is_missed_least_goes_first_and_the_database_last(pattern: str, settings: dict[str, Any], expected: list[str]) -> None:
    topology = context(pattern, **settings).topology
    assert turns.in_turn(topology, [node.name for node in topology.nodes]) == expected
    assert turns.in_turn(topology, ["db-1", expected[0]]) == [expected[0], "db-1"]


def test_a_plan_says_whom_it_interrupts() -> None:
    topology = context("greg-separated", nodes={"store": 2, "publisher": 1}).topology
    verbs = {node.name: turns.notice(topology, node.name).verb for node in topology.nodes}
    assert {name for name, verb in verbs.items() if verb == "interrupt"} == {"publisher-1", "lb-1", "db-1"}


def sample(at: float, failure: str = "", took: float = 0.1) -> Sample:
    return Sample(at, took, 0, "store-1", failure, False, False)


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [
        ([], 0.0),
        ([sample(0), sample(1)], 0.0),
        ([sample(0), sample(1, "refused"), sample(2, "refused"), sample(4)], 3.0),
        ([sample(0, "refused"), sample(1), sample(3, "refused"), sample(3.5)], 1.0),
        ([sample(4), sample(2, "refused"), sample(0)], 2.0),  # they end in another order than they were due
        ([sample(0), sample(5, "no answer within 10 s", took=10.0)], 10.0),  # nothing good came after it
    ],
)
def test_an_interruption_lasts_from_the_first_failure_to_the_next_good_answer(samples: list[Sample], seconds: float) -> None:
    assert interruption(samples) == seconds


def test_the_agents_probe_and_apply_call_apt_as_it_is_called_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of both verbs runs, with programs that record what they are asked."""
    asked = tmp_path / "asked"
    for name in ("apt-get", "apt-mark", "dpkg"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $DEBIAN_FRONTEND $*" >> {asked}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    [fact] = UpdatesHandler.probe([{}])
    UpdatesHandler.apply([{"half": True, "packages": ["small"], "restart": []}])
    said = asked.read_text()
    assert fact["updates"] == [] and " -o Acquire::Languages=none -o APT::Update::Error-Mode=any update\n" in said
    assert "dpkg noninteractive --configure -a\n" in said and "--force-confold -o Acquire::Languages=none --only-upgrade install -- small\n" in said


@pytest.mark.parametrize(
    ("noticed", "words"),
    [
        (Noticed(0, 0, 0, 0, 0.0), "not measured"),
        (Noticed(40, 0, 0, 0, 0.0), "0 of 40 requests failed, no visitor had a session to lose, interrupted for 0.0 s"),
        (Noticed(40, 2, 16, 8, 1.25), "2 of 40 requests failed, 8 sessions lost of 16 visitors with one, interrupted for 1.2 s"),
    ],
)
def test_what_visitors_noticed_says_how_many_had_a_session_to_lose(noticed: Noticed, words: str) -> None:
    assert str(noticed) == words
