"""Dumps by their names, and what a notebook shows of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.chapters.mysql import Mysql
from runbook_lib.errors import RunbookError
from runbook_lib.operations.backup import Dump, Restored, as_table, database_of

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
