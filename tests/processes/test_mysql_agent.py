"""The database resources against a real MariaDB server, started by the test on a socket in its own folder."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from runbook_lib.converge.engine import ask
from runbook_lib.converge.mysql import MysqlAccount, MysqlDatabase, MysqlSchema, OnlyAccounts
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.operations.backup import dump_database, fetch_dump, recreate_database, restore_database, send_dump, set_administrator, try_dump
from runbook_lib.roles import mysql
from tests.conftest import ROOT, need
from tests.support.local_host import LocalHost, converged, planned

PACK = ROOT / "practice/wso2_practice/pack"
PASSWORD = "Abc123Abc123Abc123Abc123"  # for this test's server only
HOST = "10.213.1.61"
DATABASE = MysqlDatabase("WSO2_USER_DB")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that listens on a socket only; root signs in as the system's root."""
    need(os.geteuid() == 0, "not root")
    need(
        shutil.which("mariadbd") and shutil.which("mariadb-dump"),
        "no MariaDB here (apt-get install mariadb-server-core mariadb-client)",
    )
    folder = tmp_path_factory.mktemp("mysql")
    data, socket = folder / "data", folder / "socket"
    common = ["--no-defaults", f"--datadir={data}", "--user=root"]
    install = ["mariadb-install-db", *common, "--auth-root-authentication-method=socket", "--skip-test-db"]
    subprocess.run(install, check=True, capture_output=True)
    largest = re.search(r"^max_allowed_packet = (\w+)$", mysql.SETTINGS, re.M)
    assert largest, "the server's own default is less than a document may have in a dump"
    newest = ["--loose-innodb-snapshot-isolation=ON"]  # as MariaDB has it since 11.6.2 unless told otherwise
    ours = [f"--{name}={value}" for name, value in re.findall(r"^(loose_\w+) = (\w+)$", mysql.SETTINGS, re.M)]
    options = [
        *newest,
        *ours,
        f"--socket={socket}",
        "--skip-networking",
        f"--pid-file={folder}/pid",
        "--innodb-buffer-pool-size=32M",
        f"--max-allowed-packet={largest[1]}",
    ]
    process = subprocess.Popen(["mariadbd", *common, *options], stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"))
    try:
        deadline = time.monotonic() + 120
        while not socket.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert socket.exists(), (folder / "log").read_text()[-2000:]
        yield folder
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture
def host(server, tmp_path):
    """The agent on this server, with no databases or accounts of an earlier test."""
    found = LocalHost(
        "db-1",
        {"/var/backups/runbook-mysql": str(tmp_path / "kept"), "/run/runbook": str(tmp_path)},
        {"MYSQL_UNIX_PORT": str(server / "socket")},
    )
    names = rows(
        found,
        "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'WSO2%' OR schema_name IN ('runbook', 'test')",
    )
    accounts = rows(found, "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user WHERE user LIKE 'wso2%'")
    rows(found, "".join(f"DROP DATABASE {name};" for name in names) + "".join(f"DROP USER {who};" for who in accounts))
    return found


def rows(host: LocalHost, sql: str) -> list[str]:
    command = ["mariadb", "--no-defaults", "--user=root", "--protocol=socket", "--batch", "--skip-column-names"]
    done = subprocess.run(command, input=sql.encode(), capture_output=True, env={**os.environ, **host.env})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def schema(script: bytes | None = None) -> MysqlSchema:
    return MysqlSchema(DATABASE, "dbscripts/mysql.sql", 39, script or (PACK / "common/dbscripts/mysql.sql").read_bytes())


def account(**changes) -> MysqlAccount:
    return MysqlAccount(**{"user": "wso2_user", "host": HOST, "database": "WSO2_USER_DB", "password": PASSWORD, **changes})


def test_the_second_run_changes_nothing(host):
    wish = (OnlyAccounts(), DATABASE, schema(), account())
    assert {p.change.verb for p in converged(host, *wish).changed} >= {"create", "load"}
    assert not planned(host, *wish)


def test_a_schema_is_loaded_whole(host):
    converged(host, DATABASE, schema())
    assert rows(host, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'WSO2_USER_DB'") == ["39"]
    assert rows(host, "SELECT DISTINCT table_collation FROM information_schema.tables WHERE table_schema = 'WSO2_USER_DB'") == ["utf8mb3_general_ci"]


def test_two_who_change_one_row_at_a_time_both_succeed(host):
    """The Store's social application reads a row and changes it in one transaction; another did the same meanwhile."""
    rows(host, "CREATE DATABASE WSO2_T; CREATE TABLE WSO2_T.R (id INT PRIMARY KEY, likes INT) ENGINE=InnoDB; INSERT INTO WSO2_T.R VALUES (1, 0)")
    change = "UPDATE WSO2_T.R SET likes = likes + 1 WHERE id = 1;"
    command = ["mariadb", "--no-defaults", "--user=root", "--protocol=socket", "--batch", "--skip-column-names", "--unbuffered"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **host.env}, text=True) as slow:
        assert slow.stdin and slow.stdout
        slow.stdin.write("START TRANSACTION; SELECT likes FROM WSO2_T.R;\n")
        slow.stdin.flush()
        assert slow.stdout.readline() == "0\n"
        rows(host, change)
        assert slow.communicate(f"{change} COMMIT;\n") == ("", "")
    assert rows(host, "SELECT likes FROM WSO2_T.R") == ["2"]


def test_a_strict_server_takes_the_script_and_stays_strict(host):
    rows(host, "SET GLOBAL sql_mode = CONCAT(@@GLOBAL.sql_mode, ',NO_ZERO_DATE,NO_ZERO_IN_DATE')")
    converged(host, DATABASE, schema())
    assert "NO_ZERO_DATE" in rows(host, "SELECT @@GLOBAL.sql_mode")[0]


def test_the_accounts_password_works_and_a_changed_one_is_repaired(host):
    converged(host, DATABASE, schema(), account())
    stored = "SELECT authentication_string FROM mysql.user WHERE user = 'wso2_user'"
    expected = rows(host, f"SELECT PASSWORD('{PASSWORD}')")
    assert rows(host, stored) == expected
    rows(host, f"SET PASSWORD FOR 'wso2_user'@'{HOST}' = PASSWORD('another')")
    plan = planned(host, account())
    assert [p.change.summary for p in plan.pending] == ["another password"]
    assert PASSWORD not in str(plan)
    converged(host, account())
    assert rows(host, stored) == expected


def test_the_words_for_a_mysql_8_0_make_an_account_and_mend_its_password(host):
    """Of a server that is not MariaDB and has the old plugin, as Ubuntu's is; MariaDB takes the same statement."""
    asked = '"mariadb" in (self.version + self.comment).lower()'
    assert asked in (ROOT / "runbook_lib/converge/agent/mysql.py").read_text()
    eight = replace(host, moved={**host.moved, asked: "False"})
    converged(eight, DATABASE, schema(), account())
    assert not planned(eight, account()) and not planned(host, account())
    rows(host, f"SET PASSWORD FOR 'wso2_user'@'{HOST}' = PASSWORD('another')")
    converged(eight, account())
    assert not planned(host, account())


@pytest.mark.parametrize("grant", ["ALL PRIVILEGES ON *.*", "SELECT ON `mysql`.*", "DROP ON `WSO2\\_USER\\_DB`.*"])
def test_a_right_that_was_added_by_hand_is_taken_away(host, grant):
    converged(host, DATABASE, schema(), account())
    before = rows(host, f"SHOW GRANTS FOR 'wso2_user'@'{HOST}'")
    rows(host, f"GRANT {grant} TO 'wso2_user'@'{HOST}'")
    assert [p.change.verb for p in planned(host, account()).pending] == ["change"]
    converged(host, account())
    assert rows(host, f"SHOW GRANTS FOR 'wso2_user'@'{HOST}'") == before


def test_an_accounts_rights_do_not_reach_a_database_with_a_similar_name(host):
    converged(host, DATABASE, schema(), account())
    assert "`WSO2\\\\_USER\\\\_DB`" in rows(host, f"SHOW GRANTS FOR 'wso2_user'@'{HOST}'")[1]


def test_anonymous_accounts_remote_root_and_the_test_database_go(host):
    rows(host, "CREATE USER ''@'localhost'; CREATE USER 'root'@'%' IDENTIFIED BY 'x'; CREATE DATABASE test;")
    change = planned(host, OnlyAccounts()).pending[0].change
    assert change.summary == "''@'localhost', 'root'@'%', database test"
    converged(host, OnlyAccounts())
    assert not planned(host, OnlyAccounts())
    assert rows(host, "SELECT COUNT(*) FROM mysql.user WHERE user = '' OR (user = 'root' AND host = '%')") == ["0"]


def test_an_account_of_a_node_that_is_gone_goes_and_those_of_others_stay(host):
    only = OnlyAccounts(("wso2_user",), (HOST,))
    converged(host, DATABASE, schema(), account())
    for who in ("wso2_user'@'10.213.1.62", "wso2_user'@'%", "wso2_report'@'10.213.1.62"):
        rows(host, f"CREATE USER '{who}' IDENTIFIED BY 'x'")
    assert planned(host, only).pending[0].change.summary == "'wso2_user'@'%', 'wso2_user'@'10.213.1.62'"
    converged(host, only)
    assert not planned(host, only, account())
    assert rows(host, "SELECT user, host FROM mysql.user WHERE user LIKE 'wso2%' ORDER BY user") == ["wso2_report\t10.213.1.62", f"wso2_user\t{HOST}"]


def test_a_script_that_fails_names_its_line_and_leaves_a_database_that_is_known_to_be_partial(host):
    broken = schema(b"CREATE TABLE ONE (id INT);\nCREATE TABLES TWO (id INT);\n")
    with pytest.raises(HostError, match=r"dbscripts/mysql.sql failed .* WSO2_USER_DB .* half loaded: (?s:.*)ERROR 1064 .* at line 2"):
        converged(host, DATABASE, broken)
    assert planned(host, DATABASE, schema()).pending[0].change.verb == "reload"


def test_our_own_load_that_was_cut_short_is_repaired_by_the_next_run_with_a_dump_kept(host, tmp_path):
    with pytest.raises(HostError):
        converged(host, DATABASE, schema(b"CREATE TABLE UM_USER (id INT); INSERT INTO UM_USER VALUES (7); SYNTAX ERROR;"))
    converged(host, DATABASE, schema())
    assert not planned(host, DATABASE, schema())
    (kept,) = (tmp_path / "kept").iterdir()
    assert b"INSERT INTO `UM_USER` VALUES" in gzip.decompress(kept.read_bytes())
    assert kept.stat().st_mode & 0o777 == 0o600 and kept.parent.stat().st_mode & 0o777 == 0o700


def test_a_database_that_somebody_else_left_incomplete_is_named_and_not_touched(host):
    converged(host, DATABASE, schema())
    rows(host, "SET foreign_key_checks = 0; DROP TABLE WSO2_USER_DB.UM_CLAIM, WSO2_USER_DB.UM_ROLE;")
    change = planned(host, DATABASE, schema()).pending[0].change
    assert change.verb == "refuse" and "2 of 39 tables are missing: UM_" in change.summary
    with pytest.raises(RunbookError, match=r"nothing was changed\. schema of WSO2_USER_DB: half loaded"):
        converged(host, DATABASE, schema())
    assert rows(host, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'WSO2_USER_DB'") == ["37"]


def test_another_character_set_is_refused_with_the_way_back_before_anything_is_changed(host):
    converged(host, DATABASE, schema())
    asked = "SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = 'WSO2_USER_DB'"
    other = MysqlDatabase("WSO2_USER_DB", "utf8mb4")
    with pytest.raises(RunbookError, match=r"character set utf8, wanted utf8mb4; tables with rows are not converted: set database\.charset back to utf8, or"):
        converged(host, other, replace(schema(), database=other), account())
    assert rows(host, asked) == ["utf8mb3"] and not rows(host, "SELECT user FROM mysql.user WHERE user LIKE 'wso2%'")
    assert not planned(host, DATABASE, schema())


def test_recreate_database_dumps_then_makes_it_anew_and_accounts_keep_their_rights(host, tmp_path):
    converged(host, DATABASE, schema(), account())
    rows(host, "SET foreign_key_checks = 0; DROP TABLE WSO2_USER_DB.UM_TENANT")
    done = recreate_database(host, schema())
    assert Path(done.dump).parent == tmp_path / "kept" and done.database == "WSO2_USER_DB"
    assert not planned(host, DATABASE, schema(), account())


def test_recreating_a_database_that_is_not_there_makes_it_without_a_dump(host):
    done = recreate_database(host, schema())
    assert done.dump is None
    assert not planned(host, DATABASE, schema())


USERS = "SELECT UM_USER_NAME FROM WSO2_USER_DB.UM_USER"
ADD_USER = "INSERT INTO WSO2_USER_DB.UM_USER (UM_USER_NAME, UM_USER_PASSWORD, UM_CHANGED_TIME) VALUES ('{}', 'x', NOW())"


def test_a_dump_restores_the_rows_of_its_moment_and_keeps_what_was_there_since(host):
    converged(host, DATABASE, schema(), account())
    rows(host, ADD_USER.format("kept: \u2011 ''quoted''\\n"))
    made = dump_database(host, "WSO2_USER_DB")
    before = rows(host, USERS)
    rows(host, ADD_USER.format("later") + "; SET foreign_key_checks = 0; DROP TABLE WSO2_USER_DB.UM_CLAIM")
    done = restore_database(host, made.path)
    assert rows(host, USERS) == before
    assert done.rows == made.rows and done.dump == made.path
    assert b"'later'" in gzip.decompress(Path(done.before).read_bytes())
    assert not planned(host, DATABASE, schema(), account())
    assert rows(host, "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'WSO2%'") == ["WSO2_USER_DB"]


def test_a_document_that_is_larger_than_the_clients_own_limits_comes_back(host):
    """In a dump it is hex, twice as long: 40 MiB here, where the client takes 16 and the dump program 24 by themselves."""
    converged(host, DATABASE)
    rows(host, "CREATE TABLE WSO2_USER_DB.D (c LONGBLOB); INSERT INTO WSO2_USER_DB.D VALUES (REPEAT('document', 2621440))")
    made = dump_database(host, "WSO2_USER_DB")
    rows(host, "TRUNCATE TABLE WSO2_USER_DB.D")
    assert restore_database(host, made.path).rows == made.rows
    assert rows(host, "SELECT LENGTH(c) FROM WSO2_USER_DB.D") == ["20971520"]


def test_the_same_rows_have_the_same_digest_and_others_another(host):
    converged(host, DATABASE, schema())
    first = dump_database(host, "WSO2_USER_DB")
    assert dump_database(host, "WSO2_USER_DB").rows == first.rows
    rows(host, ADD_USER.format("one more"))
    assert dump_database(host, "WSO2_USER_DB").rows != first.rows


def test_of_several_rows_each_counts(host):
    """MariaDB from 10.7 on writes each on a line of its own."""
    converged(host, DATABASE)
    rows(host, "CREATE TABLE WSO2_USER_DB.T (n INT PRIMARY KEY, v TEXT); INSERT INTO WSO2_USER_DB.T VALUES (1, 'alice'), (2, 'bob'), (3, 'carol')")
    digests = [dump_database(host, "WSO2_USER_DB").rows]
    for change in ("UPDATE WSO2_USER_DB.T SET v = 'mallory' WHERE n = 2", "DELETE FROM WSO2_USER_DB.T WHERE n > 1"):
        rows(host, change)
        digests.append(dump_database(host, "WSO2_USER_DB").rows)
    assert len({*digests}) == 3


def test_a_dump_of_an_older_server_is_restored_with_the_same_digest(host):
    """One that writes a statement per line, and other numbers of rows in it, as MariaDB before 10.7 and MySQL do."""
    converged(host, DATABASE)
    rows(host, "CREATE TABLE WSO2_USER_DB.T (n INT PRIMARY KEY, v TEXT)")
    values = ", ".join(f"({n}, CONCAT('(),(', CHAR(10), REPEAT('{n % 10}', 99)))" for n in range(30_000))
    rows(host, f"INSERT INTO WSO2_USER_DB.T VALUES {values}")  # several statements of a dump
    made = dump_database(host, "WSO2_USER_DB")
    new = gzip.decompress(Path(made.path).read_bytes())
    old = new.replace(b");\nINSERT INTO `T` VALUES\n", b"),").replace(b"` VALUES\n(", b"` VALUES (").replace(b"),\n(", b"),(")
    assert new.count(b"INSERT INTO `T` VALUES\n") > 1 and old.count(b"INSERT INTO `T` VALUES (") == 1
    Path(made.path).write_bytes(gzip.compress(old, 1))
    assert restore_database(host, made.path).rows == made.rows


def test_a_database_that_is_gone_is_restored_whole(host):
    converged(host, DATABASE, schema(), account())
    made = dump_database(host, "WSO2_USER_DB")
    rows(host, "DROP DATABASE WSO2_USER_DB")
    assert restore_database(host, made.path).before is None
    assert not planned(host, DATABASE, schema(), account())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: gzip.compress(gzip.decompress(data).rsplit(b"-- Dump completed", 1)[0]), "was cut short"),
        (lambda data: gzip.compress(gzip.decompress(data).replace(b"WSO2_USER_DB", b"WSO2_REGISTRY_DB")), "is of WSO2_REGISTRY_DB"),
        (
            lambda data: gzip.compress(gzip.decompress(data).replace(b"CREATE TABLE `UM_USER`", b"CREATE NOTHING `UM_USER`")),
            r"does not load, nothing was dropped: the server stopped at: (?s:.*)CREATE NOTHING",
        ),
        (
            lambda data: gzip.compress(gzip.decompress(data).replace(b"-- Dump completed", b"DELETE FROM `UM_USER`;\n-- Dump completed")),
            "loads with other rows than it holds",
        ),
    ],
    ids=["file cut short", "dump cut short", "another database", "a statement that fails", "a statement that takes rows away"],
)
def test_a_dump_that_cannot_restore_the_database_is_refused_before_anything_is_dropped(host, spoil, words):
    converged(host, DATABASE, schema())
    rows(host, ADD_USER.format("stays"))
    path = Path(dump_database(host, "WSO2_USER_DB").path)
    path.write_bytes(spoil(path.read_bytes()))
    for refused in (try_dump, restore_database):
        with pytest.raises(HostError, match=words):
            refused(host, str(path))
        assert "stays" in rows(host, USERS)
        assert not planned(host, DATABASE, schema())
        assert "WSO2_USER_DB_beside" not in rows(host, "SHOW DATABASES")


def test_a_dump_is_tried_beside_a_database_in_use_and_then_restored_without_another_trial(host):
    converged(host, DATABASE, schema())
    path = dump_database(host, "WSO2_USER_DB").path
    rows(host, ADD_USER.format("later"))
    before = loads(host)
    try_dump(host, path)
    assert loads(host) == before + 1 and "later" in rows(host, USERS) and "WSO2_USER_DB_beside" not in rows(host, "SHOW DATABASES")
    restore_database(host, path, tried=True)
    assert loads(host) == before + 3, "the database itself, and the ledger's where there is none"
    assert "later" not in rows(host, USERS)


def loads(host):
    """Return how often a database was made since the server began: each load of a dump makes one."""
    return int(rows(host, "SHOW GLOBAL STATUS LIKE 'Com_create_db'")[0].split("\t")[1])


def test_a_dump_for_which_the_disk_has_no_room_is_not_even_tried(host):
    """The server that the trial would fill up may be in use."""
    converged(host, DATABASE, schema())
    path, before = dump_database(host, "WSO2_USER_DB").path, loads(host)
    full = replace(host, moved={**host.moved, "shutil.disk_usage(folder).free": "1000"})
    with pytest.raises(HostError, match=r"the dump \S+ takes \d+ MiB at least, and \S+ has 0 MiB free to try it: nothing was dropped\. cloud\.disk_gb"):
        try_dump(full, path)
    assert loads(host) == before


def test_a_restore_that_was_cut_short_is_never_taken_for_an_empty_database(host):
    converged(host, DATABASE, schema())
    rows(host, ADD_USER.format("stays"))
    path = dump_database(host, "WSO2_USER_DB").path
    # as a restore leaves it that was killed between its two statements
    rows(host, "UPDATE runbook.schema_load SET state = 'restoring'; DROP DATABASE WSO2_USER_DB; CREATE DATABASE WSO2_USER_DB CHARACTER SET utf8mb3;")
    change = planned(host, DATABASE, schema()).pending[-1].change
    assert change.verb == "refuse" and "restore was cut short" in change.summary
    with pytest.raises(RunbookError, match=r"nothing was changed\. schema of WSO2_USER_DB: a restore was cut short"):
        converged(host, DATABASE, schema())
    restore_database(host, path)
    assert "stays" in rows(host, USERS)
    assert not planned(host, DATABASE, schema())


@pytest.fixture
def store():
    """A place that takes and gives objects over HTTP; `held` is what it has by path, and a request without the header is refused as S3 does."""

    class Objects(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            signed = self.headers["x-signed"] == "yes"
            if signed:
                held[self.path.partition("?")[0]] = body
            self.answer(200 if signed else 403, b"" if signed else b"<Error><Code>AccessDenied</Code></Error>")

        def do_GET(self):
            self.answer(200, held[self.path.partition("?")[0]])

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    held: dict[str, bytes] = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.held = held
    server.way = lambda **headers: {"url": f"http://127.0.0.1:{server.server_port}/x.sql.gz?X-Amz-Signature=hidden", "headers": {"x-signed": "yes", **headers}}
    yield server
    server.shutdown()


@pytest.mark.parametrize("known", [True, False], ids=["the manifest knows its rows", "an older manifest"])
def test_a_dump_is_sent_and_leaves_nothing_here_and_comes_back_as_it_was(host, store, tmp_path, known):
    converged(host, DATABASE, schema())
    rows(host, ADD_USER.format("kept"))
    sent = send_dump(host, "WSO2_USER_DB", store.way())
    [body] = store.held.values()
    assert (sent["size"], sent["sha256"]) == (len(body), hashlib.sha256(body).hexdigest()) and b"'kept'" in gzip.decompress(body)
    assert list((tmp_path / "kept").iterdir()) == []
    rows(host, "DROP DATABASE WSO2_USER_DB")
    path = fetch_dump(host, "WSO2_USER_DB", store.way(), sent["sha256"], sent["rows"] if known else "")
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert restore_database(host, path).rows == sent["rows"] and "kept" in rows(host, USERS)


def test_what_the_store_refuses_is_told_without_the_signature_and_nothing_stays(host, store, tmp_path):
    converged(host, DATABASE, schema())
    with pytest.raises(HostError, match=r"cannot send to http://127\.0\.0\.1:\d+/x\.sql\.gz: S3 refused \(403 AccessDenied\)") as refused:
        send_dump(host, "WSO2_USER_DB", store.way(**{"x-signed": "no"}))
    assert "hidden" not in str(refused.value) and list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("sha256", "digest", "words"),
    [("ab" * 32, None, "its manifest says abab"), (None, "ab" * 32, "holds other rows than its manifest says")],
    ids=["another file", "other rows"],
)
def test_a_fetched_dump_that_is_not_what_it_should_be_is_not_kept(host, store, tmp_path, sha256, digest, words):
    converged(host, DATABASE, schema())
    sent = send_dump(host, "WSO2_USER_DB", store.way())
    with pytest.raises(HostError, match=words):
        fetch_dump(host, "WSO2_USER_DB", store.way(), sha256 or sent["sha256"], digest or sent["rows"])
    assert list((tmp_path / "kept").iterdir()) == []


def test_the_administrator_of_a_restored_database_gets_the_password_of_today_and_nobody_else(host):
    converged(host, DATABASE, schema())
    for name in ("admin", "somebody"):
        rows(
            host, ADD_USER.format(name).replace("UM_CHANGED_TIME)", "UM_CHANGED_TIME, UM_SALT_VALUE, UM_TENANT_ID)").replace("NOW())", "NOW(), 'salt', -1234)")
        )
    stored = "SELECT UM_USER_PASSWORD FROM WSO2_USER_DB.UM_USER WHERE UM_USER_NAME = '{}'"
    set_administrator(host, "WSO2_USER_DB", "admin", PASSWORD)
    assert rows(host, stored.format("admin")) == [base64.b64encode(hashlib.sha256(f"{PASSWORD}salt".encode()).digest()).decode()]
    assert rows(host, stored.format("somebody")) == ["x"]


def used(host) -> dict:
    question = {"kind": "mysql", "key": "used", "what": "used", "tables": {"WSO2_USER_DB": "UM_USER"}}
    [fact] = ask(host, "probe", [question])["facts"]
    return fact


def test_a_database_is_used_once_a_product_has_written_to_it(host, tmp_path):
    assert used(host)["used"] == {"WSO2_USER_DB": False}, "there is none"
    converged(host, DATABASE, schema())
    assert used(host)["used"] == {"WSO2_USER_DB": False}, "its tables are empty"
    rows(host, ADD_USER.format("somebody"))
    assert used(host)["used"] == {"WSO2_USER_DB": True} and used(host)["states"] == {"WSO2_USER_DB": "loaded"}
    (tmp_path / "data/WSO2_USER_DB").mkdir(parents=True)
    stopped = LocalHost("db-1", {**host.moved, "/var/lib/mysql": str(tmp_path / "data")}, {"MYSQL_UNIX_PORT": str(tmp_path / "none")})
    assert (used(stopped)["server"], used(stopped)["folders"]) == (None, ["WSO2_USER_DB"]), "a server that does not run has not lost anything"


def test_tables_in_another_character_set_are_refused(host):
    converged(host, DATABASE, schema())
    rows(host, "ALTER TABLE WSO2_USER_DB.UM_CLAIM CONVERT TO CHARACTER SET latin1")
    assert "character set latin1" in planned(host, schema()).pending[0].change.summary


def test_without_a_server_the_plan_says_so_instead_of_failing(host, tmp_path):
    nowhere = LocalHost("db-1", host.moved, {"MYSQL_UNIX_PORT": str(tmp_path / "none")})
    assert {p.change.summary for p in planned(nowhere, DATABASE, schema(), account()).pending} == {"once the database server answers"}
