"""What a batch leaves: a folder with one line per event, and the result, the page and the JUnit file that are made of them.

`batch.jsonl` is only appended to, so that whatever is killed, the rows that were done are known, and `--resume` leaves them out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any
from xml.etree import ElementTree

from runbook_lib.evidence import journal, runs
from runbook_lib.files import write_whole
from runbook_lib.headless.batch.job import SKIPPED, JobResult
from runbook_lib.headless.batch.sweep import Sweep
from runbook_lib.redaction import redactor

SCHEMA = 1
FOLDER = "_batches"  # beside the deployments' folders; no deployment can have this name


class BatchRecord:
    """The folder of one batch, `runs/_batches/<sweep>/<UTC>/`. Its lines are redacted."""

    def __init__(self, sweep: Sweep, verb: str):
        self.sweep, self.verb, self.began = sweep, verb, time.monotonic()
        self.started = journal.now()
        self.folder = journal.unused(runs.runs_folder() / FOLDER / sweep.name)
        self.folder.mkdir(parents=True)
        self._write({"event": "begin", "sweep": sweep.name, "verb": verb, "rows": {row.name: row.digest for row in sweep.rows}})

    def began_row(self, name: str, chapter: str = "") -> None:
        """Note that a row, or a chapter of it, has begun."""
        self._write({"event": "chapter" if chapter else "row", "name": name, **({"chapter": chapter} if chapter else {})})

    def ended_row(self, outcome: JobResult) -> None:
        """Note how a row ended."""
        self._write({"event": "outcome", **outcome.as_dict()})

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = redactor.redact(json.dumps({"utc": journal.now(), **entry}, ensure_ascii=False, default=str))
        with open(self.folder / "batch.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def close(self, outcomes: Mapping[str, JobResult]) -> dict[str, Any]:
        """Write `batch.json` and `junit.xml`, and return the content of the former."""
        found = result(self, outcomes)
        write_whole(self.folder / "batch.json", redactor.redact(json.dumps(found, indent=1, ensure_ascii=False, default=str)))
        write_whole(self.folder / "junit.xml", redactor.redact(junit(found)))
        journal.point_latest(self.folder)
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

    A row whose parameters are others now is not among them.
    """
    now = {row.name: row.digest for row in sweep.rows}
    for folder in sorted((runs.runs_folder() / FOLDER / sweep.name).glob("2*T*Z*"), reverse=True):
        events = runs.lines(folder / "batch.jsonl")
        if events and events[0].get("verb") == verb:
            known = {field.name for field in fields(JobResult)}
            ended = [JobResult(**{key: value for key, value in event.items() if key in known}) for event in events if event.get("event") == "outcome"]
            return {one.name: one for one in ended if one.ok and one.name in now and events[0]["rows"].get(one.name) == now[one.name]}
    return {}


def earlier(sweep: str, most: int = 20) -> list[dict[str, Any]]:
    """Return the documents of this sweep's batches on this machine, the newest last."""
    folders = sorted((runs.runs_folder() / FOLDER / sweep).glob("2*T*Z*"))
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
