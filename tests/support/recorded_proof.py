"""A recorded run of chapter 07, without machines: its proof ended as the matrix foretells of a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.checks.sso.pages import Seen
from runbook_lib.checks.sso.proof import Outcome, Proof
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.pictures.sign_on import ATTEMPT
from runbook_lib.webclient.response import Exchange

DATA = Path(__file__).parent.parent / "data"
CHAPTER = "07_verify_sso_separation"


def exchanges_of(state: str) -> tuple[Exchange, ...]:
    """The administrator's walk from the Store to the Publisher as a run in the lab met it: `leak` on greg-original, `held` on greg-separated."""
    return tuple(Exchange(**fields) for fields in json.loads((DATA / "sign-on-walks.json").read_text())[state])


def picture_values() -> dict[str, Any]:
    """By kind, what chapters 04 and 05 of that run on greg-separated drew their pictures from."""
    return json.loads((DATA / "picture-values.json").read_text())


def proof_of(configuration: str, expect: str) -> Proof:
    """A proof whose attempts ended as the matrix foretells of this configuration."""
    hosts = {"store": "s.test", "publisher": "p.test"}
    scene = Scene(configuration, expect, hosts, {}, {"store": (), "publisher": ()}, Login("admin", "x"))  # type: ignore[arg-type]
    outcomes, left_out = [], []
    for attempt in matrix()[0]:
        if not attempt.applies(scene):
            left_out.append(attempt)
            continue
        state: Any = "leak" if configuration in attempt.leaks_in else "held"
        met = exchanges_of(state) if attempt.id == ATTEMPT else ()
        outcomes.append(Outcome(attempt, state, (Seen("page", state, "what was seen", "200 at /"),), "from outside", exchanges=met))
    return Proof(scene, tuple(outcomes), tuple(left_out))


def recorded(folder: Path, configuration: str, expect: str) -> tuple[Proof, Path]:
    """A run whose journal has that proof, as chapter 07 writes it."""
    proof = proof_of(configuration, expect)
    pattern = {"single": "greg-single", "original": "greg-original"}.get(configuration, "greg-separated")
    run = folder / f"a-{configuration}" / "20260101T000000Z"
    journal = Journal(run, {"deployment": run.parent.name, "pattern": pattern, "hardening": "full", "expect": expect})
    journal.write(CHAPTER, "prove")
    journal.checked(CHAPTER, proof.checks)
    journal.verdict(CHAPTER, proof.kind, proof.verdict, proof.as_expected)
    for outcome in proof.outcomes:
        journal.write(CHAPTER, "attempt", key=f"sso.{outcome.attempt.id}", **outcome.as_evidence())
    journal.write(CHAPTER, "scope", **proof.scope)
    for kind, values in picture_values().items():
        journal.pictured("05_configure_nginx", kind, values)
    journal.write(CHAPTER, "verify", ok=proof.as_expected)
    return proof, run
