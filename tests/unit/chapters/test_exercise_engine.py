"""The verbs of an exercise where no machine is needed: what is refused, with nothing changed; points, hints, and what is kept in Parameter Store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from papermill import execute_notebook

from runbook_lib.chapters.deployment import Deployment, open_deployment
from runbook_lib.chapters.exercises import progress
from runbook_lib.chapters.exercises.card import Card, course, exercise
from runbook_lib.chapters.exercises.engine import running
from runbook_lib.chapters.exercises.probes import WAYS, Probes, _moment
from runbook_lib.chapters.exercises.progress import TaskRecord
from runbook_lib.chapters.exercises.table import Exercise, exercises
from runbook_lib.chapters.status_board import store_verification
from runbook_lib.errors import RunbookError
from runbook_lib.headless import cli
from runbook_lib.webclient.response import Answer
from tests.conftest import ROOT
from tests.support.aws_endpoint import NUMBERS

pytest_plugins = ["tests.support.aws_endpoint"]
VERIFIED = ("01_launch_ec2", "02_install_mysql", "04_configure_greg_nodes", "05_configure_nginx")
# a row whose setup does nothing, so that it can be started where there is no machine
ROW = Exercise.model_validate({**exercises()["nginx-1"].model_dump(), "setup": ()})


@pytest.fixture
def make(aws_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Deployment]]:
    """`make("greg-separated")`: a deployment that is not launched, with all chapters verified by its records; the same one each time."""
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    number, opened = next(NUMBERS), []

    def make(pattern: str = "greg-separated", verified: tuple[str, ...] = VERIFIED, **others: Any) -> Deployment:
        settings = {"deployment": f"course-{number}", "cloud.aws_config": str(aws_config), **others}
        opened.append(open_deployment(f"params/{pattern}.lab.yaml", settings))
        for chapter in verified:
            store_verification(opened[-1], chapter, ok=True)
        return opened[-1]

    yield make
    for deployment in opened:
        deployment.close()


def records(deployment: Deployment) -> dict[str, TaskRecord]:
    return progress.read_all(deployment.vault)


REFUSALS: list[tuple[str, Callable[[Card], Any], str, str]] = [
    ("checked before started", lambda task: task.check("publisher-1"), "cannot be checked: it is not started", "start it first"),
    ("hinted before started", lambda task: task.hint(), "cannot be given a hint: it is not started", "start it first"),
    ("solved before started", lambda task: task.solve(), "cannot be solved: it is not started", "start it first"),
    ("reset before started", lambda task: task.reset(), "cannot be reset: it is not started", "start it first"),
]


@pytest.mark.parametrize(("call", "what", "step"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_what_needs_a_start_is_refused_before_it(make: Callable[..., Deployment], call: Callable[[Card], Any], what: str, step: str) -> None:
    deployment = make()
    with pytest.raises(RunbookError, match=what) as caught:
        call(Card(deployment, ROW))
    assert caught.value.next_step == step and not any(one.running for one in records(deployment).values())


def test_a_deployment_of_another_pattern_is_refused(make: Callable[..., Deployment]) -> None:
    deployment = make("greg-original")
    with pytest.raises(RunbookError, match="nginx-1 is about greg-separated; this deployment is greg-original"):
        Card(deployment, ROW).start()
    assert records(deployment)["nginx-1"] == TaskRecord()


def test_an_exercise_about_nodes_that_the_deployment_lacks_is_refused(make: Callable[..., Deployment]) -> None:
    deployment = make(nodes={"store": 1, "publisher": 1})
    with pytest.raises(RunbookError, match="sso-5 works with publisher-2 and store-2, which this deployment does not have") as caught:
        exercise(deployment, "sso-5").start()
    assert caught.value.next_step == "it needs nodes.publisher: 2 and nodes.store: 2; change the parameters and run the chapters again"
    assert records(deployment)["sso-5"] == TaskRecord()


def test_a_reset_ends_also_where_a_node_of_the_exercise_is_gone(make: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch) -> None:
    undo = [{"script": {"node": name, "run": f"echo <{name}>"}} for name in ("store-1", "store-2", "publisher-2")] + [{"restart": "store-2"}]
    row, ran = Exercise.model_validate({**ROW.model_dump(), "undo": undo}), []
    Card(make(), row).start()
    fewer = make(nodes={"store": 1, "publisher": 2})  # somebody takes a node away meanwhile, and another one's machine
    monkeypatch.setattr(Deployment, "instances", lambda _: dict.fromkeys(["store-1", "store-2"]))
    monkeypatch.setattr("runbook_lib.chapters.exercises.actions.as_root", lambda _, node, script: ran.append(node))
    monkeypatch.setattr("runbook_lib.chapters.exercises.engine.chapters_of", lambda _: ())
    Card(fewer, row).reset()
    assert ran == ["store-1"] and not records(fewer)["nginx-1"].running


def test_chapters_that_are_not_verified_are_named(make: Callable[..., Deployment]) -> None:
    deployment = make(verified=VERIFIED[:2])
    with pytest.raises(RunbookError, match="not verified: 04_configure_greg_nodes, 05_configure_nginx"):
        Card(deployment, ROW).start()
    assert records(deployment)["nginx-1"] == TaskRecord()


def test_on_aws_somebody_has_to_agree(make: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = make()
    monkeypatch.setattr(Deployment, "on_aws", True)
    with pytest.raises(RunbookError, match="this one is on AWS") as caught:
        Card(deployment, ROW).start()
    assert "agreed=True" in (caught.value.next_step or "") and records(deployment)["nginx-1"] == TaskRecord()
    Card(deployment, ROW).start(agreed=True)
    assert records(deployment)["nginx-1"].running


def test_one_exercise_at_a_time_also_from_another_machine(make: Callable[..., Deployment]) -> None:
    Card(make(), ROW).start()
    elsewhere = make()
    with pytest.raises(RunbookError, match="nginx-1 is started already, since 20"):
        Card(elsewhere, ROW).start()
    with pytest.raises(RunbookError, match="nginx-2 cannot be started: nginx-1 still is") as caught:
        exercise(elsewhere, "nginx-2").start()
    assert caught.value.next_step == "go on with it, or reset nginx-1 first"
    assert running(elsewhere).row.id == "nginx-1"


def test_without_a_started_exercise_none_is_the_started_one(make: Callable[..., Deployment]) -> None:
    with pytest.raises(RunbookError, match="no exercise is started"):
        running(make())


@pytest.mark.parametrize("answer", [None, "", "store-9", "publisher-1 publisher-2"])
def test_an_answer_that_is_missing_or_of_a_wrong_form_is_refused_and_is_no_try(make: Callable[..., Deployment], answer: str | None) -> None:
    deployment = make()
    task = Card(deployment, ROW)
    task.start()
    with pytest.raises(RunbookError) as caught:
        task.check(answer)
    assert caught.value.next_step == "the answer is one of publisher-1, publisher-2" and task.record.tries == 0


def test_a_number_has_to_be_one(make: Callable[..., Deployment]) -> None:
    row = Exercise.model_validate({**ROW.model_dump(), "answer": {"kind": "number"}, "check": {"accept": ["3"]}})
    task = Card(make(), row)
    task.start()
    with pytest.raises(RunbookError, match="'three' is not an answer"):
        task.check("three")
    assert not task.check("4").passed and task.check(3).passed


def test_a_wrong_answer_is_not_yet_and_does_not_tell_the_right_one(make: Callable[..., Deployment]) -> None:
    task = Card(make(), ROW)
    task.start()
    said = task.check("publisher-1")
    assert not said.passed and "publisher-2" not in str(said) and task.record.state == "started" and task.record.tries == 1


def test_each_hint_costs_a_point_and_none_after_it_was_passed(make: Callable[..., Deployment]) -> None:
    task = Card(make(), ROW)
    task.start()
    assert ROW.hints[0] in str(task.hint()) and ROW.hints[1] not in str(task.hint()).splitlines()[1]
    assert task.check("publisher-2").passed and task.record.points == 3
    assert all(hint in str(task.hint()) for hint in ROW.hints) and task.record.points == 3


def test_more_hints_than_there_are_cost_no_more(make: Callable[..., Deployment]) -> None:
    task = Card(make(), ROW)
    task.start()
    for _ in range(5):
        task.hint()
    task.check("publisher-2")
    assert (task.record.hints, task.record.points) == (3, 2)


def test_who_looks_at_the_solution_has_no_points_also_when_it_is_checked_afterwards(make: Callable[..., Deployment]) -> None:
    task = Card(make(), ROW)
    task.start()
    said = task.solve()
    assert "answer: publisher-2" in said.more and ROW.solution.why.strip() in said.more
    assert task.check("publisher-2").passed and (task.record.state, task.record.points) == ("solved", 0)


def test_what_was_passed_stays_passed_when_it_is_done_again() -> None:
    passed = TaskRecord().began("ann").ended("passed")
    again = passed.put_back().began("bob").ended("solved")
    assert (again.state, again.points, again.seconds) == ("passed", 5, passed.seconds)


def test_a_reset_opens_what_was_only_started_and_keeps_its_hints() -> None:
    left = TaskRecord(state="started", running=True, hints=2).put_back()
    assert (left.state, left.running, left.hints) == ("open", False, 2)


def test_the_course_shows_what_another_machine_did(make: Callable[..., Deployment]) -> None:
    task = Card(make(), ROW)
    task.start()
    task.check("publisher-2")
    seen = course(make())
    mine = sum("greg-separated" in row.needs.patterns for row in exercises().values())
    assert f"1 of {mine} exercises passed, 5 of {5 * mine} points" in seen.headline
    text, markup = str(seen), seen._repr_html_()
    for row in exercises().values():
        assert row.title in text and f'<a href="../exercises/{row.part}.ipynb">{row.id}</a>' in markup
    assert "✔ passed, to be reset" in text


def test_the_card_says_the_same_as_text_and_as_markup(make: Callable[..., Deployment]) -> None:
    task = Card(make(), ROW)
    assert "nginx-1 The second Publisher is idle: ○ open" in str(task) and "○ open" in task._repr_html_()
    task.start()
    assert ROW.question in str(task) and ROW.question in task._repr_html_()
    assert "not on this deployment" in str(exercise(make(), "sso-1"))


def test_progress_is_in_clear_and_goes_with_the_deployment(make: Callable[..., Deployment]) -> None:
    deployment = make()
    Card(deployment, ROW).start()
    kept = deployment.vault.ssm.get_parameter(Name=f"{deployment.vault.prefix}exercises/nginx-1")["Parameter"]
    assert kept["Type"] == "String" and json.loads(kept["Value"])["state"] == "started"
    assert "exercises/nginx-1" in deployment.vault.delete_all()


def test_the_command_line_lists_and_refuses(make: Callable[..., Deployment], capsys: pytest.CaptureFixture[str]) -> None:
    deployment = make()
    settings = ["--set", f"deployment={deployment.spec.deployment}", "--set", f"cloud.aws_config={deployment.spec.cloud.aws_config}"]
    params = "params/greg-separated.lab.yaml"
    assert cli.main(["exercise", "list", params, *settings, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in found["exercises"]] == list(exercises()) and {each["state"] for each in found["exercises"]} == {"open"}
    assert cli.main(["exercise", "check", params, "ngnix-1", *settings]) == 1
    assert "did you mean nginx-1?" in capsys.readouterr().err
    assert cli.main(["exercise", "reset", params, *settings, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["what"] == "no exercise is started"


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, bool]]:
    """`ways([...], [...])`: what the logs of the Nginx machines, each a list of "METHOD host/path STATUS" with a second each, say of the Publisher."""

    def seen(*logs: list[str]) -> tuple[str, bool]:
        line = '10.0.0.1 2026-01-02T03:04:{:02}+00:00 "{}" {} 12 0.010 upstream="10.0.0.4:9443" 0.001 0.009'
        texts = {
            f"lb-{number}": "".join(line.format(int(one.split()[0]), *one.split(" ", 1)[1].rsplit(" ", 1)) + "\n" for one in log)
            for number, log in enumerate(logs)
        }
        deployment: Any = SimpleNamespace(topology=SimpleNamespace(lbs=[SimpleNamespace(name=name) for name in texts]))
        monkeypatch.setattr("runbook_lib.chapters.exercises.probes.as_root", lambda _, name, script: texts[name])
        monkeypatch.setattr(Probes, "_words", lambda *_: {"publisher": "publisher.test", "store": "store.test"})
        return Probes(deployment, since="2026-01-02T03:04:10Z")._ways("publisher")

    return seen


@pytest.mark.parametrize(
    ("request_", "way"),
    [
        ("POST publisher.test/publisher/acs 302", "sign-on"),
        ("POST publisher.test/publisher/apis/authenticate 200", "api"),
        ("POST publisher.test/publisher/apis;a/authenticate 200", "api"),
        ("POST publisher.test/publisher/apis/authenticate;a=b 200", "api"),
        ("POST store.test/publisher/apis/authenticate 200", "api"),
        ("POST publisher.test/publisher/pages/basic-authenticator 200", "api"),
        ("POST store.test/publisher/pages;x/basic-authenticator 200", "api"),
        ("POST publisher.test/publisher/extensions/app/publisher-apis/apis/authenticate.jag 200", "script"),
        ("POST store.test/publisher/extensions;a/app/publisher-apis/apis/authenticate.jag;b 200", "script"),
        ("POST publisher.test/publisher/apis/authenticate 401", ""),
        ("POST store.test/store/apis/authenticate 200", ""),
        ("GET publisher.test/publisher/pages/gc-landing 200", ""),
        ("POST store.test/store/acs 302", ""),
    ],
)
def test_the_access_log_tells_which_way_was_used(request_: str, way: str, ways: Callable[..., tuple[str, bool]]) -> None:
    assert ways([f"09 {request_.split()[0]} publisher.test/publisher/extensions/x.jag 200", f"20 {request_}"])[0] == way
    assert _moment("no line of a log").year == 1970 and set(WAYS) == {"sign-on", "api", "script"}


PASSWORD, STORE, PUBLISHER = "POST store.test/commonauth 302", "POST store.test/store/acs 302", "POST publisher.test/publisher/acs 302"
SIGN_ONS: dict[str, tuple[list[str], list[str], bool]] = {
    "the store, then unasked": ([f"20 {PASSWORD}", f"20 {STORE}"], [f"20 {PUBLISHER}"], True),
    "a wrong password first": ([f"20 {PASSWORD}", f"21 {PASSWORD}", f"22 {STORE}"], [f"23 {PUBLISHER}"], True),
    "asked again": ([f"20 {PASSWORD}", f"21 {STORE}", f"22 {PASSWORD}"], [f"22 {PUBLISHER}"], False),
    "asked again, then begun anew": (
        [f"20 {PASSWORD}", f"21 {STORE}", f"22 {PASSWORD}", f"30 {PASSWORD}", f"31 {STORE}"],
        [f"23 {PUBLISHER}", f"32 {PUBLISHER}"],
        True,
    ),
    "a password elsewhere afterwards": ([f"20 {PASSWORD}", f"21 {STORE}", f"30 {PASSWORD}"], [f"22 {PUBLISHER}"], True),
    "the publisher first": ([f"20 {PASSWORD}", f"22 {STORE}"], [f"21 {PUBLISHER}"], False),
    "no sign-in at the store since the start": ([f"08 {PASSWORD}", f"09 {STORE}"], [f"21 {PUBLISHER}"], False),
}


@pytest.mark.parametrize("case", SIGN_ONS)
def test_single_sign_on_counts_where_the_last_thing_before_it_was_the_sign_in_at_the_store(case: str, ways: Callable[..., tuple[str, bool]]) -> None:
    store, publisher, unasked = SIGN_ONS[case]
    assert ways(store, publisher) == ways(publisher, store) == ("sign-on", unasked)


def test_who_was_asked_for_a_password_again_is_told_how_to_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probes, "_whose", lambda *_: "proof-learner-0a1b2c")
    monkeypatch.setattr(Probes, "_ways", lambda *_: ("sign-on", False))
    assert "To begin anew, sign in at the other application in a new browser" in Probes(None, answer="JSESSIONID=1").is_stands_in("publisher", ["sign-on"])


def test_a_request_that_is_to_be_answered_so_may_have_several_paths_and_each_that_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = {"/a": 404, "/b": 200, "/c": 403}
    monkeypatch.setattr(Probes, "_asked", lambda _, host, path, **options: Answer(statuses[path], f"https://{host}{path}", [], "", [], 0.0))
    monkeypatch.setattr(Probes, "_words", lambda *_: {})
    assert Probes(None).is_request("store", ["/a", "/b", "/c"], status=[403, 404]) == "https://store/b answers 200"
    assert Probes(None).is_request("store", "/a", status=404) == ""


@pytest.mark.slow
@pytest.mark.parametrize("part", sorted({row.part for row in exercises().values()}))
def test_a_notebook_of_exercises_runs_headless_shows_every_card_and_starts_nothing(
    part: str, make: Callable[..., Deployment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = make()
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    settings = {"deployment": deployment.spec.deployment, "cloud.aws_config": deployment.spec.cloud.aws_config}
    given = {"params_file": str(ROOT / "params" / "greg-separated.lab.yaml"), "overrides": settings}
    done = execute_notebook(ROOT / "exercises" / f"{part}.ipynb", tmp_path / "out.ipynb", given, cwd=ROOT / "exercises", progress_bar=False)
    seen = [output["data"]["text/html"] for cell in done.cells for output in cell.get("outputs", []) if "text/html" in output.get("data", {})]
    assert [row.id for row in exercises().values() if row.part == part and not any(f'aria-label="exercise {row.id}"' in shown for shown in seen)] == []
    assert not any(record.running for record in records(deployment).values())
