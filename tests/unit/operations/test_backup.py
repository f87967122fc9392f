"""Dumps by their names, and what a notebook shows of them."""

from __future__ import annotations

from contextlib import nullcontext
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
    steps: list[str] = []
    ctx = context("greg-separated")
    deployment: Any = SimpleNamespace(
        spec=ctx.spec,
        topology=ctx.topology,
        context=lambda: ctx,
        fleet=lambda: {ctx.topology.db.name: SimpleNamespace(name="db-1")},
        writing=nullcontext,
        journal=SimpleNamespace(attempt=lambda *_: nullcontext(), write=lambda *_, **__: None),
        record_in_use=lambda: steps.append("record the use"),
        forget_first_boots=lambda: steps.append("forget the first boots"),
    )
    monkeypatch.setattr(mysql.startup, "stop_all", lambda *_: steps.append("stop the nodes"))
    monkeypatch.setattr(mysql.startup, "forget_first_boots", lambda *_: steps.append("put the nodes back"))
    monkeypatch.setattr(mysql, "restore_database", lambda _, dump: (steps.append(database_of(dump)), Restored(database_of(dump), dump, "ab", None))[1])
    Mysql(deployment).restore(*(PATH.replace("WSO2_USER_DB", name) for name in restored), confirm=ctx.spec.deployment)
    assert steps == ["record the use", *stopped, *restored]
