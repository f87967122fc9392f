"""Databases made anew, each dumped first: the way out of a half-loaded schema or of a first boot that was cut short.

Golden run 1 and 7: a first boot that fails or is killed leaves rows that only a fresh database cures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .converge import ask
from .database_resources import MysqlSchema
from .errors import HostError
from .ssh import Host


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
    dumps: list[str] = []

    def listen(message: dict) -> None:
        if "dump" in message:
            dumps.append(message["dump"])
        if on_progress:
            on_progress(message)

    order = {**schema.order({}), "what": "recreate", "key": f"re-creation of {schema.database.name}"}
    ask(host, "apply", [order], listen)
    return Recreated(schema.database.name, schema.expected, dumps[0] if dumps else None)


def recreate_databases(host: Host, schemas: Iterable[MysqlSchema]) -> tuple[Recreated, ...]:
    """All of them, one after the other: what a fresh first boot of the cluster starts from."""
    return tuple(recreate_database(host, schema) for schema in schemas)
