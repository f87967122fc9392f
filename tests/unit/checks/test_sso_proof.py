"""How the proof decides: a row of `sso_decisions.yaml` is a matrix of made-up outcomes and the verdict it must give."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Event as Event_
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from runbook_lib.changes import Event
from runbook_lib.chapters.sso import Sso
from runbook_lib.checks.sso import proof as sso
from runbook_lib.checks.sso.attempts import Attempt, matrix
from runbook_lib.checks.sso.environment import ProductNode
from runbook_lib.checks.sso.pages import Seen
from runbook_lib.checks.sso.proof import Outcome, Proof, decide, try_out
from runbook_lib.checks.sso.publishing import verify_published
from runbook_lib.checks.sso.screenshots import with_test_users
from runbook_lib.checks.sso.verbs import CannotTell, Walk
from runbook_lib.errors import RunbookError, Stopped
from runbook_lib.webclient.forgery import FORGERIES
from runbook_lib.webclient.response import Exchange
from tests.conftest import DATA
from tests.fakes import attempt, scene

CASES = yaml.safe_load(Path(__file__).with_name("sso_decisions.yaml").read_text())
CONFIGURATIONS = {"bare", "single", "original", "hosts", "allow-list", "app-removed", "full"}
VERBS = {name.removeprefix("do_").replace("_", "-") for name in dir(Walk) if name.startswith("do_")}


@pytest.fixture(scope="module")
def golden_table() -> list[dict]:
    """What was measured on the real product."""
    return yaml.safe_load((DATA / "golden-table.yaml").read_text())["rows"]


def outcome(text: str) -> Outcome:
    kind, _, state = text.partition(" ")
    return Outcome(attempt(id=text, kind=kind, title=text), state, (), "from outside")


@pytest.mark.parametrize("case", CASES["decisions"], ids=lambda case: case["name"])
def test_an_attempt_is_decided_by_the_pages_it_met(case: dict) -> None:
    seen = [Seen(page, page, page) for page in case["met"]]
    assert decide(attempt(decided_by=case.get("decided_by", "all")), seen) == case["state"]


@pytest.mark.parametrize("case", CASES["verdicts"], ids=lambda case: case["name"])
def test_the_verdict_follows_from_the_outcomes(case: dict) -> None:
    proof = Proof(scene(expect=case["expect"]), tuple(map(outcome, case["outcomes"])))
    assert proof.verdict == case["verdict"]


@pytest.mark.parametrize("case", CASES["rows"], ids=lambda case: case["name"])
def test_a_row_passes_when_it_came_out_as_the_configuration_is_expected_to(case: dict) -> None:
    row = attempt(kind=case.get("kind", "attempt"), leaks_in=frozenset(["hosts"]), either_in=frozenset(["original"]))
    check = Outcome(row, case["state"], (), "x").as_check(scene(case["configuration"], case["expect"]))
    assert check.status == case["status"]


@pytest.mark.parametrize("row", matrix()[0], ids=lambda row: row.id)
def test_every_attempt_of_the_matrix_is_written_with_words_that_exist(row: Attempt) -> None:
    assert row.place in ("outside", "node", "neighbour")
    assert row.kind in sso.EXPECTED
    assert row.who in ("no one", "store-only", "publisher-only", "neither", "admin", "newcomer", "anybody")
    assert {step["alter"] for step in row.steps if "alter" in step} <= set(FORGERIES)
    assert row.leaks_in | row.either_in | row.only_in <= CONFIGURATIONS
    assert {next(iter(step)) for step in row.steps} <= VERBS
    assert row.why.endswith(".") and row.title and row.steps and row.held
    assert not row.leaks_in & row.either_in
    assert row.kind == "limit" or "full" not in row.leaks_in, "a separated cluster refuses everything"
    assert "full" not in row.either_in or row.closed_by == "sso-module", "what no setting closes is foretold nowhere; all else is closed with full"
    assert row.kind == "control" or row.leak, "an attempt that no page can turn into a leak proves nothing"
    assert (row.place == "node") == bool(row.at)
    assert row.decided_by == "all" or not row.held & set(sso.NOT_DONE), "a step that was not done refuses nothing"
    assert (row.kind == "control") == (not row.closed_by), "who reads of a leak wants to know what closes it"


def test_what_no_setting_closes_is_foretold_of_no_configuration_and_is_no_separation() -> None:
    rows = {row.id: row for row in matrix()[0] if row.closed_by == "sso-module" and row.kind == "attempt"}
    assert list(rows) == ["assertion-wrapped", "assertion-wrapped-publisher"]
    for row in rows.values():
        assert {row.foretold(configuration) for configuration in CONFIGURATIONS} == {"either"}
        assert (row.expected(scene("full", "separated")), row.expected(scene("single", "leak"))) == ({"held"}, {"held", "leak"})


def test_every_row_of_the_golden_table_is_an_attempt(golden_table: list[dict]) -> None:
    assert {row["id"] for row in golden_table} <= {row.id for row in matrix()[0]}


LETTERS = {"a": "bare", "b": "hosts", "c": "allow-list", "d": "app-removed", "f": "full"}


def test_what_the_matrix_expects_agrees_with_what_was_measured(golden_table: list[dict]) -> None:
    """Where the table says leak or held in so many words, `leaks_in` must say the same."""
    attempts = {row.id: row for row in matrix()[0]}
    golden_table = [{**row, "f": row.get("f", row["e"])} for row in golden_table]  # full is f; a row without one is as in e
    wrong = [
        f"{row['id']} {letter}"
        for row in golden_table
        for letter, name in LETTERS.items()
        if row[letter] in ("leak", "held") and name not in attempts[row["id"]].either_in and (name in attempts[row["id"]].leaks_in) != (row[letter] == "leak")
    ]
    assert not wrong


def test_a_step_that_breaks_leaves_the_attempt_undecided() -> None:
    found = try_out(attempt(steps=({"get": "nowhere /"},)), scene(), {})
    assert found.state == "undecided" and "KeyError" in found.reason


def test_a_user_that_could_not_be_made_leaves_the_attempt_undecided() -> None:
    found = try_out(attempt(who="store-only"), scene(), {})
    assert (found.state, found.reason) == ("undecided", "not tried: no store-only user was made")


def test_a_precondition_that_fails_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Walk, app: str) -> None:
        raise CannotTell("could not sign in at the Store first")

    monkeypatch.setattr(Walk, "do_sign_in", refuse)
    found = try_out(attempt(steps=({"sign-in": "store"},)), scene(), {})
    assert (found.state, found.reason) == ("undecided", "could not sign in at the Store first")


def opens(self: Walk, where: str) -> None:
    self.seen.append(Seen("opening", "200", "it opened", where))
    self.visitor.exchanges.append(Exchange("GET", where, 200, "", (), (), 0.0))


BROKEN = {"the user cannot sign in any more": CannotTell("could not sign in"), "the check itself fails": KeyError("nowhere")}


@pytest.mark.parametrize("error", BROKEN.values(), ids=BROKEN)
def test_a_leak_that_was_seen_stays_one_when_a_later_step_cannot_be_done(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(Walk, "do_get", opens)
    monkeypatch.setattr(Walk, "do_sign_in", lambda *_: raising(error))
    found = try_out(attempt(steps=({"get": "store /"}, {"sign-in": "store"})), scene(), {})
    assert (found.state, found.observed, [one.url for one in found.exchanges]) == ("leak", "it opened (store /)", ["store /"])


def test_a_leak_that_was_seen_at_one_node_stays_one_when_the_next_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(self: Walk, where: str) -> None:
        opens(self, where) if self.node and self.node.name == "store-1" else raising(CannotTell("it is gone"))

    monkeypatch.setattr(Walk, "do_get", get)
    nodes = tuple(ProductNode(f"store-{n}", f"10.0.0.{n}", None) for n in (1, 2))  # type: ignore[arg-type]
    found = try_out(attempt(place="node", at="store", steps=({"get": "node /"},)), replace(scene(), nodes={"store": nodes}), {})
    assert (found.state, found.observed) == ("leak", "it opened (node /, by store-1)")


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": ({"get": "store /", "must": ["refusal"]},)},
        {"steps": ({"get": "store /"}, {"sign-in": "store"}), "decided_by": "last"},
    ],
    ids=["a step that had to end elsewhere", "the last step would have decided"],
)
def test_a_page_that_decides_nothing_is_no_leak_when_a_step_cannot_be_done(monkeypatch: pytest.MonkeyPatch, changes: dict) -> None:
    monkeypatch.setattr(Walk, "do_get", opens)
    monkeypatch.setattr(Walk, "do_sign_in", lambda *_: raising(CannotTell("could not sign in")))
    found = try_out(attempt(**changes), scene(), {})
    assert found.state == "undecided" and found.reason


def raising(error: Exception) -> None:
    raise error


ASKED: dict[str, Callable[[], object]] = {
    "the attempts": lambda: sso.prove(scene(ask_first=True)),
    "the browser": lambda: with_test_users(scene(ask_first=True), False, "the browser", []),
    "publishing": lambda: verify_published(scene(ask_first=True)),
    "the chapter, before its probe is launched": lambda: Sso(on_aws()).prove(),
}


def on_aws() -> Any:
    """A deployment on AWS that has nothing but its journal: whatever else is asked of it is an error."""
    return SimpleNamespace(on_aws=True, journal=SimpleNamespace(attempt=lambda *_: nullcontext()))


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_nothing_is_touched_on_a_cloud_that_asks_first_and_the_way_on_is_named(ask: Callable[[], object]) -> None:
    with pytest.raises(RunbookError, match="nobody agreed yet") as caught:
        ask()
    assert "agreed=True in the cell" in (caught.value.next_step or "") and "--resume --yes" in (caught.value.next_step or "")


def test_each_attempt_is_told_and_after_a_stop_no_more_are_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(attempt(), id=f"attempt-{number}", alone=number > 40) for number in range(50)]
    made: list[str] = []
    monkeypatch.setattr(sso, "matrix", lambda: (tuple(rows), None))
    monkeypatch.setattr(sso, "test_users", lambda scene: nullcontext(SimpleNamespace(check=lambda *words: None)))
    monkeypatch.setattr(sso, "try_out", lambda row, *rest: made.append(row.id))
    told: list[Event] = []
    sso.prove(scene(), progress=told.append)
    assert len(made) == 50 and sorted(event.done for event in told) == list(range(1, 51)) and {event.of for event in told} == {50}

    def cancel(event: Event) -> None:
        if event.done >= 5:
            raise Stopped("stopped, as asked")

    made.clear()
    with pytest.raises(Stopped):
        sso.prove(scene(), progress=cancel)
    assert len(made) < 5


def test_attempts_from_the_neighbour_wait_for_its_machine_while_all_others_are_made_and_then_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [attempt(id="early"), attempt(id="there", place="neighbour"), attempt(id="there-too", place="neighbour"), attempt(id="late", alone=True)]
    there, told = Event_(), list[str]()

    def tried(row: Attempt, *_: object) -> Outcome:
        if row.place == "neighbour":
            assert there.wait(20), "the machine boots until all others were made"
        told.append(row.id)
        if row.id == "late":
            there.set()
        return Outcome(row, "held", (), "x")

    monkeypatch.setattr(sso, "try_out", tried)
    found = sso._all(rows, replace(scene(), leave_neighbour=lambda: told.append("left")), {}, lambda *_: None)
    assert told == ["early", "late", "there", "there-too", "left"] and list(found) == ["early", "late", "there", "there-too"]


def test_who_only_knocks_waits_for_silence_while_all_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = ({"ports": [9443]},)
    rows = [attempt(id="control", kind="control"), attempt(id="knock", steps=ports), attempt(id="usual"), attempt(id="late", alone=True)]
    silence, told = Event_(), list[str]()

    def tried(row: Attempt, *_: object) -> Outcome:
        assert row.id != "knock" or silence.wait(20), "begun before the others, and nobody waits for it but those that are alone"
        told.append(row.id)
        if row.id == "usual":
            silence.set()
        return Outcome(row, "held", (), "x")

    monkeypatch.setattr(sso, "try_out", tried)
    found = sso._all(rows, scene(), {}, lambda *_: None)
    assert told == ["control", "usual", "knock", "late"] and sorted(found) == ["control", "knock", "late", "usual"]
    assert {row.id for row in matrix()[0] if row.knocks} == {"ports-from-outside", "ports-from-neighbour"}


def test_silence_that_the_neighbour_met_is_tried_again_when_nothing_else_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, told = [attempt(id="there", place="neighbour"), attempt(id="late", alone=True)], list[str]()

    def tried(row: Attempt, *_: object) -> Outcome:
        told.append(row.id)
        pages = ["open" if told.count("there") == 2 else "timeout"] if row.id == "there" else ["refused"]
        return Outcome(row, "leak" if pages == ["open"] else "held", tuple(Seen(page, page, page) for page in pages), "x")

    monkeypatch.setattr(sso, "try_out", tried)
    found = sso._all(rows, replace(scene(), leave_neighbour=lambda: told.append("left")), {}, lambda *_: None)
    assert sorted(told[:2]) == ["late", "there"] and told[2:] == ["there", "left"] and found["there"].state == "leak"


def test_an_attempt_without_a_meaning_here_is_left_out_and_named() -> None:
    rows = {row.id: row for row in matrix()[0]}
    assert not rows["sni-and-host-differ"].applies(scene(traits=frozenset(["two-fronts"])))
    assert rows["sni-and-host-differ"].applies(scene(traits=frozenset(["one-front"])))
    assert not (left_out := rows["publisher-outside-allow-cidr"]).applies(scene())
    assert left_out.left_out_of(scene()) == "it is made from a machine of the deployment's network, which parameter publisher_allow_cidr lets in"
    assert left_out.applies(scene(traits=frozenset(["neighbour-left-out"])))
    assert "A title" in Proof(scene(), (outcome("attempt held"),), (attempt(),))._repr_html_()


def test_a_leak_is_shown_with_the_setting_that_closes_it() -> None:
    met = Outcome(attempt(closed_by="key"), "leak", (), "from outside")
    proof = Proof(scene(), (met,))
    assert proof.repairs == {"A title": sso.settings()["key"]}
    assert "a signing key per tier" in proof._repr_html_()


def test_every_setting_closes_something() -> None:
    assert set(sso.settings()) == {row.closed_by for row in matrix()[0]} - {""}


def test_the_table_shows_no_markup_of_a_page() -> None:
    met = Outcome(attempt(), "leak", (Seen("opening", "200", "<script>alert(1)</script>"),), "from outside")
    assert "<script>" not in Proof(scene(), (met,))._repr_html_()
