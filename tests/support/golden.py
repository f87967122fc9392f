"""A proof in the words of the golden table (`tests/data/golden-table.yaml`), to compare it with what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from runbook_lib.checks.sso.proof import Outcome, Proof


def golden_rows(proof: Proof) -> dict[str, str]:
    """Attempt id -> observation."""
    return {outcome.attempt.id: _word(outcome) for outcome in proof.outcomes}


def _word(outcome: Outcome) -> str:
    rule = outcome.attempt.golden
    if rule == "state" or outcome.state == "undecided":
        return outcome.state
    if isinstance(rule, Mapping) and outcome.state in rule:
        return str(rule[outcome.state])
    return ", ".join(dict.fromkeys(one.says for one in outcome.seen))
