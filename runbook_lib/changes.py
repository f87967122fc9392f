"""What a plan shows and an apply brings about, on hosts and in the cloud alike: Change, Pending, Plan, Result; and the events meanwhile."""

from __future__ import annotations

import html
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.redaction import redactor
from runbook_lib.tables import counted

# Beside the word, for whoever skims: something comes, goes, is replaced, or starts. Everything else is modified.
SIGNS = dict.fromkeys(("create", "install", "load", "unpack"), "+") | dict.fromkeys(("delete", "remove"), "-")
SIGNS |= {"replace": "±"} | dict.fromkeys(("boot", "start", "restart", "reload", "run"), "▸")
MODIFIED = "~"


@dataclass(frozen=True)
class Change:
    """One difference between what is and the wish: `verb` in one word, `summary` in one line, `diff` where text differs.

    Its repr has no diff: that is raw text and may hold a secret. Tables show it redacted.
    """

    key: str
    verb: str
    summary: str
    diff: str = field(default="", repr=False)


@dataclass(frozen=True)
class Pending:
    """One change that a plan would make. `host`: the node it concerns, "" when it concerns none. `stage`: on a host the stage it is applied
    in, in the cloud the kind of thing (network, group, machine, …), whose object as it is now is `subject`."""

    host: str
    stage: str
    change: Change
    subject: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Plan:
    """What would change, in the order in which it is done. Falsy when nothing would; `exit_code` as the command line's `plan` uses it.

    `wish`: for hosts, the desired state by node name (`converge.engine.Wish`); empty for the cloud.
    """

    title: str
    wish: Mapping[str, Sequence[Any]] = field(repr=False)
    pending: tuple[Pending, ...]
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.pending)

    @property
    def exit_code(self) -> int:
        return 2 if self.pending else 0

    def of(self, *stages: str) -> tuple[Pending, ...]:
        """The changes of these stages (on hosts) or kinds (in the cloud)."""
        return tuple(p for p in self.pending if p.stage in stages)

    def summary(self) -> str:
        """In one line: how many changes of which sort."""
        if not self.pending:
            return f"{self.title}: nothing to change{_on(len(self.wish))}"
        counts = ", ".join(f"{number} {verb}" for verb, number in Counter(p.change.verb for p in self.pending).items())
        return f"{self.title}: {counted(len(self.pending), 'change')} pending{_on(len({p.host for p in self.pending}) if self.wish else 0)} ({counts})"

    def __str__(self) -> str:
        took = f" ({self.seconds:.2f} s)" if self.seconds and not self.pending else ""
        lines = [f"{self.summary()}{took}"]
        for p in self.pending:
            lines.append(f"  {p.host:12} {_verb(p):18} {p.change.key}: {p.change.summary}")
            lines += [f"      {line}" for line in p.change.diff.splitlines()]
        return redactor.redact("\n".join(lines))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _html("rb-plan", self.summary(), "Change", self.pending)


@dataclass(frozen=True)
class Result:
    """What an apply changed, and how long it took. `hosts`: all that were looked at; none when it was the cloud."""

    title: str
    changed: tuple[Pending, ...]
    hosts: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.title}: nothing to change{_on(len(self.hosts))} ({self.seconds:.1f} s)"
        where = _on(len({p.host for p in self.changed}) if self.hosts else 0)
        return f"{self.title}: {counted(len(self.changed), 'resource')} changed{where} ({self.seconds:.1f} s)"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _html("rb-result", str(self), "Done", self.changed)


def _on(hosts: int) -> str:
    return f" on {counted(hosts, 'host')}" if hosts else ""


def _verb(p: Pending) -> str:
    return f"{SIGNS.get(p.change.verb, MODIFIED)} {p.change.verb}"


def _html(kind: str, caption: str, verb: str, changes: Iterable[Pending]) -> str:
    """A table of the changes, each with its diff folded; a sentence when there is none."""
    rows = "".join(_row(p) for p in changes)
    if not rows:
        return redactor.redact(f'<p class="{kind}" role="status">✔ {html.escape(caption)}</p>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Host", verb, "What", "Why"))
    return redactor.redact(f'<table class="{kind}"><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>')


def _row(p: Pending) -> str:
    why = html.escape(p.change.summary)
    if p.change.diff:
        why = f"<details><summary>{why}</summary><pre>{html.escape(p.change.diff)}</pre></details>"
    return f"<tr><td>{p.host}</td><td>{html.escape(_verb(p))}</td><td>{html.escape(p.change.key)}</td><td>{why}</td></tr>"


@dataclass(frozen=True)
class Event:
    """`host` (or what else is worked on) is `doing` something: number `done` of about `of` steps. For progress displays and the journal.

    `may_stop`: what listens may raise an error here, and nothing is half-done; so it is between two calls to the cloud.
    """

    host: str
    stage: str
    doing: str
    done: int
    of: int
    may_stop: bool = False


Progress = Callable[[Event], None]


class Reporter:
    """Call it with a subject and words; it counts the steps of each subject, and each may be the last. Safe to use from several threads."""

    def __init__(self, listener: Progress | None, stage: str, of: int):
        self.listener, self.stage, self.of = listener, stage, of
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, subject: str, doing: str) -> None:
        if self.listener is None:
            return
        with self._lock:
            self._counts[subject] += 1
            done = self._counts[subject]
        self.listener(Event(subject, self.stage, doing, done, max(done, self.of), may_stop=True))
