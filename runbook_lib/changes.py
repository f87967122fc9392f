"""The changes that a plan shows and an apply makes, on hosts and in the cloud: Change, Pending, Plan, Result, and the events of their progress."""

from __future__ import annotations

import html
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runbook_lib.redaction import redactor
from runbook_lib.tables import counted

# Signs shown before the verb: created, removed, replaced, started. Every other verb has the sign MODIFIED.
SIGNS = dict.fromkeys(("create", "install", "load", "unpack"), "+") | dict.fromkeys(("delete", "remove"), "-")
SIGNS |= {"replace": "±"} | dict.fromkeys(("boot", "start", "restart", "reload", "run", "dump", "watch"), "▸")
MODIFIED = "~"
DIFF = {"+": "added", "-": "taken", "@": "place"}  # by the first character of a diff's line: the class that colours it


@dataclass(frozen=True)
class Change:
    """One difference between the present and the desired state: `verb` is one word, `summary` one line, `diff` set where text differs.

    Its repr leaves the diff out, which is raw text and may contain a secret. Tables show the diff redacted.
    """

    key: str
    verb: str
    summary: str
    diff: str = field(default="", repr=False)


@dataclass(frozen=True)
class Pending:
    """One change of a plan. `host` is the node it concerns, "" when it concerns none.

    On a host, `stage` is the stage in which it is applied. In the cloud, `stage` is the kind of object (network, group, machine, …)
    and `subject` the object as it is now.
    """

    host: str
    stage: str
    change: Change
    subject: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Plan:
    """What would change, in the order in which it is applied. A plan is false when nothing would change.

    `begun` are the hosts that an apply of this plan began to change ("" for the cloud) and did not end well.
    `wish` is the desired state of hosts by node name (`converge.engine.Wish`); it is empty for the cloud. `seconds` is how long
    planning took. `exit_code` is the exit code of the command `plan`: 2 when there are changes, otherwise 0.
    """

    title: str
    wish: Mapping[str, Sequence[Any]] = field(repr=False)
    pending: tuple[Pending, ...]
    seconds: float = 0.0
    begun: set[str] = field(default_factory=set, compare=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.pending)

    @property
    def exit_code(self) -> int:
        return 2 if self.pending else 0

    def of(self, *stages: str) -> tuple[Pending, ...]:
        """Return the changes of these stages (on hosts) or kinds (in the cloud)."""
        return tuple(p for p in self.pending if p.stage in stages)

    def is_left_of(self, planned: Plan) -> bool:
        """Return whether this plan differs from `planned` by nothing but what an apply of `planned` did before it ended half way.

        On a host that the apply began to change, less may be left, and what follows from a change: a service to be started, or a
        resource that the desired state did not have before the change. In the cloud, objects that are half made may need another
        change, but none that `planned` does not name is removed. On every other host nothing may differ.
        """
        named = {(p.host, p.stage, p.change.key) for p in planned.pending}
        wished = {host: {resource.key for stage in stages for resource in stage.resources} for host, stages in planned.wish.items()}

        def ours(p: Pending) -> bool:
            sign = SIGNS.get(p.change.verb, MODIFIED)
            follows = sign == "▸" or p.change.key not in wished[p.host] if p.host in wished else sign not in ("-", "±")
            return p.host in planned.begun and (follows or (p.host, p.stage, p.change.key) in named)

        new = [p for p in self.pending if p not in planned.pending]
        gone = [p for p in planned.pending if p not in self.pending]
        return all(map(ours, new)) and all(p.host in planned.begun for p in gone)

    def summary(self) -> str:
        """Return one line with the number of changes by verb."""
        if not self.pending:
            return f"{self.title}: nothing to change{_on(len(self.wish))}"
        counts = ", ".join(f"{number} {verb}" for verb, number in Counter(p.change.verb for p in self.pending).items())
        return f"{self.title}: {counted(len(self.pending), 'change')} pending{_on(len({p.host for p in self.pending}) if self.wish else 0)} ({counts})"

    def __str__(self) -> str:
        took = f" ({self.seconds:.2f} s)" if self.seconds and not self.pending else ""
        lines = [f"{self.summary()}{took}"]
        for hosts, change in _by_change(self.pending):
            lines.append(f"  {hosts:12} {_verb(change):18} {change.key}: {change.summary}")
            lines += [f"      {line}" for line in change.diff.splitlines()]
        return redactor.redact("\n".join(lines))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _html("rb-plan", self.summary(), "Change", self.pending)


def part_of(plan: Plan, hosts: Collection[str]) -> Plan:
    """Return the part of a plan that concerns these hosts. What an apply of it begins is noted in the whole."""
    wish = {name: stages for name, stages in plan.wish.items() if name in hosts}
    return replace(plan, wish=wish, pending=tuple(p for p in plan.pending if p.host in hosts))


@dataclass(frozen=True)
class Result:
    """What an apply changed, and the seconds it took. `hosts` are all hosts that were probed; none for the cloud."""

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


def _by_change(pending: Iterable[Pending]) -> list[tuple[str, Change]]:
    """Return each change once, with the hosts that it concerns: machines of one kind mostly differ alike."""
    hosts: dict[tuple[str, Change], list[str]] = {}
    for p in pending:
        hosts.setdefault((p.stage, p.change), []).append(p.host)
    return [(", ".join(names), change) for (_, change), names in hosts.items()]


def _verb(change: Change) -> str:
    return f"{SIGNS.get(change.verb, MODIFIED)} {change.verb}"


def _html(kind: str, caption: str, verb: str, changes: Iterable[Pending]) -> str:
    """Return a table of the changes, each with its diff folded, or the caption alone when there are none; secrets are redacted.

    Where there are three hosts or more, what concerns all of them says so instead of their names.
    """
    changes = tuple(changes)
    every = ", ".join(dict.fromkeys(p.host for p in changes))
    names = f'<span title="{every}">all {every.count(",") + 1} hosts</span>' if every.count(",") > 1 else every  # a column of names takes a third of the width
    rows = "".join(_row(names if hosts == every else hosts, change) for hosts, change in _by_change(changes))
    if not rows:
        return redactor.redact(f'<p class="{kind}" role="status">✔ {html.escape(caption)}</p>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Host", verb, "What", "Why"))
    return redactor.redact(f'<table class="{kind}"><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>')


def _row(hosts: str, change: Change) -> str:
    """Return a change's row and, where text differs, a row of the table's whole width with the diff, which the first one unfolds (style.css)."""
    why, diff = _breakable(change.summary), ""
    if change.diff:
        why = f"<details><summary>{why}</summary></details>"
        diff = f'<tr class="rb-diff"><td colspan="4"><pre>{"".join(map(_coloured, redactor.redact(change.diff).splitlines()))}</pre></td></tr>'
    return f"<tr><td>{hosts}</td><td>{html.escape(_verb(change))}</td><td>{_breakable(change.key)}</td><td>{why}</td></tr>{diff}"


def _breakable(text: str) -> str:
    """Return the text as HTML in which a path that is too long for its column goes on below after a slash, not within a word."""
    return html.escape(text).replace("/", "/<wbr>")


def _coloured(line: str) -> str:
    kind = DIFF.get(line[:1], "same")
    return f'<span class="rb-{kind}">{html.escape(line)}</span>\n'


@dataclass(frozen=True)
class Event:
    """One step of progress, for displays and the journal: `host`, or another subject, is at `doing`, step `done` of about `of`.

    With `may_stop`, the listener may raise an error to stop the work, because nothing is half done at this point. This is so
    between two calls to the cloud.
    """

    host: str
    stage: str
    doing: str
    done: int
    of: int
    may_stop: bool = False

    def __str__(self) -> str:
        return f"{self.host}: {self.stage}, {self.counted}{self.doing}"

    @property
    def counted(self) -> str:
        """The step among all, "" where nobody knows how many there are."""
        return f"{self.done} of {self.of}: " if self.of else ""


Progress = Callable[[Event], None]


class Reporter:
    """Sends events to `listener`. Each call with a subject and a text counts one step of that subject. Safe to use from several threads.

    The listener may raise an error at each event to stop the work. `of` is the expected number of steps; it grows when there are more.
    """

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
