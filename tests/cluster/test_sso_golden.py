"""The golden table, measured on the real product, cell by cell: the same configurations deployed, the matrix run.

Configurations b to f as the file's head names them: one Store and one Publisher node, clustering off; `full` is f, and e is
f with the guard that `allow-list` has. Column a, a bare node without Nginx, is tests/practice/test_sso_bare.py. The patterns
that leak are here too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.exercises.actions import changed
from runbook_lib.checks.sso.environment import scene_of
from runbook_lib.checks.sso.proof import Proof, prove
from tests.conftest import DATA
from tests.support.golden import golden_rows
from tests.support.sso_deployments import deployed

pytestmark = pytest.mark.full
SMALL = {"clustering": False, "nodes.store": 1, "nodes.publisher": 1}
HARDENINGS = {"b": "hosts", "c": "allow-list", "d": "app-removed", "e": "full", "f": "full"}
PATTERNS = ("greg-single", "greg-original")


def _proven(deployment: Deployment, former_guard: bool = False) -> Proof:
    try:
        with changed(deployment, [{"known-dangers": {}}] if former_guard else []):
            return prove(scene_of(deployment))
    finally:
        deployment.destroy(deployment.spec.deployment)
        deployment.close()


@pytest.fixture(scope="module", params=list(HARDENINGS))
def column(request: pytest.FixtureRequest, lab) -> Iterator[tuple[str, Proof]]:
    letter = request.param
    hardening = HARDENINGS[letter]
    expect = "separated" if hardening == "full" else "leak"
    names = {"deployment": f"golden-{letter}", "hardening": hardening, "expect": expect}
    yield letter, _proven(deployed(lab, 50 + "bcdef".index(letter), **names, **SMALL), former_guard=letter == "e")


@pytest.fixture(scope="module", params=PATTERNS)
def leaking(request: pytest.FixtureRequest, lab) -> Iterator[Proof]:
    pattern = request.param
    yield _proven(deployed(lab, 60 + PATTERNS.index(pattern), pattern, deployment=f"golden-{pattern}"))


def test_every_measured_cell_is_seen_again(column: tuple[str, Proof]) -> None:
    letter, proof = column
    found = golden_rows(proof)
    golden = yaml.safe_load((DATA / "golden-table.yaml").read_text())["rows"]
    measured = {row["id"]: row.get(letter, row["e"]) for row in golden}  # a row without an f is as in e
    differ = {id_: (seen, found.get(id_)) for id_, seen in measured.items() if seen is not None and str(seen) != found.get(id_)}
    assert len(measured) > 15 and differ == {}


def test_every_attempt_comes_out_as_the_hardening_is_known_to(column: tuple[str, Proof]) -> None:
    letter, proof = column
    if letter == "e":
        pytest.skip("what the former guard lets through is the next test's")
    assert [(row.id, row.status, row.observed) for row in proof.checks.failed()] == []
    assert proof.as_expected and (proof.verdict == "separated") == (letter == "f")


def test_the_former_guard_is_found_out_by_the_direct_scripts_and_by_what_nobody_wrote_down(column: tuple[str, Proof]) -> None:
    letter, proof = column
    if letter not in "ce":
        pytest.skip("these have another guard, or none")
    red = {outcome.attempt.id for outcome in proof.outcomes if outcome.state == "leak"}
    assert proof.verdict.startswith("leaks (")
    assert {"direct-script-without-role", "direct-page-without-role", "direct-script-writes-role", "direct-registration-on-publisher-host"} <= red
    assert {"generated-publisher", "generated-store", "generated-sso", "generated-social"} <= red


def test_a_leaking_pattern_leaks_as_expected_and_is_called_so(leaking: Proof) -> None:
    assert [(row.id, row.status, row.observed) for row in leaking.checks.failed()] == []
    assert leaking.as_expected and leaking.verdict.startswith("leaks (")
    assert "Sign in at the Store, then open the Publisher" in leaking.ways
