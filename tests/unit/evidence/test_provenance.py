"""Provenance: rehearsal is told from production by what the endpoint and the product are, and nothing that matters is left out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from runbook_lib.evidence import provenance, report
from runbook_lib.evidence.journal import Journal
from runbook_lib.spec.loader import load_spec

LAB, AWS, CHINA = "http://10.223.0.1:5000", "https://ec2.eu-central-1.amazonaws.com", "https://ec2.cn-north-1.amazonaws.com.cn"
PRACTICE, GENUINE = "Practice server for WSO2 Governance Registry v5.1.0-practice", "WSO2 Governance Registry v5.1.0"
CALLER = {"account": "123456789012", "arn": "arn:aws:sts::123456789012:user/me"}


@pytest.mark.parametrize(
    ("endpoint", "product", "environment", "why"),
    [
        (LAB, PRACTICE, "REHEARSAL", ["is not AWS", "Practice server"]),
        (LAB, GENUINE, "REHEARSAL", ["is not AWS"]),
        (AWS, PRACTICE, "REHEARSAL", ["Practice server"]),
        ("https://ec2.amazonaws.com.evil.test", GENUINE, "REHEARSAL", ["is not AWS"]),
        (AWS, GENUINE, "PRODUCTION", [GENUINE]),
        (CHINA, GENUINE, "PRODUCTION", [GENUINE]),
        (AWS, "", "PRODUCTION", ["not known yet"]),
    ],
)
def test_rehearsal_is_what_is_not_aws_or_not_the_real_product(endpoint: str, product: str, environment: str, why: list[str]) -> None:
    found = provenance.environment_of(endpoint, product)
    assert found[0] == environment and all(words in found[1] for words in why)


def a_run(folder: Path, endpoint: str, product: str) -> Journal:
    spec = load_spec("params/greg-separated.lab.yaml", {"nodes.store": 3})
    journal = Journal(folder, {"deployment": spec.deployment, "pattern": spec.pattern, "expect": spec.expect})
    journal.provenance = lambda: provenance.head(spec, endpoint, CALLER)
    journal.observed("", "pack", {"pack": "s3://packs/greg.zip, sha256 0a1b", "product": product})
    for node in ("store-1", "publisher-1"):
        journal.observed("04_configure_greg_nodes", node, {"product": product, "jvm": "openjdk 1.8", "driver": "mariadb 2.7", "nothing": ""})
    journal.observed("02_install_mysql", "db-1", {"database": "MariaDB 10.11"})
    journal.write("02_install_mysql", "verify")
    return journal


@pytest.mark.parametrize(("endpoint", "product", "environment"), [(LAB, PRACTICE, "REHEARSAL"), (AWS, GENUINE, "PRODUCTION")])
def test_journal_result_and_report_begin_with_it(tmp_path: Path, endpoint: str, product: str, environment: str) -> None:
    journal = a_run(tmp_path / "run", endpoint, product)
    result = report.finish(journal)
    assert journal.path.read_text().startswith(f'{{"environment": "{environment}"')
    assert (tmp_path / "run" / "result.json").read_text().lstrip("{\n ").startswith(f'"environment": "{environment}"')
    page = (tmp_path / "run" / "report.html").read_text()
    assert page[page.index("<body>") :].index(f">{environment}: ") < 120
    for words in (endpoint, "123456789012", CALLER["arn"], "us-east-1", "debian-12", "sha256 0a1b", "openjdk 1.8 (publisher-1, store-1)", "mariadb 2.7",
                  "MariaDB 10.11 (db-1)", "nodes: {store: 3, publisher: 2}", result["provenance"]["code"]["version"]):  # fmt: skip
        assert words in page, words
    assert "nodes.store" not in result["provenance"]["parameters"] and result["provenance"]["parameters"]["nodes"] == {"store": 3, "publisher": 2}


def test_what_was_only_observed_makes_no_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    journal.observed("", "pack", {"product": GENUINE})
    assert not journal.folder.exists()


def test_a_run_that_did_not_write_it_down_claims_nothing(tmp_path: Path) -> None:
    Journal(tmp_path / "run", {"deployment": "old"}).open()
    assert "UNKNOWN: this run did not write down where it was made" in report.render(tmp_path / "run")


def test_evidence_names_the_code_that_made_it_and_the_files_that_differ_from_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "runbook_lib").mkdir()
    (tmp_path / "runbook_lib" / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "VERSION", "1.2")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def words() -> str:
        return provenance.code_words(provenance.code())

    assert words() == "1.2", "no commit where there is no repository"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x.test"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    assert re.fullmatch(r"1\.2 \(commit [0-9a-f]{12}\)", words())
    (tmp_path / "runbook_lib" / "__init__.py").write_text("# changed\n")
    (tmp_path / "runbook_lib" / "new.py").write_text("# new\n")
    (tmp_path / "notes.txt").write_text("what no run reads\n")
    assert re.fullmatch(r"1\.2 \(commit [0-9a-f]{12}; changed since: runbook_lib/__init__\.py, runbook_lib/new\.py\)", words())
    for path in ("__init__.py", "new.py"):
        (tmp_path / "runbook_lib" / path).unlink()
    (tmp_path / "runbook_lib").rmdir()
    assert words() == "1.2", "a folder to work in is no clone"
