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
from runbook_lib.session import Session
from runbook_lib.ssh import Completed, Fleet, Host
from runbook_lib.topology.databases import databases_of
from tests.fakes import context

pytest_plugins = ["tests.support.aws_endpoint"]
PACK = Download("ef" * 32)
MARIADB, MYSQL = "MariaDB 10.11.6-MariaDB-0+deb12u1", "MySQL 8.4.3"


def kept(cloud: Cloud, server: str) -> Backup:
    """A backup that fits this deployment in everything but perhaps its server."""
    store, parts = BackupStore(cloud.aws, cloud.spec.deployment), []
    folder = store.new_folder()
    for database in databases_of(cloud.spec.pattern):
        way = store.way_in(folder, f"{database.name}.sql.gz")
        urllib.request.urlopen(urllib.request.Request(way.url, b"rows", {**way.headers, "Content-Type": "application/gzip"}, method="PUT")).close()
        parts.append(BackupPart(database.name, f"{database.name}.sql.gz", 4, "ab" * 32, "cd" * 32))
    made = Backup(store.deployment, cloud.spec.pattern, "greg", "", PACK.sha256, server, "2026-11-26T15:00:00Z", "me", "backup", tuple(parts), None, folder)
    store.complete(made)
    return made


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
    deployment: Any = SimpleNamespace(cloud=cloud, spec=cloud.spec, pack=PACK)  # has no machine to touch
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
