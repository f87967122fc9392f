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
FORETOLD = {"leak": "✘ leaks", "held": "✔ holds", "either": "? either", "": "– without meaning"}  # noqa: RUF001


@dataclass(frozen=True)
class Way:
    """One attempt. `closed_by`: the setting that closes it; `cells`: by level, what was found or is foretold (leak, held, undecided, either or "")."""

    title: str
    closed_by: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class HardeningMatrix:
    """Ways by level. `own`: the level of this run, whose cells were found; those of the others are foretold by the table of attempts."""

    deployment: str
    own: str
    levels: Sequence[str]
    ways: Sequence[Way]
    closed_everywhere: int

    @property
    def caption(self) -> str:
        return f"What each level closes: {counted(len(self.ways), 'way')} between the applications, by hardening"

    @property
    def note(self) -> str:
        """What to look at, and what is not in the table."""
        return (
            f"Look along a row for the first level at which it holds; the setting that closes the way stands below its title. The column {_name(self.own)} is "
            f"what this run ({self.deployment}) found. The other columns are what the table of attempts foretells: they were not tried in this run. "
            f"{counted(self.closed_everywhere, 'attempt')} more held, or are foretold to hold at each of these levels, and are not listed."
        )

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(title)}</th>' for title in self._titles())
        counts = "".join(f"<td>{words}</td>" for words in self._open())
        rows = "".join(f'<tr><th scope="row">{escape(way.title)}{_small(way.closed_by)}</th>{self._cells(way)}</tr>' for way in self.ways)
        return (
            f'<table class="rb-table rb-hardening"><caption>{escape(self.caption)}</caption><thead><tr>{head}</tr></thead>'
            f'<tbody><tr><th scope="row">Ways that are open</th>{counts}</tr>{rows}</tbody></table><p><small>{escape(self.note)}</small></p>'
        )

    def __str__(self) -> str:
        rows = [[way.title, *(self._words(way, level) for level in self.levels)] for way in self.ways]
        return text_table(self._titles(), [["Ways that are open", *self._open()], *rows], self.caption, self.note)

    __repr__ = __str__

    def _titles(self) -> list[str]:
        return ["Way", *(f"{_name(level)}: {'this run' if level == self.own else 'foretold'}" for level in self.levels)]

    def _open(self) -> list[str]:
        return [str(sum(way.cells[level] == "leak" for way in self.ways)) for level in self.levels]

    def _words(self, way: Way, level: str) -> str:
        return (FOUND if level == self.own else FORETOLD)[way.cells[level]]

    def _cells(self, way: Way) -> str:
        own = [" own" if level == self.own else "" for level in self.levels]
        states = [(way.cells[level] or "none") for level in self.levels]
        words = [self._words(way, level) for level in self.levels]
        return "".join(f'<td class="{state}{mine}">{text}</td>' for state, mine, text in zip(states, own, words, strict=True))


def hardening_matrix(deployment: str, attempts: Sequence[Mapping[str, Any]], scope: Mapping[str, Any]) -> HardeningMatrix | None:
    """Return the matrix of a proof. `attempts`, `scope`: as the journal keeps them. None for the record of an older version, which foretells nothing."""
    own = str(scope.get("configuration", ""))
    told = [{**one, "state": ""} for one in scope.get("left_out", ())] + list(attempts)
    rows = [one for one in told if one.get("kind") == "attempt" and one.get("foretold")]
    if not own or not rows:
        return None
    levels = (own if own in PATTERNS else "original", *LEVELS)
    ways = [Way(one["title"], one["closed_by"], {level: one["state"] if level == own else one["foretold"].get(level, "") for level in levels}) for one in rows]
    open_ = [way for way in ways if {"leak", "either", "undecided"} & set(way.cells.values())]
    open_.sort(key=lambda way: [way.cells[level] == "leak" for level in levels[1:]])
    return HardeningMatrix(deployment, own, levels, open_, len(ways) - len(open_))


def of_run(entries: list[runs.Entry]) -> HardeningMatrix | None:
    """Return the matrix of the newest proof in a journal, or None."""
    head: runs.Entry = next((entry for entry in entries if entry["verb"] == "begin"), {})
    scope: runs.Entry = next((entry for entry in reversed(entries) if entry["verb"] == "scope"), {})
    newest = {entry["key"]: entry for entry in entries if entry["verb"] == "attempt"}
    return hardening_matrix(str(head.get("deployment")), list(newest.values()), scope)


def _name(level: str) -> str:
    return PATTERNS.get(level, level)


def _small(closed_by: str) -> str:
    return f"<br><small>closed by: {escape(closed_by)}</small>" if closed_by else ""
