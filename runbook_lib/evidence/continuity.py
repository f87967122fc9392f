"""A deployment's runs seen as one: the newest state of every chapter, whichever run it comes from, and a session by hand that goes on.

The runs of a deployment belong together from one teardown to the next, as long as pattern, hardening and expectation stay the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from runbook_lib.evidence.runs import Entry, applied, chapters_seen, read, statement_of, summarise, tells, understood
from runbook_lib.evidence.statement import Statement
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.tables import counted

SESSION = timedelta(hours=8)  # a session by hand goes on in its run for this long after its last line
NOT_BY_HAND = ("run", "verify-only", "destroy-run", "destroy")  # a run with one of these in it is no session, or is over
MOST = 60  # runs with chapters that are looked at, the newest


@dataclass(frozen=True)
class Standing:
    """The newest state of a chapter. `run`: the run that it comes from; `notebook`: the newest executed notebook as `run/name`, "" when there is none.

    `ok` is None for a chapter that was not run since the last teardown; `applied`: it was changed and not verified since; `outdated`: what came after
    its proof, in words, so that it is not verified any more.
    """

    chapter: str
    ok: bool | None = None
    utc: str = ""
    run: str = ""
    notebook: str = ""
    sha256: str = ""
    applied: bool = False
    outdated: str = ""


def lineage(folder: Path) -> list[Path]:
    """Return the runs that belong together with this one, oldest first and this one last. A run that tore down stands alone.

    An earlier run that this version cannot read is left out.
    """
    mine, found = _design(read(folder)), [folder]
    if _torn_down(read(folder)):
        return found
    earlier = [run for run in sorted(folder.parent.glob("2*T*Z*"), reverse=True) if run.name < folder.name and understood(run)]
    for run, entries in islice(((run, entries) for run in earlier if chapters_seen(entries := read(run))), MOST):
        if _torn_down(entries):
            break
        if _design(entries) == mine:
            found.insert(0, run)
    return found


def _torn_down(entries: list[Entry]) -> int:
    """Return how many lines of a run end with its teardown; 0 when it made none, or none that ended well."""
    return max((place for place, entry in enumerate(entries, 1) if entry["verb"] == "destroy" and entry["ok"]), default=0)


def _design(entries: list[Entry]) -> tuple[Any, ...]:
    begin = next((entry for entry in entries if entry["verb"] == "begin"), {})
    return tuple(begin.get(name) for name in ("pattern", "hardening", "expect"))


def standing(folder: Path) -> list[Standing]:
    """Return the newest state of every chapter of the run's pattern, in their order; empty for a pattern that is not known."""
    pattern = str(_design(read(folder))[0])
    found = {chapter.name: Standing(chapter.name) for chapter in chapters_of(pattern)} if pattern in PATTERNS else {}
    for run in lineage(folder):
        entries = read(run)
        entries = entries[_torn_down(entries) :]
        changed = applied(entries)
        for chapter in summarise(entries)["chapters"]:
            name = chapter["name"]
            if name not in found:
                continue
            left_out = any(entry.get("skipped") and entry.get("chapter") == name for entry in entries)
            if (left_out and found[name].ok) or (found[name].run and not tells(name, entries)):
                continue  # it holds, or does not, since the earlier run, which has the notebook
            utc = max(entry["utc"] for entry in entries if entry.get("chapter") == name)
            found[name] = replace(found[name], ok=chapter["ok"], utc=utc, run=run.name, applied=name in changed)
        for path in run.glob("*.ipynb"):
            if path.stem in found:
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                found[path.stem] = replace(found[path.stem], notebook=f"{run.name}/{path.name}", sha256=sha256)
    if (proof := proof_run(folder)) and (outdated := _statement(proof, folder).outdated):
        name = next(entry["chapter"] for entry in reversed(read(proof)) if entry["verb"] == "verdict")
        if name in found and found[name].run:
            found[name] = replace(found[name], ok=False, outdated=outdated)
    return list(found.values())


def notebooks(folder: Path) -> dict[str, Path]:
    """Return the newest executed notebook of every chapter by its name, this run's or an earlier one's."""
    return {path.stem: path for run in lineage(folder) for path in sorted(run.glob("*.ipynb"))}


def proof_run(folder: Path) -> Path | None:
    """Return the newest of the runs up to this one that made a proof, or None."""
    return next((run for run in reversed(lineage(folder)) if statement_of(read(run)).kind), None)


def proven(folder: Path) -> tuple[Statement, str] | None:
    """Return what the newest proof found and the name of its run, which may be an earlier one; None without a proof."""
    run = proof_run(folder)
    return (_statement(run, folder), run.name) if run else None


def _statement(proof: Path, folder: Path) -> Statement:
    """Return what a run proved, as the deployment's runs after it up to this one leave it, whatever their design: they worked on the same machines.

    What a run did that this version cannot read, nobody knows.
    """
    later = [run for run in sorted(folder.parent.glob("2*T*Z*")) if proof.name < run.name <= folder.name]
    if unknown := next((run.name for run in later if not understood(run)), ""):
        return replace(statement_of(read(proof)), expected=False, outdated=f"proven before run {unknown}, which this version cannot read; prove again")
    return statement_of(read(proof), [entry for run in later for entry in read(run)])


def covered(folder: Path) -> dict[str, Any]:
    """Return what `result.json` says about the chapters of all runs: `covered` in words, `complete`, and `standing`, a row per chapter."""
    rows = standing(folder)
    entries = read(folder)
    torn = _torn_down(entries)
    mine = {chapter["name"] for chapter in summarise(entries[torn:])["chapters"] if chapter["ok"]}
    here, there = sum(row.chapter in mine for row in rows), sum(bool(row.ok) for row in rows)
    words = f"{here} of {counted(len(rows), 'chapter')} verified in this run{' since its teardown' if torn else ''}" if rows else ""
    if rows and there != here:
        words += f"; with earlier runs {there} of {len(rows)}"
    return {"covered": words, "complete": bool(rows) and here == len(rows), "standing": [asdict(row) for row in rows]}


def session_run(parent: Path, head: Mapping[str, Any], now: datetime | None = None) -> Path | None:
    """Return the run of a session by hand that goes on, or None when a new one is to begin.

    It goes on in the deployment's newest run when that was made by hand, by the same person with the same parameters and code (`head`),
    within the last hours, and did not end in a teardown.
    """
    newest = max(parent.glob("2*T*Z*"), default=None, key=lambda run: run.name)
    entries = read(newest) if newest else []
    if not newest or not entries or any(entry["verb"] in NOT_BY_HAND for entry in entries):
        return None
    same = all(entries[0].get(name) == value for name, value in head.items())
    age = (now or datetime.now(UTC)) - datetime.fromisoformat(entries[-1]["utc"].replace("Z", "+00:00"))
    return newest if same and "session" in head and age < SESSION else None
