"""The chapters as they are run: cell by cell by nbval, one alone by papermill, and what a whole run leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from runbook_lib.spec.chapters import chapters_of
from tests.conftest import ROOT
from tests.support.deployments import Deployed, in_lab, with_parameters

NAMES = ["00_start_here", *(chapter.name for chapter in chapters_of("greg-separated"))]


@pytest.fixture
def quiet_runs(tmp_path: Path) -> dict[str, str]:
    """An environment in which sessions leave their evidence in the test's own folder."""
    return {**os.environ, "RUNBOOK_RUNS": str(tmp_path / "runs"), "RUNBOOK_HEADLESS": "1"}


def test_every_cell_of_every_chapter_runs_by_nbval(separated: Deployed, tmp_path: Path, quiet_runs: dict[str, str]) -> None:
    for name in NAMES:
        with_parameters(name, separated, tmp_path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-cell-timeout=300",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", os.devnull, str(tmp_path)],
        cwd=tmp_path, env=quiet_runs, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    cells = sum(len(code_cells(tmp_path / f"{name}.ipynb")) for name in NAMES)
    assert f"{cells} passed" in done.stdout


def test_the_chapter_about_batches_runs_by_nbval_and_needs_no_machine(lab: Any, tmp_path: Path, quiet_runs: dict[str, str]) -> None:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    shutil.copyfile(ROOT / "params/greg-separated.lab.yaml", tmp_path / "params/greg-separated.lab.yaml")
    book = with_parameters("10_batch", in_lab(lab, "greg-separated", "test-batch", 9), tmp_path / "notebooks")
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=300", "-q", "-p", "no:cacheprovider"]
    place = ["--rootdir", str(tmp_path), "-c", os.devnull, str(book)]
    done = subprocess.run([*command, *place], cwd=tmp_path, env={**quiet_runs, "RUNBOOK_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(code_cells(book))} passed" in done.stdout, done.stdout[-6000:]
    newest = json.loads((tmp_path / "runs/_batches/tiers/latest/batch.json").read_text())
    assert [row["left_out"] for row in newest["rows"]] == [True, True, True, True, False] and newest["ok"]


@pytest.mark.full
def test_the_second_day_changes_every_node_and_takes_it_back_and_loses_nothing_unasked(separated: Deployed, tmp_path: Path, quiet_runs: dict[str, str]) -> None:
    deployment = separated.open()
    before = {name: machine.id for name, machine in deployment.instances().items()}
    output = tmp_path / "out.ipynb"
    values = json.dumps({"params_file": separated.params, "overrides": dict(separated.overrides)})
    command = [sys.executable, "-m", "papermill", "notebooks/08_second_day.ipynb", str(output), "-y", values]
    done = subprocess.run(command, cwd=ROOT, env=quiet_runs, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.dumps(cell.outputs) for cell in code_cells(output)]
    assert sum("G-Reg nodes: 8 resources changed on 4 hosts" in each for each in said) == 2, "there and back"
    assert any("-Xmx768m" in each for each in said) and any("no drill asked for" in each for each in said)
    assert {name: machine.id for name, machine in deployment.instances().items()} == before and not deployment.greg.plan()
    deployment.close()


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_one_chapter_alone_runs_by_papermill(separated: Deployed, tmp_path: Path, quiet_runs: dict[str, str]) -> None:
    output = tmp_path / "out.ipynb"
    values = json.dumps({"params_file": separated.params, "overrides": dict(separated.overrides)})
    command = [sys.executable, "-m", "papermill", "notebooks/02_install_mysql.ipynb", str(output), "-y", values]
    done = subprocess.run(command, cwd=ROOT, env=quiet_runs, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nothing to change" in output.read_text()


def test_a_failing_chapter_ends_in_a_card_and_not_in_a_traceback(separated: Deployed, tmp_path: Path, quiet_runs: dict[str, str]) -> None:
    output = tmp_path / "out.ipynb"
    values = json.dumps({"params_file": separated.params, "overrides": {**separated.overrides, "nodes.store": 99}})
    command = [sys.executable, "-m", "papermill", "notebooks/02_install_mysql.ipynb", str(output), "-y", values]
    done = subprocess.run(command, cwd=ROOT, env=quiet_runs, capture_output=True, text=True)
    assert done.returncode != 0
    cells = [cell for cell in code_cells(output) if any(out.output_type == "error" for out in cell.outputs)]
    outputs = cells[0].outputs
    error = next(out for out in outputs if out.output_type == "error")
    cards = [out for out in outputs if "rb-error" in str(out.get("data", {}).get("text/html", "")) and "role=" in str(out)]
    assert len(cards) == 1
    assert "nodes.store = 99" in error.evalue
    assert "1 to 8" in error.evalue
    assert not any("Traceback" in line or "File " in line for line in error.traceback)


def test_tear_down_does_nothing_without_the_name(separated: Deployed, tmp_path: Path, quiet_runs: dict[str, str]) -> None:
    output = tmp_path / "out.ipynb"
    values = json.dumps({"params_file": separated.params, "overrides": dict(separated.overrides)})
    command = [sys.executable, "-m", "papermill", "notebooks/99_tear_down.ipynb", str(output), "-y", values]
    done = subprocess.run(command, cwd=ROOT, env=quiet_runs, capture_output=True, text=True)
    assert done.returncode != 0
    assert f'confirm = \\"{separated.name}\\"' in output.read_text()
    assert len(separated.open().instances()) == 6


def test_a_run_leaves_no_secret_and_no_path_of_this_machine(separated: Deployed) -> None:
    secrets = {name: value for name, value in separated.open().vault.read_all().items() if name != "evidence-key.pub"}  # each run's manifest has that
    assert len(secrets) >= 8
    left = [path for path in separated.whole_run.rglob("*") if path.is_file()]
    assert {"journal.jsonl", "report.html", "result.json", "07_verify_sso_separation.ipynb"} <= {p.name for p in left}
    for path in left:
        text = path.read_bytes().decode("utf-8", "replace")
        found = [name for name, value in secrets.items() if value in text or json.dumps(value)[1:-1] in text]
        assert not found, f"{path.name} holds {found}"
        assert str(ROOT) + "/" not in text, f"{path.name} names a path of this machine"


def test_the_evidence_of_a_whole_run_is_whole(separated: Deployed) -> None:
    result = json.loads((separated.whole_run / "result.json").read_text())
    assert (result["schema"], result["verdict"], result["ok"]) == (1, "separated", True)
    assert [chapter["name"] for chapter in result["chapters"]] == NAMES[1:]
    assert all(check["chapter"] for check in result["checks"])
    assert len({(check["id"], check["where"]) for check in result["checks"]}) == len(result["checks"])
