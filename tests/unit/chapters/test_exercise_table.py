"""The table of the exercises: whole, graded, refused where a row is not well formed; no hint has the solution, and the notebooks are as they were made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import runbook_lib.chapters.exercises
from runbook_lib.chapters.exercises import notebooks
from runbook_lib.chapters.exercises.actions import Actions, fill
from runbook_lib.chapters.exercises.probes import Probes
from runbook_lib.chapters.exercises.table import (
    ACTIONS,
    KINDS,
    PARTS,
    PROBES,
    VALUES,
    Exercise,
    _texts,
    exercise_of,
    exercises,
    nodes_in,
    read_part,
    verb_of,
    words_of,
)
from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.errors import RunbookError
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology.model import topology_of
from tests.conftest import ROOT

LEAST = {"network": 5, "database": 6, "product": 6, "nginx": 5, "sso": 8, "failover": 5}  # rows of a part
WHOLE_COURSE = 24  # rows of all parts
ROWS = list(exercises().values())
FOLDER = Path(runbook_lib.chapters.exercises.__file__).parent
PLACEHOLDER = re.compile(r"<[a-z-]+\d?>")
GOOD: dict[str, Any] = yaml.safe_load((FOLDER / "parts" / "nginx.yaml").read_text())[0]


def of_part(part: str) -> list[Exercise]:
    return [row for row in ROWS if row.part == part]


def test_every_part_has_its_rows_and_every_file_is_a_part() -> None:
    assert {path.stem for path in FOLDER.rglob("*.yaml")} <= set(PARTS)
    assert not list(FOLDER.glob("*.yaml"))
    assert {part: len(of_part(part)) for part in LEAST if len(of_part(part)) < LEAST[part]} == {}


@pytest.mark.skipif(len({row.part for row in ROWS}) < len(PARTS), reason="a part of the course has no rows yet")
def test_the_course_is_whole() -> None:
    assert len(ROWS) >= WHOLE_COURSE


def test_every_kind_is_there_and_the_quick_tests_do_one_of_each_kind_and_part() -> None:
    assert {row.kind for row in ROWS} == set(KINDS)
    quick = [row for row in ROWS if row.fast]
    assert {row.kind for row in quick} == set(KINDS)
    assert {row.part for row in quick} == {row.part for row in ROWS}


def test_the_three_attacks_are_three_different_ways() -> None:
    ways = {row.id: step["stands-in"]["ways"] for row in ROWS if row.kind == "attack" for step in row.check.all if "stands-in" in step}
    assert ways == {"sso-1": ["sign-on"], "sso-2": ["api"], "sso-3": ["api", "script"]}


def test_what_was_found_is_the_right_answer_also_after_it_was_repaired() -> None:
    assert [row.id for row in ROWS if row.kind == "find" and row.check.observe] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
class TestRow:
    def test_no_hint_has_the_solution(self, row: Exercise) -> None:
        hints = " ".join(row.hints).lower()
        for step in row.solution.do:
            for text in _texts(step):
                assert len(text) < 12 or text.lower() not in hints
        answer = words_of(row.solution.answer)
        if row.answer and row.answer.kind == "number":
            assert not answer & set(re.findall(r"\d+", hints))
        assert not any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", hints) for word in answer)

    def test_the_words_for_a_learner_do_not_tell_the_solution(self, row: Exercise) -> None:
        told = " ".join(str(step.get("else", "")) for step in row.check.all).lower()
        assert not any(text.lower() in told for step in row.solution.do for text in _texts(step) if len(text) >= 12)

    def test_its_story_is_a_story_and_has_no_placeholder(self, row: Exercise) -> None:
        sentences = re.findall(r"[.?!:](?=\s|$)", row.story)
        assert 3 <= len(sentences) <= 10 and 40 <= len(re.findall(r"\w+", row.story)) <= 130
        assert not PLACEHOLDER.search(row.title + row.story)

    def test_its_answer_is_one_that_it_takes(self, row: Exercise) -> None:
        if row.answer and row.answer.of:
            assert words_of(row.solution.answer) <= words_of(" ".join(row.answer.of))
        if row.answer and row.answer.kind == "number":
            assert row.solution.answer.isdecimal()

    def test_each_pattern_has_the_nodes_that_it_works_with(self, row: Exercise) -> None:
        for pattern in row.needs.patterns:
            assert row.nodes <= {node.name for node in topology_of(load_spec(f"params/{pattern}.lab.yaml")).nodes}

    def test_it_names_attempts_that_there_are(self, row: Exercise) -> None:
        known = {attempt.id for attempt in matrix()[0]}
        found = [step["attempts"] for step in row.check.all if "attempts" in step]
        assert {id for each in found for ids in each.values() for id in ids} <= known
        looked = [row.check.observe, row.check.predict.observe if row.check.predict else None]
        assert {id for each in looked if each and "leaks" in each for id in each["leaks"]} <= known


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "guess"}, "kind"),
    ({"hints": ["one", "two"]}, "hints"),
    ({"colour": "red"}, "colour"),
    ({"needs": {"patterns": ["greg-seperated"], "verified": ["05"]}}, "did you mean greg-separated"),
    ({"needs": {"patterns": ["greg-separated"], "verified": ["08"]}}, "no such chapter: 08"),
    ({"setup": [{"ngnix": {}}]}, "did you mean nginx"),
    ({"setup": [{"script": {True: "lb-1", "run": "true"}}]}, "truth values"),
    ({"setup": [{"permit": {"login": ["store"]}}]}, "undo"),
    ({"check": {}}, "nothing is checked"),
    ({"check": {"accept": ["a"], "observe": {"pending": "nginx"}}}, "one of accept, observe and predict"),
    ({"answer": None}, "answer: there is one exactly"),
    ({"answer": {"kind": "one"}}, "`of` lists the words"),
    ({"solution": {"why": "x" * 40}}, "neither an answer nor actions"),
    ({"id": "sso-1"}, "does not belong to nginx"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_a_row_that_is_not_well_formed_is_refused_by_its_name_and_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RunbookError, match=re.escape(words)) as caught:
        read_part("nginx", yaml.safe_dump([{**GOOD, **change}]))
    assert "nginx.yaml" in str(caught.value.where or caught.value) and (change.get("id") or "nginx-1") in caught.value.what


def test_the_nodes_of_a_row_are_found_wherever_it_names_them() -> None:
    named = [{"restart": "as-worker-1"}, {"app": {"node": "greg-1", "of": "greg-2"}}, {"script": {"run": "true\nstore-1 <lb-store-1> wso2greg-5.1.0"}}]
    assert nodes_in(named, ["ssh-publisher-2"]) == {"as-worker-1", "greg-1", "greg-2", "store-1", "lb-store-1", "publisher-2"}
    assert exercise_of("nginx-1").nodes == {"publisher-1", "publisher-2"} and exercise_of("sso-6").nodes == frozenset()


@pytest.mark.parametrize("part", PARTS)
def test_no_action_names_the_user_that_one_deployment_has_for_the_product(part: str) -> None:
    done = [step for row in of_part(part) for _, steps, _ in row.steps() for step in steps]
    assert [text for text in _texts(done) if re.search(r"\bwso2carbon\b(?!\.(service|log))", text)] == []


def test_a_row_that_is_there_twice_is_refused() -> None:
    with pytest.raises(RunbookError, match="nginx-1 is there twice"):
        read_part("nginx", yaml.safe_dump([GOOD, GOOD]))


def test_an_unknown_exercise_names_the_nearest() -> None:
    with pytest.raises(RunbookError, match="there is no exercise 'ngnix-1'") as caught:
        exercise_of("ngnix-1")
    assert caught.value.next_step == "did you mean nginx-1?"


def test_every_word_of_the_table_is_a_method() -> None:
    assert [word for word in ACTIONS if not hasattr(Actions, word.replace("-", "_"))] == []
    assert [word for word in PROBES if not hasattr(Probes, f"is_{word.replace('-', '_')}")] == []
    assert [word for word in VALUES if not hasattr(Probes, f"value_{word}")] == []
    assert {verb_of(step) for row in ROWS for step in row.setup} <= set(ACTIONS)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("https://<store>/store/", "https://s.test/store/"),
        ("server <store-1>:9443", "server 10.0.0.4:9443"),
        ("<lb-store-1>", "10.0.0.5"),
        ("<HostName>x</HostName> <p> <unknown-1>", "<HostName>x</HostName> <p> <unknown-1>"),
    ],
)
def test_placeholders_are_filled_and_other_tags_are_left_alone(text: str, filled: str) -> None:
    assert fill(text, {"store": "s.test", "store-1": "10.0.0.4", "lb-store-1": "10.0.0.5"}) == filled


@pytest.mark.parametrize("part", sorted({row.part for row in ROWS}))
def test_a_notebook_is_as_the_table_makes_it(part: str) -> None:
    path = ROOT / notebooks.FOLDER / f"{part}.ipynb"
    assert path.read_text() == notebooks.written(part), "python -m runbook_lib.chapters.exercises.notebooks makes them anew"
    cells = json.loads(path.read_text())["cells"]
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
    assert [row.id for row in of_part(part)] == re.findall(r'exercise\(deployment, \\"(\w+-\d+)\\"\)"\n', path.read_text())


def test_there_is_no_notebook_without_a_part() -> None:
    assert {path.stem for path in (ROOT / notebooks.FOLDER).glob("*.ipynb")} == {row.part for row in ROWS}


def test_the_plan_of_two_days_and_its_reserve_are_the_whole_course() -> None:
    ninety, half, two = (
        next(part for part in (ROOT / "docs/teaching.md").read_text().split("\n## ") if part.startswith(title))
        for title in ("90 min", "Half a day", "Two days")
    )
    planned, reserve = (set(re.findall(r"`([a-z]+-\d+)`", text)) for text in (ninety + half.split("Break")[0] + two).split("**In reserve**"))
    assert planned | reserve == set(exercises()) and not planned & reserve
    assert f"{len(planned)} of the {len(exercises())} exercises" in " ".join(two.split())
