"""What is kept of the passes over a deployment: one file, `runs/_watch/<deployment>/watch.json`, which each pass replaces.

It holds the newest pass, what was decided last (a busy pass decides nothing), whom that was told, and the last changes of state. A pass makes
no run's folder: its evidence is this file, which does not grow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.evidence import runs
from runbook_lib.evidence.journal import now
from runbook_lib.files import write_whole
from runbook_lib.headless.watch.look import BUSY, DRIFT, ERROR, FAILED, OK, UNREACHABLE, Deviation, Pass, in_a_line
from runbook_lib.redaction import redactor
from runbook_lib.spec.loader import find_params

SCHEMA = 1
FOLDER = "_watch"  # beside the deployments' folders; no deployment can have this name
KEPT = 50  # changes of state
MOST = 100  # lines of one kind
SLACK = 0.9  # of --again: a pass that is due then begins some minutes later or earlier
ALARM, STILL, WELL = "alarm", "still", "well"
Record = dict[str, Any]


def file_of(deployment: str) -> Path:
    """Return where the record of a deployment lies."""
    return runs.runs_folder() / FOLDER / re.sub(r"[^\w.-]", "_", deployment) / "watch.json"


def read(deployment: str) -> Record:
    """Return the record of a deployment, {} where there is none that can be read: then watching begins anew."""
    try:
        found = json.loads(file_of(deployment).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else {}


def write(record: Mapping[str, Any]) -> None:
    """Replace the record of its deployment in one step."""
    path = file_of(record["deployment"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, redactor.redact(json.dumps(record, indent=1, ensure_ascii=False)))


def noted(before: Mapping[str, Any], found: Pass, params: str) -> Record:
    """Return the record after this pass. It begins anew where the one before is of another params file, though of a deployment of the same name.

    What is behind a machine or a cloud that does not answer was not seen: its levels stay, and what was told of it is not told again when it is seen again.
    """
    file = str(_file(params))
    before = before if before.get("file", file) == file else {}
    unseen = any(finding.kind in (BUSY, UNREACHABLE, ERROR) for finding in found.findings)
    newest, decided = _document(found), before.get("decided")
    changes = list(before.get("changes", ()))
    if found.state != BUSY:
        since = decided["since"] if decided and decided["state"] == found.state else found.when
        if not decided or decided["state"] != found.state:
            changes.append({"when": found.when, "state": found.state, "line": newest["line"]})
        kept = _unread(decided["levels"], newest["levels"]) if decided and unseen else []
        decided = {**newest, "since": since, "levels": [*newest["levels"], *kept]}
    current = set(decided["keys"]) if decided else set()
    told = {channel: {**one, "keys": [key for key in one["keys"] if unseen or key in current]} for channel, one in before.get("told", {}).items()}
    return {
        "schema": SCHEMA, "deployment": found.deployment, "params": params, "file": file, "newest": newest, "decided": decided,
        "told": told, "changes": changes[-KEPT:],
    }  # fmt: skip


def _file(params: str) -> Path:
    """Return the whole path of a params file, also of one that there is not."""
    try:
        return find_params(params)
    except RunbookError:
        return Path(params).absolute()


def _unread(before: list[Record], now: list[Record]) -> list[Record]:
    """Return the levels of the pass before that this one has not."""
    read = {(level["kind"], level["place"]) for level in now}
    return [level for level in before if (level["kind"], level["place"]) not in read]


def _document(found: Pass) -> Record:
    """Return a pass as the record and the webhook have it."""
    lines = {name: found.lines(kind)[:MOST] for name, kind in (("drifted", DRIFT), ("failed", FAILED), ("unreachable", UNREACHABLE), ("errors", ERROR))}
    how_many = {name: sum(finding.kind == kind for finding in found.findings) for name, kind in (("changes", DRIFT), ("checks_failed", FAILED))}
    levels = [{"kind": level.kind, "place": level.place, "measured": dict(level.measured)} for level in found.levels]
    keys = [finding.key for finding in found.findings][:MOST]
    return {
        "when": found.when, "state": found.state, "line": in_a_line(found), **lines, **how_many, "notes": list(found.notes), "checks": found.checks,
        "seconds": found.seconds, "keys": keys, "levels": levels,
    }  # fmt: skip


def due(record: Mapping[str, Any], channel: str, again: timedelta) -> str:
    """Return what this channel is to be told: an ALARM (bad now, or something new is), STILL bad since it was told that long ago, WELL again, or ""."""
    decided, told = record.get("decided"), record.get("told", {}).get(channel)
    if not decided or record["newest"]["state"] == BUSY:
        return ""
    bad = told is not None and told["state"] != OK
    if decided["state"] == OK:
        return WELL if bad else ""
    if not bad or set(decided["keys"]) - set(told["keys"]):
        return ALARM
    return STILL if datetime.fromisoformat(decided["when"]) - datetime.fromisoformat(told["when"]) >= SLACK * again else ""


def told(record: Record, channel: str) -> None:
    """Note that the channel was told what was decided last."""
    decided, known = record["decided"], record["told"].get(channel, {}).get("keys", ())
    keys = list(dict.fromkeys((*decided["keys"], *known)))[: 2 * MOST]
    record["told"] = {**record["told"], channel: {"state": decided["state"], "keys": keys, "when": decided["when"], "line": decided["line"]}}


def words_of(record: Mapping[str, Any], channel: str, what: str) -> str:
    """Return the message in one line."""
    decided = record["decided"]
    if what == WELL:
        return f"{record['deployment']}: well again (it was {record['told'][channel]['line']})"
    return f"{record['deployment']}: {'still ' if what == STILL else ''}{decided['line']}"


def letter_of(record: Mapping[str, Any]) -> str:
    """Return the text of a mail: everything that is known, in lines."""
    decided = record["decided"]
    parts = [f"{record['deployment']} ({record['params']}): {decided['state']} since {decided['since']}, seen {decided['when']}"]
    for title, lines in (("errors", decided["errors"]), ("differs from its parameters", decided["drifted"]), ("cannot be reached", decided["unreachable"]),
                         ("checks that failed", decided["failed"]), ("worth a word", decided["notes"])):  # fmt: skip
        parts += ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []
    parts += [] if decided["state"] == OK else ["", f"next: ./runbook plan {record['params']} shows each change, ./runbook run makes it so"]
    return "\n".join(parts) + "\n"


def content_of(record: Mapping[str, Any], text: str, what: str) -> Record:
    """Return what the webhook is sent."""
    decided = record["decided"]
    names = ("state", "since", "when", "drifted", "unreachable", "failed", "errors", "notes")
    return {"text": text, "kind": what, "deployment": record["deployment"], "ok": decided["state"] == OK, **{name: decided[name] for name in names}}


def broken(deployment: str, line: str, key: str) -> Pass:
    """Return the pass over a deployment that could not even be begun."""
    return Pass(deployment, now(), ERROR, (Deviation(ERROR, key, " ".join(redactor.redact(line).split())),))
