"""`./runbook watch PARAMS…`: one pass over each deployment, or one after the other in the foreground, told and written down."""

from __future__ import annotations

import argparse
import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.headless import documents
from runbook_lib.headless.schedule import Repeated, interval
from runbook_lib.headless.terminal import Essential
from runbook_lib.headless.watch import messages, metrics, record
from runbook_lib.headless.watch.look import BUSY, DRIFT, ERROR, FAILED, OK, Deviation, Pass, watched, worst
from runbook_lib.redaction import redactor
from runbook_lib.spec.loader import find_params, load_spec
from runbook_lib.tables import text_table

AT_ONCE = 4  # deployments
SHOWN = 20  # lines of a deployment
LONG_NAME = 60  # characters of a unit's name
COLUMNS = ("", "Deployment", "State", "Since", "Checks", "Seconds")
MARKS = {OK: "✔", BUSY: "○"}
Say = Callable[[Any], None]


@dataclass(frozen=True)
class Watcher:
    """What is watched and who is told. `again`: after that time an alarm is repeated."""

    params: tuple[str, ...]
    overrides: Mapping[str, Any]
    webhook: str = ""
    mail: str = ""
    metrics: Path | None = None
    again: timedelta = timedelta(days=1)

    def once(self, say: Say) -> list[record.Record]:
        """Make one pass over every deployment; write down, tell and print what it found, and return the records in the order of the params files."""
        with ThreadPoolExecutor(min(AT_ONCE, len(self.params))) as several:
            found = list(several.map(self._pass, self.params))
        records = [self._told(one, params, say) for params, one in zip(self.params, found, strict=True)]
        _print(records, say)
        if self.metrics:
            try:
                metrics.write(self.metrics, records)
            except OSError as error:
                say(Essential(f"Prometheus reads old figures: {self.metrics} cannot be written: {error.strerror}"))
        return records

    def _pass(self, params: str) -> Pass:
        """Return what a pass found. Whatever goes wrong with one deployment is its finding, and the others are watched all the same."""
        try:
            return watched(load_spec(params, self.overrides))
        except RunbookError as error:
            return record.broken(_named(params, self.overrides), f"{error.what} ({error.where or params})", type(error).__name__)
        except Exception as error:  # nobody sits before it: what was not foreseen is told as well
            return record.broken(_named(params, self.overrides), f"{type(error).__name__}: {error}", type(error).__name__)

    def _told(self, one: Pass, params: str, say: Say) -> record.Record:
        """Write the record of a pass, and tell who is to be told: what could not be told is tried again by the next pass.

        Where the record cannot be written nobody is told, for every pass would tell the same again. That is a finding of its own, and the others go on.
        """
        before = record.read(one.deployment)
        found = record.noted(before, one, params)
        try:
            record.write(found)
            self._tell(found, say)
        except OSError as error:
            words = f"nobody is told, for the record cannot be written: {record.file_of(one.deployment)}: {error.strerror}"
            findings = (*one.findings, Deviation(ERROR, "record", words))
            found = record.noted(before, replace(one, findings=findings, state=worst({each.key: each for each in findings})), params)
        return found

    def _tell(self, found: record.Record, say: Say) -> None:
        """Tell each channel what it is due, and write down which were. Raises OSError when that cannot be written."""
        told = False
        for channel, address in (("webhook", self.webhook), ("mail", self.mail)):
            what = record.due(found, channel, self.again) if address else ""
            if not what:
                continue
            text = redactor.redact(record.words_of(found, channel, what))
            if channel == "webhook":
                trouble = messages.post(address, record.content_of(found, text, what))
            else:
                trouble = messages.send(partial(messages.mail_to, address, text, redactor.redact(record.letter_of(found))))
            if trouble:
                say(Essential(trouble))
            else:
                record.told(found, channel)
                told = True
        if told:
            record.write(found)


def watch(given: argparse.Namespace, overrides: Mapping[str, Any], say: Say, every_so_often: Callable[[Repeated], int]) -> int:
    """Do what the command asks for and return its exit status: one pass, passes until the process is interrupted, or `every_so_often` shows a timer.

    Raises RunbookError before anything is looked at.
    """
    if given.foreground and (given.timer or given.json or not given.every):
        raise RunbookError("--foreground goes with --every, and with neither --as nor --json", "--foreground", "such as --every 15m --foreground")
    asked = watch_of(given, overrides)
    if given.foreground:
        keep_watching(asked, interval(given.every), say)
        return 0
    if given.every or given.timer:
        return every_so_often(repeated(given, asked))
    records = asked.once(say)
    if given.json:
        print(documents.written(document(records)))
    return status(records)


def watch_of(given: argparse.Namespace, overrides: Mapping[str, Any]) -> Watcher:
    """Return what the command asks for. Raises RunbookError for what is wrong before anything is looked at."""
    if given.mail and not messages.ADDRESS.fullmatch(given.mail):
        raise RunbookError(f"{given.mail!r} is no address", "--mail", "such as ops@example.org")
    names = [_named(params, overrides) for params in given.several]
    if doubled := [name for name in names if names.count(name) > 1]:
        where = " ".join(params for params, name in zip(given.several, names, strict=True) if name == doubled[0])
        raise RunbookError(f"these are of one deployment, {doubled[0]}: its record and its figures would be mixed", where, "name each deployment once")
    path = metrics.writable(given.metrics) if given.metrics else None
    return Watcher(tuple(given.several), overrides, messages.webhook(), given.mail or "", path, timedelta(minutes=interval(given.again, "--again")))


def repeated(given: argparse.Namespace, asked: Watcher) -> Repeated:
    """Return the watch as something that is done every so often. Raises RunbookError for params files that cannot be read, or what does not go together."""
    if given.every is None:
        raise RunbookError(f"--as {given.timer} says how, and nothing says how often", "--as", "add --every, such as --every 15m")
    if given.json:
        raise RunbookError("--every does not go with --json", "--every", "take --json away: watch.json has the same")
    files = [find_params(name).resolve() for name in asked.params]
    names = [load_spec(file, asked.overrides).deployment for file in files]
    words = [word for text in given.set for word in ("--set", text)]
    words += ["--mail", asked.mail] if asked.mail else []
    words += ["--metrics", str(asked.metrics)] if asked.metrics else []
    words += ["--again", given.again, *(["--quiet"] if given.quiet else [])]
    return Repeated(f"runbook-watch-{_short(names)}", f"The runbook watches {', '.join(names)}", ("watch", *map(str, files), *words), interval(given.every))


def _short(names: Sequence[str]) -> str:
    """Return the names in one word that is no name of another set of them: no deployment's name has an underscore, and none is empty."""
    joined = "_".join(names)
    return joined if len(joined) <= LONG_NAME else f"{names[0]}__{hashlib.sha256(joined.encode()).hexdigest()[:16]}"


def keep_watching(asked: Watcher, minutes: int, say: Say, stop: threading.Event | None = None) -> None:
    """Make a pass every so many minutes, until `stop` is set or the process is interrupted. A pass that takes longer is followed by the next one at once."""
    stop = stop or threading.Event()
    while not stop.is_set():
        due = time.monotonic() + minutes * 60
        asked.once(say)
        stop.wait(max(0.0, due - time.monotonic()))


def status(records: Sequence[Mapping[str, Any]]) -> int:
    """Return the exit status of a pass: 2 for drift or failed checks, else 1 for what could not be looked at, else 0."""
    states = {one["newest"]["state"] for one in records}
    return 2 if states & {DRIFT, FAILED} else 0 if states <= {OK, BUSY} else 1


def document(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a pass as one document."""
    return {"schema": record.SCHEMA, "ok": status(records) == 0, "deployments": list(records)}


def _named(params: str, overrides: Mapping[str, Any]) -> str:
    """Return the deployment's name, also from a params file that cannot be used: what it says, or the name of the file."""
    with suppress(Exception):
        return load_spec(params, overrides).deployment
    try:
        said = re.search(r"^deployment:\s*[\"']?([\w.-]+)", find_params(params).read_text(encoding="utf-8"), re.MULTILINE)
    except (RunbookError, OSError, UnicodeDecodeError):
        said = None
    return str(overrides.get("deployment") or (said[1] if said else Path(params).stem))


def _print(records: Sequence[Mapping[str, Any]], say: Say) -> None:
    rows, lines = [], []
    for one in records:
        newest, state = one["newest"], one["newest"]["state"]
        since = one["decided"]["since"] if one["decided"] and state != BUSY else newest["when"]
        rows.append((MARKS.get(state, "✘"), one["deployment"], state, f"{since[:19]}Z", str(newest["checks"] or ""), f"{newest['seconds']:.1f}"))
        found = [line for kind in ("errors", "drifted", "unreachable", "failed") for line in newest[kind]] or ([newest["line"]] if state == BUSY else [])
        more = [f"and {len(found) - SHOWN} more: {record.file_of(one['deployment'])}"] if len(found) > SHOWN else []
        lines += [f"{one['deployment']}: {line}" for line in (*found[:SHOWN], *more, *newest["notes"])]
    well = status(records) == 0
    say(text_table(COLUMNS, rows) if well else Essential(text_table(COLUMNS, rows)))
    for line in lines:
        say(line if well else Essential(line))
