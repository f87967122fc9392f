"""A start-up lock that was left behind is shown with the statement that frees it, and with when that may be sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.checks import product_nodes
from runbook_lib.operations import registry
from runbook_lib.ssh import Completed
from tests.fakes import context


class Database:
    """A database server that runs the statements of `registry` on nothing but the lock's row."""

    name = "db-1"

    def __init__(self, status: str):
        self.status = status

    def run(self, command: str, stdin: bytes, timeout: float = 60.0) -> Completed:
        if b"UNLOCKED" in stdin:
            self.status = "UNLOCKED"
        return Completed(0, f"{self.status}\n" if b"SELECT REG_LOCK_STATUS" in stdin else "", "")


class Hosts(dict):
    def each(self, work, names):
        return dict.fromkeys(names, (True, "started"))


@pytest.mark.parametrize(("status", "words"), [("LOCKED", ["no node is starting", "on db-1"]), ("UNLOCKED", [])])
def test_the_check_of_the_lock_says_how_it_is_freed(monkeypatch: pytest.MonkeyPatch, status: str, words: list[str]) -> None:
    ctx, database = context("as-cluster"), Database(status)
    monkeypatch.setattr(product_nodes, "running", lambda *_: [])
    d: Any = SimpleNamespace(spec=ctx.spec, topology=ctx.topology, context=lambda: ctx, fleet=lambda: Hosts({"db-1": database}))
    check = next(row for row in product_nodes.verify_nodes(d, "03_configure_as_nodes", quiet=True) if row.id == "registry-lock")
    assert (check.status == "pass") == (status == "UNLOCKED")
    assert all(word in check.observed for word in words) and ("UPDATE" in check.observed) == bool(words)
    if words:
        statement = check.observed[check.observed.index("UPDATE") :].partition(";")[0]
        registry.ask(database, statement)  # type: ignore[arg-type]
        assert not registry.is_locked(database)  # type: ignore[arg-type]
