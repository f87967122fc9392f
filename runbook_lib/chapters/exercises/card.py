"""An exercise and the course as a reader sees them: a card with buttons in JupyterLab, a table, and the same as text."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runbook_lib.chapters.exercises import progress
from runbook_lib.chapters.exercises.engine import Said, Task
from runbook_lib.chapters.exercises.progress import TaskRecord
from runbook_lib.chapters.exercises.table import HINTS, KINDS, PARTS, POINTS, Exercise, exercise_of, exercises
from runbook_lib.errors import RunbookError
from runbook_lib.notebook import display
from runbook_lib.notebook.error_card import error_card
from runbook_lib.tables import Link, html_table, text_table

COLUMNS = ("Exercise", "Kind", "Minutes", "On", "State", "Points", "Spent")


class Card(Task):
    """An exercise that shows itself: with buttons where a person can click, otherwise its state."""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        first, *others = self._lines()
        items = "".join(f"<li>{html.escape(line)}</li>" for line in others)
        headline = f'<p class="rb-headline"><strong>{html.escape(first)}</strong></p>'
        return f'<section class="rb-exercise" aria-label="exercise {self.row.id}">{headline}<ul>{items}</ul></section>'

    def _ipython_display_(self) -> None:
        if display.interactive():
            Buttons(self).show()
        else:
            display.show(display.Html(self._repr_html_(), str(self)))

    def _lines(self) -> list[str]:
        row, record = self.row, self.record
        pattern = self.deployment.spec.pattern
        lines = [
            f"{row.id} {row.title}: {record.words}",
            f"{row.kind}: {KINDS[row.kind]}",
            f"{row.minutes} minutes are usual; {record.points} of {POINTS} points; {record.hints} of {HINTS} hints taken",
        ]
        if pattern not in row.needs.patterns:
            lines.append(f"not on this deployment, which is {pattern}: it is about {' or '.join(row.needs.patterns)}")
        elif record.running:
            lines += [f"started {record.started} by {record.by}", self.text(row.question), *self.form()]
        return lines


class Buttons:
    """The card as widgets: the state, a field for the answer where one is asked for, a button for each verb, and what the last one said."""

    def __init__(self, task: Card):
        w = display.toolkit()
        self.task = task
        self.state, self.said, self.work = display.Shown(w), display.Shown(w), w.Output()
        self.answer = _field(w, task)
        verbs: dict[str, tuple[Callable[[], Said], str, str]] = {
            "Start": (task.start, "play", "put the deployment into the state of this exercise"),
            "Check": (lambda: task.check(_given(self.answer)), "check", "ask the deployment whether it is solved"),
            "Hint": (task.hint, "lightbulb-o", "show one more hint; each costs a point"),
            "Solution": (task.solve, "key", "show the solution and do it; no points from then on"),
            "Reset": (task.reset, "undo", "put the deployment back as its parameters want it"),
        }
        self.buttons = {name: w.Button(description=name, icon=icon, tooltip=words) for name, (_, icon, words) in verbs.items()}
        for name, (verb, _, _) in verbs.items():
            self.buttons[name].on_click(lambda _, verb=verb: self._do(verb))
        self.buttons["Start"].button_style = "primary"
        row = w.HBox(list(self.buttons.values()), layout={"flex_flow": "row wrap"})
        self.box = w.VBox([self.state.box, *([self.answer] if self.answer else []), row, self.work, self.said.box])
        self.box.add_class("rb-exercise-card")
        self._refresh()

    def show(self) -> None:
        """Show the card as the cell's output."""
        display.show(self.box)
        for button in self.buttons.values():
            display.heard_while_busy(button)

    def _do(self, verb: Callable[[], Said]) -> None:
        """Run a verb with all buttons disabled, and show what it said, or its error as a card."""
        for button in self.buttons.values():
            button.disabled = True
        self.said.value, shown = '<p role="status">at work …</p>', ""
        with self.work:  # what the verb shows by itself, such as the progress of an apply; it keeps every error that leaves the block
            try:
                shown = verb()._repr_html_()
            except RunbookError as error:
                shown = error_card(error)
            self.work.clear_output()
        self.said.value = shown
        self._refresh()

    def _refresh(self) -> None:
        """Show the state, and enable the buttons that can be used in it."""
        running = self.task.record.running
        here = self.task.deployment.spec.pattern in self.task.row.needs.patterns
        self.state.value = self.task._repr_html_()
        for name, button in self.buttons.items():
            button.disabled = not here or running == (name == "Start")


def _field(w: Any, task: Card) -> Any:
    """Return the widget for the answer; None where none is asked for."""
    form = task.row.answer
    if form is None:
        return None
    common = {"description": "Answer", "layout": {"width": "40em"}}
    options = [task.text(word) for word in form.of]
    if form.kind == "one":
        return w.Dropdown(options=["", *options], value="", **common)
    if form.kind == "several":
        return w.SelectMultiple(options=options, rows=min(len(options), 8), **common)
    return w.Text(placeholder="a number" if form.kind == "number" else "JSESSIONID=...", **common)


def _given(field: Any) -> str:
    if field is None:
        return ""
    return " ".join(field.value) if isinstance(field.value, tuple) else str(field.value)


@dataclass(frozen=True)
class Course:
    """Every exercise with how far it is on one deployment. Sums count what this deployment's pattern has."""

    deployment: str
    pattern: str
    records: dict[str, TaskRecord]

    @property
    def rows(self) -> list[tuple[Exercise, TaskRecord]]:
        """Return the exercises with their records, in the order of the course."""
        return [(row, self.records[id]) for id, row in exercises().items()]

    @property
    def mine(self) -> list[tuple[Exercise, TaskRecord]]:
        """Return those that can be done on this deployment's pattern."""
        return [(row, record) for row, record in self.rows if self.pattern in row.needs.patterns]

    @property
    def passed(self) -> int:
        """Return how many of these are passed."""
        return sum(record.state == "passed" for _, record in self.mine)

    @property
    def headline(self) -> str:
        """Return the sums in one line."""
        mine = self.mine
        points = sum(record.points for _, record in mine)
        spent = sum(record.seconds for _, record in mine)
        return f"{self.deployment} ({self.pattern}): {self.passed} of {len(mine)} exercises passed, {points} of {POINTS * len(mine)} points, {_minutes(spent)}"

    def __str__(self) -> str:
        parts = [self.headline]
        for part, (title, _) in PARTS.items():
            if rows := self._of(part, linked=False):
                parts.append(text_table(COLUMNS, rows, title))
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [html_table(COLUMNS, rows, title) for part, (title, _) in PARTS.items() if (rows := self._of(part, linked=True))]
        bar = f'<progress max="{len(self.mine) or 1}" value="{self.passed}" aria-label="exercises passed" style="width:16em"></progress>'
        headline = f'<p class="rb-headline"><strong>{html.escape(self.headline)}</strong><br>{bar}</p>'
        return f'<section class="rb-course" aria-label="course on {html.escape(self.deployment)}">{headline}{"".join(tables)}</section>'

    def _of(self, part: str, linked: bool) -> list[tuple[object, ...]]:
        return [
            (
                Link(f"../exercises/{part}.ipynb", row.id, row.title) if linked else f"{row.id} {row.title}",
                row.kind,
                row.minutes,
                ", ".join(row.needs.patterns),
                record.words,
                f"{record.points} of {POINTS}",
                _minutes(record.seconds) if record.seconds else "",
            )
            for row, record in self.rows
            if row.part == part
        ]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def exercise(deployment: Any, id: str) -> Card:
    """Return an exercise on a deployment: start, check, hint, solve, reset. Raises RunbookError, which names the nearest, for an unknown id."""
    return Card(deployment, exercise_of(id))


def course(deployment: Any) -> Course:
    """Return every exercise of the course with what was done of it on this deployment, by whomever and from whichever machine."""
    return Course(deployment.spec.deployment, deployment.spec.pattern, progress.read_all(deployment.vault))
