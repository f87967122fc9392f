"""The page of a batch, `batch.html`: the matrix in colours and words, the times, each failure with its reason, and the sweep's earlier batches."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from runbook_lib.charts import timings_chart
from runbook_lib.files import ROOT, write_whole
from runbook_lib.redaction import redactor

TEMPLATE = files(__package__) / "batch.html.j2"
MOST_BARS = 60  # rows of the chart of times: the longest


def write_page(folder: Path, found: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> Path:
    """Write the page of the batch `found` into its folder and return it. `before`: documents of earlier batches of the sweep."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    reports = {row["name"]: os.path.relpath(ROOT / row["report"], folder) for row in found["rows"] if row["report"]}
    longest = sorted(found["rows"], key=lambda row: -row["seconds"])[:MOST_BARS]
    times = timings_chart([(row["name"], 0.0, row["seconds"], row["ok"]) for row in longest if row["seconds"]])
    text = template.render(found=found, grid=grid(found), reports=reports, times=times, before=[*before, found])
    path = folder / "batch.html"
    write_whole(path, redactor.redact(text))
    return path


def grid(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the matrix for the page: the last key's values are the columns, what the other keys and the params file are the lines.

    `columns`: titles; `lines`: (title, cells), where a cell is a row of `found` or None; `others`: rows that the matrix does not have.
    """
    keys = list(found["keys"])
    across = keys[-1] if keys else ""
    rows = [row for row in found["rows"] if keys and all(key in row["cells"] for key in keys)]
    others = [row for row in found["rows"] if row not in rows]
    columns = list(dict.fromkeys(_shown(row["cells"][across]) for row in rows))
    lines: dict[str, dict[str, Any]] = {}
    several = len({row["params"] for row in rows}) > 1
    for row in rows:
        words = [Path(row["params"]).stem] if several else []
        title = ", ".join(words + [f"{key} = {_shown(row['cells'][key])}" for key in keys[:-1]]) or found["sweep"]
        lines.setdefault(title, {})[_shown(row["cells"][across])] = row
    return {
        "across": across,
        "columns": columns,
        "lines": [(title, [cells.get(column) for column in columns]) for title, cells in lines.items()],
        "others": others,
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
