"""A sequence diagram as SVG: lanes beside each other, and arrows between them from top to bottom in the order in which things happened."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from runbook_lib.charts import FAILED, INK, PAPER

TEMPLATE = files(__package__) / "sequence.svg.j2"
LANE, NARROW, MARGIN, HEAD, LEADING, CHARACTER, GAP = 84, 504, 42, 76, 14, 6.6, 14  # user units; CHARACTER: the mean width of one at the size of the labels
BOLD = 7.4  # the same of bold letters
GOOD, NUMBERS = "#00664b", "#475569"  # Okabe and Ito's green, dark enough to be read on its own tint
MARKS = {"leak": "✘", "held": "✔"}


@dataclass(frozen=True)
class Lane:
    """One who takes part. `below`: a second line under the title."""

    id: str
    title: str
    below: str = ""

    @property
    def name(self) -> str:
        return f"{self.title} ({self.below})" if self.below else self.title

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The lines of its head, each with its class."""
        first, dot, rest = self.below.partition(".")  # a host name is wider than a lane
        return [(line, "b") for line in textwrap.wrap(self.title, 12)] + [(line, "q") for line in (first + dot, rest) if line]


@dataclass(frozen=True)
class Step:
    """One arrow from lane `source` to lane `target`; from a lane to itself: a note on what happens there.

    `number` and `time` stand at its left. `past`: lanes that it passes through. `answer`: drawn as an answer. `mark`: leak or held for the decisive
    step, whose meaning is `verdict`; `strong`: its label in bold. `key`: what makes it the same step as one of another diagram.
    """

    source: str
    target: str
    text: str
    number: str = ""
    time: str = ""
    past: Sequence[str] = ()
    answer: bool = False
    mark: str = ""
    verdict: str = ""
    key: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Part:
    """A line across all lanes with a title: what follows belongs together."""

    text: str


@dataclass(frozen=True)
class Gap:
    """Nothing here: another diagram has a row at this height."""


Row = Step | Part | Gap


@dataclass(frozen=True)
class Diagram:
    """A whole diagram."""

    title: str
    lanes: Sequence[Lane]
    rows: Sequence[Row]

    @property
    def steps(self) -> tuple[str, ...]:
        """The rows as sentences, in their order."""
        return tuple(filter(None, map(self._told, self.rows)))

    def _told(self, row: Row) -> str:
        if isinstance(row, Gap):
            return ""
        if isinstance(row, Part):
            return f"{row.text}:"
        names = {lane.id: lane.name for lane in self.lanes}
        way = names[row.source] if row.source == row.target else f"{names[row.source]} to {names[row.target]}"
        decisive = f" {MARKS[row.mark]} {row.verdict}." if row.mark else ""
        return f"{row.number}{' ' if row.number else ''}{way}: {row.text}.{decisive}"

    def draw(self, heights: Sequence[float] | None = None) -> str:
        """Return the SVG. `heights`: those of the rows, where another diagram stands beside it (`heights_of`)."""
        from jinja2 import Environment

        across, width = _room(self.lanes)
        half = min(_lane_width(self.lanes) / 2 - 4, 60)
        at, drawn = float(HEAD + 8), []
        for row, high in zip(self.rows, heights or heights_of((self,)), strict=True):
            if not isinstance(row, Gap):
                drawn.append(_placed(row, at, high, across, width))
            at += high
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            title=self.title, width=width, height=round(at + 8), lanes=self.lanes, across=across, rows=drawn, half=half, head=HEAD,
            paper=PAPER, ink=INK, quiet=NUMBERS, colours={"leak": FAILED, "held": GOOD},
        )  # fmt: skip


def heights_of(diagrams: Sequence[Diagram]) -> list[float]:
    """Return the heights of the rows of diagrams that stand beside each other: each is as high as the highest in its place."""
    return [max(_height(row, diagram) for row, diagram in zip(rows, diagrams, strict=True)) for rows in zip(*(one.rows for one in diagrams), strict=True)]


def _height(row: Row, diagram: Diagram) -> float:
    if isinstance(row, Gap):
        return 0.0
    return 26.0 if isinstance(row, Part) else GAP + LEADING * len(_lines(row, *_room(diagram.lanes)))


def _room(lanes: Sequence[Lane]) -> tuple[dict[str, float], float]:
    """Return where each lane stands, by its id, and the width of the picture."""
    wide = _lane_width(lanes)
    return {lane.id: MARGIN + wide * (number + 0.5) for number, lane in enumerate(lanes)}, MARGIN + wide * len(lanes) + 8


def _lane_width(lanes: Sequence[Lane]) -> float:
    """Return the width of one lane: few lanes are wider, so that labels have room and all pictures have letters of the same size."""
    return max(LANE, NARROW / len(lanes))


def _lines(step: Step, across: dict[str, float], width: float) -> list[tuple[str, str]]:
    """Return the lines of the step's label with their classes, broken where they would leave the picture. The verdict of a decisive step comes last."""
    room = width - 8 - _left(step, across)
    lines = [(line, "l b" if step.strong else "l") for line in textwrap.wrap(step.text, int(room / (BOLD if step.strong else CHARACTER)))]
    if step.mark:
        lines += [(line, f"b {step.mark}") for line in textwrap.wrap(f"{MARKS[step.mark]} {step.verdict}", int(room / BOLD))]
    return lines


def _left(step: Step, across: dict[str, float]) -> float:
    """Return where the label begins: at the left end of the arrow, whichever way that points."""
    return min(across[step.source], across[step.target]) + (12 if step.source == step.target else 7)


def _placed(row: Step | Part, top: float, high: float, across: dict[str, float], width: float) -> dict[str, object]:
    """Return a row with its places, for the template. `foot`: where its arrow is."""
    if isinstance(row, Part):
        return {"part": row.text, "top": top}
    lines, foot = _lines(row, across, width), top + high - 5
    labels = [(foot - 5 - LEADING * (len(lines) - number), text, css) for number, (text, css) in enumerate(lines, 1)]
    past = [across[name] for name in row.past]
    ends = {"x1": across[row.source], "x2": across[row.target], "left": _left(row, across)}
    return {"step": row, "top": top, "high": high, "foot": foot, "labels": labels, "past": past, **ends}
