"""`./runbook verify-evidence`: what it says of a run's files and of their key, and that a run cannot make it do anything."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib import pki
from runbook_lib.errors import CloudError, RunbookError
from runbook_lib.evidence import manifest
from runbook_lib.evidence.journal import Journal
from runbook_lib.headless import evidence_check
from runbook_lib.launch import cloud
from tests.conftest import ROOT

PARAMS = str(ROOT / "params/greg-single.lab.yaml")
NAME = "20300101T000000Z"
KEY = pki.make_ssh_key()


def closed(folder: Path, key: str | None = KEY, **head: Any) -> Path:
    """Return the folder of a run of one row that was signed."""
    Journal(folder, {"deployment": folder.parent.name, **head}).write("05_configure_nginx", "verify")
    manifest.close(folder, key, "2030-01-01T01:00:00Z")
    return folder


def said(run: Path, params: str | None = None, **overrides: Any) -> tuple[int, str]:
    """Return the exit status of the command and what it says."""
    lines: list[str] = []
    status = evidence_check.verify_evidence(run, params, overrides, lines.append)
    return status, "\n".join(lines)


def test_a_run_names_no_program_and_no_place_that_is_asked_for_its_key(tmp_path: Path) -> None:
    folder, ran = tmp_path / "demo" / NAME, tmp_path / "ran"
    config = folder / "aws-config"
    named: dict[str, Any] = {"deployment": "demo", "pattern": "greg-single", "expect": "leak", "cloud.aws_config": str(config)}
    named |= {"hosts": {"store": "store.lab.test", "publisher": "publisher.lab.test"}, "product.pack": "s3://packs/wso2greg-5.1.0.zip"}
    Journal(folder, {"deployment": "demo", "parameters": named}).write("05_configure_nginx", "verify")
    config.write_text(f"[default]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:9\nmax_attempts = 1\ncredential_process = touch {ran}\n")
    manifest.close(folder, KEY, "now")
    status, words = said(folder)
    assert not ran.exists(), "a command that the run names was run"
    assert status == 0 and f"signed by key {pki.ssh_fingerprint(KEY)}" in words and "give PARAMS" in words and "nobody was asked" in words


def test_a_key_cannot_be_set_where_no_params_are_given(tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="PARAMS"):
        said(closed(tmp_path / "demo" / NAME), **{"cloud.profile": "x"})


@pytest.mark.parametrize(
    ("stored", "status", "words"),
    [
        (pki.ssh_public_key(KEY), 0, "✔ Parameter Store at there, /runbook/greg-single/evidence-key.pub has the same key"),
        (pki.ssh_public_key(pki.make_ssh_key()), 1, "has ANOTHER key"),
        (None, 0, "there is no such key, as after a teardown"),
        (CloudError("no answer"), 0, "it could not be asked (no answer)"),
    ],
)
def test_the_deployment_of_the_verifiers_own_params_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str | Exception | None, status: int, words: str
) -> None:
    def find(_: str) -> str | None:
        if isinstance(stored, Exception):
            raise stored
        return stored

    monkeypatch.setattr(cloud, "Cloud", lambda spec: SimpleNamespace(endpoint="there", vault=SimpleNamespace(prefix=f"/runbook/{spec.deployment}/", find=find)))
    found, told = said(closed(tmp_path / "greg-single" / NAME), PARAMS)
    assert found == status and words in told and "nobody was asked" not in told
