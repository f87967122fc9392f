"""A finding beside the opposite one: the leak and the repair, each with what a person saw, from the newest runs kept here."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import journal as journals
from .tables import text_table

SEPARATED = "separated"
MISSING = (
    "There is nothing to set beside this run yet: run a leaking pattern (params/greg-original.lab.yaml or greg-single) "
    "and the separated one (params/greg-separated.lab.yaml), each with its chapter 07."
)


@dataclass(frozen=True)
class Picture:
    """A screenshot of a run: what was done, what was seen, and the PNG file."""

    title: str
    caption: str
    path: Path

    @property
    def data(self) -> str:
        """As an address that a page can hold in itself."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


@dataclass(frozen=True)
class Finding:
    """What one run's proof came to, and what a person saw."""

    folder: Path
    deployment: str
    pattern: str
    hardening: str
    verdict: str
    pictures: tuple[Picture, ...]

    @property
    def separated(self) -> bool:
        return self.verdict == SEPARATED

    @property
    def name(self) -> str:
        """The deployment, with its hardening where that is not all of it."""
        partly = self.pattern == "greg-separated" and self.hardening != "full"
        return f"{self.deployment}, hardening {self.hardening}" if partly else self.deployment


def finding(folder: Path) -> Finding | None:
    """What a run found; None when it made no proof, or one that decided nothing."""
    entries = journals.read(folder)
    result = journals.summarise(entries)
    verdict = str(result["verdict"] or "")
    if verdict != SEPARATED and not verdict.startswith("leaks"):
        return None
    pictures = tuple(
        Picture(entry["key"], entry["change"], folder / entry["file"])
        for entry in entries
        if entry["verb"] == "screenshot" and (folder / entry["file"]).is_file()
    )
    return Finding(folder, result["deployment"], result["pattern"], result["hardening"], verdict, pictures)


def counterpart(folder: Path, runs: Path | None = None) -> Finding | None:
    """The newest finding of another deployment that came out the other way and has pictures; None when there is none."""
    mine = finding(folder)
    if mine is None:
        return None
    others = [other for other in findings(runs) if other.pictures and other.separated != mine.separated and other.deployment != mine.deployment]
    return max(others, key=lambda other: other.folder.name, default=None)


def findings(runs: Path | None = None) -> Iterable[Finding]:
    """Of each deployment the newest run that found something."""
    for deployment in sorted((runs or journals.runs_folder()).glob("*/")):
        newest_first = sorted(deployment.glob("2*T*Z*"), reverse=True)
        if found := next(filter(None, map(finding, newest_first)), None):
            yield found


@dataclass(frozen=True)
class SideBySide:
    """The leak in one column, the repair in the other: verdict, then what a person saw at each step."""

    found: tuple[Finding, ...]

    def __str__(self) -> str:
        if len(self.found) < 2:
            return MISSING
        heads = [f"{one.name}: {one.verdict}" for one in self.found]
        rows = [(title, *(picture.caption if picture else "no picture" for picture in row)) for title, row in self._rows()]
        return text_table(("", *heads), rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if len(self.found) < 2:
            return f"<p>{html.escape(MISSING)}</p>"
        head = "".join(f'<th scope="col">{html.escape(one.name)}: {"✔" if one.separated else "✘"} {html.escape(one.verdict)}</th>' for one in self.found)
        rows = "".join(f"<tr>{''.join(_cell(title, picture) for picture in row)}</tr>" for title, row in self._rows())
        return f'<table class="rb-table rb-beside"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'

    def _rows(self) -> list[tuple[str, list[Picture | None]]]:
        """A picture of each by title, in the order in which they were taken."""
        titles = dict.fromkeys(picture.title for one in self.found for picture in one.pictures)
        return [(title, [next((p for p in one.pictures if p.title == title), None) for one in self.found]) for title in titles]


def side_by_side(folder: Path, runs: Path | None = None) -> SideBySide:
    """A run's finding and its counterpart, the leak first; without either it says how to get there."""
    found = [one for one in (finding(folder), counterpart(folder, runs)) if one]
    return SideBySide(tuple(sorted(found, key=lambda one: one.separated)))


def _cell(title: str, picture: Picture | None) -> str:
    if picture is None:
        return "<td>no picture</td>"
    words = html.escape(f"{title}: {picture.caption}" if picture.caption else title)
    return f'<td><figure><img src="{picture.data}" alt="{words}" style="max-width:100%"><figcaption>{words}</figcaption></figure></td>'
