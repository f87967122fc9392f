"""The verbs of an exercise: start, check, hint, solve, reset. The rows are `table`, what is done `actions`, what is asked `probes`.

task = exercise(deployment, "nginx-2")
task.start()
task.check("publisher-1")
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from runbook_lib.chapters.exercises import progress
from runbook_lib.chapters.exercises.actions import Actions, changed, fill, words_for
from runbook_lib.chapters.exercises.probes import LANDING, Probes
from runbook_lib.chapters.exercises.progress import TaskRecord
from runbook_lib.chapters.exercises.table import HINTS, Exercise, Step, exercises, nodes_in, words_of
from runbook_lib.chapters.status_board import proofs_of
from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.environment import scene_of
from runbook_lib.checks.sso.verbs import Walk
from runbook_lib.errors import RunbookError
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.patterns import ROLE_OF_COUNT


@dataclass(frozen=True)
class Said:
    """What a verb has to say: one line, and more below it. `passed`: whether the exercise is passed now."""

    line: str
    more: tuple[str, ...] = ()
    passed: bool = False

    def __str__(self) -> str:
        return "\n".join([self.line, *(f"  {each}" for each in self.more)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(each)}</li>" for each in self.more)
        return f'<div class="rb-said" role="status"><p><strong>{html.escape(self.line)}</strong></p>{f"<ul>{items}</ul>" if items else ""}</div>'


class Task:
    """One exercise on one deployment. Each verb raises RunbookError, with nothing changed, where it cannot be done."""

    def __init__(self, deployment: Any, row: Exercise):
        self.deployment, self.row = deployment, row

    @property
    def record(self) -> TaskRecord:
        """How far it is, as Parameter Store has it now."""
        return progress.read(self.deployment.vault, self.row.id)

    def text(self, words: str) -> str:
        """Return a text of the row with the placeholders filled in for this deployment."""
        return fill(words, words_for(self.deployment.topology))

    def start(self, agreed: bool = False) -> Said:
        """Put the deployment into the state of the exercise and return what the learner is told. `agreed`: on AWS somebody has to say so."""
        self._refuse_start(agreed)
        hands = Actions(self.deployment)
        with self._changing("start"):
            record = self._store(self.record.began(self.deployment.person))  # before the change: a start that is killed can be reset
            hands.do(self.row.setup)
        told = [self.text(self.row.question), *hands.told, *(self._ways() if self.row.kind == "attack" else ())]
        return Said(f"{self.row.id} is started: {self.row.title}. {self.row.minutes} minutes are usual.", (*told, *self.form(), *_taken(record)))

    def check(self, answer: object = None) -> Said:
        """Ask the world, and compare an answer with what it says. Return whether the exercise is passed and otherwise what is still wrong."""
        record, given = self._running("checked"), self._answer(answer)
        with self._noted("check"):
            wrong = self._wrong(given, record)
        record = self._store(replace(record, tries=record.tries + 1))
        if wrong:
            return Said(f"{self.row.id}: not yet", tuple(wrong))
        record = self._store(record.ended("passed"))
        points = f"{record.points} points" if record.state == "passed" else "no points: the solution was shown"
        return Said(f"{self.row.id}: passed, {points}", (self.row.teaches, "reset puts the deployment back"), passed=True)

    def hint(self) -> Said:
        """Return the next hint, and those before it. Each costs one point; once the exercise was passed or solved all are shown, at no cost."""
        record = self._running("given a hint")
        if record.state == "started":
            record = self._store(replace(record, hints=min(record.hints + 1, HINTS)))
        number = record.hints if record.state == "started" else HINTS
        shown = tuple(f"hint {place}: {self.text(words)}" for place, words in enumerate(self.row.hints[:number], 1))
        return Said(f"{self.row.id}: {number} of {HINTS} hints", shown)

    def solve(self) -> Said:
        """Return the solution, done where it is something to do. The exercise has no points from then on, unless it was passed before."""
        record = self._running("solved")
        self._store(record.ended("solved"))
        with self._changing("solve"):
            answer = self.solution()
        done = [f"done: {_in_words(step)}" for step in self.row.solution.do if "walk" not in step]
        shown = [f"answer: {answer}"] if answer else []
        return Said(f"{self.row.id}: the solution", (*shown, *done, self.text(self.row.solution.why)))

    def solution(self) -> str:
        """Do what the row's solution does and return its answer: "" where there is none, for an attack the session that it ends with."""
        ways = [step["walk"] for step in self.row.solution.do if "walk" in step]
        Actions(self.deployment).do(step for step in self.row.solution.do if "walk" not in step)
        return self._walked(**ways[0]) if ways else self.text(self.row.solution.answer)

    def reset(self) -> Said:
        """Put the deployment back as its parameters want it, and verify what was changed. Return what was done."""
        record = self._running("reset")
        done = []
        with self._changing("reset"):
            here = {node.name for node in self.deployment.topology.nodes} & self.deployment.instances().keys()
            Actions(self.deployment).do(step for step in self.row.undo if nodes_in(step) <= here)  # a node that went took the change with it
            for chapter in chapters_of(self.deployment.spec.pattern):
                if chapter.converges and (plan := getattr(self.deployment, chapter.attribute).plan()):
                    getattr(self.deployment, chapter.attribute).apply(plan)
                    done.append(f"{chapter.name}: {len(plan.pending)} changed")
            states = proofs_of(self.deployment)
            for chapter in chapters_of(self.deployment.spec.pattern):
                if chapter.converges and chapter.name in states and not states[chapter.name].ok:
                    getattr(self.deployment, chapter.attribute).verify()
                    done.append(f"{chapter.name}: verified again")
        self._store(record.put_back())
        return Said(f"{self.row.id}: the deployment is as its parameters want it", tuple(done))

    # refusals
    def _refuse_start(self, agreed: bool) -> None:
        spec, row = self.deployment.spec, self.row
        where = f"{spec.deployment}, exercise {row.id}"
        if spec.pattern not in row.needs.patterns:
            raise RunbookError(
                f"{row.id} is about {' or '.join(row.needs.patterns)}; this deployment is {spec.pattern}", where, "open a deployment of that pattern"
            )
        if lacking := sorted(row.nodes - {node.name for node in self.deployment.topology.nodes}):
            counts = {key: name.rpartition("-")[2] for name in lacking for key, role in ROLE_OF_COUNT.items() if name.startswith(f"{role}-")}
            raise RunbookError(
                f"{row.id} works with {' and '.join(lacking)}, which this deployment does not have",
                where,
                f"it needs {' and '.join(f'nodes.{key}: {count}' for key, count in counts.items())}; change the parameters and run the chapters again",
            )
        if self.deployment.on_aws and not agreed:
            raise RunbookError(
                "an exercise breaks the deployment on purpose, and this one is on AWS",
                where,
                "say agreed=True, or --yes on the command line; better, use the lab",
            )
        for id, record in progress.read_all(self.deployment.vault).items():
            if record.running:
                what = "is started already" if id == row.id else f"cannot be started: {id} still is"
                raise RunbookError(f"{row.id} {what}, since {record.started} by {record.by}", where, f"go on with it, or reset {id} first")
        states = proofs_of(self.deployment)
        missing = [name for name in row.needs.chapters if name not in states or not states[name].ok]
        if missing:
            raise RunbookError(
                f"{row.id} needs chapters that are not verified: {', '.join(missing)}", where, "run them, or exercise reset if one was broken off"
            )

    def _running(self, verb: str) -> TaskRecord:
        record = self.record
        if not record.running:
            raise RunbookError(
                f"{self.row.id} cannot be {verb}: it is not started", f"{self.deployment.spec.deployment}, exercise {self.row.id}", "start it first"
            )
        return record

    def _answer(self, answer: object) -> str:
        """Return the answer as text. Raises RunbookError when there has to be one and is none, or when it is of a wrong form."""
        form, where = self.row.answer, f"exercise {self.row.id}, answer"
        if form is None:
            return ""
        given = " ".join(map(str, answer)) if isinstance(answer, list | tuple | set) else str("" if answer is None else answer).strip()
        if not given:
            raise RunbookError(f"{self.row.id} asks for an answer", where, "; ".join(self.form()))
        words, allowed = words_of(given), words_of(self.text(" ".join(form.of)))
        unknown = sorted(words - allowed) if form.kind in ("one", "several") else []
        if unknown or (form.kind == "one" and len(words) > 1) or (form.kind == "number" and not given.isdecimal()):
            raise RunbookError(f"{given!r} is not an answer to {self.row.id}", where, "; ".join(self.form()))
        return given

    def _ways(self) -> tuple[str, ...]:
        """Return for each public host how a request reaches it from here."""
        places, topology = self.deployment.public_addresses(), self.deployment.topology
        hosts = {name: places[topology.lb_for(key).name] for key, name in self.deployment.spec.hosts.items()}
        return tuple(f"https://{name} is at {address}: curl -k --resolve {name}:443:{address} https://{name}/" for name, address in hosts.items())

    def form(self) -> tuple[str, ...]:
        """Return how the answer is given, in words; empty where none is asked for."""
        form = self.row.answer
        if form is None:
            return ()
        words = {
            "number": "the answer is a number",
            "one": "the answer is one of",
            "several": "the answer is one or several of",
            "session": "the answer is the session's cookie, JSESSIONID=..., or a URL that has it",
        }
        return (f"{words[form.kind]} {', '.join(map(self.text, form.of))}".strip(),)

    # the world
    def _wrong(self, given: str, record: TaskRecord) -> list[str]:
        """Return what is still wrong, nothing when the exercise is passed."""
        check, probes = self.row.check, Probes(self.deployment, given, record.started)
        wrong = probes.wrong(check.all)
        if not check.compares:
            return wrong
        if check.predict:
            with self.deployment.writing(), changed(self.deployment, check.predict.do):
                found = probes.value(check.predict.observe)
        else:
            found = probes.value(check.observe) if check.observe else words_of(self.text(" ".join(check.accept)))
        return wrong + _compared(words_of(given), found, bool(check.predict))

    def _walked(self, steps: list[Step], roles: list[str], app: str) -> str:
        """Make the steps of an attempt of the proof as a new account with these roles, and return the session in `app` that they end with."""
        login = Actions(self.deployment).new_account(roles)
        walk = Walk(scene_of(self.deployment), matrix()[1], login=login)
        for step in steps:
            walk.step(step)
        host = self.deployment.spec.hosts[app]
        walk.visitor.open(f"https://{host}{LANDING[app]}")
        cookies = [cookie for cookie in walk.visitor.jar if cookie.name == "JSESSIONID" and cookie.host == host and cookie.path.strip("/") == app]
        return f"JSESSIONID={cookies[-1].value}" if cookies else ""

    @contextmanager
    def _changing(self, verb: str) -> Iterator[None]:
        """Hold the deployment's lock, and write the verb to the journal."""
        with self.deployment.writing(), self._noted(verb):
            yield

    def _noted(self, verb: str) -> Any:
        """Write a line to the journal about the block. It belongs to no chapter: an exercise decides nothing about the deployment's state."""
        return self.deployment.journal.attempt("", f"exercise {self.row.id}: {verb}")

    def _store(self, record: TaskRecord) -> TaskRecord:
        return progress.store(self.deployment.vault, self.row.id, record)


def running(deployment: Any) -> Task:
    """Return the exercise that is started on a deployment. Raises RunbookError when there is none."""
    for id, record in progress.read_all(deployment.vault).items():
        if record.running:
            return Task(deployment, exercises()[id])
    raise RunbookError("no exercise is started", deployment.spec.deployment, "name one, or start one: `exercise list` shows them")


def _compared(given: frozenset[str], found: frozenset[str], predicted: bool) -> list[str]:
    """Return what is wrong with an answer without telling the right one."""
    if given == found:
        return []
    prefix = "it was tried, and came out differently" if predicted else "that is not it"
    if len(found) > 1 or len(given) > 1:
        return [f"{prefix}: {len(given & found)} of your {len(given)} are right, and there are {'more' if found - given else 'no others'}"]
    return [prefix]


def _taken(record: TaskRecord) -> tuple[str, ...]:
    return (f"{progress.WORDS[record.state]} before: this time is for practice",) if record.state in ("passed", "solved") else ()


def _in_words(step: Step) -> str:
    name, arguments = next(iter(step.items()))
    return f"{name} {', '.join(f'{key}: {value}' for key, value in arguments.items()) if isinstance(arguments, dict) else arguments}"
