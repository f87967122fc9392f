"""report.html: one page with everything that a run found. It loads no external resource and has no script."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from runbook_lib.charts import timings_chart
from runbook_lib.check import mark_of
from runbook_lib.evidence import continuity, manifest, provenance
from runbook_lib.evidence.comparison import pictures_of, side_by_side
from runbook_lib.evidence.exchanges import as_tables
from runbook_lib.evidence.journal import Journal, now, point_latest, redact
from runbook_lib.evidence.pictures import hardening
from runbook_lib.evidence.pictures.recorded import recorded
from runbook_lib.evidence.pictures.sign_on import sign_on
from runbook_lib.evidence.runs import Entry, applied, checks_of, latest, read, statement_of, summarise
from runbook_lib.evidence.statement import matrix, severities, tally
from runbook_lib.files import write_whole
from runbook_lib.webclient.response import Exchange

TEMPLATE = files(__package__) / "report.html.j2"
PROOF = "07_verify_sso_separation"


def finish(journal: Journal) -> dict[str, Any]:
    """Write result.json and report.html from the journal, close the run with its manifest, and return the result. Safe to call again.

    `latest` leads to the run then, unless a newer one has it.
    """
    found = journal.open().result() | continuity.covered(journal.folder)
    write_whole(journal.folder / "result.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_report(journal.folder)
    manifest.close(journal.folder, journal.signing_key(), now())
    newest = latest(journal.folder.parent.name, journal.folder.parent.parent)
    if newest is None or newest.name < journal.folder.name:
        point_latest(journal.folder)
    return found


def write_report(folder: Path) -> Path:
    """Write `report.html` from the files of a run's folder and return its path. Works for an interrupted run too."""
    path = folder / "report.html"
    write_whole(path, redact(render(folder)))
    return path


def render(folder: Path) -> str:
    """Return the page as HTML text."""
    from jinja2 import Environment

    entries = read(folder)
    result, overall = summarise(entries), continuity.covered(folder)
    found = statement_of(entries)
    attempts = {entry["key"]: {**entry, "requests": _exchanges(entry)} for entry in entries if entry["verb"] == "attempt"}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        run=folder.name,
        result=result,
        who=_first(entries, "run", "verify-only"),
        topology=svg_of(folder),
        checks=_by_chapter(result["checks"]),
        banner=provenance.banner(result["provenance"]),
        provenance=provenance.rows(result["provenance"]),
        statement=found if found.kind else None,
        earlier=None if found.kind else continuity.proven(folder),
        standing=overall["standing"],
        applied=applied(entries),
        proved_by=PROOF,
        covered=overall["covered"],
        tally=tally(checks_of(entries).values()),
        matrix=matrix(attempts.values()) if any(one.get("class") for one in attempts.values()) else None,
        severities=severities(attempts.values()),
        scope=_last(entries, "scope"),
        not_made=[check for check in result["checks"] if check["status"] in ("skipped", "undecided")],
        mark_of=lambda check: mark_of(check["status"], check["kind"], check["state"]),
        passed=sum(check["status"] == "pass" for check in result["checks"]),
        pictures=pictures_of(folder, entries),
        beside=_beside(folder),
        attempts=attempts,
        limits=[attempt for attempt in attempts.values() if attempt["kind"] == "limit" and attempt["state"] == "leak"],
        sign_on=sign_on(folder, folder.parent.parent),
        levels=hardening.of_run(entries),
        figures=recorded(entries),
        exchanges=as_tables((attempt["title"], attempt["requests"]) for attempt in attempts.values() if attempt["hole"]),
        tables=[entry for entry in entries if entry["verb"] == "table"],
        changes=[entry for entry in entries if entry["verb"] == "change"],
        failures=[entry for entry in entries if not entry.get("ok", True) and entry.get("error")],
        timings=timings_chart(_timings(entries)),
        notebooks=_notebooks(folder),
        sentence=_sentence(result),
    )


def _exchanges(entry: Entry) -> list[Exchange]:
    return [Exchange.of(fields) for fields in entry.get("requests", ())]


def _sentence(result: Mapping[str, Any]) -> str:
    """Return the result of the run as one phrase."""
    if result["verdict"] and not result["ok"]:
        return "not everything that was asked for is verified: what stopped, or came out otherwise, stands in red below"
    if not result["ok"]:
        return "not verified"
    whole = result["chapters"] and all(chapter["ok"] for chapter in result["chapters"])
    return "the chapters of this run are verified" if whole else "what was asked for is done; which chapters are verified stands below"


def _last(entries: Sequence[Entry], verb: str) -> Mapping[str, Any]:
    return next((entry for entry in reversed(entries) if entry["verb"] == verb), {})


def _first(entries: Sequence[Entry], *verbs: str) -> Mapping[str, Any]:
    return next((entry for entry in entries if entry["verb"] in verbs), {})


def _by_chapter(checks: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    chapters: dict[str, list[Mapping[str, Any]]] = {}
    for check in checks:
        chapters.setdefault(check["chapter"], []).append(check)
    return dict(sorted(chapters.items()))


def svg_of(run: Path) -> str:
    """Return the topology picture of a run as SVG to embed in HTML; "" when the run has none."""
    path = run / "topology.svg"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _beside(folder: Path) -> str:
    """Return the comparison with a run of the opposite result as HTML; "" when there is no such run."""
    both = side_by_side(folder, folder.parent.parent)
    return both._repr_html_() if both.found else ""


def _notebooks(folder: Path) -> list[tuple[str, str]]:
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(folder.glob("*.ipynb"))]


def _timings(entries: Sequence[Entry]) -> list[tuple[str, float, float, bool]]:
    """Return (what, start, duration, ok) of every timed attempt; start and duration in seconds, start counted from the run's first line."""
    verbs = ("plan", "apply", "verify", "prove", "browser", "walk_pages", "failover", "disaster", "backup", "restore", "destroy", "deploy")
    if not entries:
        return []
    zero = _seconds(entries[0]["utc"])
    timed = [entry for entry in entries if entry["verb"] in verbs]
    return [(f"{e['chapter']} {e['verb']}", max(_seconds(e["utc"]) - e["seconds"] - zero, 0), e["seconds"], e["ok"]) for e in timed]


def _seconds(utc: str) -> float:
    return datetime.fromisoformat(utc.replace("Z", "+00:00")).timestamp()
