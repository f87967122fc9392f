"""Small tables, shown as HTML in a notebook and as text in a terminal or log."""

from __future__ import annotations

import html
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_room: ContextVar[int | None] = ContextVar("room", default=None)  # the columns that a text table may take, None: as many as it needs
NARROWEST = 4  # columns of a column in a table that is too wide


@contextmanager
def fitted_to(columns: int | None) -> Iterator[None]:
    """In the block, no text table is wider than `columns`: long cells continue on further lines. None: as wide as the cells need."""
    before = _room.set(columns)
    try:
        yield
    finally:
        _room.reset(before)


@dataclass(frozen=True)
class Link:
    """A cell with a link: in HTML the link followed by `note`, in a terminal only the link's text."""

    href: str
    text: str
    note: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows under column titles, with a caption above and a note below. Cells are escaped in HTML."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    note: str = ""
    row_classes: Sequence[str] = ()

    def _repr_html_(self) -> str:
        return html_table(self.columns, self.rows, self.caption, self.note, self.row_classes)

    def __str__(self) -> str:
        return text_table(self.columns, self.rows, self.caption, self.note)

    __repr__ = __str__

    def __len__(self) -> int:
        return len(self.rows)


def html_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    caption: str = "",
    note: str = "",
    row_classes: Sequence[str] = (),
) -> str:
    """Return a `<table class="rb-table">` and the note below it. `row_classes`, one CSS class per row, are for colour only: the cells say the same."""
    head = "".join(f'<th scope="col">{html.escape(str(column))}</th>' for column in columns)
    lines = []
    for number, row in enumerate(rows):
        mark = f' class="{html.escape(row_classes[number])}"' if number < len(row_classes) else ""
        cells = "".join(f'<td style="text-align:left">{_markup(cell)}</td>' for cell in row)
        lines.append(f"<tr{mark}>{cells}</tr>")
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    foot = f"<p><small>{html.escape(note)}</small></p>" if note else ""
    return f'<table class="rb-table">{title}<thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>{foot}'


def text_table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", note: str = "") -> str:
    """Return the same table as text with aligned columns; no cell is shortened. Long cells continue on further lines inside of `fitted_to` only."""
    body = [[_text(cell) for cell in row] for row in rows]
    lines = [list(map(str, columns)), *body]
    widths = _within([max(len(line[number]) for line in lines) for number in range(len(columns))], _room.get())
    text = [_aligned(line, widths) for line in lines]
    return "\n".join(filter(None, [caption, text[0], "  ".join("-" * width for width in widths), *text[1:], note]))


def _within(widths: list[int], room: int | None) -> list[int]:
    """Return the columns' widths, the widest ones narrowed until the table with its gaps of two is not wider than `room`."""
    narrowed = list(widths)
    while room and sum(narrowed) + 2 * (len(narrowed) - 1) > room and max(narrowed) > NARROWEST:
        narrowed[narrowed.index(max(narrowed))] -= 1
    return narrowed


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a row as text, on as many lines as its longest cell needs."""
    parts = [[cell] if len(cell) <= width else textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(cells, widths, strict=True)]
    lines = itertools.zip_longest(*parts, fillvalue="")
    return "\n".join("  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _markup(cell: object) -> str:
    if isinstance(cell, Link):
        return f'<a href="{html.escape(cell.href)}">{html.escape(cell.text)}</a> {html.escape(cell.note)}'.strip()
    return html.escape(_text(cell))


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return ", ".join(map(str, cell)) if isinstance(cell, list | tuple | set | frozenset) else str(cell)


def counted(number: int, noun: str) -> str:
    """Return the number with its noun: 1 host, 2 hosts."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
