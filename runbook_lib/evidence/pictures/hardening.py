"""What each hardening level closes: the ways of the proof by level, this run's own level with what was really found, the others as foretold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from runbook_lib.evidence import runs
from runbook_lib.tables import counted, text_table

LEVELS = ("hosts", "allow-list", "app-removed", "full")  # of greg-separated, as the parameter `hardening` has them
PATTERNS = {"single": "greg-single", "original": "greg-original"}
FOUND = {"leak": "✘ leaked", "held": "✔ held", "undecided": "? undecided", "": "– not tried"}  # noqa: RUF001
FORETOLD = {"leak": "✘ leaks", "held": "✔ holds", "either": "? not foretold", "": "– without meaning"}  # noqa: RUF001


@dataclass(frozen=True)
class WaysOfSetting:
    """Ways that one setting closes and that are open at the same levels.

    `cells`: by level, what was found (leak, held, undecided) or is foretold (leak, held, either); "" where the ways have no meaning or were not tried.
    """

    setting: str
    ways: Sequence[str]
    cells: Mapping[str, str]

    @property
    def count(self) -> str:
        return counted(len(self.ways), "way")


@dataclass(frozen=True)
class HardeningMatrix:
    """Ways by level. `own`: the level of this run, whose cells were found; those of the others are foretold by the table of attempts."""

    deployment: str
    own: str
    levels: Sequence[str]
    rows: Sequence[WaysOfSetting]
    closed_everywhere: int

    @property
    def caption(self) -> str:
        return f"What each level closes: {counted(sum(len(row.ways) for row in self.rows), 'way')} between the applications, by hardening"

    @property
    def note(self) -> str:
        """What to look at, and what is not in the table."""
        return (
            f"Look along a row for the first level at which its ways are closed. The column {_name(self.own)} is what this run found on {self.deployment}. "
            "The other columns are what the table of attempts foretells: they were not tried in this run. "
            f"{counted(self.closed_everywhere, 'attempt')} more held, or are foretold to hold at each of these levels, and are not listed."
        )

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(title)}</th>' for title in self._titles())
        counts = "".join(f'<td class="{"own" if level == self.own else ""}">{number}</td>' for level, number in zip(self.levels, self._open(), strict=True))
        rows = "".join(f'<tr><th scope="row">{_what(row)}</th>{self._cells(row)}</tr>' for row in self.rows)
        return (
            f'<table class="rb-table rb-hardening"><caption>{escape(self.caption)}</caption><thead><tr>{head}</tr></thead>'
            f'<tbody><tr><th scope="row">Ways that are open</th>{counts}</tr>{rows}</tbody></table><p><small>{escape(self.note)}</small></p>'
        )

    def __str__(self) -> str:
        rows = [[f"{_sentence(row.setting)} ({row.count})", *(self._words(row, level) for level in self.levels)] for row in self.rows]
        return text_table(self._titles(), [["Ways that are open", *self._open()], *rows], self.caption, self.note)

    __repr__ = __str__

    def _titles(self) -> list[str]:
        return ["What closes it", *(f"{_name(level)}: {'this run' if level == self.own else 'foretold'}" for level in self.levels)]

    def _open(self) -> list[str]:
        return [str(sum(len(row.ways) for row in self.rows if row.cells[level] == "leak")) for level in self.levels]

    def _words(self, row: WaysOfSetting, level: str) -> str:
        return (FOUND if level == self.own else FORETOLD)[row.cells[level]]

    def _cells(self, row: WaysOfSetting) -> str:
        classes = {level: (row.cells[level] or "none") + (" own" if level == self.own else "") for level in self.levels}
        return "".join(f'<td class="{css}">{self._words(row, level)}</td>' for level, css in classes.items())


def hardening_matrix(deployment: str, attempts: Sequence[Mapping[str, Any]], scope: Mapping[str, Any]) -> HardeningMatrix | None:
    """Return the matrix of a proof. `attempts`, `scope`: as the journal keeps them. None for the record of an older version, which foretells nothing."""
    own = str(scope.get("configuration", ""))
    told = [{**one, "state": ""} for one in scope.get("left_out", ())] + list(attempts)
    rows = [one for one in told if one.get("kind") == "attempt" and one.get("foretold")]
    if not own or not rows:
        return None
    levels = (own if own in PATTERNS else "original", *LEVELS)
    found = [{level: one["state"] if level == own else one["foretold"].get(level, "") for level in levels} for one in rows]
    groups: dict[tuple[str, ...], list[str]] = {}
    for one, cells in zip(rows, found, strict=True):
        if {"leak", "either", "undecided"} & set(cells.values()):
            groups.setdefault((one["closed_by"], *cells.values()), []).append(one["title"])
    closed = [WaysOfSetting(setting, ways, dict(zip(levels, cells, strict=True))) for (setting, *cells), ways in groups.items()]
    closed.sort(key=lambda row: [row.cells[level] == "leak" for level in levels[1:]])
    return HardeningMatrix(deployment, own, levels, closed, len(rows) - sum(len(row.ways) for row in closed))


def of_run(entries: list[runs.Entry]) -> HardeningMatrix | None:
    """Return the matrix of the newest proof in a journal, or None."""
    head: runs.Entry = next((entry for entry in entries if entry["verb"] == "begin"), {})
    scope: runs.Entry = next((entry for entry in reversed(entries) if entry["verb"] == "scope"), {})
    newest = {entry["key"]: entry for entry in entries if entry["verb"] == "attempt"}
    return hardening_matrix(str(head.get("deployment")), list(newest.values()), scope)


def _name(level: str) -> str:
    return PATTERNS.get(level, level)


def _what(row: WaysOfSetting) -> str:
    """Return the head of a row: the setting, and below it its ways, folded where there are several."""
    if len(row.ways) == 1:
        return f"{escape(_sentence(row.setting))}<br><small>{escape(row.ways[0])}</small>"
    ways = "".join(f"<li>{escape(way)}</li>" for way in row.ways)
    return f"{escape(_sentence(row.setting))}<details><summary>{row.count}</summary><ul>{ways}</ul></details>"


def _sentence(words: str) -> str:
    """Return the words with a capital at the beginning, unless they begin with the name of a file."""
    return words if "." in words.partition(" ")[0] else words[:1].upper() + words[1:]
