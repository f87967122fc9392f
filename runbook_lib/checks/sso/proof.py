"""The SSO proof: makes every attempt of the matrix, decides each by its responses, and tells whether Store and Publisher are separate.

    proof = prove(scene)
    proof.verdict        # "separated" | "leaks (n ways)" | "not decided"

The matrix is `attempts.yaml`; this module has no code for a single attempt.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Literal

from runbook_lib.changes import Progress, Reporter
from runbook_lib.check import Check, CheckTable
from runbook_lib.checks.sso.attempts import Attempt, matrix, settings, untried
from runbook_lib.checks.sso.environment import NEIGHBOUR, NODE, OUTSIDE, Login, Pins, ProductNode, Scene, refuse_unagreed
from runbook_lib.checks.sso.pages import Seen
from runbook_lib.checks.sso.proof_users import test_users
from runbook_lib.checks.sso.verbs import CannotTell, Walk
from runbook_lib.errors import RunbookError
from runbook_lib.evidence.statement import Statement, Tally, tally
from runbook_lib.redaction import redactor
from runbook_lib.tables import counted
from runbook_lib.webclient.response import Exchange

CHAPTER = "07_verify_sso_separation"
WORKERS = 8
BEHIND_NGINX = ("single", "original", "hosts", "allow-list", "app-removed", "full")
SILENCE = ("timeout", "closed")  # no answer: a rule that drops packets, or too much to do
# Where an attempt is decided by its last page: an earlier step that ended at one of these was neither done nor refused, so the last page proves nothing
NOT_DONE = (*SILENCE, "refused", "tls-refused", "nginx-other", "nginx-429", "routed-500")
State = Literal["held", "leak", "undecided"]
STATES: tuple[State, ...] = ("leak", "undecided", "held")  # of several goes at one attempt the first of these counts
EXPECTED = {
    "attempt": ("refused", "it succeeds"),
    "control": ("it works", "it fails"),
    "hygiene": ("as it should be", "it is missing"),
    "limit": ("refused", "it succeeds (a limit of the product)"),
}
# the three holes of the product (facts 10.2, 12.1), shown with the requests and responses of this run
HOLES = ("click-through-store-only", "basic-api-without-role", "direct-script-without-role")


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt.

    `seen`: the pages and findings that decide it. `where`: the place from which it was made, and the nodes that were to answer. `reason`: why it could not
    be decided. `exchanges`: its requests and responses, redacted. `notes`: texts that the steps recorded besides.
    """

    attempt: Attempt
    state: State
    seen: tuple[Seen, ...]
    where: str
    reason: str = ""
    exchanges: tuple[Exchange, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def observed(self) -> str:
        """The pages of the deciding steps in words, or the reason why there is no decision."""
        if self.reason:
            return self.reason
        return "; ".join(dict.fromkeys(map(str, self.seen)))

    def as_evidence(self) -> dict[str, Any]:
        """Return the data for the report: user, requests, why the attempt matters, and the setting that closes it."""
        steps = [f"{verb} {argument}" for step in self.attempt.steps for verb, argument in list(step.items())[:1]]
        return {
            "title": self.attempt.title,
            "kind": self.attempt.kind,
            "state": self.state,
            "hole": self.attempt.id in HOLES,
            "who": self.attempt.who,
            "class": self.attempt.class_,
            "severity": self.attempt.severity,
            "severity_reason": self.attempt.severity_reason,
            "requests": [vars(exchange) for exchange in self.exchanges],
            "notes": self.notes if self.notes or self.exchanges else steps,
            "why": self.attempt.why,
            "closed_by": settings().get(self.attempt.closed_by, ""),
            "foretold": _foretold(self.attempt),
        }

    def as_check(self, scene: Scene) -> Check:
        """Return the check of this attempt, which passes when its state is expected in this configuration."""
        wanted = self.attempt.expected(scene)
        held, leak = EXPECTED[self.attempt.kind]
        words = " or ".join(word for state, word in (("held", held), ("leak", leak)) if state in wanted)
        status = "undecided" if self.state == "undecided" else "pass" if self.state in wanted else "fail"
        text = redactor.redact(f"{self.state}: {self.observed}")
        return Check(f"sso.{self.attempt.id}", self.attempt.title, status, words, text, self.where, CHAPTER, self.attempt.kind, self.state)  # type: ignore[arg-type]


def _foretold(attempt: Attempt) -> dict[str, str]:
    """Return what the matrix foretells of an attempt in every configuration behind Nginx, for the picture of what each level closes."""
    return {configuration: attempt.foretold(configuration) for configuration in BEHIND_NGINX}


def decide(attempt: Attempt, seen: Iterable[Seen]) -> State:
    """Return the state: `leak` when a deciding page leaks, `held` when all of them are refusals, else `undecided`."""
    pages = [one.page for one in _deciding(attempt, tuple(seen))]
    if any(page in attempt.leak for page in pages):
        return "leak"
    return "held" if pages and all(page in attempt.held for page in pages) else "undecided"


def _deciding(attempt: Attempt, seen: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """Return the pages that decide the attempt: all, or as its `decided_by` says the last one and those before it at which a step was not done.

    A refusal by Nginx (403, 404) is a step that was done: the refusal is what the last page follows from.
    """
    if attempt.decided_by != "last":
        return seen
    return (*(one for one in seen[:-1] if one.page in NOT_DONE), *seen[-1:])


@dataclass(frozen=True)
class _Go:
    """One go at an attempt, at one node or in one round: the pages that decide it, and the `nodes` that answered where it was pinned to some."""

    state: State
    seen: tuple[Seen, ...]
    reason: str
    exchanges: tuple[Exchange, ...]
    notes: tuple[str, ...]
    nodes: str

    def named(self) -> _Go:
        """Return it with the nodes in its words."""
        if not self.nodes:
            return self
        by = f"by {self.nodes}"
        pages = tuple(replace(one, detail=", ".join(filter(None, (one.detail, by)))) for one in self.seen)
        return replace(self, seen=pages, reason=self.reason and f"{self.reason} ({by})")


def try_out(attempt: Attempt, scene: Scene, logins: Mapping[str, Login], rounds: tuple[Pins, ...] = ({},)) -> Outcome:
    """Make one attempt and return its outcome. An attempt from a node is made at every node of its tier, one from outside in every round of `rounds`.

    After a round in which no node answered there is no other: Nginx refused by itself. What gets through once is a leak, and the words name
    the nodes where not all did the same. An error leaves the outcome undecided, with the error as its reason, unless a leak was seen; nothing is raised.
    """
    at = scene.nodes.get(attempt.at, ()) if attempt.place == NODE else ()
    where = ", ".join(node.name for node in at) or _place(attempt, scene)
    if attempt.who not in ("no one", "anybody", *logins):
        return Outcome(attempt, "undecided", (), where, f"not tried: no {attempt.who} user was made")
    goes: list[_Go] = []
    for pins in rounds if attempt.place == OUTSIDE else ({},):
        for node in at or (None,):
            goes.append(_go(attempt, scene, logins, node, pins))
        if not goes[-1].nodes:
            break
    if len({(go.reason, *(one.page for one in go.seen)) for go in goes}) > 1:
        goes = [go.named() for go in goes]
    goes.sort(key=lambda go: STATES.index(go.state))
    first = goes[0]
    if met := sorted({name for go in goes for name in go.nodes.split(", ") if name and attempt.place == OUTSIDE}):
        where += f", answered by {', '.join(met)}"
    seen, exchanges, notes = (tuple(itertools.chain.from_iterable(each)) for each in zip(*((go.seen, go.exchanges, go.notes) for go in goes), strict=True))
    return Outcome(attempt, first.state, seen, where, first.reason, first.exchanges if attempt.place == OUTSIDE else exchanges, notes)


def _go(attempt: Attempt, scene: Scene, logins: Mapping[str, Login], node: ProductNode | None, pins: Pins) -> _Go:
    """Make the steps of an attempt once, and decide it."""
    try:
        walk = Walk(scene, matrix()[1], attempt.place, node, logins.get(attempt.who), logins, pins)
    except RunbookError as error:
        return _Go("undecided", (), str(error), (), (), "")
    met: list[Exchange] = []
    state: State = "undecided"
    reason = ""
    try:
        for step in attempt.steps:
            _make(walk, step, met)
        state = decide(attempt, walk.seen)
    except CannotTell as error:
        reason = str(error)
    except Exception as error:  # an error of the check must not count as a refusal
        reason = f"{type(error).__name__}: {error}"
    if reason and attempt.decided_by == "all" and decide(attempt, walk.seen) == "leak":  # what got through got through, whatever could not be done after it
        state, reason = "leak", ""
    nodes = walk.node.name if walk.node else ", ".join(sorted(walk.met()))
    return _Go(state, _deciding(attempt, tuple(walk.seen)), reason, tuple(met), tuple(map(redactor.redact, walk.notes)), nodes)


def _make(walk: Walk, step: Mapping[str, Any], met: list[Exchange]) -> None:
    """Make one step of an attempt and put its requests and responses into `met`, redacted, also when it raises an error."""
    before = len(walk.exchanges)
    try:
        walk.step(step)
    finally:
        for one in walk.exchanges[before:]:
            met.append(replace(one, url=redactor.redact(one.url), location=redactor.redact(one.location), note=redactor.redact(one.note)))


def _place(attempt: Attempt, scene: Scene) -> str:
    if attempt.place == NEIGHBOUR and scene.neighbour:
        return f"from {scene.neighbour[0]}"
    return "from outside"


@dataclass(frozen=True)
class Proof:
    """The result of the proof."""

    scene: Scene
    outcomes: tuple[Outcome, ...]
    left_out: tuple[Attempt, ...] = field(default=())
    clean_up: tuple[Check, ...] = ()  # that what was made for the proof (test users, probe) is removed; it does not count for the verdict

    @property
    def ways(self) -> tuple[str, ...]:
        """Titles of the attempts that succeeded."""
        return tuple(o.attempt.title for o in self.outcomes if o.state == "leak" and o.attempt.kind == "attempt")

    @property
    def repairs(self) -> dict[str, str]:
        """The setting that closes each successful attempt, by its title."""
        attempts = {outcome.attempt.title: outcome.attempt for outcome in self.outcomes}
        return {way: settings().get(attempts[way].closed_by, "") for way in self.ways}

    @property
    def open_questions(self) -> tuple[str, ...]:
        """Titles of the undecided attempts, and of the controls that did not work."""
        return tuple(o.attempt.title for o in self.outcomes if o.state == "undecided" or (o.attempt.kind == "control" and o.state != "held"))

    @property
    def kind(self) -> str:
        """`leak`, `separated` or `undecided`. It is `separated` only when every attempt was made, decided and refused."""
        if self.ways:
            return "leak"
        return "undecided" if self.open_questions or not self.outcomes else "separated"

    @property
    def verdict(self) -> str:
        """`kind` in words, with the number of ways."""
        return {"leak": f"leaks ({counted(len(self.ways), 'way')})", "undecided": "not decided"}.get(self.kind, self.kind)

    @property
    def tally(self) -> Tally:
        """The count of its rows."""
        return tally(vars(check) for check in self.checks)

    @property
    def statement(self) -> Statement:
        """What the system does, and whether that is expected."""
        return Statement(self.kind, len(self.ways), self.scene.expect, self.as_expected)

    @property
    def as_expected(self) -> bool:
        """Whether the notebook passes: the verdict is the expected one and every check holds."""
        return self.kind == self.scene.expect and self.checks.ok

    @property
    def checks(self) -> CheckTable:
        """One check per attempt, and those on the removal of what was made for the proof."""
        return CheckTable([*(outcome.as_check(self.scene) for outcome in self.outcomes), *self.clean_up])

    @property
    def exchanges(self) -> tuple[tuple[str, tuple[Exchange, ...]], ...]:
        """The requests and responses of this run for the three holes of the product, by title."""
        return tuple((o.attempt.title, o.exchanges) for o in self.outcomes if o.attempt.id in HOLES)

    @property
    def scope(self) -> dict[str, Any]:
        """Return the configuration that was tried, what was not (`left_out`: attempts without a meaning here; `not_tested`), and what stays (`risks`)."""
        left_out = [
            {
                "title": attempt.title,
                "why": attempt.left_out_of(self.scene),
                "kind": attempt.kind,
                "closed_by": settings().get(attempt.closed_by, ""),
                "foretold": _foretold(attempt),
            }
            for attempt in self.left_out
        ]
        return {"configuration": self.scene.configuration, "left_out": left_out, **untried()}

    def _repr_html_(self) -> str:
        closing = self.repairs or dict.fromkeys(self.open_questions, "")
        lines = "".join(_item(title, setting) for title, setting in closing.items())
        names = f"<ul>{lines}</ul>" if lines else ""
        count = f"<p>{html.escape(str(self.tally))}</p>"
        return self.statement._repr_html_() + count + names + self.checks._repr_html_() + self._note()

    def __str__(self) -> str:
        names = [f"  - {title}" for title in (self.ways or self.open_questions)]
        return "\n".join([str(self.statement), str(self.tally), *names, "", str(self.checks)])

    __repr__ = __str__

    def _note(self) -> str:
        if not self.left_out:
            return ""
        titles = ", ".join(html.escape(attempt.title) for attempt in self.left_out)
        return f"<p><small>Without a meaning in this deployment, so not in the table: {titles}.</small></p>"


def _item(title: str, setting: str) -> str:
    closed = f"<br><small>closed by: {html.escape(setting)}</small>" if setting else ""
    return f"<li>{html.escape(title)}{closed}</li>"


def prove(scene: Scene, *, agreed: bool = False, only: Iterable[str] = (), progress: Progress | None = None) -> Proof:
    """Make every attempt that has a meaning in this scene and return the proof. Test users exist only during the call.

    `agreed`: the owner of the user store agreed to the test users. `only`: ids of attempts to make; the verdict is about
    these alone. `progress` is told each attempt, and may raise an error to stop: no more attempts are begun, and the users go.
    Raises `RunbookError` when the scene asks first and nobody agreed (then nothing is changed), or when the test
    users cannot be made.
    """
    refuse_unagreed(scene.ask_first, agreed)
    chosen = [attempt for attempt in matrix()[0] if not only or attempt.id in set(only)]
    rows = [attempt for attempt in chosen if attempt.applies(scene)]
    with test_users(scene) as logins:
        outcomes = _all(rows, scene, logins, Reporter(progress, "attempts", len(rows)))
    left_out = tuple(attempt for attempt in chosen if not attempt.applies(scene))
    return Proof(scene, tuple(outcomes[attempt.id] for attempt in rows), left_out, (logins.check(CHAPTER, "the attempts"),))


def _all(rows: list[Attempt], scene: Scene, logins: Mapping[str, Login], report: Reporter) -> dict[str, Outcome]:
    """Make the attempts and return the outcomes by id.

    Controls are made first, one after the other, because a user's first sign-in creates its private role. Attempts that must
    run alone come last, and of these the ones that write a role at the end. All others run in parallel. Those from the neighbour are made
    beside all of them: they wait for its machine, and come from another address. What met silence there, or was not decided, is tried
    again when nothing else is under way, because load is silent too; then the neighbour is left. Those that only knock at ports wait for
    silence, and see nothing of the others: they are begun first.
    """
    rounds = scene.rounds()
    apart = [attempt for attempt in rows if attempt.place == NEIGHBOUR]
    knocking = [attempt for attempt in rows if attempt.knocks and attempt not in apart]
    first = [attempt for attempt in rows if attempt not in (*apart, *knocking) and attempt.kind == "control"]
    last = sorted((each for each in rows if each not in apart and (each.alone or each.writes)), key=lambda attempt: attempt.writes)
    between = [attempt for attempt in rows if attempt not in (*apart, *knocking, *first, *last)]
    stopped = Event()

    def made(attempt: Attempt) -> tuple[str, Outcome]:
        report("proof", attempt.title)
        return attempt.id, try_out(attempt, scene, logins, rounds)

    def from_neighbour() -> dict[str, Outcome]:
        outcomes = dict(made(attempt) for attempt in apart if not stopped.is_set())
        if not any(map(_silent, outcomes.values())):
            scene.leave_neighbour()
        return outcomes

    with ThreadPoolExecutor(max_workers=WORKERS) as pool, ThreadPoolExecutor(max_workers=1) as beside:
        met = beside.submit(from_neighbour)
        silent = pool.map(made, knocking)
        try:
            outcomes = dict(map(made, first))
            outcomes |= pool.map(made, between)
            outcomes |= silent
            outcomes |= map(made, last)
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
        outcomes |= met.result()
    if again := [outcome.attempt for outcome in met.result().values() if _silent(outcome)]:
        outcomes |= {attempt.id: try_out(attempt, scene, logins) for attempt in again}
        scene.leave_neighbour()
    return outcomes


def _silent(outcome: Outcome) -> bool:
    return outcome.state == "undecided" or any(seen.page in SILENCE for seen in outcome.seen)
