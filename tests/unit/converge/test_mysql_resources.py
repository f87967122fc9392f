"""Database resources as values: what differs, what is refused, what is never shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from runbook_lib.converge.agent import mysql as agent
from runbook_lib.converge.agent import mysql_backup
from runbook_lib.converge.mysql import MysqlAccount, MysqlDatabase, MysqlSchema, OnlyAccounts, canonical, table_names
from runbook_lib.roles import mysql
from runbook_lib.topology.databases import GREG
from tests.conftest import ROOT
from tests.fakes import context

PACK = ROOT / "practice/wso2_practice/pack"
SCHEMA = MysqlSchema(MysqlDatabase("D"), "dbscripts/mysql.sql", 2, b"CREATE TABLE A (i INT); CREATE TABLE B (i INT);")
WHOLE = {"server": "10.11", "tables": 2, "missing": [], "state": "loaded", "script": None, "charsets": ["utf8mb3"]}


@pytest.mark.parametrize(
    ("fact", "verb"),
    [
        ({}, None),
        ({"state": None}, None),  # loaded by another hand, and whole
        ({"tables": 0, "missing": ["A", "B"], "state": None, "charsets": []}, "load"),
        ({"tables": 0, "missing": ["A", "B"], "state": "loading", "charsets": []}, "load"),
        ({"tables": 1, "missing": ["B"], "state": "loading"}, "reload"),
        ({"tables": 0, "missing": ["A", "B"], "state": "restoring", "charsets": []}, "refuse"),  # never an empty schema in its place
        ({"state": "restoring"}, "refuse"),
        ({"state": "loading"}, "reload"),  # all tables, but the script did not end
        ({"tables": 1, "missing": ["B"], "state": "loaded"}, "refuse"),
        ({"tables": 1, "missing": ["B"], "state": None}, "refuse"),
        ({"charsets": ["latin1"]}, "refuse"),
        ({"server": None}, "create"),
    ],
)
def test_a_schema_is_loaded_repaired_or_refused_by_what_is_there(fact, verb):
    change = SCHEMA.change({**WHOLE, **fact})
    assert (change.verb if change else None) == verb


def test_a_half_schema_is_named_with_what_is_missing_and_the_way_out():
    change = SCHEMA.change({**WHOLE, "tables": 1, "missing": ["B"]})
    assert change and "1 of 2 tables are missing: B" in change.summary and "deployment.mysql.recreate('D'" in change.summary


def test_a_password_is_in_no_text_of_a_plan():
    account = MysqlAccount("u", "10.0.0.0/255.0.0.0", "D", "secret-word")
    change = account.change({"server": "8", "exists": False})
    assert "secret-word" not in f"{account} {account.key} {change}"


@pytest.mark.parametrize("name", ["utf8", "utf8mb3"])
def test_both_names_of_a_character_set_are_one(name):
    assert canonical(f"{name}_general_ci") == "utf8_general_ci" and canonical("utf8mb4_general_ci") == "utf8mb4_general_ci"


def test_tables_are_found_in_scripts_whatever_their_spelling_and_comments_are_not():
    script = b"-- CREATE TABLE NO1 (\ncreate table IF NOT EXISTS `A` (i INT);\n/* CREATE TABLE NO2 */ CREATE TABLE\n B(i INT);"
    assert table_names(script) == ("A", "B")


@pytest.mark.parametrize("database", GREG, ids=lambda database: database.name)
def test_the_table_of_databases_says_how_many_tables_each_script_makes(database):
    path = next(folder / database.script for folder in (PACK / "greg", PACK / "common") if (folder / database.script).exists())
    assert len(table_names(path.read_bytes())) == database.tables


def test_the_native_hash_is_mysqls_own():
    assert agent.native("password") == "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"  # SELECT PASSWORD('password')


@pytest.mark.parametrize("password", ["a", "Abc123Abc123Abc123Abc123", "x" * 40])
def test_the_sha256_crypt_is_the_systems_own(password):
    crypt = pytest.importorskip("crypt", reason="Python 3.13 and newer have no crypt to compare with")
    expected = crypt.crypt(password, "$5$rounds=5000$abcdefgh01234567").rpartition("$")[2]
    assert agent.sha_crypt(password.encode(), b"abcdefgh01234567", 5000) == expected


def test_a_sha2_account_is_compared_by_its_hash_with_its_twenty_byte_salt():
    salt = bytes(range(1, 21))
    stored = b"$A$005$" + salt + agent.sha_crypt(b"right", salt, 5000).encode()
    assert agent.password_matches("caching_sha2_password", stored, "right")
    assert not agent.password_matches("caching_sha2_password", stored, "wrong")


def test_another_plugin_never_matches():
    assert not agent.password_matches("unix_socket", hashlib.sha1(b"x").digest(), "x")


@pytest.mark.parametrize(
    ("image", "package", "unit"),
    [
        ("debian-12", "default-mysql-server", "mariadb.service"),
        ("ubuntu-22.04", "default-mysql-server", "mysql.service"),
        ("ubuntu-22.04", "mariadb-server", "mariadb.service"),
        ("debian-12", "mysql-server", "mysql.service"),
        ("debian-13", "default-mysql-server", "mariadb.service"),
    ],
)
def test_the_unit_is_the_servers(image, package, unit):
    ctx = context("greg-single", cloud={"image": image}, database={"package": package})
    assert mysql.unit_of(ctx.spec) == unit


@pytest.mark.parametrize("pattern", ["as-cluster", "greg-single", "greg-separated"])
def test_every_database_of_a_pattern_has_its_schema_and_its_account(pattern):
    ctx = context(pattern)
    stages = mysql.desired(ctx.topology.db, ctx)
    resources = [resource for stage in stages for resource in stage.resources]
    schemas = {r.database.name for r in resources if isinstance(r, MysqlSchema)}
    accounts = [r for r in resources if isinstance(r, MysqlAccount)]
    assert schemas == {r.database for r in accounts}
    nodes = {node.address for node in ctx.topology.wso2_nodes}
    assert {(r.database, r.host) for r in accounts} == {(database, node) for database in schemas for node in nodes}
    [only] = [r for r in resources if isinstance(r, OnlyAccounts)]
    assert set(only.users) == {r.user for r in accounts} and set(only.hosts) == nodes
    assert {r.privileges for r in accounts} == {("Select", "Insert", "Update", "Delete")}


def test_the_server_is_bound_to_its_own_address_and_waits_for_it():
    ctx = context("greg-separated")
    texts = [r.content.decode() for stage in mysql.desired(ctx.topology.db, ctx) for r in stage.resources if hasattr(r, "content")]
    assert sum("bind-address = 10.213.1.20\n" in text for text in texts) == 2
    assert any("network-online.target" in text for text in texts)


def test_the_servers_key_is_its_own_and_a_renewed_certificate_is_read_again():
    ctx = context("greg-separated")
    [files, service, *_] = mysql.desired(ctx.topology.db, ctx)
    [key] = [r for r in files.resources if getattr(r, "path", "").endswith(".key")]
    assert (key.mode, key.owner, key.secret) == (0o400, "mysql:mysql", True)
    settings = next(r.content.decode() for r in files.resources if getattr(r, "path", "") == mysql.DROP_INS[0])
    named = {line.partition(" = ")[2] for line in settings.splitlines() if line.startswith("ssl_")}
    assert named == {r.path for r in files.resources if getattr(r, "path", "").startswith(mysql.TLS)}
    assert f"find {mysql.TLS} " in service.resources[1].unless
    assert "\nrequire_secure_transport = ON\n" in settings and "\nskip-log-bin\n" in settings


@pytest.mark.parametrize("caller", ["there", "gone"])
def test_while_a_dump_is_read_its_caller_hears_of_it_every_few_seconds(monkeypatch: pytest.MonkeyPatch, caller: str) -> None:
    """A silence of 900 s counts as a lost host, and a large database takes longer. A load goes on without its caller."""
    now, told = [0.0], []

    def say(**message: str) -> None:
        told.append(message)
        if caller == "gone":
            raise BrokenPipeError

    def lines() -> Iterator[int]:
        for number in range(10):
            now[0] += 2.0
            yield number

    monkeypatch.setattr(mysql_backup, "say", say)
    monkeypatch.setattr(mysql_backup, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert list(mysql_backup.alive(lines(), "it is loaded")) == [*range(10)]
    assert told == [{"waiting": "it is loaded"}] * 3


def dumped(rows: list[bytes], per_line: bool, most: int = 99) -> list[bytes]:
    """Lines of a dump of two tables, as MariaDB 10.11 (`per_line`) or MariaDB 10.5 and MySQL write it; `most` rows in a statement."""
    first, between = (b"\n", b",\n") if per_line else (b" ", b",")
    statements = [b"INSERT INTO `T` VALUES" + first + between.join(rows[n : n + most]) + b";\n" for n in range(0, len(rows), most)]
    head = b"USE `D`;\n/*!40000 ALTER TABLE `T` DISABLE KEYS */;\n"
    return (head + b"".join(statements) + b"UNLOCK TABLES;\nINSERT INTO `U` VALUES" + first + b"(1);\n-- Dump completed on 2026-11-28\n").splitlines(True)


ROWS = [b"(1,'alice')", b"(2,'bob),(3')", rb"(4,'a line\n(5);')", b"(6,'INSERT INTO `T` VALUES (7);')"]  # as a dump writes these values
OTHERS = {
    "a changed row": [*ROWS[:1], b"(2,'mallory')", *ROWS[2:]],
    "one row more": [*ROWS, b"(8,'mallory')"],
    "the last row gone": ROWS[:-1],
    "all but one gone": ROWS[:1],
    "two rows in one value": [ROWS[0], b"(2,'bob)'),('(3')", *ROWS[2:]],
    "another order": ROWS[::-1],
}


@pytest.mark.parametrize("per_line", [False, True], ids=["a statement per line", "a row per line"])
@pytest.mark.parametrize("most", [1, 3, 99])
def test_the_digest_of_the_rows_is_that_of_the_rows_alone(per_line: bool, most: int) -> None:
    """How a dump program breaks lines and statements differs by version: a dump of an old server is restored to a new one."""
    wanted = mysql_backup.contents(dumped(ROWS, per_line=False))
    assert mysql_backup.contents(dumped(ROWS, per_line, most)) == wanted and wanted[1:] == ({"D"}, True)
    found = {name: mysql_backup.contents(dumped(rows, per_line, most))[0] for name, rows in OTHERS.items()}
    assert len({wanted[0], *found.values()}) == 1 + len(OTHERS)
    moved = [line.replace(b"`T` VALUES", b"`V` VALUES") for line in dumped(ROWS, per_line, most)]
    assert mysql_backup.contents(moved)[0] != wanted[0], "the rows of another table are others"
