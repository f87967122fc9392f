"""Checks of chapter 02: the databases exist with all tables, and only the nodes that need them can sign in.

The server is asked as root on its host. Each account signs in over TCP from every product node, through our SSH
session with that node, so that the security group and the account's allowed network apply as they do to the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pymysql

from runbook_lib.check import Check, CheckTable, answered
from runbook_lib.converge.engine import ask
from runbook_lib.errors import RunbookError
from runbook_lib.ssh import Host
from runbook_lib.topology.databases import REGISTRY, Database, databases_of

if TYPE_CHECKING:
    from runbook_lib.session import Session

CHAPTER = "02_install_mysql"
_row = partial(answered, chapter=CHAPTER)
PORT = 3306
SECONDS = 10


def verify_database(deployment: Session) -> CheckTable:
    """Return every check of chapter 02, or only a failed one when the server does not respond. Nothing is changed."""
    d = deployment
    databases = databases_of(d.spec.pattern)
    report = _report(d, databases)
    if report["server"] is None:
        why = f"no answer: {report['why']}"
        return CheckTable([_row("mysql-server", "the database server answers", False, "a server", why, d.topology.db.name)])
    d.journal.observed(CHAPTER, d.topology.db.name, {"database": _name_of(report)})
    return CheckTable([*_server(d, report), *_tables(d, databases, report), *_logins(d, databases)])


def _report(d: Session, databases: tuple[Database, ...]) -> Mapping[str, Any]:
    """Return the facts of the database server; `server` is None when it does not respond, and `why` says why."""
    registries = [database.name for database in databases if database.script == REGISTRY.script]
    question = {"kind": "mysql", "key": "report", "what": "report", "registries": registries}
    return ask(d.fleet()[d.topology.db.name], "probe", [question], timeout=60)["facts"][0]


def _server(d: Session, report: Mapping[str, Any]) -> list[Check]:
    """Return the checks of the server: its version, the address it listens on, and a strict `sql_mode` (errors instead of cut values)."""
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
    ]  # fmt: skip


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


def _logins(d: Session, databases: tuple[Database, ...]) -> list[Check]:
    """Return one check per account: it signs in from every product node and sees its own database only."""
    nodes = [node.name for node in d.topology.wso2_nodes]
    passwords = {database.account: d.vault.get(database.secret) for database in databases}

    def try_all(host: Host) -> dict[str, str]:
        return {db.account: _login(host, d.topology.db.address, db, passwords[db.account]) for db in databases}

    answers = d.fleet().each(try_all, nodes)
    rows = []
    for database in databases:
        failed = [f"{node}: {answers[node][database.account]}" for node in nodes if answers[node][database.account]]
        title = f"{database.account} signs in over TCP and sees {database.name} only"
        observed = "; ".join(failed) or f"in, from {len(nodes)} nodes"
        rows.append(_row(f"mysql-login-{database.account}", title, not failed, "in", observed, ", ".join(nodes)))
    return rows


def _login(host: Host, address: str, database: Database, password: str) -> str:
    """Sign in from `host`; return an empty string on success, else the error message or the databases seen."""
    # No TLS for MySQL: it needs the file descriptor of a socket, which an SSH channel does not have. The connection is inside SSH up to the
    # node, and from there it is like the product's own connections.
    connection = pymysql.connections.Connection(
        user=database.account, password=password, database=database.name, read_timeout=SECONDS, defer_connect=True, ssl_disabled=True
    )
    try:
        connection.connect(host.tunnel(address, PORT))
        with connection.cursor() as cursor:
            cursor.execute("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT LIKE '%schema'")
            seen = sorted(row[0] for row in cursor.fetchall())
        return "" if seen == [database.name] else f"sees {', '.join(seen)}"
    except pymysql.MySQLError as error:
        return str(error.args[-1]) or type(error).__name__
    except (OSError, RunbookError) as error:
        return getattr(error, "what", str(error)) or type(error).__name__
    finally:
        connection._force_close()
