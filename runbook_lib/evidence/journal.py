"""Evidence: every attempt of a run as one line, and what the lines add up to.

A run is a folder `runs/<deployment>/<utc>/`. Its `journal.jsonl` is only ever appended to; `result.json`, the report,
the status board and `--resume` are all read out of it. Nothing that matters to the deployment lies here (design,
decision 2): the folder can be deleted.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from runbook_lib.evidence.runs import SCHEMA, Entry, read, runs_folder, summarise
from runbook_lib.files import ROOT, write_whole
from runbook_lib.redaction import redactor

CLOSING = ("verify", "prove", "failover", "destroy")  # what ends a chapter


class _Deployed(Protocol):
    """What a journal must know of the parameters."""

    @property
    def deployment(self) -> str: ...
    @property
    def pattern(self) -> str: ...


def now() -> str:
    """UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """One run's evidence. Safe to use from several threads; several processes may append to the same run."""

    def __init__(self, folder: Path, head: Mapping[str, Any] | None = None, ended: Callable[[Journal], Any] | None = None):
        """`head` becomes the first line when this journal is the one that makes the folder. `ended` is called after what ends a chapter."""
        self._ended = ended
        self.folder = folder
        self._head = dict(head or {})
        self._waiting: list[Entry] = []
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, spec: _Deployed, runs: Path | None = None, ended: Callable[[Journal], Any] | None = None) -> Journal:
        """The run that $RUNBOOK_RUN names (the runner's chapters share one), or a new one.

        The folder is made by the first line that is more than a look: plans alone leave no run behind.
        """
        head = {name: getattr(spec, name, None) for name in ("deployment", "pattern", "hardening", "expect")}
        if shared := os.environ.get("RUNBOOK_RUN"):
            return cls(Path(shared), head, ended)
        return cls(_unused((runs or runs_folder()) / spec.deployment), head, ended)

    @property
    def path(self) -> Path:
        return self.folder / "journal.jsonl"

    def write(
        self,
        chapter: str,
        verb: str,
        *,
        host: str = "",
        key: str = "",
        change: str = "",
        seconds: float = 0.0,
        ok: bool = True,
        **more: Any,
    ) -> None:
        """Append one attempt. `seconds`: how long it took; `more`: what only this verb has (a check's row)."""
        entry = {
            "utc": now(),
            "chapter": chapter,
            "verb": verb,
            "host": host,
            "key": key,
            "change": change,
            "seconds": round(seconds, 3),
            "ok": ok,
        }
        with self._lock:
            self._waiting.append({**entry, **more})
            if verb != "plan" or self.path.exists():
                self._flush()

    def open(self) -> Journal:
        """Make the folder now, for whoever wants to put files beside the journal."""
        with self._lock:
            self._flush()
        return self

    def _flush(self) -> None:
        if not self.path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            _point_latest(self.folder)
            self._waiting.insert(0, {"utc": now(), "verb": "begin", "schema": SCHEMA, **self._head})
        lines = "".join(json.dumps(_clean(entry), ensure_ascii=False) + "\n" for entry in self._waiting)
        self._waiting.clear()
        with open(self.path, "ab", buffering=0) as file:  # one write: lines of two processes never mix
            file.write(lines.encode())

    @contextmanager
    def attempt(self, chapter: str, verb: str) -> Iterator[None]:
        """One line for what happens inside: how long, and how it ended. The error goes on to the caller."""
        began, ends = time.monotonic(), verb in CLOSING
        try:
            yield
        except BaseException as error:
            ends |= verb != "plan"
            words = str(error) or type(error).__name__
            seconds = time.monotonic() - began
            self.write(chapter, verb, seconds=seconds, ok=False, error=words, kind=type(error).__name__)
            raise
        else:
            self.write(chapter, verb, seconds=time.monotonic() - began)
        finally:
            if ends and self._ended and not os.environ.get("RUNBOOK_RUN"):  # by hand: nobody else will write the report
                with suppress(OSError):
                    self._ended(self)

    def changed(self, chapter: str, result: Any) -> None:
        """One line per resource that an apply changed (`result`: a `changes.Result`)."""
        for pending in result.changed:
            change = pending.change
            self.write(
                chapter,
                "change",
                host=pending.host,
                key=change.key,
                change=f"{change.verb}: {change.summary}",
                stage=pending.stage,
                diff=change.diff,
            )

    def checked(self, chapter: str, checks: Iterable[Any]) -> None:
        """One line per check; a later run of the same check counts."""
        for check in checks:
            row = {**asdict(check), "chapter": chapter}
            self.write(chapter, "check", host=row.get("where", ""), key=row["id"], ok=row["status"] == "pass", check=row)

    def verdict(self, chapter: str, kind: str, text: str, passed: bool) -> None:
        """What the proof found (leak, separated or undecided), the same in words, and whether that is what the parameters expect."""
        self.write(chapter, "verdict", kind=kind, change=text, ok=passed)

    def screenshot(self, chapter: str, id: str, title: str, png: bytes, caption: str = "") -> Path:
        """Keep a picture beside the journal and name it there. `id`: of what it is a picture, the same in every run."""
        path = self.open().folder / "screenshots" / f"{id}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        self.write(chapter, "screenshot", key=id, title=title, change=caption, file=f"screenshots/{path.name}")
        return path

    def table(self, chapter: str, title: str, table: Any) -> None:
        """A table for the report: anything with `columns` and `rows`."""
        self.write(
            chapter,
            "table",
            key=title,
            columns=list(table.columns),
            rows=[list(row) for row in table.rows],
            note=table.note,
        )

    def keep(self, name: str, text: str) -> None:
        """A text file beside the journal (the topology picture), replaced whole, redacted."""
        write_whole(self.open().folder / name, redact(text))

    def entries(self) -> list[Entry]:
        """All lines of the run, oldest first."""
        return read(self.folder)

    def result(self) -> dict[str, Any]:
        """The run so far in the shape of `result.json`."""
        return summarise(self.entries())


def redact(text: str) -> str:
    """`text` without any secret's value, and without the path that this checkout happens to have."""
    return redactor.redact(text).replace(str(ROOT) + "/", "")


def _unused(parent: Path) -> Path:
    stem = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
    return next(parent / name for name in names if not (parent / name).exists())


def _point_latest(folder: Path) -> None:
    """`latest` -> this run, switched in one step; a machine without symbolic links goes without."""
    beside = folder.parent / f".latest.{os.getpid()}.{threading.get_ident()}"
    try:
        beside.symlink_to(folder.name)
        os.replace(beside, folder.parent / "latest")
    except OSError:
        beside.unlink(missing_ok=True)


def _clean(value: Any) -> Any:
    """The value as JSON can hold it, every text in it redacted (before it is escaped: keys span lines)."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))
