"""The requests and answers of a proof's attempts as tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runbook_lib.tables import Table

LINE = re.compile(r"(?P<request>\S+ \S+) -> (?P<answer>.*?)(?P<notes>(\s+\[(with|sets) [^]]*\])*)$")
NOTE = re.compile(r"\[(with|sets) ([^]]*)\]")


@dataclass(frozen=True)
class Exchanges:
    """What browser and cluster said to each other, attempt by attempt: one table each."""

    tables: tuple[Table, ...]

    def _repr_html_(self) -> str:
        return f'<div class="rb-exchanges">{"".join(table._repr_html_() for table in self.tables)}</div>'

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables))

    __repr__ = __str__


def as_tables(exchanges: Mapping[str, Sequence[str]]) -> Exchanges:
    """Exchanges by title, a line each as `checks.flows.told` writes it."""
    columns = ("", "Request", "Answer", "Cookies sent", "Cookies set")
    return Exchanges(tuple(Table(columns, [(number, *_told(line)) for number, line in enumerate(lines, 1)], title) for title, lines in exchanges.items()))


def _told(line: str) -> tuple[str, str, str, str]:
    """One line of an exchange in its four parts; a line of another shape stays whole."""
    if not (found := LINE.match(line)):
        return line, "", "", ""
    notes = dict(NOTE.findall(found["notes"]))
    return found["request"], found["answer"], notes.get("with", ""), notes.get("sets", "")
