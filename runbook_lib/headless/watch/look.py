"""One pass over one deployment: every plan, every check that leaves nothing behind, every level. It takes no lock and writes nothing.

What is not well is looked at again: what both looks find is told. So neither a connection that broke once nor a change that was under way
is an alarm. While somebody has the deployment's lock it is busy: what is half done is not told either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook_lib.aws.lock import holder
from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.checks.running_out import Level, backup_age, certificates, checks_of, disks, price_age, support
from runbook_lib.errors import CloudError, RunbookError
from runbook_lib.evidence.journal import Journal, now
from runbook_lib.headless import runner
from runbook_lib.redaction import redactor
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.model import Spec
from runbook_lib.tables import counted
from runbook_lib.waiting import wait_until

if TYPE_CHECKING:
    from runbook_lib.chapters.deployment import Deployment

OK, DRIFT, FAILED, UNREACHABLE, BUSY, ERROR = "ok", "drift", "failed", "unreachable", "busy", "error"
WORST_FIRST = (BUSY, DRIFT, ERROR, UNREACHABLE, FAILED)
AGAIN = 10.0  # seconds from the first look to the end of the last one, at least
LONGEST = 300  # characters of a line


@dataclass(frozen=True)
class Deviation:
    """What is not well. `kind`: drift, unreachable, failed or error; `key`: the same in every pass that finds it; `line`: for people."""

    kind: str
    key: str
    line: str


@dataclass(frozen=True)
class Pass:
    """What a pass over one deployment found. `when`: its beginning, UTC; `checks`: how many were made; `notes`: what is worth a word and no alarm."""

    deployment: str
    when: str
    state: str
    findings: tuple[Deviation, ...] = ()
    checks: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()

    def lines(self, kind: str) -> list[str]:
        """Return each line of one kind once."""
        return list(dict.fromkeys(finding.line for finding in self.findings if finding.kind == kind))


@dataclass
class Look:
    """What one look found so far. `busy`: who has the deployment's lock, in words; nothing else counts then. `unclear`: checks without a clear result."""

    findings: dict[str, Deviation] = field(default_factory=dict)
    checks: int = 0
    levels: list[Level] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    busy: str = ""

    @property
    def settled(self) -> bool:
        """Whether there is nothing to be looked at again."""
        return bool(self.busy) or not self.findings

    def add(self, kind: str, key: str, line: str) -> None:
        text = " ".join(redactor.redact(line).split())
        self.findings.setdefault(f"{kind} {key}", Deviation(kind, f"{kind} {key}", text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"))

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Add the block's error as a finding: unreachable when the same may succeed later, an error when the cloud refuses to be asked, failed otherwise."""
        try:
            yield
        except RunbookError as error:
            where = f" ({error.where})" if error.where else ""
            kind = UNREACHABLE if error.transient else ERROR if isinstance(error, CloudError) else FAILED
            self.add(kind, f"{what} {type(error).__name__}", f"{(error.what.splitlines() or [''])[0]}{where}")

    def planned(self, pending: Pending) -> None:
        change = pending.change
        self.add(
            DRIFT,
            f"{pending.host} {pending.stage} {change.verb} {change.key}",
            f"{pending.host or pending.stage}: {change.verb} {change.key}: {change.summary}",
        )

    def checked(self, check: Check) -> None:
        """Add a check that failed. One that was made without a clear result is worth a word; one that was not made is not."""
        self.checks += 1
        if check.status == "fail":
            self.add(FAILED, f"{check.id} {check.where}", f"{check.id}: expected {check.expected}, observed {check.observed}")
        elif check.status == "undecided":
            words = redactor.redact(f"{check.id} is undecided: {check.observed}")
            self.unclear.append(" ".join(words.split()))


def look(spec: Spec) -> Look:
    """Return what is found now, by connections of its own."""
    found = Look()
    with found.asking("open"), runner.opened(spec) as deployment:
        deployment.adopt(Journal.begin(spec, new=True))  # of no run: neither a session by hand nor `latest` gets a line
        found.busy = at_work(deployment)
        if not found.busy:
            _ask_all(deployment, found)
            found.busy = at_work(deployment) if found.findings else ""
    return found


def _ask_all(deployment: Deployment, found: Look) -> None:
    """Ask for plans, quiet checks and levels. What cannot be asked, a chapter or a machine, keeps nobody from the others."""
    for chapter in chapters_of(deployment.spec.pattern):
        part = getattr(deployment, chapter.attribute)
        with found.asking(f"plan {chapter.name}"):
            for pending in part.plan().pending if chapter.converges else ():
                found.planned(pending)
        with found.asking(f"checks {chapter.name}"):
            for check in part.checks(quiet=True):
                found.checked(check)
    found.levels += [*support(deployment.spec.cloud.image), price_age(deployment.spec.cloud.region)]
    with found.asking("certificates"):
        found.levels += certificates(deployment)
    with found.asking("backups"):
        found.levels += backup_age(deployment)
    with found.asking("disks"):
        for node, read in disks(deployment).items():
            with found.asking(f"disks {node}"):
                found.levels += read.result()
    for check in checks_of(found.levels):
        found.checked(check)


def watched(spec: Spec, look_at: Callable[[Spec], Look] = look) -> Pass:
    """Return what a pass over the deployment finds. `look_at`: how to look once."""
    began, when = time.monotonic(), now()
    first = last = look_at(spec)
    if not first.settled:
        last = wait_until(lambda: look_at(spec), AGAIN, pause=AGAIN, enough=lambda again: again.settled)
    found = {key: finding for key, finding in last.findings.items() if key in first.findings}
    if last.busy:
        found = {BUSY: Deviation(BUSY, BUSY, last.busy)}
    notes = (*(f"{level.place}: {level.words}" for level in last.levels if level.low), *last.unclear)
    seconds = round(time.monotonic() - began, 1)
    return Pass(spec.deployment, when, worst(found), tuple(found.values()), last.checks, seconds, notes, tuple(last.levels))


def at_work(deployment: Any) -> str:
    """Return who has the deployment's lock and since when, in words; "" when nobody has."""
    held = holder(deployment.vault)
    return f"{held.words}, since {held.since}" if held and not held.expired else ""


def worst(findings: Mapping[str, Deviation]) -> str:
    """Return the state of what has these findings."""
    kinds = {finding.kind for finding in findings.values()}
    return next((kind for kind in WORST_FIRST if kind in kinds), OK)


def in_a_line(found: Pass) -> str:
    """Return what was found in one line: the state, the first finding of it, and how many more there are."""
    lines = [line for kind in WORST_FIRST for line in found.lines(kind)]
    more = f"; and {counted(len(lines) - 1, 'more finding')}" if len(lines) > 1 else ""
    return f"{found.state}: {lines[0]}{more}" if lines else found.state
