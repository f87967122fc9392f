"""Comparison of two runs: one whose proof found a leak and one that found the applications separated, each with its screenshots."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runbook_lib.evidence import continuity
from runbook_lib.evidence import runs as runs_
from runbook_lib.evidence.statement import Statement, Tally, tally
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.tables import text_table

KINDS = ("leak", "separated")  # the columns, in this order; an undecided proof is in neither
MISSING = (
    "There is nothing to set beside this run yet: run a leaking pattern (params/greg-original.lab.yaml or greg-single) "
    "and the separated one (params/greg-separated.lab.yaml), each with its chapter 07."
)


@dataclass(frozen=True)
class Picture:
    """A screenshot of a run: `title` says what was done, `caption` what was seen, `path` is the PNG file. `id` is the same in every run."""

    id: str
    title: str
    caption: str
    path: Path

    @property
    def data(self) -> str:
        """Return the picture as a `data:` URL, so that a page can embed it."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


@dataclass(frozen=True)
class RunProof:
    """The result of one run's proof, with its screenshots.

    `statement`: what the system does, and whether the parameters expect that; `rows`: the rows of the proof by id and place, with the
    fields of `check.Check`; those of the browser among them.
    """

    folder: Path
    deployment: str
    pattern: str
    hardening: str
    statement: Statement
    rows: Mapping[tuple[str, str], Mapping[str, Any]]
    pictures: tuple[Picture, ...]

    @property
    def kind(self) -> str:
        """Return leak, separated or undecided."""
        return self.statement.kind

    @property
    def tally(self) -> Tally:
        return tally(self.rows.values())

    def of_kind(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Return the rows of one kind (attempt, limit, …) by id."""
        return {id: row for (id, _), row in self.rows.items() if row["kind"] == kind}

    @property
    def name(self) -> str:
        """Return the deployment's name, followed by its hardening when greg-separated is not fully hardened."""
        partly = self.pattern == "greg-separated" and self.hardening != "full"
        return f"{self.deployment}, hardening {self.hardening}" if partly else self.deployment


def pictures_of(folder: Path, entries: Iterable[runs_.Entry]) -> tuple[Picture, ...]:
    """Return the screenshots that a run's journal names and whose files still exist."""
    return tuple(
        Picture(entry["key"], entry.get("title", ""), entry["change"], folder / entry["file"])
        for entry in entries
        if entry["verb"] == "screenshot" and (folder / entry.get("file", "")).is_file()
    )


def finding(folder: Path) -> RunProof | None:
    """Return the result of a run's proof, or None when the run made no proof."""
    result = runs_.result_of(folder)
    found = result.get("statement") or {}
    if not found.get("kind"):
        return None
    statement = Statement(found["kind"], found["ways"], found["expect"], found["expected"], found.get("outdated", ""))
    rows = {(row["id"], row["where"]): row for row in result["checks"] if row.get("kind")}
    deployment, pattern, hardening = (str(result.get(name)) for name in ("deployment", "pattern", "hardening"))
    return RunProof(folder, deployment, pattern, hardening, statement, rows, pictures_of(folder, runs_.read(folder)))


def counterpart(mine: RunProof, runs: Path | None = None, pictured: bool = True) -> RunProof | None:
    """Return the newest result of another deployment that is of the other kind, and `pictured`: has screenshots; None when there is none."""
    of_other_kind = [other for other in findings(runs) if other.kind != mine.kind and other.deployment != mine.deployment]
    others = [other for other in of_other_kind if other.pictures or not pictured]
    return max(others, key=lambda other: other.folder.name, default=None)


def findings(runs: Path | None = None) -> Iterable[RunProof]:
    """Yield, for each deployment, the result of the newest run that found a leak or a separation. A run that this version cannot read is left out."""
    for deployment in sorted((runs or runs_.runs_folder()).glob("*/")):
        newest_first = sorted(deployment.glob("2*T*Z*"), reverse=True)
        decided = (found for run in newest_first if (found := _readable(run)) and found.kind in KINDS)
        if found := next(decided, None):
            yield found


def _readable(run: Path) -> RunProof | None:
    try:
        return finding(run)
    except runs_.UNREADABLE:
        return None


@dataclass(frozen=True)
class SideBySide:
    """Two results in two columns, the leak first: the verdict, then the screenshot of each step."""

    found: tuple[RunProof, ...]

    def __str__(self) -> str:
        if not self.found:
            return MISSING
        heads = [f"{one.name}: {one.statement.system}" for one in self.found]
        rows = [(title, *(picture.caption if picture else "no picture" for picture in row)) for title, row in self._rows()]
        return text_table(("", *heads), rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.found:
            return f"<p>{html.escape(MISSING)}</p>"
        head = "".join(f'<th scope="col">{html.escape(one.name)}{one.statement._repr_html_()}</th>' for one in self.found)
        rows = "".join(f"<tr>{''.join(_cell(title, picture) for picture in row)}</tr>" for title, row in self._rows())
        return f'<table class="rb-table rb-beside"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'

    def _rows(self) -> list[tuple[str, list[Picture | None]]]:
        """Return (title, one picture per run or None) for each step, in the order in which the pictures were taken."""
        titles = {picture.id: picture.title for one in self.found for picture in one.pictures}
        return [(title, [next((p for p in one.pictures if p.id == id), None) for one in self.found]) for id, title in titles.items()]


def side_by_side(folder: Path, runs: Path | None = None) -> SideBySide:
    """Return a run's result and its counterpart, the leak first. Without both, the table is empty and its text says which runs are missing."""
    mine = finding(folder)
    other = counterpart(mine, runs) if mine and mine.kind in KINDS else None
    return SideBySide(tuple(sorted((mine, other), key=lambda one: KINDS.index(one.kind))) if mine and other else ())


def _cell(title: str, picture: Picture | None) -> str:
    if picture is None:
        return "<td>no picture</td>"
    words = html.escape(f"{title}: {picture.caption}" if picture.caption else title)
    return f'<td><figure><img src="{picture.data}" alt="{words}" style="max-width:100%"><figcaption>{words}</figcaption></figure></td>'


def sides_of(runs: Sequence[Path]) -> list[RunProof]:
    """Return the newest proof of each run, its own or an earlier one's, as it stands at that run: leaks first, within a kind the simplest pattern first."""
    proofs = [(run, continuity.proven(run)) for run in runs]
    sides = [(finding(run.parent / proof[1]) if proof else finding(run), proof) for run, proof in proofs]
    found = [replace(side, statement=proof[0]) if proof else side for side, proof in sides if side and side.pattern in PATTERNS]
    order = list(PATTERNS)
    return sorted(found, key=lambda side: (side.kind == "separated", order.index(side.pattern), side.hardening != "full"))


def proof_facts(sides: Sequence[RunProof]) -> dict[str, Any]:
    """Return the variables of the proof's page: the first result of each kind (`shown`), then every result's verdict (`sides`).

    `rows`: one row per result shown, of the attempts that ended differently (with a single result: of all attempts). `alike`: how many
    attempts that both made ended alike; `alone`: titles of the ways that have no meaning in the other deployment; `limits`: the limits of
    the product that are open: the title, and a cell per result shown.
    """
    shown = [side for kind in KINDS for side in [one for one in sides if one.kind == kind][:1]]
    attempts = [side.of_kind("attempt") for side in shown]
    ids = [id for id in (attempts[0] if attempts else ()) if all(id in each for each in attempts)]
    rows = [[each[id] for each in attempts] for id in ids]
    differ = [row for row in rows if len({one["state"] for one in row}) == len(shown)]
    limits = [side.of_kind("limit") for side in shown]
    return {
        "sides": sides,
        "shown": shown,
        "lacking": [kind for kind in KINDS if all(side.kind != kind for side in shown)],
        "titles": {picture.id: picture.title for side in shown for picture in side.pictures},
        "rows": differ,
        "alike": len(rows) - len(differ),
        "alone": [row["title"] for each in attempts for id, row in each.items() if row["state"] == "leak" and id not in ids],
        "limits": [(row["title"], [each.get(id) for each in limits]) for each in limits[:1] for id, row in each.items()],
    }
