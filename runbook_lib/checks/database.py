"""Checks of chapter 02: the databases exist with all tables, and only the nodes that need them can sign in.

The server is asked as root on its host. Each account signs in over TCP from every product node, through our SSH session with that node, so
that the security group and the account's host apply as they do to the product; inside TLS, as the product does.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pymysql

from runbook_lib.aws.rotation import RETIRED
from runbook_lib.check import Check, CheckTable, answered
from runbook_lib.converge.engine import ask
from runbook_lib.errors import RunbookError
from runbook_lib.ssh import Host, as_socket
from runbook_lib.topology.databases import REGISTRY, Database, databases_of
from runbook_lib.webclient.transport import tls_context

if TYPE_CHECKING:
    from runbook_lib.session import Session

CHAPTER = "02_install_mysql"
_row = partial(answered, chapter=CHAPTER)
PORT = 3306
SECONDS = 10
CLEAR_TEXT_REFUSED = (1045, 3159)  # MariaDB says no more than "access denied", MySQL has an error of its own
FAILURES = (pymysql.MySQLError, OSError, RunbookError)


def verify_database(deployment: Session, quiet: bool = False) -> CheckTable:
    """Return every check of chapter 02, or only a failed one when the server does not respond. Nothing is changed.

    `quiet`: without those that sign in, because the server writes each connection that is refused or cut short into its log.
    """
    d = deployment
    databases = databases_of(d.spec.pattern)
    report = _report(d, databases)
    if report["server"] is None:
        why = f"no answer: {report['why']}"
        return CheckTable([_row("mysql-server", "the database server answers", False, "a server", why, d.topology.db.name)])
    d.journal.observed(CHAPTER, d.topology.db.name, {"database": _name_of(report)})
    asked = [*_server(d, report), *_tables(d, databases, report)]
    return CheckTable(asked if quiet else [*asked, *_encryption(d, databases[0]), *_logins(d, databases)])


def _report(d: Session, databases: tuple[Database, ...]) -> Mapping[str, Any]:
    """Return the facts of the database server; `server` is None when it does not respond, and `why` says why."""
    registries = [database.name for database in databases if database.script == REGISTRY.script]
    question = {"kind": "mysql", "key": "report", "what": "report", "registries": registries}
    return ask(d.fleet()[d.topology.db.name], "probe", [question], timeout=60)["facts"][0]


def _server(d: Session, report: Mapping[str, Any]) -> list[Check]:
    """Return the checks of the server: version, address, a strict `sql_mode` (errors instead of cut values), binary log, hosts of the accounts."""
    db = d.topology.db
    bound = [f"{db.address}:{PORT}"]
    strict = any(mode in report["sql_mode"] for mode in ("STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"))
    title = "it listens on the private address only"
    return [
        _row("mysql-server", "the database server answers", True, "MariaDB or MySQL", _name_of(report), db.name),
        _row("mysql-bound", title, report["listening"] == bound, ", ".join(bound),
             ", ".join(report["listening"]) or "nothing", db.name),
        _row("mysql-strict", "values that do not fit are errors, not cut short", strict,
             "a strict sql_mode", report["sql_mode"] or "no mode", db.name),
        _row("mysql-binary-log", "it writes no binary log", report["log_bin"] == "0", "off", "off" if report["log_bin"] == "0" else "on", db.name),
        _accounts(d, report),
    ]  # fmt: skip


def _accounts(d: Session, report: Mapping[str, Any]) -> Check:
    """Return the check that each account is for the addresses of the product's nodes, and for no other host."""
    wanted, names = sorted(node.address for node in d.topology.wso2_nodes), d.topology.db_accounts
    hosts = {name: sorted(host for user, host in report["accounts"] if user == name) for name in names}
    wrong = [f"{name} from {', '.join(found) or 'nowhere'}" for name, found in hosts.items() if found != wanted]
    title = "each account is for the addresses of the product's nodes only"
    return _row("mysql-accounts", title, not wrong, ", ".join(wanted), "; ".join(wrong) or ", ".join(wanted), d.topology.db.name)


def _name_of(report: Mapping[str, Any]) -> str:
    return f"{'MariaDB' if report['mariadb'] else 'MySQL'} {report['version']}, {report['plugin']}"


def _tables(d: Session, databases: tuple[Database, ...], report: Mapping[str, Any]) -> list[Check]:
    """Return one check per database that it has all its tables, and one that no registry resource exists twice.

    Simultaneous first boots leave such duplicates (golden run 7).
    """
    rows = []
    for database in databases:
        found = report["tables"].get(database.name)
        title = f"{database.name} is whole ({database.why})"
        observed = "no such database" if found is None else f"{found} tables"
        whole = found is not None and found >= database.tables
        rows.append(_row(f"mysql-tables-{database.name}", title, whole, f"{database.tables} tables", observed, d.topology.db.name))
    twice = report["duplicates"].get(REGISTRY.name)
    observed = "no table REG_RESOURCE" if twice is None else f"{twice} pairs"
    title = f"no resource of {REGISTRY.name} is there twice"
    rows.append(_row("mysql-duplicates", title, twice == 0, "0 pairs", observed, d.topology.db.name))
    return rows


def _encryption(d: Session, database: Database) -> list[Check]:
    """Return the checks that clear text is refused, and that the server's certificate is of the deployment's authority.

    They hold for the product's own connections too: the server takes none in clear text. The same password must be taken inside TLS, or a
    wrong one would pass for the refusal that is asked for.
    """
    host, address, (password, *before) = d.fleet()[d.topology.wso2_nodes[0].name], d.topology.db.address, _valid(d, database.secret)
    authorities = "".join(_valid(d, "ca.pem"))
    trusted, seen = _certificate(host, address, database, password, authorities)
    if not trusted and before:
        [password] = before
        trusted, seen = _certificate(host, address, database, password, authorities)
    code, said = refusal(host, address, database, password, None)
    refused = trusted and code in CLEAR_TEXT_REFUSED
    return [
        _row("mysql-tls-only", "a password that is taken inside TLS is refused in clear text", refused, "refused", said, host.name),
        _row("mysql-certificate", "its certificate is of the deployment's authority and for its address", trusted, "trusted", seen, host.name),
    ]


def _valid(d: Session, name: str) -> list[str]:
    """Return the value, and while it is being rotated the one before: a node has that until its turn."""
    return [d.vault.get(one) for one in (name, RETIRED + name) if one == name or one in d.vault.names()]


def untrusted(host: Host, address: str, database: Database, password: str, authority: str) -> str:
    """Return why a client on `host` that trusts `authority` alone does not trust the server's certificate; "" where it does, or nothing was shown."""
    try:
        with _signed_in(host, address, database, password, tls_context(authority)):
            return ""
    except FAILURES as error:
        cause = getattr(error, "original_exception", error)
        return cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else ""


def refusal(host: Host, address: str, database: Database, password: str, context: ssl.SSLContext | None) -> tuple[int, str]:
    """Sign in from `host` (without TLS where `context` is None); return the server's error code and words, or 0 and what happened instead."""
    try:
        with _signed_in(host, address, database, password, context):
            return 0, "in"
    except FAILURES as error:
        code = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args else 0
        return code, _words(error)


def _certificate(host: Host, address: str, database: Database, password: str, authority: str) -> tuple[bool, str]:
    """Return whether the server shows a certificate of `authority` for `address`, and what was seen."""
    try:
        with _signed_in(host, address, database, password, tls_context(authority)) as connection:
            return True, f"trusted, {connection._sock.version()}"
    except FAILURES as error:
        return False, _words(error)


def _logins(d: Session, databases: tuple[Database, ...]) -> list[Check]:
    """Return one check per account: it signs in from every product node and sees its own database only."""
    nodes = [node.name for node in d.topology.wso2_nodes]
    passwords = {database.account: _valid(d, database.secret) for database in databases}
    context = tls_context("".join(_valid(d, "ca.pem")))

    def try_one(host: Host, db: Database) -> str:
        first, *others = (_login(host, d.topology.db.address, db, password, context) for password in passwords[db.account])
        return "" if "" in others else first

    def try_all(host: Host) -> dict[str, str]:
        return {db.account: try_one(host, db) for db in databases}

    answers = d.fleet().each(try_all, nodes)
    rows = []
    for database in databases:
        failed = [f"{node}: {answers[node][database.account]}" for node in nodes if answers[node][database.account]]
        title = f"{database.account} signs in over TCP and sees {database.name} only"
        observed = "; ".join(failed) or f"in, from {len(nodes)} nodes"
        rows.append(_row(f"mysql-login-{database.account}", title, not failed, "in", observed, ", ".join(nodes)))
    return rows


def _login(host: Host, address: str, database: Database, password: str, context: ssl.SSLContext) -> str:
    """Sign in from `host`; return an empty string on success, else the error message or the databases seen."""
    try:
        with _signed_in(host, address, database, password, context) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT LIKE '%schema'")
            seen = sorted(row[0] for row in cursor.fetchall())
        return "" if seen == [database.name] else f"sees {', '.join(seen)}"
    except FAILURES as error:
        return _words(error)


@contextmanager
def _signed_in(host: Host, address: str, database: Database, password: str, context: ssl.SSLContext | None) -> Iterator[Any]:
    """Yield a connection of the account from `host`: inside TLS as `context` verifies it, in clear text without one. Raises one of FAILURES."""
    connection = pymysql.connections.Connection(
        host=address, user=database.account, password=password, database=database.name, read_timeout=SECONDS, defer_connect=True,
        ssl=context, ssl_disabled=context is None,
    )  # fmt: skip
    try:
        connection.connect(as_socket(host.tunnel(address, PORT)))
        yield connection
    finally:
        connection._force_close()


def _words(error: BaseException) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, pymysql.MySQLError) and error.args:
        return str(error.args[-1])
    return getattr(error, "what", str(error)) or type(error).__name__
