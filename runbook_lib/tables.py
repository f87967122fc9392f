"""Small tables, shown as HTML in a notebook and as text in a terminal or log."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


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
    """Return the same table as text with aligned columns; long cells are not shortened."""
    body = [[_text(cell) for cell in row] for row in rows]
    lines = [list(map(str, columns)), *body]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(filter(None, [caption, text[0], "  ".join("-" * width for width in widths), *text[1:], note]))


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
