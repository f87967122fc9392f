"""What a plan would change, and what happens while it is applied: on hosts (`Event`) and between calls to the cloud (`Step`)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """`host` (or what else is worked on) is `doing` something: number `done` of about `of` steps. Between two of these a cancel is safe."""

    host: str
    stage: str
    doing: str
    done: int
    of: int


class Reporter:
    """Call it with a subject and words; it counts the steps of each subject. Safe to use from several threads."""

    def __init__(self, listener: Callable[[Any], None] | None, stage: str, of: int):
        self.listener, self.stage, self.of = listener, stage, of
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, subject: str, doing: str) -> None:
        if self.listener is None:
            return
        with self._lock:
            self._counts[subject] += 1
            done = self._counts[subject]
        self.listener(Step(subject, self.stage, doing, done, max(done, self.of)))


@dataclass(frozen=True)
class Change:
    """One difference between a host and the wish: `verb` in one word, `summary` in one line, `diff` where text differs.

    Its repr has no diff: that is raw text and may hold a secret. Tables show it redacted.
    """

    key: str
    verb: str
    summary: str
    diff: str = field(default="", repr=False)


@dataclass(frozen=True)
class Event:
    """Something that just happened on a host, for progress displays and the journal."""

    host: str
    stage: str
    doing: str
    done: int
    of: int


@dataclass(frozen=True)
class Pending:
    """One change that a plan would make."""

    host: str
    stage: str
    change: Change
