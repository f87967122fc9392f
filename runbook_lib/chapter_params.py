"""Which params file the chapters use: the line in their parameters cells, where everybody sees it, and nowhere else.

There is no marker and no remembered choice: what stands in the cell is what the chapter uses. Papermill's `-p params_file`
replaces it as ever.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .chapters import NOTEBOOKS, chapters_of
from .errors import RunbookError
from .journal import write_whole

LINE = re.compile(r"^params_file = .*$", re.MULTILINE)
TEAR_DOWN = "99_tear_down"


def here() -> Path:
    """The folder of the chapters that are being read: the kernel's own when they lie there, else the repository's."""
    return Path.cwd() if (Path.cwd() / f"{TEAR_DOWN}.ipynb").is_file() else NOTEBOOKS


def use_in_chapters(params: Path, pattern: str, folder: Path | None = None) -> tuple[str, ...]:
    """Write `params_file = …` into the parameters cell of every chapter of `pattern`, and of the tear-down.

    All else in the notebooks stays byte for byte. Returns the chapters that named another file until now.
    Raises RunbookError, before anything is written, when a chapter has no such line.
    """
    folder = folder or here()
    line = f'params_file = "{Path(os.path.relpath(params, folder)).as_posix()}"'
    names = [*(chapter.name for chapter in chapters_of(pattern)), TEAR_DOWN]
    paths = [folder / f"{name}.ipynb" for name in names if (folder / f"{name}.ipynb").is_file()]
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    changed = [(path, new) for path, old in texts if (new := _with_line(old, line, path)) != old]
    for path, text in changed:
        write_whole(path, text)
    return tuple(path.stem for path, _ in changed)


def line_of(notebook: Path) -> str:
    """The line as it stands in a chapter now. RunbookError when there is none."""
    return _old_line(notebook.read_text(encoding="utf-8"), notebook)


def _with_line(text: str, line: str, path: Path) -> str:
    """The notebook's text with another line, found in the tagged cell and replaced in the text, where it comes first."""
    old = _old_line(text, path)
    return text.replace(_in_json(old), _in_json(line), 1)


def _old_line(text: str, path: Path) -> str:
    cells: list[dict[str, Any]] = json.loads(text)["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    found = LINE.search("".join(tagged[0]["source"])) if tagged else None
    if not found:
        raise RunbookError(
            "this chapter has no line `params_file = …` in a cell tagged `parameters`", path.name, "put it back: the chapter cannot be given parameters"
        )
    return found[0]


def _in_json(line: str) -> str:
    """The line inside of a notebook's JSON; without the quotes, because a line end may follow."""
    return json.dumps(line, ensure_ascii=False)[1:-1]
