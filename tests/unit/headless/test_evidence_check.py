"""`./runbook verify-evidence`: what it says of a run's files and of their key, and that a run cannot make it do anything."""

from __future__ import annotations

import shutil
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
    ids=["the same key", "another", "none", "no answer"],
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


@pytest.mark.parametrize(
    ("place", "mark"),
    [
        (f"runs/demo/{NAME}", ""),
        (f"collected/ada/runs/demo/{NAME}", ""),
        (f"collected/ada/{NAME}", "△"),
        ("collected/demo/run-of-ada", "△"),
        ("collected/demo/latest", "△"),
        ("collected/demo/20310101T000000Z", "✘"),
        (f"collected/demo/{NAME}-2", "✘"),
        (f"runs/other/{NAME}", "✘"),
        ("runs/other/20310101T000000Z", "✘"),
    ],
)
def test_the_run_that_was_signed_is_named_and_another_runs_place_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, mark: str) -> None:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    made = closed(tmp_path / "made/demo" / NAME)
    (tmp_path / place).parent.mkdir(parents=True)
    shutil.move(made, tmp_path / place)
    status, words = said(tmp_path / place)
    assert f"✔ demo/{NAME}: 1 files and 2 rows" in words
    assert status == (mark == "✘") and (f"{mark} this folder is {'/'.join(Path(place).parts[-2:])}" in words if mark else "this folder" not in words)


def test_a_link_to_a_run_is_the_runs_own_place(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(closed(tmp_path / "demo" / NAME))
    assert "this folder" not in said(tmp_path / "latest")[1]


def test_a_run_of_another_deployment_than_that_of_params_is_a_problem_also_where_no_key_is_left(tmp_path: Path) -> None:
    status, words = said(closed(tmp_path / "demo" / NAME), PARAMS)
    assert status == 1 and "✘ these are files of the deployment demo, and PARAMS is greg-single" in words


def test_what_a_run_says_of_itself_cannot_look_like_a_line_of_the_command(tmp_path: Path) -> None:
    run = closed(tmp_path / "demo" / NAME)
    manifest.close(run, KEY, "now\n✔ Parameter Store has the same key\x1b[8m")
    assert "now?✔ Parameter Store has the same key?[8m" in said(run)[1].splitlines()[0]
