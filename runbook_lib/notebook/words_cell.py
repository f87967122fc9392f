"""The Words boxes of the chapters: a folded cell in each with the words that a reader meets there for the first time.

`python -m runbook_lib.notebook.words_cell` rewrites these cells and docs/glossary.md after a change of the chapters' prose or of
`spec/glossary.yaml`. Everything else in the notebooks stays the same.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.files import ROOT, write_whole
from runbook_lib.spec import glossary
from runbook_lib.spec.chapters import NOTEBOOKS

ENDS = "-words"  # of the id of the cell


def prose(book: dict[str, Any]) -> str:
    """Return what a chapter says, without its Words box, blocks of code, and the addresses of links."""
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "markdown" and not cell["id"].endswith(ENDS)]
    text = "\n\n".join("".join(cell["source"]) for cell in cells)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"\]\([^)]*\)|</?\w+>", " ", text).split())


def texts(folder: Path = NOTEBOOKS) -> dict[Path, str]:
    """Return the text of each chapter's notebook as it should be: with its Words box. Raises RunbookError for a chapter without the cell."""
    books = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.ipynb"))}
    boxes = glossary.boxes({path.stem: prose(book) for path, book in books.items()})
    for path, book in books.items():
        cell = next((cell for cell in book["cells"] if cell["id"].endswith(ENDS)), None)
        if cell is None:
            raise RunbookError("the chapter has no Words box", path.name, f'add a Markdown cell with the id "{path.stem[:2]}{ENDS}"')
        cell["source"] = glossary.as_cell(boxes[path.stem]).splitlines(keepends=True)
    return {path: json.dumps(book, indent=1, ensure_ascii=False) + "\n" for path, book in books.items()}


def main() -> None:
    """Write the Words box of every chapter, and docs/glossary.md."""
    for path, text in texts().items():
        write_whole(path, text)
    write_whole(ROOT / "docs" / "glossary.md", glossary.as_markdown())


if __name__ == "__main__":
    main()
