"""What a batch leaves: a folder with one line per event, and the result, the page and the JUnit file that are made of them.

`batch.jsonl` is only appended to, so that whatever is killed, the rows that were done are known, and `--resume` leaves them out.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from runbook_lib.evidence import journal, runs
from runbook_lib.files import write_whole
from runbook_lib.headless.batch.job import SKIPPED, JobResult
from runbook_lib.headless.batch.sweep import Sweep
from runbook_lib.redaction import redactor
from runbook_lib.waiting import wait_until

SCHEMA = 1
EVENTS = "batch.jsonl"
POLL = 0.3  # seconds between two looks at the events of a batch
QUIET = 1.5  # seconds without an event after which it is asked whether the batch's process still lives
CHANGING = ("run", "destroy")  # verbs after which another verb's earlier outcome no longer holds
CUT_OFF = "cut off"  # the state of a row that was under way when the batch's process ended
FOLDER = "_batches"  # beside the deployments' folders; no deployment can have this name


class BatchRecord:
    """The folder of one batch, `runs/_batches/<sweep>/<UTC>/`. Its lines are redacted.

    The file of events is locked until `release`, or until this process has ended, however it does: others see by it that the batch is under way.
    """

    def __init__(self, sweep: Sweep, verb: str):
        self.sweep, self.verb, self.began = sweep, verb, time.monotonic()
        self.started = journal.now()
        self.folder = journal.unused(runs.runs_folder() / FOLDER / sweep.name)
        self.folder.mkdir(parents=True)
        self._events = open(self.folder / EVENTS, "a", encoding="utf-8")  # noqa: SIM115 (until `release`)
        with suppress(OSError):  # a disk without locks: who watches takes the batch for ended
            fcntl.flock(self._events, fcntl.LOCK_EX)
        rows = {row.name: row.digest for row in sweep.rows}
        journal.point_latest(self.folder)  # already now: after a kill, the batch before is not the newest one
        self._write({"event": "begin", "sweep": sweep.name, "verb": verb, "chapters": sweep.options.chapters, "rows": rows})

    def began_row(self, name: str, chapter: str = "") -> None:
        """Note that a row, or a chapter of it, has begun."""
        self._write({"event": "chapter" if chapter else "row", "name": name, **({"chapter": chapter} if chapter else {})})

    def ended_row(self, outcome: JobResult) -> None:
        """Note how a row ended."""
        self._write({"event": "outcome", **outcome.as_dict()})

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = redactor.redact(json.dumps({"utc": journal.now(), **entry}, ensure_ascii=False, default=str))
        self._events.write(line + "\n")
        self._events.flush()

    def close(self, outcomes: Mapping[str, JobResult]) -> dict[str, Any]:
        """Write `batch.json` and `junit.xml`, and return the content of the former."""
        found = result(self.sweep, self.verb, self.started, round(time.monotonic() - self.began, 1), outcomes)
        write_whole(self.folder / "batch.json", redactor.redact(json.dumps(found, indent=1, ensure_ascii=False, default=str)))
        write_whole(self.folder / "junit.xml", redactor.redact(junit(found)))
        return found

    def release(self) -> None:
        """Let others see that nothing more is written."""
        self._events.close()


def follow(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a batch as they are written, from the first on, until the batch has ended, or its process has."""
    with open(folder / EVENTS, encoding="utf-8") as events:
        rest, at_work = "", True
        while at_work:
            at_work = under_way(folder)  # before the look: what was written before the end is read
            rest += wait_until(events.read, QUIET if at_work else 0, pause=POLL, enough=bool)
            *lines, rest = rest.split("\n")
            yield from (json.loads(line) for line in lines)


def under_way(folder: Path) -> bool:
    """Return whether the process that does this batch still lives, on whichever machine that shares this disk."""
    with open(folder / EVENTS, encoding="utf-8") as events:
        try:
            fcntl.flock(events, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def batches(sweep: str) -> list[Path]:
    """Return the folders of this sweep's batches on this machine, the newest last, those under way and those that were cut off among them."""
    return sorted(file.parent for file in (runs.runs_folder() / FOLDER / sweep).glob(f"2*T*Z*/{EVENTS}") if file.stat().st_size)


def result(sweep: Sweep, verb: str, started: str, seconds: float, outcomes: Mapping[str, JobResult]) -> dict[str, Any]:
    """Return a batch as one document: what it was, how many rows ended in which way, and each row in the sweep's order."""
    rows = []
    for row in sweep.rows:
        ended = outcomes.get(row.name, JobResult(row.name, SKIPPED))
        rows.append({**ended.as_dict(), "params": row.params, "cells": dict(row.cells), "sets": row.sets, "pattern": row.values.get("pattern"), "ok": ended.ok})
    states = [row["state"] for row in rows]
    return {
        "schema": SCHEMA,
        "sweep": sweep.name,
        "keys": list(sweep.keys),
        "verb": verb,
        "started": started,
        "seconds": seconds,
        "ok": all(row["ok"] for row in rows),
        "verified": sum(row["ok"] for row in rows),
        "states": {state: states.count(state) for state in dict.fromkeys(states)},
        "rows": rows,
    }


def done_before(sweep: Sweep, verb: str) -> dict[str, JobResult]:
    """Return the rows that this sweep's newest batch of the same verb, and those that it went on from, ended well: what `--resume` leaves out.

    A row whose parameters are others now is not among them, nor one that a later batch began to run or to destroy. With other chapters there are none.
    """
    now = {row.name: row.digest for row in sweep.rows}
    touched: set[str] = set()  # by batches of other verbs, later than what they did
    for folder in reversed(batches(sweep.name)):
        events = runs.lines(folder / EVENTS)
        head = events[0] if events else {}
        if head.get("verb") == verb:
            if head.get("chapters") != sweep.options.chapters:  # an older package wrote none: what it ran is not known
                return {}
            ended = [outcome_in(event) for event in events if event.get("event") == "outcome"]
            return {one.name: one for one in ended if one.ok and one.name not in touched and one.name in now and head["rows"].get(one.name) == now[one.name]}
        if head.get("verb") in CHANGING:
            touched |= {event["name"] for event in events if event.get("event") == "row"}
    return {}


def outcome_in(event: Mapping[str, Any]) -> JobResult:
    """Return how a row ended, from the event that says so."""
    known = {field.name for field in fields(JobResult)}
    return JobResult(**{key: value for key, value in event.items() if key in known})


def ended(folder: Path) -> bool:
    """Return whether a batch came to its end and left its document."""
    return (folder / "batch.json").is_file()


def read(folder: Path) -> dict[str, Any]:
    """Return the document of a batch that has ended."""
    found: dict[str, Any] = json.loads((folder / "batch.json").read_text(encoding="utf-8"))
    return found


def earlier(sweep: str, most: int = 20) -> list[dict[str, Any]]:
    """Return the documents of this sweep's batches on this machine but those under way, the newest last. One that was cut off says so (`cut_off`)."""
    return [read(folder) if ended(folder) else _cut_off(folder) for folder in batches(sweep)[-most:] if ended(folder) or not under_way(folder)]


def _cut_off(folder: Path) -> dict[str, Any]:
    """Return of a batch whose process ended before it did what its events say, as far as the page of a later one shows it."""
    events = runs.lines(folder / EVENTS)
    head, last = events[0], events[-1]
    outcomes = {event["name"]: outcome_in(event) for event in events if event["event"] == "outcome"}
    begun = {event["name"] for event in events if event["event"] == "row"}
    rows = [outcomes.get(name) or JobResult(name, CUT_OFF if name in begun else SKIPPED) for name in head["rows"]]
    return {
        "verb": head["verb"],
        "started": head["utc"],
        "seconds": round((datetime.fromisoformat(last["utc"]) - datetime.fromisoformat(head["utc"])).total_seconds(), 1),
        "ok": False,
        "cut_off": True,
        "verified": sum(row.ok for row in rows),
        "rows": [{**row.as_dict(), "ok": row.ok} for row in rows],
    }


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
