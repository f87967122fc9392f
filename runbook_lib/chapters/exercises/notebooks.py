"""The exercises' notebooks, made from the table: one for each part. `python -m runbook_lib.chapters.exercises.notebooks` writes them to `exercises/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runbook_lib.chapters.exercises.table import PARTS, Exercise, exercises
from runbook_lib.files import ROOT, write_whole

FOLDER = "exercises"
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
HOW = """\
Every exercise is a card with buttons; the same verbs can be called in a cell: `exercise(deployment, "ID").start()`, then `.check()` or `.check(answer)`,
`.hint()`, `.solve()` and `.reset()`. *Start* breaks the deployment, *Reset* puts it back; only one exercise is started at a time. A hint costs a point, and
who looks at the solution gets none. What you did is kept with the deployment.

## Parameters

`params_file` names the deployment, `overrides` changes single keys of it."""
STANDING = """\
## Where the deployment stands

It has to be built already, by the chapters that an exercise needs. The next cell shows what was done of the whole course so far."""


def notebook_of(part: str) -> dict[str, Any]:
    """Return the notebook of a part as JSON data: prose, and a cell with the card for each exercise. No outputs."""
    title, about = PARTS[part]
    rows = [row for row in exercises().values() if row.part == part]
    params = f"../params/{rows[0].needs.patterns[0]}.lab.yaml"
    cells = [
        _prose("head", f"# Exercises: {title}\n\n{about}"),
        _prose("how", HOW),
        _code("parameters", f'params_file = "{params}"\noverrides = {{}}', tags=["parameters"]),
        _prose("standing", STANDING),
        _code("open", "from runbook_lib import course, exercise, open_deployment\n\ndeployment = open_deployment(params_file, overrides)\ncourse(deployment)"),
        *(cell for row in rows for cell in _cells(row)),
    ]
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def written(part: str) -> str:
    """Return the text of a part's notebook file."""
    return json.dumps(notebook_of(part), indent=1, ensure_ascii=False) + "\n"


def write_notebooks(folder: Path = ROOT / FOLDER) -> list[Path]:
    """Write the notebook of every part that has exercises, and return the files."""
    folder.mkdir(exist_ok=True)
    parts = [part for part in PARTS if any(row.part == part for row in exercises().values())]
    for part in parts:
        write_whole(folder / f"{part}.ipynb", written(part))
    return [folder / f"{part}.ipynb" for part in parts]


def _cells(row: Exercise) -> list[dict[str, Any]]:
    where = " or ".join(row.needs.patterns)
    head = f"## {row.id}: {row.title}\n\n*{row.kind}, {row.minutes} minutes, on {where}*\n\n{row.story}"
    return [
        _prose(f"{row.id}-story", head),
        _prose(f"{row.id}-question", f"**{row.question}**"),
        _code(f"{row.id}-card", f'exercise(deployment, "{row.id}")'),
    ]


def _prose(id: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": id, "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(id: str, text: str, tags: list[str] | None = None) -> dict[str, Any]:
    metadata = {"tags": tags} if tags else {}
    return {"cell_type": "code", "execution_count": None, "id": id, "metadata": metadata, "outputs": [], "source": text.splitlines(keepends=True)}


if __name__ == "__main__":
    print("\n".join(map(str, write_notebooks())))
