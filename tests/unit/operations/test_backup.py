"""Dumps by their names, and what a notebook shows of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.chapters import mysql
from runbook_lib.chapters.mysql import Mysql
from runbook_lib.errors import RunbookError
from runbook_lib.operations.backup import Dump, Restored, as_table, database_of
from tests.fakes import context

PATH = "/var/backups/runbook-mysql/WSO2_USER_DB-20261123T010203Z-4711.sql.gz"


def test_a_dumps_name_says_whose_it_is() -> None:
    assert database_of(PATH) == "WSO2_USER_DB"


@pytest.mark.parametrize("path", ["", "WSO2_USER_DB", "/tmp/users.sql.gz", PATH + ".part", PATH.replace("WSO2_USER_DB", "x'; DROP")])
def test_a_file_of_another_kind_is_refused(path: str) -> None:
    with pytest.raises(RunbookError, match="is not the path of a dump"):
        database_of(path)


def test_a_table_says_where_dumps_lie_and_what_was_restored() -> None:
    assert PATH in str(as_table([Dump("WSO2_USER_DB", PATH, "ab" * 32, 2048)], "db-1"))
    assert "2 KiB" in str(as_table([Dump("WSO2_USER_DB", PATH, "ab" * 32, 2048)], "db-1"))
    assert "abababababab" in str(as_table([Restored("WSO2_USER_DB", PATH, "ab" * 32, None)], "db-1"))


def test_a_restore_that_names_no_dump_stops_nothing() -> None:
    untouched: Any = SimpleNamespace(spec=SimpleNamespace(deployment="shop"))  # has no hosts to stop
    with pytest.raises(RunbookError, match="no dump is named"):
        Mysql(untouched).restore(confirm="shop")


@pytest.mark.parametrize(
    ("restored", "stopped"),
    [
        (["WSO2_USER_DB"], ["stop the nodes"]),
        (["WSO2_REGISTRY_DB"], ["forget the first boots", "put the nodes back"]),
        (["WSO2_USER_DB", "WSO2_REGISTRY_DB"], ["forget the first boots", "put the nodes back"]),
    ],
)
def test_a_restored_registry_makes_the_nodes_boot_as_new_ones_on_used_databases(
    monkeypatch: pytest.MonkeyPatch, restored: list[str], stopped: list[str]
) -> None:
    """A search index of another time lists what is gone and not what is back. The order bears a kill: nothing is replaced before the nodes forgot."""
    steps = restoring(monkeypatch, restored)
    tried = [f"try {name}" for name in restored]
    assert steps == [*tried, "record the use", *stopped, f"begin dumps on db-1: {', '.join(map(dump_of, restored))}", *restored, "end"]


BOTH = ["WSO2_USER_DB", "WSO2_REGISTRY_DB"]


@pytest.mark.parametrize("fails", ["try WSO2_REGISTRY_DB", "WSO2_REGISTRY_DB"])
def test_dumps_of_which_one_does_not_load_stop_nothing_and_those_cut_short_have_not_ended(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """The databases belong together: with one of them of another time, the guard lets nobody go on."""
    steps = restoring(monkeypatch, BOTH, fails=fails)
    assert steps[-1] == ("try WSO2_USER_DB" if fails.startswith("try") else "WSO2_USER_DB"), "and no end"


DUE = f"dumps on db-1: {PATH}, {PATH.replace('USER', 'REGISTRY')}"


@pytest.mark.parametrize(
    ("begun", "named", "words"),
    [
        (DUE, BOTH, ""),
        (f"dumps on db-1: {PATH}", ["WSO2_USER_DB"], ""),
        (DUE, ["WSO2_USER_DB"], "no dump of WSO2_REGISTRY_DB is named"),
        ("shop/20261126T150000Z-abcd", BOTH, "a restore of the backup shop/20261126T150000Z-abcd was cut short"),
    ],
)
def test_what_was_cut_short_is_ended_by_dumps_of_all_its_databases_only(monkeypatch: pytest.MonkeyPatch, begun: str, named: list[str], words: str) -> None:
    if not words:
        assert restoring(monkeypatch, named, begun)[-1] == "end"
        return
    with pytest.raises(RunbookError, match=f"{words}.*nothing was stopped"):
        restoring(monkeypatch, named, begun)


def dump_of(name: str) -> str:
    return PATH.replace("WSO2_USER_DB", name)


def restoring(monkeypatch: pytest.MonkeyPatch, names: list[str], begun: str = "", fails: str = "") -> list[str]:
    """Restore dumps of these databases, with one step failing ("": none), and return the steps. `begun`: what was cut short before."""
    steps: list[str] = []
    ctx = replace(context("greg-separated"), restoring=begun)

    def step(name: str, value: Any = None) -> Any:
        if name == fails:
            raise KeyboardInterrupt
        steps.append(name)
        return value

    @contextmanager
    def recorded(what: str) -> Iterator[None]:
        step(f"begin {what}")
        yield
        step("end")

    deployment: Any = SimpleNamespace(
        spec=ctx.spec,
        topology=ctx.topology,
        context=lambda: ctx,
        fleet=lambda: {ctx.topology.db.name: SimpleNamespace(name="db-1")},
        writing=nullcontext,
        journal=SimpleNamespace(attempt=lambda *_: nullcontext(), write=lambda *_, **__: None),
        record_in_use=lambda: step("record the use"),
        forget_first_boots=lambda: step("forget the first boots"),
        restoring=recorded,
    )
    monkeypatch.setattr(mysql.startup, "stop_all", lambda *_: step("stop the nodes"))
    monkeypatch.setattr(mysql.startup, "forget_first_boots", lambda *_: step("put the nodes back"))
    monkeypatch.setattr(mysql, "try_dump", lambda _, dump: step(f"try {database_of(dump)}"))
    monkeypatch.setattr(mysql, "restore_database", lambda _, dump, tried: step(database_of(dump), Restored(database_of(dump), dump, "ab", None)))
    with suppress(KeyboardInterrupt):
        Mysql(deployment).restore(*map(dump_of, names), confirm=ctx.spec.deployment)
    return steps
