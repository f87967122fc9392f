"""An error as a card: what, where, what to do next, and links to explanations; the traceback is folded below.

Links are relative to `notebooks/`, the folder of the chapters, or to one beside it: JupyterLab opens them as documents, the book leads them to its pages.
"""

from __future__ import annotations

import html
import re
import traceback
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from runbook_lib.check import CheckTable
from runbook_lib.errors import ChecksFailed, LockHeld, ParamsError, PlanOvertaken, RunbookError, Stopped
from runbook_lib.notebook.parameters_cell import way_to_chapters
from runbook_lib.spec.chapters import CHAPTERS
from runbook_lib.spec.model import Spec
from runbook_lib.spec.reference import KeyReference

REFERENCE = "../docs/parameters.md"
THE_FORM = "the form"  # `where` of an error in a value entered in the form: the reader sees the place, so no link to it is needed
NOTEBOOKS = {"00": "00_start_here", **{chapter.number: name for name, chapter in CHAPTERS.items()}, "99": "99_tear_down"}
# a chapter as it is named in a text: "chapter 01", "chapter 01_launch_ec2", "chapters 04 and 05"
NAMED = re.compile(r"(?<=chapter )\d\d\w*|(?<=chapters )\d\d\w*|(?<=\d\d and )\d\d\w*|(?<=\d\d or )\d\d\w*|(?<=\d\d, )\d\d\w*")
# the section of the notebook in which to continue, by error; every chapter that can raise the error has it, and but for the plan
# every notebook of exercises (a test compares)
SECTIONS: dict[type[RunbookError], tuple[str, str]] = {
    ParamsError: ("Parameters", "the parameters cell of this notebook"),
    PlanOvertaken: ("Plan", "the plan of this chapter"),
    LockHeld: ("Where-the-deployment-stands", "the board says who is at work"),
}


def error_card(error: RunbookError) -> str:
    """Return the card as HTML. Paths in it are relative to the repository's root."""
    key = reference_of(error)
    table = error.table if isinstance(error, ChecksFailed) else None
    what = linked(error.what) if table is None else f"{len(table.failed())} of {len(table)} checks did not pass"
    rows = [("What", what), ("Where", linked(error.where or "")), ("Next", linked(error.next_step or ""))]
    if key:
        default = key.default_words if key.required or not key.default_words else f"default {key.default_words}"
        facts = ", ".join(filter(None, [key.unit, default]))
        rows.append(("Meaning", html.escape(f"{key.key}: {key.description}{f' ({facts})' if facts else ''}")))
    rows.append(("See", " · ".join(f'<a href="{html.escape(href)}">{html.escape(words)}</a>' for href, words in links_of(error))))
    cells = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows if text)
    if isinstance(error, Stopped):
        return f'<div class="rb-stopped" role="status"><strong>■ Stopped, as asked.</strong><dl>{cells}</dl></div>'
    return f'<div class="rb-error" role="alert"><strong>✘ Stopped.</strong><dl>{cells}</dl>{_rows(table)}{_traceback(error)}</div>'


def _rows(table: CheckTable | None) -> str:
    """Return the rows that did not pass as an HTML table, and all rows folded below; "" without a table."""
    if table is None:
        return ""
    return f"{CheckTable(table.failed()).markup()}<details><summary>All {len(table)} checks</summary>{table._repr_html_()}</details>"


def links_of(error: RunbookError) -> list[tuple[str, str]]:
    """Return (address, words) of the places that explain this error, such as a section of the chapter or a key's line in the reference."""
    way = way_to_chapters()
    links = [
        (f"#{anchor}", words)
        for kind, (anchor, words) in SECTIONS.items()
        if isinstance(error, kind) and error.where != THE_FORM and not (way and kind is PlanOvertaken)
    ]
    if key := reference_of(error):
        links.append((f"{REFERENCE}#{key.key}", f"{key.key} among all parameters"))
    elif isinstance(error, ParamsError):
        links.append((REFERENCE, "every parameter"))
    if isinstance(error, ChecksFailed) and error.chapter:
        links.append((f"{way}{error.chapter}.ipynb", f"chapter {error.chapter[:2]}"))
    return links


def linked(text: str) -> str:
    """Return `text` as HTML in which every chapter name is a link to that chapter."""
    way = way_to_chapters()

    def link(match: re.Match[str]) -> str:
        name = NOTEBOOKS.get(match[0][:2], "")
        return f'<a href="{way}{name}.ipynb">{match[0]}</a>' if match[0] in (name, name[:2]) and name else match[0]

    return NAMED.sub(link, html.escape(text))


def reference_of(error: RunbookError) -> KeyReference | None:
    """Return the reference's entry for the key that is wrong, or for the mapping that contains it; None when there is none."""
    rows = {row.key: row for row in Spec.reference()}
    parts = (getattr(error, "key", "") or "").split(".")
    return next((rows[name] for name in _prefixes(parts) if name in rows), None)


def _prefixes(parts: list[str]) -> Iterator[str]:
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def _traceback(error: RunbookError) -> str:
    """Return the frames of this library as folded HTML, with paths from the folder that holds it; empty when there are none."""
    ours = Path(str(files("runbook_lib"))).parent
    lines = [
        f"{Path(frame.filename).relative_to(ours)}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(ours / "runbook_lib")
    ]
    if not lines:
        return ""
    return f"<details><summary>How it came to this</summary><pre>{html.escape(chr(10).join(lines))}</pre></details>"
