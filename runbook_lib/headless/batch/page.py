"""The page of a batch, `batch.html`: the matrix in colours and words, the times, each failure with its reason, and the sweep's earlier batches."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from runbook_lib.charts import timings_chart
from runbook_lib.files import ROOT, write_whole
from runbook_lib.redaction import redactor

TEMPLATES = Environment(loader=PackageLoader("runbook_lib.headless", "batch"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
MOST_COLUMNS = 12  # batches by which the deployments are compared
MOST_BARS = 60  # rows of the chart of times: the longest


def write_page(folder: Path, found: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> Path:
    """Write the page of the batch `found` into its folder and return it. `before`: documents of earlier batches of the sweep."""
    longest = sorted(found["rows"], key=lambda row: -row["seconds"])[:MOST_BARS]
    times = timings_chart([(row["name"], 0.0, row["seconds"], row["ok"]) for row in longest if row["seconds"]])
    text = TEMPLATES.get_template("batch.html.j2").render(
        found=found, grid=grid(found), reports=_reports(found, folder), times=times, trend=trend([*before, found])
    )
    path = folder / "batch.html"
    write_whole(path, redactor.redact(text))
    return path


def trend(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how the batches of a sweep went, the newest of them last, for the page of that one.

    `batches`: each in short; `times`: a chart of them, "" for a single one; `columns`, `lines`: of the newest ones that did the same, how each
    deployment ended that did not always end well, the most often failed first.
    """
    short = [
        {
            "begun": _minute(one["started"]),
            "well": one["verified"],
            "rows": len(one["rows"]),
            "failed": [row["name"] for row in one["rows"] if not row["ok"]],
            "left_out": sum(row["left_out"] for row in one["rows"]),
            "cut_off": one.get("cut_off", False),
            **{key: one[key] for key in ("verb", "ok", "seconds")},
        }
        for one in batches
    ]
    same = [one for one in batches if one["verb"] == batches[-1]["verb"]][-MOST_COLUMNS:]
    ended = [{row["name"]: row for row in one["rows"]} for one in same]
    lines = [(name, [rows.get(name) for rows in ended]) for name in ended[-1]]
    failed = [line for line in lines if any(row and not row["ok"] for row in line[1])]
    times = [(f"{one['begun']} {one['verb']}", 0.0, one["seconds"], one["ok"]) for one in short]
    return {
        "batches": short,
        "times": timings_chart(times) if len(times) > 1 else "",
        "columns": [_minute(one["started"]) for one in same],
        "lines": sorted(failed, key=lambda line: -sum(bool(row and not row["ok"]) for row in line[1]))[:MOST_BARS] if len(same) > 1 else [],
    }


def _minute(utc: str) -> str:
    """Return a moment as people read it, to the minute."""
    return utc[:16].replace("T", " ")


def matrix_html(found: Mapping[str, Any], folder: Path) -> str:
    """Return the matrix and the failures of a batch as HTML for a page in `folder`, from which its links lead."""
    return TEMPLATES.get_template("matrix.html.j2").render(found=found, grid=grid(found), reports=_reports(found, folder))


def _reports(found: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the address of each row's report, seen from `folder`: a file of this machine, or in S3."""
    rows = [row for row in found["rows"] if row["report"]]
    return {row["name"]: report if "://" in (report := row["report"]) else os.path.relpath(ROOT / report, folder) for row in rows}


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
