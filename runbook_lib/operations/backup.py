"""Databases dumped, restored, and made anew: the way back, and the way out of a half-loaded schema or of a first boot that
was cut short.

Golden run 1 and 7: a first boot that fails or is killed leaves rows that only a fresh database cures. Whatever is to be
dropped is dumped first.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from runbook_lib.converge.engine import ask
from runbook_lib.converge.mysql import MysqlSchema
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.ssh import Host
from runbook_lib.tables import Table

DUMP = re.compile(r"(?P<database>\w+)-\d{8}T\d{6}Z-\d+\.sql\.gz")


@dataclass(frozen=True)
class Recreated:
    """A database that was made anew. `dump`: path on its host of what it held before; None when there was nothing."""

    database: str
    tables: int
    dump: str | None

    def __str__(self) -> str:
        kept = f"what it held is kept in {self.dump}" if self.dump else "it was not there before"
        return f"{self.database}: {self.tables} tables made anew; {kept}"


def recreate_database(host: Host, schema: MysqlSchema, on_progress: Callable[[dict], None] | None = None) -> Recreated:
    """Dump (gzip, readable by root only, kept on the host), drop, create, load. Stop the product's nodes first.

    Accounts and their rights stay. `HostError` when the dump does not complete: nothing was dropped then.
    """
    if schema.script is None:
        step = "correct product.pack in the parameters: its dbscripts are needed"
        raise HostError(f"no script for {schema.database.name}: the pack has no {schema.origin}", host.name, step)
    told = _ordered(host, "recreate", schema.order({}), on_progress)
    return Recreated(schema.database.name, schema.expected, next((word["dump"] for word in told if "dump" in word), None))


def recreate_databases(host: Host, schemas: Iterable[MysqlSchema]) -> tuple[Recreated, ...]:
    """All of them, one after the other: what a fresh first boot of the cluster starts from."""
    return tuple(recreate_database(host, schema) for schema in schemas)


@dataclass(frozen=True)
class Dump:
    """A dump on the database's host: `rows` is the SHA-256 of its INSERT lines, which the same rows always have; `size` in bytes."""

    database: str
    path: str
    rows: str
    size: int


@dataclass(frozen=True)
class Restored:
    """A database that holds the rows of `dump` again. `before`: the dump of what it held until then; None when there was nothing."""

    database: str
    dump: str
    rows: str
    before: str | None


def dump_database(host: Host, name: str, on_progress: Callable[[dict], None] | None = None) -> Dump:
    """As of one moment, beside those who write (gzip, readable by root only, kept on the host). `HostError` when it does not complete."""
    (told,) = (word for word in _ordered(host, "dump", {"kind": "mysql", "name": name}, on_progress) if "dump" in word)
    return Dump(name, told["dump"], told["rows"], told["size"])


def restore_database(host: Host, dump: str, on_progress: Callable[[dict], None] | None = None) -> Restored:
    """Put a dump in the place of what is there, which is dumped first. Stop the product's nodes before. Accounts and their rights stay.

    Proven by a dump of the result: the same rows. `HostError` when it cannot be read to its end or is of another
    database (nothing was dropped then), and when the rows differ.
    """
    name = database_of(dump)
    told = _ordered(host, "restore", {"kind": "mysql", "name": name, "dump": dump}, on_progress)
    before = next((word["dump"] for word in told if "dump" in word), None)
    return Restored(name, dump, told[-1]["rows"], before)


def database_of(dump: str) -> str:
    """Whose dump a file is, by its name. `RunbookError` when it is none of ours."""
    found = DUMP.fullmatch(posixpath.basename(dump))
    if not found:
        raise RunbookError(f"{dump!r} is not the path of a dump", "dump", "deployment.mysql.dump() and whatever drops a database say where theirs lie")
    return found["database"]


def as_table(found: Sequence[Dump] | Sequence[Restored], host: str) -> Table:
    """What was dumped or restored, for a notebook."""
    if any(isinstance(each, Restored) for each in found):
        rows = [(each.database, each.rows[:12], each.dump, each.before) for each in found if isinstance(each, Restored)]
        return Table(("Database", "Rows", "Holds again", "What it held before"), rows, f"Restored on {host}", "the same rows, by a dump of the result")
    sizes = [(each.database, each.rows[:12], f"{each.size / 1024:.0f} KiB", each.path) for each in found if isinstance(each, Dump)]
    return Table(("Database", "Rows", "Size", "Dump"), sizes, f"Dumped on {host}", "Rows: the first digits of a SHA-256 over the rows alone")


def _ordered(host: Host, what: str, order: dict, on_progress: Callable[[dict], None] | None) -> list[dict]:
    """One order to the agent; what it said meanwhile."""
    told: list[dict] = []

    def listen(message: dict) -> None:
        told.append(message)
        if on_progress:
            on_progress(message)

    ask(host, "apply", [{**order, "what": what, "key": f"{what} {order['name']}"}], listen)
    return told
