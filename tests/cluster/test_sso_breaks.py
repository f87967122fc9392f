"""Each check of the proof is able to fail: a separated cluster is broken in one way after the other.

Exactly the predicted attempts turn red.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.exercises.actions import changed
from runbook_lib.checks.sso.attempts import Attempt, matrix
from runbook_lib.checks.sso.environment import scene_of
from runbook_lib.checks.sso.proof import prove
from tests.support.sso_deployments import deployed

BREAKS = yaml.safe_load(Path(__file__).with_name("sso_breaks.yaml").read_text())
ELSEWHERE = {"other-host-at-front"}  # has a meaning in greg-original only, where it is red as it stands
NEVER_RED = {"assertion-second-use", "direct-script-at-node", "message-names-file"}  # limits of the product: nothing we configure changes them
NUMBER = 40  # of its subnet in the lab's range


GROUP = re.compile("@(store|publisher)-(sign-in|replay)")


def _minds(attempt: Attempt, app: str, verb: str) -> bool:
    verbs = {"sign-in": ("sign-in", "try-sign-in")}.get(verb, (verb,))
    return any(step.get(one) == app for step in attempt.steps if not step.get("any") for one in verbs)


def predicted(words: Iterable[str]) -> set[str]:
    """The ids that the words of the table stand for."""
    found: set[str] = set()
    for word in words:
        group = GROUP.fullmatch(word)
        found |= {a.id for a in matrix()[0] if _minds(a, *group.groups())} if group else {word}
    return found


@pytest.fixture(scope="module")
def cluster(lab) -> Iterator[Deployment]:
    operator = f"{lab.lab.gateway}/32"  # where this machine's own connections come from
    small = {"nodes.store": 1, "nodes.publisher": 1, "publisher_allow_cidr": [operator]}
    deployment = deployed(lab, NUMBER, deployment="breaks", **small)
    yield deployment
    deployment.close()


@pytest.mark.full
def test_the_cluster_is_separated_before_it_is_broken(cluster: Deployment) -> None:
    proof = prove(scene_of(cluster))
    assert (proof.verdict, proof.checks.failed()) == ("separated", [])


@pytest.mark.full
@pytest.mark.parametrize("case", BREAKS, ids=lambda case: case["name"])
def test_a_break_turns_exactly_the_predicted_attempts_red(cluster: Deployment, case: dict) -> None:
    with changed(cluster, case["do"]):
        scene = scene_of(cluster)
        other = case.get("traits", {})
        proof = prove(replace(scene, traits=frozenset(other.get(one, one) for one in scene.traits)))
    red = {outcome.attempt.id for outcome in proof.outcomes if outcome.state == "leak"} - NEVER_RED
    open_ = {outcome.attempt.id for outcome in proof.outcomes if outcome.state == "undecided"}
    assert (red, open_) == (predicted(case.get("red", ())), predicted(case.get("open", ())))
    assert proof.verdict != "separated" or red <= {a.id for a in matrix()[0] if a.kind == "hygiene"}


def test_every_attempt_is_turned_red_or_open_by_some_break() -> None:
    """No check without a way to fail; static, so that a new attempt without a break is noticed at once."""
    turned = {one for case in BREAKS for one in predicted((*case.get("red", ()), *case.get("open", ())))}
    assert {attempt.id for attempt in matrix()[0]} - turned - ELSEWHERE - NEVER_RED == set()


def test_the_table_names_only_attempts_that_exist() -> None:
    ids = {attempt.id for attempt in matrix()[0]}
    assert {one for case in BREAKS for one in predicted((*case.get("red", ()), *case.get("open", ())))} <= ids


def test_an_attempt_that_is_decided_by_content_is_red_in_a_break_and_not_only_open() -> None:
    """Of the attempts that decide the verdict each is seen to get through at least once."""
    red = {one for case in BREAKS for one in predicted(case.get("red", ()))}
    deciding = {attempt.id for attempt in matrix()[0] if attempt.kind == "attempt"}
    assert deciding - red - ELSEWHERE == set()
