"""What the command line prints with --json: one document on standard output, for other programs. docs/command-line.md describes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runbook_lib.aws.s3.backup_store import Backup
from runbook_lib.changes import Plan
from runbook_lib.chapters.exercises.card import Course
from runbook_lib.chapters.exercises.engine import Said, Task
from runbook_lib.chapters.exercises.progress import TaskRecord
from runbook_lib.chapters.exercises.table import Exercise
from runbook_lib.chapters.status_board import Board
from runbook_lib.errors import RunbookError
from runbook_lib.evidence.runs import SCHEMA
from runbook_lib.redaction import redactor
from runbook_lib.spec.model import Spec

Document = dict[str, Any]


def written(document: Mapping[str, Any]) -> str:
    """Return the document as JSON text, redacted."""
    return redactor.redact(json.dumps(document, indent=2, ensure_ascii=False))


def of_run(spec: Spec, folder: Path | None) -> Document:
    """Return the result of the run in this folder and where it lies; `ok` false without a result for None, when no run was begun."""
    if folder is None:
        return {"schema": SCHEMA, "deployment": spec.deployment, "ok": False, "run": None}
    return {**json.loads((folder / "result.json").read_text(encoding="utf-8")), "run": str(folder.resolve())}


def of_plans(spec: Spec, plans: Iterable[tuple[str, Plan]]) -> Document:
    """Return every pending change. `plans`: each with its chapter's name."""
    found = [
        {"chapter": chapter, "host": p.host, "stage": p.stage, "key": p.change.key, "verb": p.change.verb, "summary": p.change.summary, "diff": p.change.diff}
        for chapter, plan in plans
        for p in plan.pending
    ]
    return {"schema": SCHEMA, "deployment": spec.deployment, "pattern": spec.pattern, "changes": len(found), "pending": found}


def of_status(board: Board) -> Document:
    """Return the status board."""
    machines = [
        {"node": node, "address": address, "public": board.public.get(node), "type": kind, "state": state.partition(" ")[2], "serves": serves}
        for node, address, kind, state, serves in board.machines
    ]
    chapters = [
        {"name": str(link.href).removesuffix(".ipynb"), "state": state.word, "when": when or None, "by": by or None}  # type: ignore[attr-defined, index]
        for link, state, when, by in board.chapters
    ]
    return {
        "schema": SCHEMA,
        "deployment": board.name,
        "pattern": board.pattern,
        "running": board.running,
        "machines": machines,
        "chapters": chapters,
        "next": board.next_chapter.name if board.next_chapter else None,
        "at_work": board.at_work or None,
        "trouble": board.trouble or None,
    }


def of_course(course: Course) -> Document:
    """Return every exercise with how far it is."""
    exercises = [{**_row(row), **_record(record)} for row, record in course.rows]
    return {"schema": SCHEMA, "deployment": course.deployment, "pattern": course.pattern, "exercises": exercises}


def of_exercise(task: Task, said: Said) -> Document:
    """Return what a verb of an exercise said, and how far the exercise is now."""
    told = {"passed": said.passed, "said": said.line, "more": list(said.more)}
    return {"schema": SCHEMA, "deployment": task.deployment.spec.deployment, **_row(task.row), **_record(task.record), **told}


def _row(row: Exercise) -> Document:
    return {"id": row.id, "part": row.part, "kind": row.kind, "title": row.title, "minutes": row.minutes, "patterns": list(row.needs.patterns)}


def _record(record: TaskRecord) -> Document:
    return {**{name: getattr(record, name) for name in ("state", "running", "points", "hints", "tries", "seconds")}, "started": record.started or None}


def of_backup(backup: Backup) -> Document:
    """Return one backup as its manifest has it."""
    return {**asdict(backup), "size": backup.size}


def of_backups(deployment: str, place: str, found: Iterable[Backup]) -> Document:
    """Return all backups of a deployment, the newest first."""
    return {"schema": SCHEMA, "deployment": deployment, "place": place, "backups": [of_backup(each) for each in found]}


def of_restore(deployment: str, backup: Backup | None, folder: Path) -> Document:
    """Return what a restore did in the run of this folder; None for the backup where the deployment begins anew, without data."""
    return {"schema": SCHEMA, "deployment": deployment, "ok": True, "backup": of_backup(backup) if backup else None, "run": str(folder)}


def of_error(error: RunbookError) -> Document:
    """Return what kept a command from its result."""
    return {
        "schema": SCHEMA,
        "ok": False,
        "error": {"kind": type(error).__name__, "what": error.what, "where": error.where, "next": error.next_step},
    }
