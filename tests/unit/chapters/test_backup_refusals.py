"""Which backups a restore takes: those of the same kind of database server; of another kind none, before anything is asked of a machine."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.aws.s3.backup_store import Backup, BackupPart, BackupStore
from runbook_lib.chapters.second_day.backups import Backups
from runbook_lib.errors import RunbookError
from runbook_lib.launch.cloud import Cloud
from runbook_lib.roles.context import Download
from runbook_lib.topology.databases import databases_of

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
