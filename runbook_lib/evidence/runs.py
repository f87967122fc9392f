"""Reading runs back: their lines, the result computed from these, and the newest state of each chapter."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from runbook_lib.evidence import provenance
from runbook_lib.evidence.statement import Statement, tally
from runbook_lib.files import ROOT

SCHEMA = 1
FIRST_BOOT, PICTURE = "first boot", "picture"
QUIET = ("plan", "observed", PICTURE)  # the verbs that change and verify nothing
CHANGES = ("apply", "recreate", "restore")  # the verbs after which a chapter is to be verified
PROOFS = ("verify", "verdict", "failover", "disaster", "destroy")  # the verbs that verify a chapter; the first two alone chapter 07
PROVEN_APART = ("rotate", "restore", "disaster")  # the verbs whose changes have proofs of their own, or bring back what was there
Entry = dict[str, Any]
# Each report compares its run with all others, whose journals change no more: by path their size and time, and their lines.
_parsed: dict[Path, tuple[tuple[int, int] | None, tuple[Entry, ...]]] = {}
UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)  # what reading a run may raise that a newer version wrote, or that is damaged
MOST_PARSED = 100  # more than a deployment's runs that are looked at (continuity.MOST)


def runs_folder() -> Path:
    """Return the folder of all runs: $RUNBOOK_RUNS, or `runs/` of the repository."""
    return Path(os.environ.get("RUNBOOK_RUNS") or ROOT / "runs")


def read(folder: Path) -> list[Entry]:
    """Return the lines of a run's journal, not to be changed; empty without a journal. Incomplete lines, as a power failure leaves them, are left out."""
    journal = folder / "journal.jsonl"
    try:
        now = journal.stat()
    except FileNotFoundError:
        return []
    state = (now.st_size, now.st_mtime_ns)
    kept, entries = _parsed.get(journal, (None, ()))
    if kept != state:
        entries = tuple(entry for entry in lines(journal) if isinstance(entry.get("verb"), str))
        if chapters_seen(entries):  # the others are small, and as many as the backups
            _parsed[journal] = state, entries
        for oldest in list(_parsed)[:-MOST_PARSED]:
            _parsed.pop(oldest, None)
    return list(entries)


def understood(folder: Path) -> bool:
    """Return whether this version can read a run of the deployment: a newer version's lines, and damaged ones, may lack a field or have it in another form."""
    journal = folder / "journal.jsonl"
    return not journal.exists() or _understood(folder, journal.stat().st_size, journal.stat().st_mtime_ns)


@lru_cache(MOST_PARSED)
def _understood(folder: Path, *_state: int) -> bool:
    try:
        entries = read(folder)
        summarise(entries)
        return all(_time(entry) and (entry["verb"] == "begin" or isinstance(entry["ok"], bool)) for entry in entries)
    except UNREADABLE:
        return False


def lines(path: Path) -> list[Entry]:
    """Return the objects of a file of JSON lines, none when there is no such file. What is no object, such as a last line that was cut, is left out."""
    found = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    for line in text.split("\n"):  # not splitlines(), which also ends a line at U+0085, U+2028 and U+2029: JSON writes them as they are
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [entry for entry in found if isinstance(entry, dict)]


def latest(deployment: str, runs: Path | None = None) -> Path | None:
    """Return the folder of a deployment's newest run that has a report or is under way in the runner, or None."""
    link = (runs or runs_folder()) / deployment / "latest"
    return link.resolve() if link.exists() else None


def history(deployment: str, runs: Path | None = None) -> dict[str, Entry]:
    """Return, by chapter, the newest line of any run on this machine that decides its state: a verification, a proof or a failed apply."""
    newest: dict[str, Entry] = {}
    for folder in sorted(((runs or runs_folder()) / deployment).glob("2*T*Z*")):
        for entry in read(folder):
            decides = entry["verb"] in ("verify", "prove", "verdict") or (entry["verb"] == "apply" and not entry["ok"])
            if decides and entry.get("chapter"):
                newest[entry["chapter"]] = {**entry, "run": folder.name}
    return newest


def summarise(entries: list[Entry]) -> dict[str, Any]:
    """Return the content of `result.json` for a journal's lines: schema 1 of the command-line contract."""
    head = next((entry for entry in entries if entry["verb"] == "begin"), {})
    work, changed = _work_of(entries), applied(entries)
    found = statement_of(entries)
    stood = statement_of([entry for entry in entries if entry["verb"] != "destroy"])  # who proved and then tore down did all that was asked
    proof = next((entry["chapter"] for entry in reversed(entries) if entry["verb"] == "verdict"), "") if stood.outdated else ""
    chapters = [_chapter(name, entries, name in changed or name == proof) for name in chapters_seen(entries)]
    ended = max((place for place, entry in enumerate(entries, 1) if entry["verb"] == "chapter" or entry is work), default=0)
    on_the_way = changed - {entry.get("chapter") for entry in entries[ended:]}  # by what was asked for, which is another chapter or the run's own work
    verdict = next((entry for entry in reversed(entries) if entry["verb"] == "verdict"), None)
    fields = ("id", "title", "status", "expected", "observed", "where", "chapter", "kind", "state")
    checks = checks_of(entries)
    decided = stood.expected if head.get("expect") and any(c["name"].startswith("07") for c in chapters) else True
    origin = provenance.of_run(entries)
    return {
        "environment": origin["environment"],
        "schema": SCHEMA,
        "provenance": origin,
        **{name: head.get(name) for name in ("deployment", "pattern", "hardening", "expect")},
        "verdict": verdict["change"] if verdict else None,
        "statement": found.as_dict() if head.get("expect") else None,
        "recovery": next((entry["figures"] for entry in reversed(entries) if entry["verb"] == "recovery"), None),
        "counts": asdict(tally(checks.values())) if verdict else None,
        "started": entries[0]["utc"] if entries else None,
        "finished": entries[-1]["utc"] if entries else None,
        "ok": (work["ok"] if work else bool(chapters)) and all(chapter["ok"] or chapter["name"] in on_the_way for chapter in chapters) and decided,
        "chapters": chapters,
        "checks": [{name: check.get(name, "") for name in fields} for check in checks.values()],
    }


def result_of(folder: Path) -> dict[str, Any]:
    """Return a run's result: computed from its journal, or its `result.json` where that was kept without one (docs/example); {} without both."""
    if entries := read(folder):
        return summarise(entries)
    path = folder / "result.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def statement_of(entries: list[Entry], later: Sequence[Entry] = ()) -> Statement:
    """Return what the newest proof of a journal found. A walk in the browser that got through where no attempt did leaves it undecided.

    What was changed or tried after it makes it outdated, in its run or in the deployment's runs after that, whose lines are `later`.
    """
    at = max((place for place, entry in enumerate(entries) if entry["verb"] == "verdict"), default=None)
    expect = next((entry.get("expect") or "" for entry in entries if entry["verb"] == "begin"), "")
    if at is None:
        return Statement("", 0, expect, False)
    verdict = entries[at]
    count = tally(checks_of(entries).values())
    kind = verdict.get("kind", "")
    if kind == "separated" and count.browser_leaks:
        kind = "undecided"
    outdated = _outdated(verdict, [*entries[at + 1 :], *later])
    return Statement(kind, count.ways, expect, verdict["ok"] and kind != "undecided" and not outdated, outdated)


def _outdated(verdict: Entry, later: list[Entry]) -> str:
    """Return what came after a proof that makes it say nothing of the system now; "" when nothing did.

    That is a teardown, another proof that came to no verdict, or a change of a chapter before the proof's. A rotation, a restore and a disaster drill that
    ended well have proven what they changed: the line of each, written at its end, says for how long it worked.
    """
    if gone := next((entry for entry in reversed(later) if entry["verb"] == "destroy"), None):
        return f"proven before the teardown at {gone['utc']}"
    again = next((entry for entry in reversed(later) if entry["verb"] in ("prove", "verdict")), None)  # that of another design came to one
    if again and again["verb"] == "prove":
        return f"proven at {verdict['utc']}, and another proof came to no verdict at {again['utc']}; prove again"
    apart = [(_time(entry) - timedelta(seconds=entry.get("seconds", 0)), _time(entry)) for entry in later if entry["verb"] in PROVEN_APART and entry["ok"]]
    for entry in reversed(later):
        before = "" < entry.get("chapter", "") < verdict["chapter"]
        if entry["verb"] == "change" and before and not any(began <= _time(entry) <= ended for began, ended in apart):
            return f"proven before the change of {entry['chapter'][:2]} at {entry['utc']}; prove again"
    return ""


def _time(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry["utc"].replace("Z", "+00:00"))


def checks_of(entries: list[Entry]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of the checks by id and place, with all fields; the last row of a check that was made several times.

    Of several proofs in one journal only the newest one's rows are returned: an earlier one may have had attempts that this one has not.
    """
    proved = max((place for place, entry in enumerate(entries) if entry["verb"] == "prove" and entry["ok"]), default=0)
    rows = (entry["check"] for place, entry in enumerate(entries) if entry["verb"] == "check" and (place >= proved or not _of_proof(entry["check"])))
    return {(row["id"], row.get("where", "")): row for row in rows}


def _of_proof(row: dict[str, Any]) -> bool:
    return row.get("kind", "") not in ("", "browser")


def chapters_seen(entries: Sequence[Entry]) -> list[str]:
    """Return the chapters that a run worked on. Backups and rotations that ended well tell nothing of their chapters.

    What a rotation changed it has proven with rows of its own; of the chapters it tells what it verified.
    """
    newest = {entry["verb"]: entry.get("ok") for entry in entries}
    silent = {*QUIET, *(verb for verb in ("backup", "rotate") if newest.get(verb))}
    if newest.get("rotate"):
        silent |= {"change", "check"} | ({"apply"} if _work_of(entries) else set())
    return sorted({entry["chapter"] for entry in entries if entry["verb"] not in silent and entry.get("chapter")})


def _work_of(entries: Sequence[Entry]) -> Entry | None:
    """Return how a run ended that is a rotation or a restore and no work on chapters; None for another run, and for one that was killed."""
    if not any(entry["verb"] in ("rotate-run", "restore-run") for entry in entries):
        return None
    return next((entry for entry in reversed(entries) if entry["verb"] in ("rotate", "restore", "recreate") and not entry.get("key")), None)


def applied(entries: list[Entry]) -> set[str]:
    """Return the chapters that were changed, and not verified since."""
    newest = {entry["chapter"]: entry for entry in entries if entry["verb"] in (*CHANGES, "verify", "chapter")}
    return {name for name, entry in newest.items() if entry["ok"] and entry["verb"] in CHANGES}


def _chapter(name: str, entries: list[Entry], unverified: bool) -> dict[str, Any]:
    """Return a chapter's entry of `result.json`. `ok` is what the runner wrote; without a runner, whether it was proven and the newest attempt of each verb
    succeeded.

    `unverified`: it was changed after its last verification, or without one.
    """
    mine = [entry for entry in entries if entry.get("chapter") == name]
    decisive = (*CHANGES, *PROOFS, "prove", "works", "browser", "walk_pages", "rotate")
    newest = {entry["verb"]: entry for entry in mine if entry["verb"] in decisive}
    whole = [entry for entry in mine if entry["verb"] == "chapter"]
    ok = whole[-1]["ok"] if whole else not newest.keys().isdisjoint(_proofs(name)) and all(entry["ok"] for entry in newest.values()) and not unverified
    spent = whole[-1]["seconds"] if whole else sum(e["seconds"] for e in mine if e["verb"] not in ("check", "change", "verdict"))
    return {
        "name": name,
        "ok": ok,
        "seconds": round(spent, 1),
        "changed": sum(entry["verb"] == "change" for entry in mine),
    }


def tells(name: str, entries: Sequence[Entry]) -> bool:
    """Return whether a run says how a chapter stands: it was executed, changed or proven, or something failed. A walk in a browser alone does not."""
    mine = [entry for entry in entries if entry.get("chapter") == name and entry["verb"] not in (*QUIET, "check")]
    return any(entry["verb"] in ("chapter", "change", *CHANGES, *_proofs(name)) or not entry["ok"] for entry in mine)


def _proofs(name: str) -> tuple[str, ...]:
    return PROOFS[:2] if name.startswith("07") else PROOFS


def proven(folder: Path) -> set[str]:
    """Return the names of the chapters that a run completed successfully."""
    return {chapter["name"] for chapter in summarise(read(folder))["chapters"] if chapter["ok"]}


@dataclass(frozen=True)
class LatestAttempt:
    """How the last attempt at a chapter ended, and in which run; for the status board."""

    chapter: str
    ok: bool
    utc: str
    run: str
    words: str = ""


def attempts(deployment: str, runs: Path | None = None) -> dict[str, LatestAttempt]:
    """Return the newest known state of each chapter, by name."""
    return {
        name: LatestAttempt(name, entry["ok"], entry["utc"], entry["run"], entry.get("error", "") or entry.get("change", ""))
        for name, entry in history(deployment, runs).items()
    }
