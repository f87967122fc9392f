"""What a proof found: two statements, what the system does and whether its parameters expect that, and one count of the attempts.

Notebook, terminal, report, result.json and book take their words and numbers from here, so that they cannot differ.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from runbook_lib.tables import counted

SYSTEM = {"leak": "✘ LEAKS", "separated": "✔ SEPARATED", "undecided": "? NOT DECIDED", "": "○ NOT TESTED"}


@dataclass(frozen=True)
class Tally:
    """How the rows of a proof ended. Attempts alone decide the verdict; a way is an attempt that got through.

    Limits are properties of the product that no configuration changes, controls are what must work, hygiene what must hold without being
    a way from one application into the other, and browser rows show some of the attempts again in a real browser.
    """

    attempts: int = 0
    ways: int = 0
    undecided: int = 0
    limits: int = 0
    limits_open: int = 0
    controls: int = 0
    controls_working: int = 0
    hygiene: int = 0
    hygiene_held: int = 0
    browser: int = 0
    browser_leaks: int = 0

    def __str__(self) -> str:
        open_ = f", {self.undecided} undecided" if self.undecided else ""
        parts = [
            f"{self.ways} of {counted(self.attempts, 'attempt')} got through{open_}",
            f"{self.limits_open} of {counted(self.limits, 'limit')} of the product open (counted apart)",
            f"{self.controls_working} of {counted(self.controls, 'control')} working" if self.controls else "",
            f"{self.hygiene_held} of {counted(self.hygiene, 'rule')} of hygiene kept" if self.hygiene else "",
            f"{self.browser_leaks} of {counted(self.browser, 'walk')} in a browser got through" if self.browser else "",
        ]
        return "; ".join(filter(None, parts))


def tally(rows: Iterable[Mapping[str, Any]]) -> Tally:
    """Return the count of a proof's rows; each has `kind` and `state`. Rows of other checks are left out."""
    found = [(row.get("kind", ""), row.get("state", "")) for row in rows]
    of = lambda kind, *states: sum(one == kind and (not states or state in states) for one, state in found)  # noqa: E731
    return Tally(
        attempts=of("attempt"),
        ways=of("attempt", "leak"),
        undecided=of("attempt", "undecided"),
        limits=of("limit"),
        limits_open=of("limit", "leak"),
        controls=of("control"),
        controls_working=of("control", "held"),
        hygiene=of("hygiene"),
        hygiene_held=of("hygiene", "held"),
        browser=of("browser"),
        browser_leaks=of("browser", "leak"),
    )


@dataclass(frozen=True)
class Statement:
    """The two statements. `kind`: leak, separated, undecided, or "" without a proof; `expect`: what the parameters expect.

    `outdated`: what came after the proof, in words, so that it says nothing of the system as it is now; "" otherwise. Nothing is expected then.
    """

    kind: str
    ways: int
    expect: str
    expected: bool
    outdated: str = ""

    @property
    def system(self) -> str:
        """What the system does, with its sign."""
        return SYSTEM[self.kind] + (f" ({counted(self.ways, 'way')})" if self.ways else "") + (", when it was proven" if self.outdated else "")

    @property
    def answer(self) -> str:
        """Whether that is what the parameters expect."""
        if not self.kind:
            return "○ not known"
        if self.outdated:
            return f"○ not known: {self.outdated}"
        wanted = {"leak": "a leak", "separated": "separated"}.get(self.expect, self.expect)
        return f"{'✔ yes' if self.expected else '✘ NO'} (expected: {wanted})"

    @property
    def lines(self) -> tuple[str, str]:
        return f"System: {self.system}", f"As expected: {self.answer}"

    def as_dict(self) -> dict[str, Any]:
        """Return the statements as `result.json` has them."""
        return {**asdict(self), "system": self.system, "as_expected": self.answer}

    def __str__(self) -> str:
        return "\n".join(self.lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        known = self.kind and not self.outdated
        classes = (self.kind or "undecided", "yes" if self.expected else "no" if known else "undecided")
        return "".join(
            f'<p class="rb-statement {name}" role="status"><strong>{html.escape(words)}</strong></p>' for name, words in zip(classes, self.lines, strict=True)
        )


CLASSES = ("session", "side door", "path trick", "replay", "direct connection", "configuration")
USERS = {
    "no one": "no one",
    "store-only": "Store user",
    "publisher-only": "Publisher user",
    "newcomer": "Publisher user",
    "neither": "neither role",
    "admin": "administrator",
}
ANYBODY = "generated (all users)"  # the generated attempts choose the user per request


@dataclass(frozen=True)
class Cell:
    """How many attempts of one class and user leaked, were held, or stayed undecided."""

    leak: int = 0
    held: int = 0
    undecided: int = 0

    @property
    def css(self) -> str:
        return "leak" if self.leak else "undecided" if self.undecided else "held" if self.held else "none"

    def __str__(self) -> str:
        parts = (("✘ {} leaked", self.leak), ("✔ {} held", self.held), ("? {} undecided", self.undecided))
        return "\n".join(words.format(number) for words, number in parts if number) or "– not tried"  # noqa: RUF001


def matrix(attempts: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Return the users, and one row per class of attempts with a cell per user and one for all; the last row is of all classes.

    `attempts`: lines of the journal with `kind`, `class`, `who` and `state`; those of kind `attempt` alone count, as for the verdict.
    """
    counted_ones = [one for one in attempts if one.get("kind") == "attempt" and one.get("class")]
    users = list(dict.fromkeys([*USERS.values(), ANYBODY]))
    states: dict[tuple[str, str], list[str]] = {}
    for one in counted_ones:
        for name in (one["class"], "all"):
            for user in (USERS.get(one["who"], ANYBODY), "all"):
                states.setdefault((name, user), []).append(one["state"])
    users = [user for user in users if ("all", user) in states]

    def row(name: str) -> list[Cell]:
        return [Cell(*(states.get((name, user), []).count(state) for state in ("leak", "held", "undecided"))) for user in [*users, "all"]]

    return [*users, "all"], [(name, row(name)) for name in (*CLASSES, "all") if (name, "all") in states]


def severities(attempts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many ways there are of each severity, the most severe first."""
    found = [one.get("severity", "") for one in attempts if one.get("kind") == "attempt" and one.get("state") == "leak"]
    return {name: found.count(name) for name in ("critical", "high", "medium", "low") if name in found}
