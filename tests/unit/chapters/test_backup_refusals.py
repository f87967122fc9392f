"""Which backups a restore takes: those of the same kind of database server; of another kind none. And what a backup needs: one machine."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.aws.s3.backup_store import Backup, BackupPart, BackupStore
from runbook_lib.chapters.second_day import backups
from runbook_lib.chapters.second_day.backups import Backups, _holder
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.launch.cloud import Cloud
from runbook_lib.operations import lost_database
from runbook_lib.operations.lost_database import TELLTALE
from runbook_lib.roles.context import Download
from runbook_lib.session import RESTORING, Session
from runbook_lib.ssh import Completed, Fleet, Host
from runbook_lib.topology.databases import databases_of
from tests.fakes import context

pytest_plugins = ["tests.support.aws_endpoint"]
PACK = Download("ef" * 32)
MARIADB, MYSQL = "MariaDB 10.11.6-MariaDB-0+deb12u1", "MySQL 8.4.3"


def kept(cloud: Cloud, server: str, time: str = "2026-11-26T15:00:00Z", of: str = "") -> Backup:
    """A backup that fits this deployment in everything but perhaps its server. `of`: another deployment, whose it is."""
    store, parts = BackupStore(cloud.aws, of or cloud.spec.deployment), []
    folder = store.new_folder()
    for database in databases_of(cloud.spec.pattern):
        way = store.way_in(folder, f"{database.name}.sql.gz")
        urllib.request.urlopen(urllib.request.Request(way.url, b"rows", {**way.headers, "Content-Type": "application/gzip"}, method="PUT")).close()
        parts.append(BackupPart(database.name, f"{database.name}.sql.gz", 4, "ab" * 32, "cd" * 32))
    made = Backup(store.deployment, cloud.spec.pattern, "greg", "", PACK.sha256, server, time, "me", "backup", tuple(parts), None, folder)
    store.complete(made)
    return made


def opened(cloud: Cloud) -> Any:
    """A deployment that has no machine to touch."""
    return SimpleNamespace(cloud=cloud, spec=cloud.spec, pack=PACK, vault=cloud.vault)


@pytest.mark.parametrize(
    ("server", "package", "words"),
    [
        (MARIADB, "mariadb-server", ""),
        ("MariaDB 10.5.29-MariaDB", "mariadb-server", ""),
        (MYSQL, "mysql-server", ""),
        (MYSQL, "mariadb-server", "is of the server MySQL 8.4.3, and database.package mariadb-server is MariaDB. Nothing was dropped"),
        (MARIADB, "mysql-server", r"is of the server MariaDB 10\.11\.6\S+, and database.package mysql-server is MySQL. Nothing was dropped"),
    ],
)
def test_a_backup_of_the_other_kind_of_server_is_refused_with_both_named(make_cloud: Callable[..., Cloud], server: str, package: str, words: str) -> None:
    cloud = make_cloud(overrides={"database.package": package})
    deployment = opened(cloud)
    made = kept(cloud, server)
    if not words:
        assert Backups(deployment).choose() == made
        return
    with pytest.raises(RunbookError, match=words) as refused:
        Backups(deployment).choose()
    assert "--at for another time" in (refused.value.next_step or "") and "database.package" in (refused.value.next_step or "")


def test_a_backup_needs_the_databases_machine_and_no_other(make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = make_cloud()
    topology, up = cloud.topology, {"db-1": Reached("db-1", True)}
    machines = {node.name: SimpleNamespace(state="running" if node.name in up else "stopped") for node in topology.nodes}

    def fleet(without: Iterable[str] = ()) -> Fleet:
        if down := machines.keys() - up - set(without):
            raise HostError(f"not running: {', '.join(sorted(down))}")
        return Fleet(up)  # type: ignore[arg-type]

    def send_dump(host: Host, name: str, way: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(way["url"], b"rows", {**way["headers"], "Content-Type": "application/gzip"}, method="PUT")
        urllib.request.urlopen(request).close()
        return {"size": 4, "sha256": "ab" * 32, "rows": "cd" * 32}

    fact = {"server": "10.11.6-MariaDB", "mariadb": True, "used": dict.fromkeys(TELLTALE, True), "states": {}}
    monkeypatch.setattr(backups, "ask", lambda *_, **__: {"facts": [fact]})
    monkeypatch.setattr(lost_database, "ask", lambda *_, **__: {"facts": [fact]})
    monkeypatch.setattr(backups.dumps, "send_dump", send_dump)
    ctx = replace(context(cloud.spec.pattern), booted=frozenset(node.name for node in topology.wso2_nodes), in_use=True)
    d: Any = SimpleNamespace(
        cloud=cloud, spec=cloud.spec, topology=topology, pack=PACK, person="me", context=lambda: ctx, writing=nullcontext, fleet=fleet,
        instances=lambda: machines, out_of_reach=dict, running=lambda: Session.running(d), answer=lambda question, ask: ask(),
        journal=SimpleNamespace(attempt=lambda *_: nullcontext(), write=lambda *_, **__: None),
    )  # fmt: skip
    made = Backups(d).make()
    assert made.server == "MariaDB 10.11.6-MariaDB" and Backups(d).made() == [made]
    machines["db-1"].state = "stopped"
    up.clear()
    with pytest.raises(HostError, match="not running, or out of reach: db-1"):
        Backups(d).make()


class Reached(Host):
    """A node that answers, or whose machine runs and does not."""

    def __init__(self, name: str, answers: bool):
        self.name, self.answers = name, answers

    def run(self, *_: Any, **__: Any) -> Completed:
        if not self.answers:
            raise HostError(f"{self.name} does not answer", self.name)
        return Completed(0, "", "")


MANAGER, FIRST, SECOND = "as-manager-1", "as-worker-1", "as-worker-2"


@pytest.mark.parametrize(
    ("running", "mute", "booted", "holder"),
    [
        ((MANAGER, FIRST, SECOND), (), (MANAGER, FIRST, SECOND), MANAGER),
        ((FIRST, SECOND), (), (MANAGER, FIRST, SECOND), FIRST),
        ((MANAGER, FIRST, SECOND), (MANAGER, FIRST), (MANAGER, FIRST, SECOND), SECOND),
        ((MANAGER, FIRST, SECOND), (), (FIRST, SECOND), FIRST),  # the manager is new: it has nothing yet
        ((MANAGER,), (), (), MANAGER),
        ((), (), (MANAGER, FIRST, SECOND), None),
        ((MANAGER,), (MANAGER,), (MANAGER, FIRST, SECOND), None),
    ],
)
def test_archives_are_kept_from_the_manager_or_a_worker_and_without_any_there_is_no_backup(
    running: tuple[str, ...], mute: tuple[str, ...], booted: tuple[str, ...], holder: str | None
) -> None:
    ctx = replace(context("as-cluster"), booted=frozenset(booted))
    deployment: Any = SimpleNamespace(topology=ctx.topology)
    fleet = Fleet({name: Reached(name, name not in mute) for name in running})
    if holder:
        assert _holder(deployment, ctx, fleet) == holder
        return
    with pytest.raises(HostError, match="The older backups stay"):
        _holder(deployment, ctx, fleet)


TODAY = "2026-11-26T15:00:00Z"
DAYS = (("yesterday", "2026-11-25T15:00:00Z"), ("today", TODAY))
# what is said on the command line after a restore of `begun` was cut short; what is taken then
AGAIN: dict[str, tuple[str, str, str, str]] = {
    "nothing": ("own yesterday", "", "", "own yesterday"),  # today's holds the damage
    "the copy's source": ("other yesterday", "", "other", "other yesterday"),
    "nothing of a copy": ("other yesterday", "", "", "other yesterday"),
    "another time": ("own yesterday", TODAY, "", "own today"),
    "another deployment": ("own yesterday", "", "other", "other today"),
    "after dumps of the machine": ("dumps on db-1: /var/backups/x.sql.gz", "", "", "own today"),
    "after none": ("", "", "", "own today"),
}


@pytest.mark.parametrize(("begun", "at", "source", "taken"), AGAIN.values(), ids=AGAIN)
def test_a_restore_that_is_begun_again_takes_the_backup_that_it_began_with(
    make_cloud: Callable[..., Cloud], begun: str, at: str, source: str, taken: str
) -> None:
    cloud = make_cloud()
    other = f"{cloud.spec.deployment}-other"
    made = {f"{name} {when}": kept(cloud, MARIADB, time, of) for name, of in (("own", ""), ("other", other)) for when, time in DAYS}
    if begun:
        cloud.vault.put(RESTORING, made[begun].folder if begun in made else begun, secure=False)
    try:
        assert Backups(opened(cloud)).choose(at, source and other) == made[taken]
    finally:
        for name in ("", other):
            BackupStore(cloud.aws, name or cloud.spec.deployment).delete_all()
        cloud.vault.delete(RESTORING)


def test_when_the_backup_that_it_began_with_is_gone_no_other_is_taken_unasked(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    kept(cloud, MARIADB)
    cloud.vault.put(RESTORING, f"{cloud.spec.deployment}/20261125T150000Z-abcd", secure=False)
    with pytest.raises(RunbookError, match="the backup whose restore was begun is gone") as refused:
        Backups(opened(cloud)).choose()
    assert "--at" in (refused.value.next_step or "")
    cloud.vault.delete(RESTORING)
