"""The evidence of a real deployment: it says what it is, and is signed by the deployment's key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deployments import Deployed, Watched, verify_evidence

pytestmark = pytest.mark.lab


@pytest.fixture
def single(watched: Watched) -> Deployed:
    return watched.deployed


def test_the_evidence_says_where_it_was_made_and_what_answered(single: Deployed) -> None:
    result = single.result
    origin = result["provenance"]
    assert (result["environment"], origin["region"]) == ("REHEARSAL", "us-east-1") and origin["account"] and origin["caller"].startswith("arn:")
    assert set(origin["observed"]) == {"product", "pack", "image", "database", "driver", "jvm"}
    assert "Practice server" in str(origin["observed"]["product"]) and "MariaDB" in str(origin["observed"]["database"])
    assert "openjdk" in origin["observed"]["jvm"]["greg-1"].lower() and "mariadb" in origin["observed"]["driver"]["greg-1"]
    assert result["statement"]["system"] == f"✘ LEAKS ({result['counts']['ways']} ways)" and result["statement"]["expected"] and result["complete"]


def test_a_board_and_a_record_never_show_a_leak_as_good(single: Deployed) -> None:
    board = single.cli("status").stdout
    assert board.startswith("REHEARSAL: ") and "✘ LEAKS (" in board and "every chapter is verified" in board


def test_the_deployments_key_signed_every_file_and_one_changed_byte_is_named(single: Deployed) -> None:
    run = single.latest
    for deployed, words in ((single, "has the same key"), (None, "give PARAMS")):
        found = verify_evidence(run, deployed)
        assert found.returncode == 0 and words in found.stdout, found.stdout + found.stderr
    path = run / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"verb": "verdict"', b'"verb": "Verdict"', 1))
    try:
        found = verify_evidence(run, single)
        row = whole[: whole.index(b'"verb": "verdict"')].count(b"\n") + 1
        assert found.returncode == 1 and f"journal.jsonl, row {row}: changed" in found.stdout
    finally:
        path.write_bytes(whole)


def test_another_machine_resumes_from_the_records(single: Deployed, tmp_path: Path) -> None:
    elsewhere = {"RUNBOOK_RUNS": str(tmp_path)}  # as on a machine that has no run of this deployment
    resumed = single.cli("run", "--resume", "--to", "05", env=elsewhere)
    assert resumed.returncode == 0 and resumed.stdout.count("✔ left out: verified") == 4, resumed.stdout
    assert "all verified" not in single.cli("run", "--resume", "--to", "02", env=elsewhere).stdout
