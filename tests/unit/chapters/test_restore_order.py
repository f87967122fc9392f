"""A restore that fails at any of its steps: what was done before, what of it stays, and who may go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.aws.s3.backup_store import Backup, BackupPart
from runbook_lib.chapters.second_day import backups
from runbook_lib.errors import RunbookError
from runbook_lib.operations.backup import Restored
from tests.fakes import context

FOLDER = "shop/20261125T150000Z-abcd"
BACKUP = Backup(
    "shop", "as-cluster", "as", "", "ef" * 32, "MariaDB 10.11", "2026-11-25T15:00:00Z", "me", "backup",
    (BackupPart("A", "A.sql.gz", 1, "ab" * 32, "cd" * 32), BackupPart("B", "B.sql.gz", 1, "ab" * 32, "cd" * 32)),
    BackupPart("archives", "archives.tar.gz", 1, "ab" * 32, holds=("x.war",)), FOLDER,
)  # fmt: skip
SAFE = ["fetch A", "fetch B", "check archives", "try A", "try B", "keep"]
DOWN = ["begin", "reset nodes", "forget boots", "replace A", "replace B", "administrator"]
CLEAN = "delete A B"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[str]]]:
    """Return a function that restores with one step failing ("": none), and returns the steps that were made."""

    def restored(fails: str) -> list[str]:
        made: list[str] = []

        def step(name: str, value: Any = None) -> Any:
            if name == fails:
                raise RunbookError(f"{name} fails")
            made.append(name)
            return value

        @contextmanager
        def restoring(folder: str) -> Iterator[None]:
            step("begin")
            yield
            step("end")

        verb = {"check": "check archives", "take": "put archives"}
        ctx = replace(context("as-cluster"), in_use=True, secrets={"carbon-admin-password": "secret"})
        deployment: Any = SimpleNamespace(
            spec=ctx.spec, topology=ctx.topology, context=lambda: ctx,
            fleet=lambda: {node.name: SimpleNamespace(name=node.name) for node in ctx.topology.nodes},
            journal=SimpleNamespace(write=lambda *_, **__: None, attempt=lambda *_: nullcontext()), restoring=restoring,
            forget_first_boots=lambda: step("forget boots"), product=SimpleNamespace(plan=lambda: None, apply=lambda _: step("boot nodes")),
        )  # fmt: skip
        monkeypatch.setattr(backups, "store_applied", lambda *_: None)
        monkeypatch.setattr(backups, "_archives", lambda d, chosen, store, what: step(verb[what], ["x.war"]))
        monkeypatch.setattr(backups, "keep_first", lambda *_: step("keep"))
        monkeypatch.setattr(backups.startup, "forget_first_boots", lambda *_: step("reset nodes"))
        monkeypatch.setattr(backups.dumps, "fetch_dump", lambda host, name, *_: step(f"fetch {name}", name))
        monkeypatch.setattr(backups.dumps, "try_dump", lambda host, path: step(f"try {path}"))
        monkeypatch.setattr(backups.dumps, "restore_database", lambda host, path, tried: step(f"replace {path}", Restored(path, path, "ab", None)))
        monkeypatch.setattr(backups.dumps, "set_administrator", lambda *_: step("administrator"))
        monkeypatch.setattr(backups.dumps, "forget_dumps", lambda host, paths: made.append(" ".join(["delete", *paths])))
        try:
            backups._restore(deployment, BACKUP, SimpleNamespace(place="s3://", way_out=lambda *_: SimpleNamespace(wire=dict)))  # type: ignore[arg-type]
        except RunbookError as error:
            assert error.what == f"{fails} fails"
        return made

    yield restored


def test_one_that_goes_well_ends_when_the_archives_are_put_too(steps: Callable[[str], list[str]]) -> None:
    assert steps("") == [*SAFE, *DOWN, "boot nodes", "put archives", "end", CLEAN]


@pytest.mark.parametrize("fails", SAFE)
def test_nothing_is_stopped_for_a_backup_that_is_damaged_or_does_not_load(steps: Callable[[str], list[str]], fails: str) -> None:
    made = steps(fails)
    assert made[:-1] == SAFE[: SAFE.index(fails)]
    assert made[-1].startswith("delete"), "nothing that was fetched stays"


@pytest.mark.parametrize("fails", [*DOWN[1:], "boot nodes", "put archives"])
def test_until_databases_nodes_and_archives_are_there_it_has_not_ended(steps: Callable[[str], list[str]], fails: str) -> None:
    every = [*SAFE, *DOWN, "boot nodes", "put archives"]
    assert steps(fails) == [*every[: every.index(fails)], CLEAN]
