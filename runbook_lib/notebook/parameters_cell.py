"""The parameters cells of the chapters: the line with the params file, and the parameters that single chapters have.

The choice of a params file is stored nowhere else: a chapter uses the file that its cell names. Papermill's `-p params_file`
overrides it as usual.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.files import write_whole
from runbook_lib.spec.chapters import BATCH, NOTEBOOKS, SECOND_DAY, Chapter, chapters_of

LINE = re.compile(r"^params_file = .*$", re.MULTILINE)
START = "00_start_here"
TEAR_DOWN = "99_tear_down"
EVERY_CHAPTERS = ("params_file", "overrides")


def here() -> Path:
    """Return the folder of the chapters: the working directory when it contains them, else that of the repository."""
    return Path.cwd() if (Path.cwd() / f"{TEAR_DOWN}.ipynb").is_file() else NOTEBOOKS


def way_to_chapters() -> str:
    """Return what a link to a chapter begins with: "" in a chapter, "../notebooks/" in a notebook that lies in a folder beside theirs, as exercises do."""
    name = f"{TEAR_DOWN}.ipynb"
    return "../notebooks/" if not Path(name).is_file() and Path("..", "notebooks", name).is_file() else ""


def use_in_chapters(params: Path, pattern: str, folder: Path, also: Iterable[str] = ()) -> tuple[str, ...]:
    """Write `params_file = …` into the parameters cell of every chapter of `pattern` in `folder`, of 08 and 99, and of those in `also`.

    Of 10 as well, where its sweep can be made of these parameters. Return the chapters that named another file before. Everything else in the
    notebooks stays the same, byte for byte. Raises RunbookError, before anything is written, when a chapter has no such line.
    """
    names = [*also, *(chapter.name for chapter in chapters_of(pattern)), SECOND_DAY, *([BATCH] if pattern == "greg-separated" else []), TEAR_DOWN]
    return use_in(params, [folder / f"{name}.ipynb" for name in names if (folder / f"{name}.ipynb").is_file()])


def use_in(params: Path, paths: Sequence[Path]) -> tuple[str, ...]:
    """Do the same in these notebooks, which lie in one folder."""
    if not paths:
        return ()
    line = f'params_file = "{Path(os.path.relpath(params, paths[0].parent)).as_posix()}"'
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    changed = [(path, new) for path, old in texts if (new := _with_line(old, line, path)) != old]
    for path, text in changed:
        write_whole(path, text)
    return tuple(path.stem for path, _ in changed)


def takes_params(path: Path) -> bool:
    """Return whether a file is a notebook that can be given parameters: it has the line in a cell tagged `parameters`."""
    try:
        return bool(_old_line(path.read_text(encoding="utf-8"), path))
    except (OSError, UnicodeDecodeError, RunbookError):
        return False


def shared_out(parameters: Mapping[str, Any], chapters: Iterable[Chapter]) -> dict[str, dict[str, Any]]:
    """Return, by chapter, those of `parameters` that its parameters cell has, without the two that every chapter has.

    Raises RunbookError when no chapter has one of `parameters`.
    """
    if not parameters:
        return {}
    from papermill import inspect_notebook

    known = {chapter.name: inspect_notebook(str(chapter.notebook)).keys() - set(EVERY_CHAPTERS) for chapter in chapters}
    everywhere = sorted(set().union(*known.values()))
    for name in parameters:
        if name not in everywhere:
            near = difflib.get_close_matches(name, everywhere, 1)
            hint = f"did you mean {near[0]}?" if near else f"they have: {', '.join(everywhere) or 'none'}."
            raise RunbookError(f"none of these chapters has a parameter {name!r}", f"-p {name}", f"{hint} A key of the params file is given with --set")
    return {chapter: {name: value for name, value in parameters.items() if name in names} for chapter, names in known.items()}


def _with_line(text: str, line: str, path: Path) -> str:
    """Return the notebook's text with the tagged cell's params_file line replaced by `line`; only its first occurrence in the text is replaced."""
    old = _old_line(text, path)
    return text.replace(_in_json(old), _in_json(line), 1)


def _old_line(text: str, path: Path) -> str:
    found = None
    with suppress(ValueError, LookupError, TypeError, AttributeError):  # no notebook at all
        tagged = [cell for cell in json.loads(text)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
        found = LINE.search("".join(tagged[0]["source"]))
    if not found:
        raise RunbookError(
            "this chapter has no line `params_file = …` in a cell tagged `parameters`", path.name, "put it back: the chapter cannot be given parameters"
        )
    return found[0]


def _in_json(line: str) -> str:
    """Return the line as it is written in a notebook's JSON, without the quotes, because a line end may follow."""
    return json.dumps(line, ensure_ascii=False)[1:-1]
