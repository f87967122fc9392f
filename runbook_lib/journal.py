"""Evidence: every attempt of a run as one line, and what the lines add up to.

A run is a folder `runs/<deployment>/<utc>/`. Its `journal.jsonl` is only ever appended to; `result.json`, the report,
the status board and `--resume` are all read out of it. Nothing that matters to the deployment lies here (design,
decision 2): the folder can be deleted.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from .vault import redactor

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = 1
CLOSING = ("verify", "prove", "failover", "destroy")  # what ends a chapter
Entry = dict[str, Any]


class _Deployed(Protocol):
    """What a journal must know of the parameters."""

    @property
    def deployment(self) -> str: ...
    @property
    def pattern(self) -> str: ...


def runs_folder() -> Path:
    """Where runs are kept: `runs/` of the repository, or where $RUNBOOK_RUNS says."""
    return Path(os.environ.get("RUNBOOK_RUNS") or ROOT / "runs")


def now() -> str:
    """UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """One run's evidence. Safe to use from several threads; several processes may append to the same run."""

    def __init__(self, folder: Path, head: Mapping[str, Any] | None = None):
        """`head` becomes the first line when this journal is the one that makes the folder."""
        self.folder = folder
        self._head = dict(head or {})
        self._waiting: list[Entry] = []
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, spec: _Deployed, runs: Path | None = None) -> Journal:
        """The run that $RUNBOOK_RUN names (the runner's chapters share one), or a new one.

        The folder is made by the first line that is more than a look: plans alone leave no run behind.
        """
        head = {name: getattr(spec, name, None) for name in ("deployment", "pattern", "hardening", "expect")}
        if shared := os.environ.get("RUNBOOK_RUN"):
            return cls(Path(shared), head)
        return cls(_unused((runs or runs_folder()) / spec.deployment), head)

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
            if ends and not os.environ.get("RUNBOOK_RUN"):  # by hand: nobody else will write the report
                with suppress(OSError):
                    self.finish()

    def changed(self, chapter: str, result: Any) -> None:
        """One line per resource that an apply changed (`result`: a `converge.Result`)."""
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

    def verdict(self, chapter: str, text: str, passed: bool) -> None:
        """What the proof found, in its own words, and whether that is what the parameters expect."""
        self.write(chapter, "verdict", change=text, ok=passed)

    def screenshot(self, chapter: str, title: str, png: bytes, caption: str = "") -> Path:
        """Keep a picture beside the journal and name it there."""
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "picture"
        path = self.open().folder / "screenshots" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        self.write(chapter, "screenshot", key=title, change=caption, file=f"screenshots/{path.name}")
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

    def finish(self) -> dict[str, Any]:
        """Write result.json and report.html from what the journal holds; safe to call again."""
        from .report import write_report

        found = self.open().result()
        write_whole(self.folder / "result.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        write_report(self.folder)
        return found


def read(folder: Path) -> list[Entry]:
    """The lines of a run's journal; a last line cut short by a power failure is left out."""
    found = []
    try:
        text = (folder / "journal.jsonl").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [entry for entry in found if isinstance(entry, dict) and "verb" in entry]


def latest(deployment: str, runs: Path | None = None) -> Path | None:
    """The newest run of a deployment, if there is one."""
    link = (runs or runs_folder()) / deployment / "latest"
    return link.resolve() if link.exists() else None


def history(deployment: str, runs: Path | None = None) -> dict[str, Entry]:
    """Per chapter the newest chapter-deciding line of any run on this machine: a verify, or the failure after it."""
    newest: dict[str, Entry] = {}
    for folder in sorted(((runs or runs_folder()) / deployment).glob("2*T*Z*")):
        for entry in read(folder):
            decides = entry["verb"] in ("verify", "prove", "verdict") or (entry["verb"] == "apply" and not entry["ok"])
            if decides and entry.get("chapter"):
                newest[entry["chapter"]] = {**entry, "run": folder.name}
    return newest


def summarise(entries: list[Entry]) -> dict[str, Any]:
    """The journal's lines as `result.json`: schema 1 of the command-line contract."""
    head = next((entry for entry in entries if entry["verb"] == "begin"), {})
    checks = {}
    for entry in entries:
        if entry["verb"] == "check":
            checks[entry["check"]["id"], entry["check"].get("where", "")] = entry["check"]
    chapters = [_chapter(name, entries) for name in _chapters_seen(entries)]
    verdict = next((entry for entry in reversed(entries) if entry["verb"] == "verdict"), None)
    fields = ("id", "title", "status", "expected", "observed", "where", "chapter")
    expect = head.get("expect")
    decided = verdict is not None and verdict["ok"] if expect and any(c["name"].startswith("07") for c in chapters) else True
    return {
        "schema": SCHEMA,
        **{name: head.get(name) for name in ("deployment", "pattern", "hardening", "expect")},
        "verdict": verdict["change"] if verdict else None,
        "started": entries[0]["utc"] if entries else None,
        "finished": entries[-1]["utc"] if entries else None,
        "ok": bool(chapters) and all(chapter["ok"] for chapter in chapters) and decided,
        "chapters": chapters,
        "checks": [{name: check.get(name, "") for name in fields} for check in checks.values()],
    }


def _chapters_seen(entries: list[Entry]) -> list[str]:
    return sorted({entry["chapter"] for entry in entries if entry.get("chapter") and entry["verb"] != "plan"})


def _chapter(name: str, entries: list[Entry]) -> dict[str, Any]:
    """All right when the runner says so; without a runner, when the newest attempt of each verb went well."""
    mine = [entry for entry in entries if entry.get("chapter") == name]
    decisive = ("apply", "verify", "prove", "verdict", "works", "failover", "browser", "walk_pages", "destroy")
    newest = {entry["verb"]: entry for entry in mine if entry["verb"] in decisive}
    whole = [entry for entry in mine if entry["verb"] == "chapter"]
    ok = whole[-1]["ok"] if whole else bool(newest) and all(entry["ok"] for entry in newest.values())
    spent = whole[-1]["seconds"] if whole else sum(e["seconds"] for e in mine if e["verb"] not in ("check", "change", "verdict"))
    return {
        "name": name,
        "ok": ok,
        "seconds": round(spent, 1),
        "changed": sum(entry["verb"] == "change" for entry in mine),
    }


def proven(folder: Path) -> set[str]:
    """The chapters that a run went through to the end with everything all right."""
    return {chapter["name"] for chapter in summarise(read(folder))["chapters"] if chapter["ok"]}


def redact(text: str) -> str:
    """`text` without any secret's value, and without the path that this checkout happens to have."""
    return redactor.redact(text).replace(str(ROOT) + "/", "")


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, so that nobody ever reads half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


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


@dataclass(frozen=True)
class Attempt:
    """How often a chapter was tried in a run, and how the last try ended; for the status board."""

    chapter: str
    ok: bool
    utc: str
    run: str
    words: str = ""


def attempts(deployment: str, runs: Path | None = None) -> dict[str, Attempt]:
    """The newest known state of each chapter."""
    return {
        name: Attempt(name, entry["ok"], entry["utc"], entry["run"], entry.get("error", "") or entry.get("change", ""))
        for name, entry in history(deployment, runs).items()
    }
