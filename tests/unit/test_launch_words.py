"""What chapter 01 shows reads as a sentence: before, after, and when there is nothing to do."""

from __future__ import annotations

import pytest

from runbook_lib.launch.plan import Change, LaunchPlan, LaunchResult

NOTHING = LaunchPlan("demo", ())
SOME = LaunchPlan("demo", (Change("create", "machine", "db-1"), Change("create", "machine", "lb-1"), Change("start", "machine", "greg-1")))


def test_an_empty_plan_is_a_sentence_and_no_table() -> None:
    assert "<table" not in NOTHING._repr_html_()
    assert "✓ demo: nothing to change." in NOTHING._repr_html_()
    assert str(NOTHING) == "demo: nothing to change"


def test_before_it_says_what_is_to_be_done_and_afterwards_what_was() -> None:
    assert SOME.summary() == "demo: 2 to create, 1 to start"
    assert str(LaunchResult(SOME, ("db-1",), 6.25)) == "demo: 2 created, 1 started (6.2 s)"
    assert str(LaunchResult(NOTHING, (), 0.5)) == "demo: nothing to change (0.5 s)"


@pytest.mark.parametrize("action", ["create", "modify", "replace", "delete", "start"])
def test_every_change_carries_a_sign_and_a_word_beside_its_colour(action: str) -> None:
    row = LaunchPlan("demo", (Change(action, "machine", "db-1"),))._rows()[0]
    sign, word = row[0].split()
    assert not sign.isalnum()
    assert word == action
