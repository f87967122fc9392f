"""Every exercise of the table on real machines: it cannot be passed as it is put, its solution passes it, and its reset leaves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.exercises.actions import Actions, as_root
from runbook_lib.chapters.exercises.engine import Task
from runbook_lib.chapters.exercises.table import Exercise, exercises, words_of
from runbook_lib.chapters.status_board import proofs_of
from runbook_lib.errors import RunbookError
from runbook_lib.roles.carbon import UNIT
from runbook_lib.spec.chapters import chapters_of
from tests.support.deployments import Deployed

FIXTURES = {"greg-separated": "separated", "greg-original": "original", "as-cluster": "as_cluster"}  # a row is done on the first of these that it can be


def _pattern(row: Exercise) -> str:
    return next(pattern for pattern in FIXTURES if pattern in row.needs.patterns)


ROWS = sorted(exercises().values(), key=lambda row: list(FIXTURES).index(_pattern(row)))


@pytest.fixture(scope="module")
def opened() -> Iterator[dict[str, Deployment]]:
    """The deployments that exercises were done on, by pattern."""
    found: dict[str, Deployment] = {}
    yield found
    for deployment in found.values():
        deployment.close()


@pytest.fixture(scope="module")
def deployment_of(request: pytest.FixtureRequest, opened: dict[str, Deployment]) -> Callable[[Exercise], Deployment]:
    """Returns the deployment for an exercise: one for each pattern, shared by all of its rows and with other tests of the session."""

    def find(row: Exercise) -> Deployment:
        pattern = _pattern(row)
        if pattern not in opened:
            deployed: Deployed = request.getfixturevalue(FIXTURES[pattern])
            opened[pattern] = deployed.open()
            verified(opened[pattern])
        return opened[pattern]

    return find


def verified(deployment: Deployment) -> None:
    """Verify the chapters that another test of the session changed and left: an exercise starts on verified chapters only."""
    records = proofs_of(deployment)
    for chapter in chapters_of(deployment.spec.pattern):
        if chapter.converges and (chapter.name not in records or not records[chapter.name].ok):
            part = getattr(deployment, chapter.attribute)
            part.apply(part.plan())
            part.verify()


def wrong_answer(task: Task) -> str | None:
    """An answer of the right form that is not the solution; None where none is asked for."""
    form, right = task.row.answer, words_of(task.text(task.row.solution.answer))
    if form is None:
        return None
    if form.kind == "session":
        return "JSESSIONID=0123456789abcdef"
    if form.kind == "number":
        return str(int(task.row.solution.answer) + 1)
    return next(word for word in task.text(" ".join(form.of)).split() if frozenset([word.lower()]) != right)


def pending(deployment: Deployment) -> dict[str, Any]:
    """What the plans of all chapters would change, by chapter."""
    plans = {chapter.name: getattr(deployment, chapter.attribute).plan() for chapter in chapters_of(deployment.spec.pattern) if chapter.converges}
    return {name: str(plan) for name, plan in plans.items() if plan}


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id, marks=() if row.fast else pytest.mark.full) for row in ROWS])
def test_an_exercise_fails_as_it_is_put_passes_by_its_solution_and_leaves_nothing(row: Exercise, deployment_of: Callable[[Exercise], Deployment]) -> None:
    deployment = deployment_of(row)
    task = Task(deployment, row)
    task.start()
    try:
        before = task.check(wrong_answer(task))
        assert not before.passed, f"it is passed before anything was done: {before}"
        answer = task.solution()
        after = task.check(answer)
        assert after.passed, str(after)
    finally:
        task.reset()
    with pytest.raises(RunbookError, match="is not started"):
        task.check(answer)


MISTAKES = {  # what learners usually do instead of the solution, where a node does not serve any more afterwards
    "product-6": {"script": {"node": "publisher-1", "run": "chmod -R a-r <home>/repository/deployment/server/jaggeryapps/publisher/config"}},
}


@pytest.mark.full
@pytest.mark.parametrize("row", [pytest.param(exercises()[id], id=id) for id in MISTAKES])
def test_a_mistake_after_which_a_node_does_not_start_can_be_reset(row: Exercise, deployment_of: Callable[[Exercise], Deployment]) -> None:
    deployment = deployment_of(row)
    task = Task(deployment, row)
    task.start()
    Actions(deployment).do([MISTAKES[row.id]])
    [node] = [step["restart"] for step in row.undo if "restart" in step]
    as_root(deployment, node, f"systemctl restart {UNIT}")
    task.reset()
    assert not task.record.running


TUESDAY = "INSERT INTO SOCIAL_COMMENTS (payload_context_id, body, user_id, tenant_domain) VALUES ('exercise:asset', 'I own this', 'dan', 'carbon.super')"
IN_PLACE = f'(cat /root/exercise-monday.sql; echo "{TUESDAY};") | mysql WSO2_SOCIAL_DB'
AT_THE_STORE = [{"authenticate": "publisher", "via": "store"}, {"carry": ["JSESSIONID"], "from": "store", "to": "publisher"}]
WITH_A_PARAMETER = [{"post": "publisher /publisher/apis;a/authenticate", "login": True}]
OTHER_WAYS: dict[str, tuple[str, list[dict[str, Any]], bool]] = {
    "sso-2, at the Store's host": ("sso-2", [{"walk": {"app": "publisher", "roles": ["Internal/store"], "steps": AT_THE_STORE}}], True),
    "sso-3, with a path parameter": ("sso-3", [{"walk": {"app": "publisher", "roles": ["Internal/store"], "steps": WITH_A_PARAMETER}}], True),
    "sso-7, one of two machines": ("sso-7", list(exercises()["sso-7"].solution.do[:1]), False),
    "database-4, loaded in place": ("database-4", [{"script": {"node": "db-1", "run": IN_PLACE}}], False),
}


@pytest.mark.full
@pytest.mark.parametrize("way", OTHER_WAYS)
def test_another_way_passes_where_it_is_right_and_not_where_it_leaves_something_out(way: str, deployment_of: Callable[[Exercise], Deployment]) -> None:
    id, do, right = OTHER_WAYS[way]
    row = exercises()[id]
    task = Task(deployment_of(row), row.model_copy(update={"solution": row.solution.model_copy(update={"do": tuple(do)})}))
    task.start()
    try:
        said = task.check(task.solution())
    finally:
        task.reset()
    assert said.passed == right, str(said)


def test_after_the_last_reset_no_plan_has_anything_to_change(opened: dict[str, Deployment]) -> None:
    assert opened and {pattern: pending(deployment) for pattern, deployment in opened.items()} == {pattern: {} for pattern in opened}
