"""The state of a deployment: its machines in the cloud, the last result of each chapter, and the next chapter."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.aws.lock import holder
from runbook_lib.errors import DataLost, RunbookError
from runbook_lib.evidence import journal, provenance, runs
from runbook_lib.notebook.parameters_cell import way_to_chapters
from runbook_lib.redaction import redactor
from runbook_lib.spec.chapters import Chapter, chapters_of
from runbook_lib.spec.loader import load_spec
from runbook_lib.tables import Link, html_table, text_table
from runbook_lib.topology.diagram import image

if TYPE_CHECKING:
    from runbook_lib.session import Session

MACHINES = ("Machine", "Address", "Type", "State", "Serves")
CHAPTERS = ("Chapter", "State", "When", "By")


@dataclass(frozen=True)
class ChapterState:
    """How it stands with a chapter: `word`, as documents name it, and what a person is shown."""

    word: str
    shown: str

    def __str__(self) -> str:
        return self.shown


HOLDS, FAILED, OPEN = ChapterState("verified", "✔ verified"), ChapterState("failed", "✘ failed"), ChapterState("to do", "○ to do")
DRIFT, APPLIED = ChapterState("changed since", "△ changed since"), ChapterState("applied, not verified", "△ applied, not verified")


@dataclass(frozen=True)
class Record:
    """The last result of a chapter, as Parameter Store or a journal here has it: when and by whom.

    `applied`: it was changed since its last verification; `leaks`: what it verified is a system that leaks, as its parameters expect; `changed`: another
    chapter changed something after this proof of the whole, which therefore says nothing of the system as it is now.
    """

    ok: bool
    utc: str
    by: str
    applied: bool = False
    leaks: str = ""
    changed: bool = False

    @property
    def state(self) -> ChapterState:
        """How it stands. What leaks is never shown as good."""
        if self.ok:
            return ChapterState("leaks, as expected", f"{self.leaks}, as expected") if self.leaks else HOLDS
        return DRIFT if self.changed else APPLIED if self.applied else FAILED


@dataclass(frozen=True)
class Board:
    """The status board: machines, chapters, and the next chapter.

    `running`: how many of the machines run; `next_chapter`: the first chapter that is not verified, None when all are;
    `trouble`: why the cloud could not be asked, or that the databases are lost, "" otherwise; `at_work`: who else has the lock and since when,
    "" when nobody has;
    `banner`: rehearsal or production, which account and as whom; `public`: by node, the public address that visitors come to.
    """

    name: str
    pattern: str
    machines: Sequence[tuple[str, ...]]
    chapters: Sequence[tuple[object, ...]]
    next_chapter: Chapter | None
    running: int
    trouble: str = ""
    at_work: str = ""
    banner: str = ""
    public: Mapping[str, str] = field(default_factory=dict)

    @property
    def reached(self) -> str:
        """Return where visitors come to, in one line; "" where no machine has a public address."""
        return f"public address: {', '.join(f'{node} {address}' for node, address in self.public.items())}" if self.public else ""

    @property
    def headline(self) -> str:
        """Return the state in one line."""
        then = f"next: {self.next_chapter.name} ({self.next_chapter.title})" if self.next_chapter else "every chapter is verified"
        return f"{self.name} ({self.pattern}): {self.running} of {len(self.machines)} machines run; {then}"

    def __str__(self) -> str:
        parts = [
            self.banner,
            self.headline,
            self.reached,
            self.at_work,
            self.trouble,
            text_table(MACHINES, self.machines),
            text_table(CHAPTERS, self.chapters),
        ]
        return redactor.redact("\n\n".join(filter(None, parts)))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f'<p role="status">{html.escape(words)}</p>' for words in (self.reached, self.at_work, self.trouble) if words)
        machines = html_table(MACHINES, self.machines, "Machines, as the cloud knows them now")
        chapters = html_table(CHAPTERS, self.chapters, "Chapters")
        banner = f'<p class="rb-banner"><strong>{html.escape(self.banner)}</strong></p>' if self.banner else ""
        headline = f'{banner}<p class="rb-headline"><strong>{html.escape(self.headline)}</strong></p>'
        body = f'{headline}{notes}<div class="rb-board">{machines}{chapters}</div>'
        return redactor.redact(f'<section class="rb-status" aria-label="status of {html.escape(self.name)}">{body}</section>')


def read_board(deployment: Session, drift: bool = False) -> Board:
    """Return the board from the state of the cloud and the chapters' last results. `drift`: also compare verified chapters with their hosts.

    When the cloud does not answer, the board says so and no error is raised, because the board is read when something is wrong.
    """
    spec, topology = deployment.spec, deployment.topology
    try:
        found, trouble = dict(deployment.instances()), ""
        proofs = proofs_of(deployment) if found else {}
        at_work = _at_work(deployment)
        banner = provenance.banner(deployment.provenance)
    except RunbookError as error:
        found, proofs, trouble, at_work, banner = {}, {}, str(error), "", ""
    machines = [(node.name, node.address, node.instance_type, _state(found.get(node.name)), ", ".join(node.hosts) or node.role) for node in topology.nodes]
    rows, upcoming = [], None
    for chapter in chapters_of(spec.pattern):
        record = proofs.get(chapter.name)
        holds, state = bool(record and record.ok), record.state if record else OPEN
        if drift and holds and chapter.converges:
            try:
                drifted = bool(getattr(deployment, chapter.attribute).plan())
            except DataLost as error:
                drifted, trouble = True, str(error)
            if drifted:
                holds, state = False, DRIFT
        if not holds and upcoming is None:
            upcoming = chapter
        link = Link(f"{way_to_chapters()}{chapter.name}.ipynb", chapter.name, chapter.title)
        rows.append((link, state, record.utc if record else "", record.by if record else ""))
    running = sum(node.name in found and found[node.name].state == "running" for node in topology.nodes)
    public = {node.name: found[node.name].public_address for node in topology.nodes if node.name in found and found[node.name].public_address}
    return Board(spec.deployment, spec.pattern, machines, rows, upcoming, running, trouble, at_work, banner, public)


def chapter_states(params_file: str | Path) -> dict[str, str]:
    """Return the state of each chapter in words, by name; empty when the parameters are wrong or the cloud cannot be asked."""
    from runbook_lib.session import Session

    try:
        spec = load_spec(params_file)
        return {name: f"{record.state} {record.utc}" for name, record in proofs_of(Session(spec, journal.Journal.begin(spec))).items()}
    except RunbookError:
        return {}


def _at_work(deployment: Session) -> str:
    """Return who else holds the deployment's lock, in words; "" when nobody or this run itself holds it."""
    held = holder(deployment.vault)
    if held is None or held.expired or held.owner == deployment.owner:
        return ""
    return f"△ at work: {held.words}, since {held.since}; until that ends nobody else can apply"


def proofs_of(deployment: Session) -> dict[str, Record]:
    """Return the last result by chapter, from the records in the cloud and the journals on this machine."""
    proofs = {}
    for chapter in chapters_of(deployment.spec.pattern):
        if note := deployment.vault.find(f"chapters/{chapter.name}"):
            left = json.loads(note)
            proofs[chapter.name] = Record(**{key: left[key] for key in Record.__dataclass_fields__ if key in left})
    for name, attempt in runs.attempts(deployment.spec.deployment).items():
        if name in proofs and attempt.utc > proofs[name].utc and not attempt.ok:
            proofs[name] = Record(False, attempt.utc, "here")
    return proofs


def store_verification(deployment: Session, chapter: str, ok: bool, leaks: str = "") -> None:
    """Store the result of a chapter's verification in the cloud, so that a colleague on another machine sees it.

    `leaks`: what was verified, when it is a system that leaks.
    """
    _store(deployment, chapter, Record(ok, "", "", leaks=leaks))


def store_applied(deployment: Session, chapter: str) -> None:
    """Store that a chapter is being changed: until it is verified again nobody may rely on its last verification, nor on a proof of the whole."""
    _store(deployment, chapter, Record(False, "", "", applied=True))
    for proof in (f"chapters/{each.name}" for each in chapters_of(deployment.spec.pattern) if not each.converges):
        if note := deployment.vault.find(proof):
            deployment.vault.put(proof, json.dumps(json.loads(note) | {"ok": False, "changed": True}, ensure_ascii=False), secure=False)


def _store(deployment: Session, chapter: str, record: Record) -> None:
    note = asdict(record) | {"utc": journal.now()[:19] + "Z", "by": deployment.person}
    deployment.vault.put(f"chapters/{chapter}", json.dumps(note, ensure_ascii=False), secure=False)


def _state(instance: Any) -> str:
    if instance is None:
        return "○ not launched"
    return f"{'●' if instance.state == 'running' else '○'} {instance.state}"


def status_board(deployment: Session, drift: bool = True) -> Board:
    """Return the status board; with `drift`, every verified chapter is compared with its hosts again."""
    return read_board(deployment, drift)


def overview(deployment: Session) -> dict[str, str]:
    """Return the top of a chapter, the topology picture and the board, as HTML and as text."""
    board = replace(read_board(deployment), banner="")  # who shows this begins with it
    picture = f'<figure class="rb-picture">{image(deployment.topology, {row[0]: row[3] for row in board.machines})}</figure>'
    return {"text/html": f"{picture}{board._repr_html_()}", "text/plain": str(board)}
