"""The exercises as data: one YAML file for each part of the course, in `parts/`. The head of `parts/nginx.yaml` explains every field.

A row that is not well formed is refused when the table is read, with the file, the exercise and the field.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runbook_lib.chapters.exercises import parts as parts_
from runbook_lib.errors import RunbookError
from runbook_lib.spec.chapters import CHAPTERS
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.topology.model import FIRST_ADDRESS

PARTS = {  # the parts of the course in their order: title, and what the part is about
    "network": (
        "Network and machines",
        "Security groups, SSH keys and the machines themselves. What is open that should not be, what is shut that should be open, and how does one notice "
        "either before somebody else does?",
    ),
    "database": (
        "The database",
        "One server holds the users, the roles and the registry of every node. What is wrong there is seen everywhere else, and seldom where it was done.",
    ),
    "product": (
        "The product's configuration",
        "Six nodes out of one pack: what makes a node the member of its tier are a few lines in a few files, and each of them can be wrong in its own way.",
    ),
    "nginx": (
        "Nginx",
        "Every request passes it, and nearly every fault of it passes `nginx -t`. These exercises are about what a syntax check cannot see.",
    ),
    "sso": (
        "Single sign-on",
        "One password for two applications is what users want, and what lets a visitor of the one walk into the other. Some of these exercises are done on the "
        "pattern that leaks, the others on the repaired one.",
    ),
    "failover": (
        "Failover",
        "Machines fail. What do visitors notice, for how long, and what brings everything back to where it was?",
    ),
}
KINDS = {
    "predict": "say what will happen before it happens",
    "find": "say which fault was put in",
    "repair": "make it verified again",
    "build": "close a hole at another place than the runbook does",
    "attack": "get in where you should not",
}
ACTIONS = (
    "script", "file", "nginx", "pass-on", "known-dangers", "app", "door", "close-door", "permit", "forbid", "account", "no-accounts", "apply", "restart",
    "stop", "power", "pin", "unpin", "metadata",
)  # fmt: skip
PROBES = ("plan", "checks", "request", "attempts", "script", "stands-in")
VALUES = ("failing", "pending", "status", "leaks", "prints")
LASTING = ("permit", "account", "pin")  # actions that no chapter's apply takes back: their row needs `undo`
HINTS, POINTS = 3, 5  # hints of an exercise; points for one that is passed without a hint

Step = dict[str, Any]  # one action, probe or value: its name and its arguments
NODE = re.compile(rf"\b(?:{'|'.join(sorted(FIRST_ADDRESS, key=len, reverse=True))})-\d\b")  # the longest role first: lb-store-1 is no store


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Needs(_Row):
    """Where an exercise can be done. `verified`: numbers of the chapters that must have been verified."""

    patterns: tuple[str, ...] = Field(min_length=1)
    verified: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> Needs:
        numbers = {chapter.number for chapter in CHAPTERS.values()}
        _among(self.patterns, PATTERNS, "pattern")
        _among(self.verified, numbers, "chapter")
        return self

    @property
    def chapters(self) -> tuple[str, ...]:
        """Return the names of the chapters that must have been verified."""
        return tuple(name for name, chapter in CHAPTERS.items() if chapter.number in self.verified)


class AnswerForm(_Row):
    """How an answer is given. `of`: the words to choose from, for `one` and `several`."""

    kind: Literal["number", "one", "several", "session"]
    of: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _choices(self) -> AnswerForm:
        if (self.kind in ("one", "several")) != bool(self.of):
            raise ValueError("`of` lists the words to choose from for `one` and `several`, and for these alone")
        return self


class Prediction(_Row):
    """What the check of a prediction does, looks at, and takes back."""

    do: tuple[Step, ...] = Field(min_length=1)
    observe: Step


class Criterion(_Row):
    """What must hold. `all`: probes, each may have `else`, the words for a learner whose world does not hold it.

    An answer is compared with `accept`, with what `observe` finds now, or with what `predict` finds after its actions: one of the three at most.
    """

    all: tuple[Step, ...] = ()
    accept: tuple[str, ...] = ()
    observe: Step | None = None
    predict: Prediction | None = None

    @property
    def compares(self) -> bool:
        """Whether an answer is compared with something."""
        return bool(self.accept or self.observe or self.predict)


class Solution(_Row):
    """What solves it: an answer, actions, or both; and why that is so, in words."""

    answer: str = ""
    do: tuple[Step, ...] = ()
    why: str = Field(min_length=40)


class Exercise(_Row):
    """One exercise."""

    id: str = Field(pattern=r"^[a-z]+-\d{1,2}$")
    kind: Literal["predict", "find", "repair", "build", "attack"]
    title: str = Field(min_length=5, max_length=80)
    story: str = Field(min_length=100)
    needs: Needs
    setup: tuple[Step, ...] = ()
    question: str = Field(min_length=15)
    answer: AnswerForm | None = None
    check: Criterion
    hints: tuple[str, str, str]
    solution: Solution
    undo: tuple[Step, ...] = ()
    minutes: int = Field(ge=2, le=90)
    teaches: str = Field(min_length=20)
    usually: str = Field(min_length=20)
    fast: bool = False

    @property
    def part(self) -> str:
        return self.id.partition("-")[0]

    @model_validator(mode="after")
    def _whole(self) -> Exercise:
        for field, steps, known in self.steps():
            for step in steps:
                _among([verb_of(step)], known, f"word in {field}")
                if isinstance(step[verb_of(step)], Mapping) and not all(isinstance(key, str) for key in step[verb_of(step)]):
                    raise ValueError(f"{field}: a key is no text; YAML reads a bare on, off, yes and no as truth values")
        if not (self.check.all or self.check.compares):
            raise ValueError("check: nothing is checked")
        if sum(bool(each) for each in (self.check.accept, self.check.observe, self.check.predict)) > 1:
            raise ValueError("check: an answer is compared with one of accept, observe and predict")
        if bool(self.answer) != bool(self.check.compares or any("stands-in" in step for step in self.check.all)):
            raise ValueError("answer: there is one exactly where the check compares or uses it (accept, observe, predict, stands-in)")
        if not (self.solution.answer or self.solution.do):
            raise ValueError("solution: neither an answer nor actions")
        done = (*self.setup, *self.solution.do, *(self.check.predict.do if self.check.predict else ()))
        if (lasting := {verb_of(step) for step in done} & set(LASTING)) and not self.undo:
            raise ValueError(f"undo: no chapter's apply takes back {', '.join(sorted(lasting))}")
        return self

    def steps(self) -> list[tuple[str, tuple[Step, ...], tuple[str, ...]]]:
        """Return the steps by field, with the words that each field may have."""
        seen = self.check.predict
        return [
            ("setup", self.setup, ACTIONS), ("solution.do", self.solution.do, (*ACTIONS, *WAYS_IN)), ("undo", self.undo, ACTIONS),
            ("check.all", self.check.all, PROBES), ("check.observe", (self.check.observe,) if self.check.observe else (), VALUES),
            ("check.predict.do", seen.do if seen else (), ACTIONS), ("check.predict.observe", (seen.observe,) if seen else (), VALUES),
        ]  # fmt: skip

    @property
    def nodes(self) -> frozenset[str]:
        """Return the names of the nodes that the exercise works with or asks about."""
        return nodes_in([steps for _, steps, _ in self.steps()], self.answer.of if self.answer else ())


def nodes_in(*parts: Any) -> frozenset[str]:
    """Return the nodes that are named anywhere in these steps or words: as an argument, in a placeholder, in a script, in a check's id."""
    return frozenset(name for text in _texts(parts) for name in NODE.findall(text))


def _texts(thing: Any) -> list[str]:
    if isinstance(thing, str):
        return [thing]
    each = thing.values() if isinstance(thing, Mapping) else thing if isinstance(thing, list | tuple) else ()
    return [text for one in each for text in _texts(one)]


WAYS_IN = ("walk",)  # what an attack's solution does: steps of the proof's attempts, and the answer is the session they end with


def verb_of(step: Mapping[str, Any]) -> str:
    """Return the name of an action, probe or value: the first key of its mapping."""
    return next(iter(step))


def _among(words: Iterable[str], known: Iterable[str], what: str) -> None:
    known = list(known)
    for word in words:
        if word not in known:
            raise ValueError(f"no such {what}: {word}{_hint(word, known)}")


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else f"; there is: {', '.join(known)}"


def read_part(part: str, text: str) -> tuple[Exercise, ...]:
    """Return the exercises of a part's YAML. Raises RunbookError, which names the exercise and the field, for the first that is not well formed."""
    where = f"{part}.yaml"
    try:
        rows = yaml.safe_load(text) or []
    except yaml.YAMLError as error:
        raise RunbookError(f"the exercises of {part} are not YAML: {error}", where, "correct the file") from None
    found: list[Exercise] = []
    for number, row in enumerate(rows, 1):
        name = row.get("id", f"row {number}") if isinstance(row, dict) else f"row {number}"
        try:
            exercise = Exercise.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise RunbookError(
                f"exercise {name}: {first['msg'].removeprefix('Value error, ')}", f"{where}: {key or name}", "the head of parts/nginx.yaml explains every field"
            ) from None
        if exercise.part != part:
            raise RunbookError(f"exercise {name} does not belong to {part}", where, f"its id begins with {part}-")
        if name in {each.id for each in found}:
            raise RunbookError(f"exercise {name} is there twice", where, "give the second another number")
        found.append(exercise)
    return tuple(found)


@cache
def exercises() -> Mapping[str, Exercise]:
    """Return every exercise by its id, in the order of the course. A part whose file is not there yet has none."""
    folder = files(parts_)
    parts = [read_part(part, path.read_text(encoding="utf-8")) for part in PARTS if (path := folder / f"{part}.yaml").is_file()]
    return {exercise.id: exercise for rows in parts for exercise in rows}


def exercise_of(id: str) -> Exercise:
    """Return the exercise with this id. Raises RunbookError, which names the nearest one, when there is none."""
    known = exercises()
    if id not in known:
        near = difflib.get_close_matches(id, known, 1)
        raise RunbookError(f"there is no exercise {id!r}", "exercise", f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}")
    return known[id]


def words_of(answer: str) -> frozenset[str]:
    """Return the words of an answer, in small letters: separated by commas, semicolons or blanks, without quotes."""
    return frozenset(word.strip("'\"`").lower() for word in re.split(r"[\s,;]+", answer.strip()) if word.strip("'\"`"))
