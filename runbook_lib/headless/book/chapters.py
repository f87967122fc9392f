"""An executed chapter as a page of the book: what it printed stays as it was, without scripts and without what only JupyterLab needs."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import nbformat

from runbook_lib.headless.book.links import Links

STYLES = re.compile(r"<style\b[^>]*>.*?</style>", re.DOTALL | re.IGNORECASE)
CELL = re.compile(r"</(?:td|th|caption|p|li|dt|dd|figcaption)>(?=<)")  # a blank after it: the search takes tags away, and cells became one word
SHOWN = ("text/html", "image/png", "image/jpeg", "text/plain")  # of each output the first that it has; a widget needs a kernel
LANGUAGE = {"language_info": {"name": "python"}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
UNNAMED = "A chapter"


def page_of(notebook: Path, page: str, links: Links, banner: str = "") -> str:
    """Return an executed notebook as the source of the book's `page`, as JSON. `banner`: what stands below its title."""
    found = nbformat.read(notebook, as_version=4)
    for cell in found.cells:
        cell.metadata = nbformat.NotebookNode(tags=list(cell.metadata.get("tags", [])))
        if cell.cell_type == "markdown":
            cell.source = links.in_markdown(cell.source, page)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _static(output, page, links)]
    _titled(found, notebook.stem, banner)
    found.metadata = nbformat.from_dict(LANGUAGE)
    return str(nbformat.writes(found))


def _static(output: Any, page: str, links: Links) -> bool:
    """Keep of an output what a page can show, with links of the book, and return whether anything is left."""
    data = output.get("data")
    if data is None:
        return True
    kind = next((kind for kind in SHOWN if kind in data), None)
    output.data = nbformat.NotebookNode({kind: data[kind]} if kind else {})
    if kind == "text/html":  # the style sheet is the book's own, on every page
        output.data[kind] = links.in_html(CELL.sub(r"\g<0> ", STYLES.sub("", data[kind])), page).strip()
    return bool(kind and output.data[kind])


def _titled(found: Any, name: str, banner: str) -> None:
    """Give the notebook its banner below the title, and a title where it has none."""
    below = f'\n\n<p class="rb-banner"><strong>{html.escape(banner)}</strong></p>\n' if banner else ""
    first = next((cell for cell in found.cells if cell.cell_type == "markdown"), None)
    if first is None or not first.source.startswith("# "):
        first = nbformat.v4.new_markdown_cell(f"# {name.replace('_', ' ').strip() or UNNAMED}")
        found.cells.insert(0, first)
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}{below}\n{rest}"
