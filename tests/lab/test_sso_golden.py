"""The golden table, measured on the real product, cell by cell: the same four configurations deployed, the matrix run.

Configurations b to e as the file's head names them: one Store and one Publisher node, clustering off. Column a, a bare
node without Nginx, is tests/practice/test_sso_bare.py. The patterns that leak are here too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from runbook_lib.checks.scene import scene_of
from runbook_lib.checks.sso import Proof, prove
from runbook_lib.deployment import Deployment
from tests.conftest import SHARED
from tests.lab.sso_lab import deployed

pytestmark = pytest.mark.full
SMALL = {"clustering": False, "nodes.store": 1, "nodes.publisher": 1}
HARDENINGS = {"b": "hosts", "c": "allow-list", "d": "app-removed", "e": "full"}
PATTERNS = ("greg-single", "greg-original")


def _proven(deployment: Deployment) -> Proof:
    try:
        return prove(scene_of(deployment))
    finally:
        deployment.destroy(deployment.spec.deployment)
        deployment.close()


@pytest.fixture(scope="module", params=list(HARDENINGS))
def column(request: pytest.FixtureRequest, lab) -> Iterator[tuple[str, Proof]]:
    letter = request.param
    hardening = HARDENINGS[letter]
    expect = "separated" if letter == "e" else "leak"
    names = {"deployment": f"golden-{letter}", "hardening": hardening, "expect": expect}
    yield letter, _proven(deployed(lab, 50 + "bcde".index(letter), **names, **SMALL))


@pytest.fixture(scope="module", params=PATTERNS)
def leaking(request: pytest.FixtureRequest, lab) -> Iterator[Proof]:
    pattern = request.param
    yield _proven(deployed(lab, 60 + PATTERNS.index(pattern), pattern, deployment=f"golden-{pattern}"))


def test_every_measured_cell_is_seen_again(column: tuple[str, Proof]) -> None:
    letter, proof = column
    table = SHARED / "golden-table.yaml"
    if not table.is_file():
        pytest.skip(f"no measured table at {table}; set RUNBOOK_SHARED")
    found = proof.golden_rows()
    rows = [row for row in yaml.safe_load(table.read_text())["rows"] if row[letter] is not None]
    differ = {r["id"]: (r[letter], found.get(r["id"])) for r in rows if str(r[letter]) != found.get(r["id"])}
    assert len(rows) > 15 and differ == {}


def test_every_attempt_comes_out_as_the_hardening_is_known_to(column: tuple[str, Proof]) -> None:
    letter, proof = column
    assert [(row.id, row.status, row.observed) for row in proof.checks.failed()] == []
    assert proof.as_expected and (proof.verdict == "separated") == (letter == "e")


def test_a_leaking_pattern_leaks_as_expected_and_is_called_so(leaking: Proof) -> None:
    assert [(row.id, row.status, row.observed) for row in leaking.checks.failed()] == []
    assert leaking.as_expected and leaking.verdict.startswith("leaks (")
    assert "Sign in at the Store, then open the Publisher" in leaking.ways
