"""The requests and responses of a proof's attempts as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runbook_lib.tables import Table
from runbook_lib.webclient.response import Exchange


@dataclass(frozen=True)
class Exchanges:
    """The requests and responses between browser and cluster, one table per attempt."""

    tables: tuple[Table, ...]

    def _repr_html_(self) -> str:
        return f'<div class="rb-exchanges">{"".join(table._repr_html_() for table in self.tables)}</div>'

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables))

    __repr__ = __str__


def as_tables(exchanges: Iterable[tuple[str, Sequence[Exchange]]]) -> Exchanges:
    """Return one table per title, with a row per request and response."""
    columns = ("", "Request", "Answer", "Cookies sent", "Cookies set")
    return Exchanges(tuple(Table(columns, [_row(*one) for one in enumerate(met, 1)], title) for title, met in exchanges))


def _row(number: int, one: Exchange) -> tuple[object, ...]:
    return number, f"{one.method} {one.url}", one.outcome, one.sent, one.set
