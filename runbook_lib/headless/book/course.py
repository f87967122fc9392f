"""The course: a page for each part, with its exercises. The learner's edition has no hint and no solution in it; the instructor's has both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from runbook_lib.chapters.exercises.actions import fill, words_for
from runbook_lib.chapters.exercises.table import KINDS, PARTS, Exercise, exercises
from runbook_lib.spec.loader import sample
from runbook_lib.topology.model import topology_of

HOW = """\
Each exercise is done on a running deployment: *start* prepares it, *check* asks the system and not your text whether it is done, a *hint* costs a point,
and *reset* puts the deployment back. In JupyterLab it is a card with buttons, in a notebook of each part; in a cell it is

```python
from runbook_lib import exercise, open_deployment

deployment = open_deployment("../params/greg-separated.lab.yaml")
task = exercise(deployment, "nginx-1")
task.start()
```

and in a terminal `./runbook exercise start nginx-1 params/greg-separated.lab.yaml`, with `check`, `hint`, `solve` and `reset` in the same way.
"""


def course_pages(instructor: bool) -> dict[str, str]:
    """Return the pages of the course by their path in the book, in Markdown; none while there is no exercise."""
    rows = list(exercises().values())
    by_part = {part: [row for row in rows if row.part == part] for part in PARTS}
    pages = {f"course/{part}.md": _part(part, mine, instructor) for part, mine in by_part.items() if mine}
    return {"course/index.md": _contents(by_part, instructor), **pages} if pages else {}


def _contents(by_part: Mapping[str, Sequence[Exercise]], instructor: bool) -> str:
    """Return the front page of the course."""
    rows = [row for mine in by_part.values() for row in mine]
    lines = ["# The course", "", f"{len(rows)} exercises, {sum(row.minutes for row in rows)} minutes for who does all of them.", "", HOW]
    for part, mine in by_part.items():
        if mine:
            lines += [f"## {PARTS[part][0]}", "", PARTS[part][1], "", "| Exercise | Kind | Minutes | On |", "|---|---|---|---|"]
            lines += [
                f"| [{row.id}: {row.title}]({part}.md#{_anchor(row)}) | {row.kind} | {row.minutes} | {', '.join(row.needs.patterns)} |" for row in mine
            ] + [""]
    lines += ["## Kinds of exercises", "", *(f"- **{kind}**: {words}" for kind, words in KINDS.items()), ""]
    if instructor:
        lines += ["## What usually goes wrong", "", "| Exercise | Minutes | What learners get wrong | What it teaches |", "|---|---|---|---|"]
        lines += [f"| [{row.id}]({row.part}.md#{_anchor(row)}) | {row.minutes} | {_cell(row, row.usually)} | {_cell(row, row.teaches)} |" for row in rows] + [
            ""
        ]
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", *(part for part, mine in by_part.items() if mine), "```", ""])


def _part(part: str, rows: Sequence[Exercise], instructor: bool) -> str:
    """Return the page of a part."""
    lines = [f"# {PARTS[part][0]}", "", PARTS[part][1], ""]
    for row in rows:
        lines += [
            f"({_anchor(row)})=",
            "",
            f"## {row.id}: {row.title}",
            "",
            f"*{row.kind}, {row.minutes} minutes, on {' or '.join(row.needs.patterns)}*",
            "",
        ]
        lines += [_text(row, row.story), "", f"**{_text(row, row.question)}**", ""]
        if row.answer and row.answer.of:
            lines += [f"To choose from: {', '.join(f'`{word}`' for word in row.answer.of)}.", ""]
        lines += _for_the_instructor(row) if instructor else []
    return "\n".join(lines)


def _for_the_instructor(row: Exercise) -> list[str]:
    """Return what only the instructor's edition says of an exercise: hints, solution, what it teaches and what usually goes wrong."""
    lines = ["### Hints", "", *(f"{number}. {_text(row, hint)}" for number, hint in enumerate(row.hints, 1)), "", "### Solution", ""]
    lines += [f"Answer: `{_text(row, row.solution.answer)}`", ""] if row.solution.answer else []
    lines += [_text(row, row.solution.why), ""]
    for words, steps in (("What *start* does:", row.setup), ("What the solution does:", row.solution.do)):
        lines += [words, "", "```yaml", _yaml(steps), "```", ""] if steps else []
    return [*lines, f"**Teaches.** {_text(row, row.teaches)}", "", f"**Usually.** {_text(row, row.usually)}", ""]


def _yaml(steps: Sequence[Mapping[str, Any]]) -> str:
    return yaml.safe_dump([dict(step) for step in steps], sort_keys=False, allow_unicode=True, width=100).strip()


def _anchor(row: Exercise) -> str:
    return f"exercise-{row.id}"


def _text(row: Exercise, text: str) -> str:
    """Return a text of the row with the placeholders filled in as the smallest deployment of its first pattern has them; what is left is no markup."""
    filled = fill(text, words_for(topology_of(sample(row.needs.patterns[0])))).strip()
    parts = filled.split("`")
    return "`".join(part if number % 2 else part.replace("<", r"\<") for number, part in enumerate(parts))


def _cell(row: Exercise, text: str) -> str:
    """Return a text as one cell of a table."""
    return " ".join(_text(row, text).split()).replace("|", r"\|")
