"""The result of a verification: a table with one row for each check of the running system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runbook_lib.errors import ChecksFailed
from runbook_lib.tables import html_table, text_table

Status = Literal["pass", "fail", "skipped", "undecided"]
COLUMNS = ("Status", "Check", "Expected", "Observed", "Where")
MARKS = {"pass": "✔ pass", "fail": "✘ fail", "skipped": "- skipped", "undecided": "? undecided"}
TRIED = ("attempt", "browser", "hygiene")  # the kinds of rows that say what the system does, beside whether that is expected


def mark_of(status: str, kind: str = "", state: str = "") -> tuple[str, str]:
    """Return the words and the CSS class of a row's status.

    For an attempt of the proof they say two things: what the system does, and whether that is expected. What leaks is never shown
    as good, however much it is expected.
    """
    if kind == "limit" and state == "leak":
        return "△ open (limit of the product)", "rb-limit"
    if kind not in TRIED or state not in ("held", "leak"):
        return MARKS.get(status, status), f"rb-{status}"
    expected = "as expected" if status == "pass" else "NOT expected"
    if state == "leak":
        return f"✘ {'missing' if kind == 'hygiene' else 'leaks'}, {expected}", "rb-leak"
    return (f"✔ held, {expected}", "rb-pass") if status == "pass" else (f"△ held, {expected}", "rb-fail")


@dataclass(frozen=True)
class Check:
    """One check and its result. `id` is stable and documented; `where` is the host, or the place from which it was checked.

    Status `skipped` means that the check was not made, and `observed` says why; `undecided` means that it was made without a
    clear result. `title`, `expected` and `observed` are text for people; no code parses them. For an attempt of the proof,
    `kind` is its kind (`checks.sso.proof`) and `state` its result: held, leak or undecided.
    """

    id: str
    title: str
    status: Status
    expected: str
    observed: str
    where: str
    chapter: str = ""
    kind: str = ""
    state: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "pass"

    @property
    def mark(self) -> tuple[str, str]:
        """The words of its status and their CSS class."""
        return mark_of(self.status, self.kind, self.state)


def answered(id: str, title: str, holds: bool, expected: str, observed: str, where: str, chapter: str) -> Check:
    """Return the row of a check that was made: status `pass` when `holds` is true, otherwise `fail`."""
    return Check(id, title, "pass" if holds else "fail", expected, observed, where, chapter)


class CheckTable(list[Check]):
    """Checks in the order in which they were made. `ok` is true only when there are rows and every row passed."""

    @property
    def ok(self) -> bool:
        return bool(self) and all(check.ok for check in self)

    def failed(self) -> list[Check]:
        """Return the rows that did not pass, including skipped and undecided ones."""
        return [check for check in self if not check.ok]

    def raise_if_failed(self) -> CheckTable:
        """Return this table when every row passed. Raises `ChecksFailed`, naming each row that did not, or when there are no rows."""
        if not self:
            raise ChecksFailed("no check was made", next_step="run the chapter that makes them")
        if failed := self.failed():
            lines = [f"{c.id} ({c.status}): expected {c.expected}; observed {c.observed}" for c in failed]
            error = ChecksFailed(
                f"{len(failed)} of {len(self)} checks did not pass:\n  " + "\n  ".join(lines),
                where=", ".join(dict.fromkeys(c.where for c in failed if c.where)) or None,
                next_step="show the plan of the chapter again: what drifted is in it; then apply and verify once more",
            )
            error.table = self
            raise error
        return self

    def _rows(self) -> list[tuple[str, ...]]:
        return [(c.mark[0], f"{c.title} ({c.id})", c.expected, c.observed, c.where) for c in self]

    def markup(self, caption: str = "") -> str:
        """Return the table as HTML under this caption."""
        return html_table(COLUMNS, self._rows(), caption, row_classes=[c.mark[1] for c in self])

    def _repr_html_(self) -> str:
        return self.markup(self._caption())

    def __str__(self) -> str:
        return text_table(COLUMNS, self._rows(), self._caption())

    __repr__ = __str__

    def _caption(self) -> str:
        skipped = sum(check.status == "skipped" for check in self)
        passed = "rows are as expected" if any(check.kind in TRIED for check in self) else "checks passed"
        return f"{sum(check.ok for check in self)} of {len(self)} {passed}" + (f", {skipped} skipped" if skipped else "")
