"""Databases made anew at a user's word: what goes with which, what is refused, and that nothing else is forgotten or dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.chapters import mysql as chapter
from runbook_lib.chapters.second_day import backups
from runbook_lib.errors import DataLost, RunbookError
from runbook_lib.launch.cloud import Cloud
from runbook_lib.operations import startup
from runbook_lib.operations.backup import Recreated
from runbook_lib.ssh import Fleet
from runbook_lib.topology.databases import GREG
from tests.fakes import context

pytest_plugins = ["tests.support.aws_endpoint"]
USER, REGISTRY, SOCIAL, STORAGE, BPS = EVERY = tuple(database.name for database in GREG)
KEPT, RESET = ["in use", "kept"], ["first boots", "first boots on the nodes"]


@pytest.fixture
def chaptered(make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[chapter.Mysql, list[str]]]:
    """Chapter 02 of a deployment, and a list of what it does. `used`: the databases that nodes wrote to; two of its four are booted when it is in use."""

    def make(used: Sequence[str], in_use: bool) -> tuple[chapter.Mysql, list[str]]:
        done: list[str] = []

        def does(what: str) -> Callable[..., None]:
            return lambda *_: done.append(what)

        booted = ("publisher-1", "store-1") if in_use else ()
        found = replace(context("greg-separated"), booted=frozenset(booted), in_use=in_use)

        @contextmanager
        def block(*_: Any) -> Iterator[None]:
            yield

        hosts = Fleet({node.name: SimpleNamespace(name=node.name) for node in found.topology.nodes})  # type: ignore[misc]
        fact = {"server": "10.11.6-MariaDB", "mariadb": True, "used": {name: name in used for name in (USER, REGISTRY)}, "states": {}}
        journal = SimpleNamespace(attempt=block, write=lambda *_, key, **more: done.append(f"noted {key}"))
        deployment: Any = SimpleNamespace(
            spec=found.spec, topology=found.topology, cloud=make_cloud(), writing=block, journal=journal, context=lambda: found, fleet=lambda **_: hosts,
            running=lambda: hosts,
            instances=lambda: {found.topology.db.name: SimpleNamespace(state="running")}, out_of_reach=lambda: {}, answer=lambda key, ask: fact,
            record_in_use=does("in use"), forget_first_boots=does("first boots"), forget_use=does("forgotten"),
        )  # fmt: skip
        monkeypatch.setattr(backups, "keep_first", does("kept"))
        monkeypatch.setattr(startup, "forget_first_boots", does("first boots on the nodes"))
        monkeypatch.setattr(startup, "stop_all", does("stopped"))
        monkeypatch.setattr(startup, "start", lambda fleet, ctx, name: done.append(f"started {name}"))
        monkeypatch.setattr(chapter, "recreate_databases", lambda host, schemas: tuple(Recreated(each.database.name, 1, None) for each in schemas))
        return chapter.Mysql(deployment), done

    return make


BOTH, STARTED, FORGOTTEN = (USER, REGISTRY), ["started publisher-1", "started store-1"], ["forgotten"]
DONE = [  # names, the databases that nodes wrote to, in use, what is done before the databases are made anew, and after it
    ((), BOTH, True, [*KEPT, *RESET], FORGOTTEN),
    ((), (), False, RESET, FORGOTTEN),
    (EVERY, BOTH, True, [*KEPT, *RESET], FORGOTTEN),
    (BOTH, BOTH, True, [*KEPT, *RESET], FORGOTTEN),
    ((REGISTRY, USER, SOCIAL), BOTH, False, RESET, FORGOTTEN),  # a first boot was cut short
    ((USER,), (), False, RESET, FORGOTTEN),  # half loaded by hand, and nobody booted on it
    ((REGISTRY,), (REGISTRY,), False, RESET, FORGOTTEN),
    ((SOCIAL,), BOTH, True, [*KEPT, "stopped"], STARTED),
    ((STORAGE, BPS), BOTH, True, [*KEPT, "stopped"], STARTED),
    ((BPS,), BOTH, False, ["stopped"], []),  # the nodes' chapter is not through with the first boots: it goes on with them
    ((BPS,), (), False, ["stopped"], []),
]


@pytest.mark.parametrize(("names", "used", "in_use", "before", "after"), DONE)
def test_only_with_user_database_and_registry_the_first_boots_are_due_again(
    chaptered: Any, names: Sequence[str], used: Sequence[str], in_use: bool, before: list[str], after: list[str]
) -> None:
    mysql, done = chaptered(used, in_use)
    made = [each.database for each in mysql.recreate(*names, confirm="test")]
    assert made == [*(names or EVERY)]
    assert done[: len(before)] == before and done[len(before) :][: len(made)] == [f"noted {name}" for name in made]
    assert sorted(done[len(before) + len(made) :]) == after


REFUSED = [
    ((SOCIAL,), BOTH, True, "", RunbookError, "databases of test are to be dropped"),
    (("WSO2_OTHER_DB",), BOTH, True, "test", RunbookError, "greg-separated has no database WSO2_OTHER_DB"),
    ((USER,), BOTH, True, "test", RunbookError, f"{USER} and {REGISTRY} go together, and {REGISTRY} is used"),
    ((REGISTRY, SOCIAL), BOTH, True, "test", RunbookError, f"{REGISTRY} and {USER} go together, and {USER} is used"),
    ((REGISTRY,), (USER,), False, "test", RunbookError, f"{USER} is used"),  # a first boot was cut short
    ((SOCIAL,), (USER,), True, "test", DataLost, f"holds nothing of {REGISTRY}"),
    ((USER,), (REGISTRY,), True, "test", DataLost, f"holds nothing of {USER}"),
    (BOTH, (), True, "test", DataLost, f"holds nothing of {USER} and {REGISTRY}"),  # with consent for two the others are not dropped
]


@pytest.mark.parametrize(("names", "used", "in_use", "confirm", "error", "words"), REFUSED)
def test_what_would_leave_databases_that_do_not_fit_is_refused_before_anything_is_touched(
    chaptered: Any, names: Sequence[str], used: Sequence[str], in_use: bool, confirm: str, error: type[RunbookError], words: str
) -> None:
    mysql, done = chaptered(used, in_use)
    with pytest.raises(error, match=words) as refused:
        mysql.recreate(*names, confirm=confirm)
    assert done == [] and refused.value.where and refused.value.next_step


def test_where_the_data_is_lost_only_the_first_boots_are_forgotten(chaptered: Any) -> None:
    mysql, done = chaptered((), True)
    assert mysql.recreate(confirm="test") == () and sorted(done) == sorted([*RESET, *FORGOTTEN])
