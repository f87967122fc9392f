"""Dump, restore and re-create databases on the database server's machine.

A first boot that fails or is killed leaves rows that only an empty database removes (golden run 1, 7); a half-loaded
schema is mended the same way. Every database is dumped before it is dropped. What goes to S3 and comes from there
(`chapters/second_day/backups.py`) is sent and fetched by the machine itself, so that no dump passes the operator's machine.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runbook_lib.converge.engine import ask
from runbook_lib.converge.mysql import MysqlSchema
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.ssh import Host
from runbook_lib.tables import Table

DUMP = re.compile(r"(?P<database>\w+)-\d{8}T\d{6}Z-\d+\.sql\.gz")


@dataclass(frozen=True)
class Recreated:
    """A database that was dropped and loaded again. `dump`: path on its host of the former content; None when there was no such database."""

    database: str
    tables: int
    dump: str | None

    def __str__(self) -> str:
        kept = f"what it held is kept in {self.dump}" if self.dump else "it was not there before"
        return f"{self.database}: {self.tables} tables made anew; {kept}"


def recreate_database(host: Host, schema: MysqlSchema, on_progress: Callable[[dict], None] | None = None) -> Recreated:
    """Dump, drop, create and load one database; return the number of its tables and where the dump is.

    The dump is compressed with gzip, readable by root only, and stays on the host. Stop the product's nodes first. Accounts
    and their rights stay. Raises HostError when the dump does not complete: nothing was dropped then.
    """
    if schema.script is None:
        step = "correct product.pack in the parameters: its dbscripts are needed"
        raise HostError(f"no script for {schema.database.name}: the pack has no {schema.origin}", host.name, step)
    messages = _run_on_agent(host, "recreate", schema.order({}), on_progress)
    return Recreated(schema.database.name, schema.expected, next((message["dump"] for message in messages if "dump" in message), None))


def recreate_databases(host: Host, schemas: Iterable[MysqlSchema]) -> tuple[Recreated, ...]:
    """Re-create the databases one after the other, for a first boot of the whole cluster; return what was done to each."""
    return tuple(recreate_database(host, schema) for schema in schemas)


@dataclass(frozen=True)
class Dump:
    """A dump on the database's host. `rows`: SHA-256 of its rows, the same for the same rows by whichever version of the server; `size`: bytes."""

    database: str
    path: str
    rows: str
    size: int


@dataclass(frozen=True)
class Restored:
    """A database that holds the rows of `dump` again. `before`: the dump of its former content; None when there was no such database."""

    database: str
    dump: str
    rows: str
    before: str | None


def dump_database(host: Host, name: str, on_progress: Callable[[dict], None] | None = None) -> Dump:
    """Dump one database in a single transaction while others may write; return the dump.

    It is compressed with gzip, readable by root only, and stays on the host. Raises HostError when it does not complete.
    """
    (messages,) = (message for message in _run_on_agent(host, "dump", {"kind": "mysql", "name": name}, on_progress) if "dump" in message)
    return Dump(name, messages["dump"], messages["rows"], messages["size"])


def send_dump(host: Host, name: str, to: dict[str, Any]) -> dict[str, Any]:
    """Dump one database and send the dump; return its `size`, `sha256` and `rows`. `to`: a `Way` as the agent takes it. Nothing stays on the host."""
    (sent,) = (message for message in _run_on_agent(host, "dump", {"kind": "mysql", "name": name, "to": to}, None) if "dump" in message)
    return {key: sent[key] for key in ("size", "sha256", "rows")}


def fetch_dump(host: Host, name: str, way: dict[str, Any], sha256: str, rows: str) -> str:
    """Fetch a dump to the host and look through it; return its path there. `rows`: the digest of its rows, "" where none is known.

    Raises HostError when it is not what it should be; nothing was dropped.
    """
    messages = _run_on_agent(host, "fetch", {"kind": "mysql", "name": name, "from": way, "sha256": sha256, "rows": rows}, None)
    return str(messages[-1]["fetched"])


def forget_dumps(host: Host, paths: Sequence[str]) -> None:
    """Delete fetched dumps from the host: they are in the store."""
    if paths:
        host.run(f"sudo -n rm -f {' '.join(paths)}")


def set_administrator(host: Host, database: str, user: str, password: str) -> None:
    """Give the administrator of the user database `database` this password, where there is one of that name and he has another."""
    _run_on_agent(host, "administrator", {"kind": "mysql", "name": database, "user": user, "password": password}, None)


def try_dump(host: Host, dump: str) -> None:
    """Load a dump into a temporary database and compare the rows, before anybody stops the product for it. Raises HostError; nothing was dropped then."""
    _run_on_agent(host, "trial", {"kind": "mysql", "name": database_of(dump), "dump": dump}, None)


def restore_database(host: Host, dump: str, tried: bool = False) -> Restored:
    """Replace the content of a database by a dump; return both. The former content is dumped first. `tried`: `try_dump` has loaded it.

    Stop the product's nodes first. Accounts and their rights stay. The result is dumped as well and must have the same rows.
    Raises HostError when the dump cannot be read to its end or is of another database (nothing was dropped then), and when
    the rows differ.
    """
    name = database_of(dump)
    messages = _run_on_agent(host, "restore", {"kind": "mysql", "name": name, "dump": dump, "tried": tried}, None)
    before = next((message["dump"] for message in messages if "dump" in message), None)
    return Restored(name, dump, messages[-1]["rows"], before)


def database_of(dump: str) -> str:
    """Return the name of the database that a dump is of, by the file's name. Raises RunbookError when it is not a name of a dump."""
    found = DUMP.fullmatch(posixpath.basename(dump))
    if not found:
        raise RunbookError(f"{dump!r} is not the path of a dump", "dump", "deployment.mysql.dump() and whatever drops a database say where theirs lie")
    return found["database"]


def as_table(found: Sequence[Dump] | Sequence[Restored], host: str) -> Table:
    """Return the dumps or the restored databases as a table for a notebook."""
    if any(isinstance(each, Restored) for each in found):
        rows = [(each.database, each.rows[:12], each.dump, each.before) for each in found if isinstance(each, Restored)]
        return Table(("Database", "Rows", "Holds again", "What it held before"), rows, f"Restored on {host}", "the same rows, by a dump of the result")
    sizes = [(each.database, each.rows[:12], f"{each.size / 1024:.0f} KiB", each.path) for each in found if isinstance(each, Dump)]
    return Table(("Database", "Rows", "Size", "Dump"), sizes, f"Dumped on {host}", "Rows: the first digits of a SHA-256 over the rows alone")


def _run_on_agent(host: Host, what: str, order: dict, on_progress: Callable[[dict], None] | None) -> list[dict]:
    """Run one operation by the agent on the host and return its messages."""
    messages: list[dict] = []

    def listen(message: dict) -> None:
        messages.append(message)
        if on_progress:
            on_progress(message)

    ask(host, "apply", [{**order, "what": what, "key": f"{what} {order['name']}"}], listen)
    return messages
