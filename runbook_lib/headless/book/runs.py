"""Which runs a book is made of, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.evidence import continuity, provenance
from runbook_lib.evidence import runs as runs_
from runbook_lib.spec.chapters import Chapter, chapters_of
from runbook_lib.spec.loader import sample
from runbook_lib.spec.patterns import PATTERNS, STORIES
from runbook_lib.topology import diagram
from runbook_lib.topology.model import topology_of

FOLDERS = ("docs", "course", "notebooks", "lab", "exercises")  # folders of the book that a deployment's name must not be


@dataclass(frozen=True)
class BookRun:
    """One run. `name`: its folder in the book; `result`: what `result.json` says; `notebooks`: the newest executed notebook of each chapter."""

    name: str
    folder: Path
    result: dict[str, Any]
    notebooks: dict[str, Path]

    @property
    def pattern(self) -> str:
        return str(self.result.get("pattern"))

    @property
    def story(self) -> str:
        return STORIES.get(self.pattern, "")

    @property
    def banner(self) -> str:
        """REHEARSAL or PRODUCTION, where, and as whom."""
        return provenance.banner(self.result.get("provenance") or {})

    @property
    def chapters(self) -> list[Chapter]:
        """The executed chapters of the pattern, in their order."""
        return [chapter for chapter in chapters_of(self.pattern) if chapter.name in self.notebooks] if self.pattern in PATTERNS else []

    @property
    def report(self) -> Path | None:
        path = self.folder / "report.html"
        return path if path.is_file() else None

    @property
    def statement(self) -> dict[str, Any]:
        """The statements of the newest proof, and under `run` the name of the run that it is of when that is an earlier one; {} without a proof."""
        mine = self.result.get("statement") or {}
        if mine.get("kind"):
            return mine
        earlier = continuity.proven(self.folder)
        return {**earlier[0].as_dict(), "run": earlier[1]} if earlier else {}

    @property
    def proof(self) -> Path:
        """The run that made the newest proof: this one, unless an earlier one did."""
        return continuity.proof_run(self.folder) or self.folder

    @property
    def picture(self) -> str:
        """The topology as SVG: as the run drew it, else the pattern as its smallest parameters make it; "" for a pattern that is not known."""
        drawn = self.folder / "topology.svg"
        if drawn.is_file():
            return drawn.read_text(encoding="utf-8")
        return diagram.draw(topology_of(sample(self.pattern))) if self.pattern in PATTERNS else ""


def chosen(folders: Sequence[Path]) -> list[BookRun]:
    """Return the runs in these folders; without folders, of each deployment the newest run that executed a chapter.

    Chapters that a run did not execute are taken from the deployment's earlier runs.
    Raises RunbookError for a folder that is no run, and when there is no executed chapter to show.
    """
    for folder in folders:
        if not folder.is_dir() or not runs_.result_of(folder):
            raise RunbookError(
                "this is no run: it has neither journal.jsonl nor result.json", str(folder), "name a run's folder: ./runbook site runs/greg-separated/latest"
            )
    found: list[BookRun] = []
    for folder in [each.resolve() for each in folders] or _newest():
        result = runs_.result_of(folder)
        result |= continuity.covered(folder) if runs_.read(folder) else {}
        name = str(result.get("deployment") or folder.name)
        name = f"{name}-{folder.name}" if name in (*FOLDERS, *(each.name for each in found)) else name
        found.append(BookRun(name, folder, result, continuity.notebooks(folder)))
    if not any(run.notebooks for run in found):
        raise RunbookError("there are no executed chapters to make a book of", str(runs_.runs_folder()),
                           "run a pattern first: ./runbook run params/greg-separated.lab.yaml")  # fmt: skip
    return found


def _newest() -> Iterable[Path]:
    """Yield, for each deployment, the newest of the runs with executed chapters."""
    for folder in sorted(runs_.runs_folder().glob("*/")):
        runs = [run for run in sorted(folder.glob("2*T*Z*")) if any(run.glob("*.ipynb"))]
        if runs:
            yield runs[-1]
