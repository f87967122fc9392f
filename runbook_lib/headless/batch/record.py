"""What a batch leaves: a folder with one line per event, and the result, the page and the JUnit file that are made of them.

`batch.jsonl` is only appended to, so that whatever is killed, the rows that were done are known, and `--resume` leaves them out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from runbook_lib.evidence.runs import runs_folder
from runbook_lib.files import write_whole
from runbook_lib.headless.batch.job import SKIPPED, JobResult
from runbook_lib.headless.batch.sweep import Sweep
from runbook_lib.redaction import redactor

SCHEMA = 1
FOLDER = "_batches"  # beside the deployments' folders; no deployment can have this name
STAMP = "%Y%m%dT%H%M%SZ"


class BatchRecord:
    """The folder of one batch, `runs/_batches/<sweep>/<UTC>/`. Its lines are redacted."""

    def __init__(self, sweep: Sweep, verb: str):
        self.sweep, self.verb, self.began = sweep, verb, time.monotonic()
        self.started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        parent = runs_folder() / FOLDER / sweep.name
        stamp = datetime.now(UTC).strftime(STAMP)
        self.folder = next(path for number in range(1000) if not (path := parent / (stamp if not number else f"{stamp}.{number}")).exists())
        self.folder.mkdir(parents=True)
        self._write({"event": "begin", "sweep": sweep.name, "verb": verb, "rows": [row.name for row in sweep.rows]})

    def began_row(self, name: str, chapter: str = "") -> None:
        """Note that a row, or a chapter of it, has begun."""
        self._write({"event": "chapter" if chapter else "row", "name": name, **({"chapter": chapter} if chapter else {})})

    def ended_row(self, outcome: JobResult) -> None:
        """Note how a row ended."""
        self._write({"event": "outcome", **outcome.as_dict()})

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = redactor.redact(json.dumps({"utc": datetime.now(UTC).isoformat(timespec="seconds"), **entry}, ensure_ascii=False, default=str))
        with open(self.folder / "batch.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def close(self, outcomes: Mapping[str, JobResult]) -> dict[str, Any]:
        """Write `batch.json` and `junit.xml`, and return the content of the former."""
        found = result(self, outcomes)
        write_whole(self.folder / "batch.json", redactor.redact(json.dumps(found, indent=1, ensure_ascii=False, default=str)))
        write_whole(self.folder / "junit.xml", redactor.redact(junit(found)))
        latest = self.folder.parent / "latest"
        beside = latest.with_name(f".latest.{os.getpid()}")
        beside.symlink_to(self.folder.name)
        os.replace(beside, latest)
        return found


def result(record: BatchRecord, outcomes: Mapping[str, JobResult]) -> dict[str, Any]:
    """Return a batch as one document: what it was, how many rows ended in which way, and each row in the sweep's order."""
    rows = []
    for row in record.sweep.rows:
        ended = outcomes.get(row.name, JobResult(row.name, SKIPPED))
        rows.append({**ended.as_dict(), "params": row.params, "cells": dict(row.cells), "sets": row.sets, "pattern": row.values.get("pattern"), "ok": ended.ok})
    states = [row["state"] for row in rows]
    return {
        "schema": SCHEMA,
        "sweep": record.sweep.name,
        "keys": list(record.sweep.keys),
        "verb": record.verb,
        "started": record.started,
        "seconds": round(time.monotonic() - record.began, 1),
        "ok": all(row["ok"] for row in rows),
        "verified": sum(row["ok"] for row in rows),
        "states": {state: states.count(state) for state in dict.fromkeys(states)},
        "rows": rows,
    }


def done_before(sweep: Sweep, verb: str) -> dict[str, JobResult]:
    """Return the rows that this sweep's newest batch of the same verb, and those that it went on from, ended well: what `--resume` leaves out.

    A row whose parameters are others now is not left out: its name or its network tells, or the chapters' own `--resume` does.
    """
    names = {row.name for row in sweep.rows}
    for folder in sorted((runs_folder() / FOLDER / sweep.name).glob("2*T*Z*"), reverse=True):
        entries = _lines(folder / "batch.jsonl")
        if entries and entries[0].get("verb") == verb:
            known = {field.name for field in fields(JobResult)}
            ended = [JobResult(**{key: value for key, value in entry.items() if key in known}) for entry in entries if entry.get("event") == "outcome"]
            return {outcome.name: outcome for outcome in ended if outcome.ok and outcome.name in names}
    return {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of JSON lines. A last one that was cut by a crash is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def earlier(sweep: str, most: int = 20) -> list[dict[str, Any]]:
    """Return the documents of this sweep's batches on this machine, the newest last."""
    folders = sorted((runs_folder() / FOLDER / sweep).glob("2*T*Z*"))
    return [json.loads(file.read_text(encoding="utf-8")) for folder in folders[-most:] if (file := folder / "batch.json").is_file()]


def junit(found: Mapping[str, Any]) -> str:
    """Return a batch as JUnit XML, which systems for continuous integration read: a case per row, failed or skipped with the reason."""
    rows = found["rows"]
    failed, skipped = [row for row in rows if not row["ok"] and row["state"] != SKIPPED], [row for row in rows if row["state"] == SKIPPED]
    suite = ElementTree.Element("testsuite", name=found["sweep"], tests=str(len(rows)), failures=str(len(failed)), skipped=str(len(skipped)),
                                time=str(found["seconds"]), timestamp=found["started"])  # fmt: skip
    for row in rows:
        case = ElementTree.SubElement(suite, "testcase", classname=found["sweep"], name=row["name"], time=str(row["seconds"]))
        if row in skipped:
            ElementTree.SubElement(case, "skipped", message=row["words"])
        elif not row["ok"]:
            error = row["error"] or {}
            text = "\n".join(f"{name}: {error[name]}" for name in ("what", "where", "next") if error.get(name))
            ElementTree.SubElement(case, "failure", message=row["words"], type=error.get("kind") or row["state"]).text = text
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
