"""The journal of a run: one line per attempt, and the result that is computed from the lines.

A run is a folder `runs/<deployment>/<utc>/`. Its `journal.jsonl` is only appended to, row by whole row; `result.json`, the report, the
status board and `--resume` are all computed from it. No state of the deployment is stored here (design, decision 2):
the folder can be deleted.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from runbook_lib.evidence import continuity, manifest, provenance
from runbook_lib.evidence.runs import FIRST_BOOT, PICTURE, QUIET, SCHEMA, Entry, read, runs_folder, summarise
from runbook_lib.files import ROOT, write_whole
from runbook_lib.redaction import redactor

BLOCK = 1 << 16  # bytes
CLOSING = ("verify", "prove", "failover", "disaster", "destroy")  # the verbs that end a chapter


class _Deployed(Protocol):
    """The parameters that a journal needs."""

    @property
    def deployment(self) -> str: ...
    @property
    def pattern(self) -> str: ...


def now() -> str:
    """Return the time in UTC as ISO 8601, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """The journal of one run. Safe to use from several threads; several processes may append to the same run."""

    def __init__(self, folder: Path, head: Mapping[str, Any] | None = None, ended: Callable[[Journal], Any] | None = None):
        """`head` becomes the first line when this journal creates the file. `ended` is called after a verb that ends a chapter, and after a failure.

        The session sets `provenance`, which returns what stands at the beginning of that line, and `signing_key`, which returns the
        deployment's key that signs the run, or None when there is none.
        """
        self.signing_key: Callable[[], str | None] = lambda: None
        self._ended = ended
        self.provenance: Callable[[], Mapping[str, Any]] = dict
        self.folder = folder
        self._head = dict(head or {})
        self._waiting: list[Entry] = []
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, spec: _Deployed, runs: Path | None = None, ended: Callable[[Journal], Any] | None = None, new: bool = False) -> Journal:
        """Return the journal of the run that $RUNBOOK_RUN names (the runner's chapters share one), or of a session by hand.

        A session by hand goes on in the run of the chapters before (`continuity.session_run`); `new` begins a run in any case.
        The folder is created with the first line that is not a plan, so that plans alone create no run.
        """
        head = {name: getattr(spec, name, None) for name in ("deployment", "pattern", "hardening", "expect")}
        if shared := os.environ.get("RUNBOOK_RUN"):
            return cls(Path(shared), head, ended)
        parent = (runs or runs_folder()) / spec.deployment
        if new:
            return cls(unused(parent), head, ended)
        head["session"] = f"{getpass.getuser()}@{socket.gethostname()}"
        going_on = continuity.session_run(parent, _clean({**head, **provenance.of_code_and_parameters(spec)}))
        return cls(going_on or unused(parent), head, ended)

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
        """Append one line. `seconds`: how long the attempt took; `more`: fields that only this verb has, such as a check's row.

        Lines of plans, and of what was observed for them, are held back until something else is written: looking changes nothing, and a run
        that was closed stays as it was signed.
        """
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
            if verb not in QUIET or (not ok and self.path.exists()):
                self._flush()

    def open(self) -> Journal:
        """Create the run's folder now, so that files can be put beside the journal; return this journal."""
        with self._lock:
            self._flush()
        return self

    def _flush(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a row names the one before it: between reading that and writing nobody else may write
            last, whole = _last_row(file)
            begin = [] if last else [{**self.provenance(), "utc": now(), "verb": "begin", "schema": SCHEMA, **self._head}]
            rows = [_clean(entry) for entry in (*begin, *self._waiting)]
            _append(file, (b"" if whole else b"\n") + b"".join(manifest.chain(rows, manifest.digest(last) if last else "")))
        self._waiting.clear()  # not before: what did not get out, as onto a full disk, goes with what is written next

    @contextmanager
    def attempt(self, chapter: str, verb: str) -> Iterator[None]:
        """Write one line for the block: how long it took and how it ended. An error is written and raised again."""
        began, ends = time.monotonic(), verb in CLOSING
        try:
            yield
        except BaseException as error:
            ends |= verb != "plan"
            words = str(error) or type(error).__name__
            seconds = time.monotonic() - began
            self.write(chapter, verb, seconds=seconds, ok=False, error=words, kind=type(error).__name__, transient=getattr(error, "transient", False))
            raise
        else:
            self.write(chapter, verb, seconds=time.monotonic() - began)
        finally:
            if ends:
                self.conclude()

    def conclude(self) -> None:
        """Write report and manifest anew after the last line of a verb. In a run of the runner nothing is done: it writes them in the end."""
        if self._ended and not os.environ.get("RUNBOOK_RUN"):
            with suppress(OSError):
                self._ended(self)

    def changed(self, chapter: str, result: Any) -> None:
        """Write one line per resource that an apply changed. `result`: a `changes.Result`, or an error with `changed`."""
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
        """Write one line per check. When a check is made again, the later line counts."""
        for check in checks:
            row = {**asdict(check), "chapter": chapter}
            self.write(chapter, "check", host=row.get("where", ""), key=row["id"], ok=row["status"] == "pass", check=row)

    def observed(self, chapter: str, place: str, facts: Mapping[str, str]) -> None:
        """Write a line with what a host or an archive said of itself, by the names of `provenance.OBSERVED`. Empty values are left out."""
        if said := {name: value for name, value in facts.items() if value}:
            self.write(chapter, "observed", host=place, facts=said)

    def booted(self, chapter: str, node: str, line: str, began: datetime, ended: datetime) -> None:
        """Write when a node's first boot began and when the node answered, and the line in which it said that it had started."""
        self.write(chapter, FIRST_BOOT, host=node, change=line, began=began.isoformat(timespec="milliseconds"), ended=ended.isoformat(timespec="milliseconds"))

    def pictured(self, chapter: str, kind: str, values: Mapping[str, Any]) -> None:
        """Write what a picture is drawn from, so that the report can draw it too. It begins no run: looking changes nothing."""
        self.write(chapter, PICTURE, key=kind, values=values)
        if self.path.exists():
            self.open()
            self.conclude()

    def verdict(self, chapter: str, kind: str, text: str, passed: bool) -> None:
        """Write the result of the proof. `kind`: leak, separated or undecided; `text`: the same in words; `passed`: the parameters expect it."""
        self.write(chapter, "verdict", kind=kind, change=text, ok=passed)

    def screenshot(self, chapter: str, id: str, title: str, png: bytes, caption: str = "") -> Path:
        """Write a PNG beside the journal and a line that names it; return its path. `id`: what it shows, the same in every run."""
        path = self.open().folder / "screenshots" / f"{id}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        self.write(chapter, "screenshot", key=id, title=title, change=caption, file=f"screenshots/{path.name}")
        return path

    def table(self, chapter: str, title: str, table: Any) -> None:
        """Write a table for the report. `table`: an object with `columns`, `rows` and `note`."""
        self.write(
            chapter,
            "table",
            key=title,
            columns=list(table.columns),
            rows=[list(row) for row in table.rows],
            note=table.note,
        )

    def keep(self, name: str, text: str) -> None:
        """Write a text file beside the journal (such as the topology picture), redacted; an existing one is replaced."""
        write_whole(self.open().folder / name, redact(text))

    def entries(self) -> list[Entry]:
        """Return all lines of the run, oldest first."""
        return read(self.folder)

    def result(self) -> dict[str, Any]:
        """Return the result of the run so far, in the form of `result.json`."""
        return summarise(self.entries())


def redact(text: str) -> str:
    """Return `text` without the values of secrets and without the path of this checkout."""
    return redactor.redact(text).replace(str(ROOT) + "/", "")


def _last_row(file: Any) -> tuple[bytes, bool]:
    """Return the last row of an open journal without its newline, and whether it has one; b"" and True when there is no row.

    What a power failure left of a row is cut off: it tells nothing, and rows chained to it would never again follow from one another.
    """
    size = end = file.seek(0, os.SEEK_END)
    found = b""
    while end and b"\n" not in found.removesuffix(b"\n"):
        begin = max(end - BLOCK, 0)
        file.seek(begin)
        found, end = file.read(end - begin) + found, begin
    row, whole = found.removesuffix(b"\n").rpartition(b"\n")[2], not found or found.endswith(b"\n")
    if whole or manifest.link(row) is not None:
        return row, whole
    file.truncate(size - len(row))
    return _last_row(file)


def _append(file: Any, data: bytes) -> None:
    """Write all of the data at the end of an open journal, or nothing. Raises OSError."""
    end, left = file.seek(0, os.SEEK_END), memoryview(data)
    try:
        while left:  # a write may take a part only, as the last one that a disk has room for
            if not (written := file.write(left)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
            left = left[written:]
    except BaseException:
        with suppress(OSError):
            file.truncate(end)
        raise


def unused(parent: Path) -> Path:
    """Return a folder below `parent` that is named after the time in UTC and does not exist."""
    stem = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
    return next(parent / name for name in names if not (parent / name).exists())


def point_latest(folder: Path) -> None:
    """Point the symbolic link `latest` beside this folder to it, in one step. Where links cannot be made, there is none."""
    beside = folder.parent / f".latest.{os.getpid()}.{threading.get_ident()}"
    try:
        beside.symlink_to(folder.name)
        os.replace(beside, folder.parent / "latest")
    except OSError:
        beside.unlink(missing_ok=True)


def _clean(value: Any) -> Any:
    """Return the value in a form that JSON can hold, with every text redacted. Redaction comes before escaping, because keys span lines."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))
