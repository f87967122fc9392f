"""The DAG of `./runbook batch … --as airflow` in a real Airflow, which has an environment and a database of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, need
from tests.support.batch_workspace import Workspace

pytest_plugins = ["tests.support.aws_endpoint"]
pytestmark = [pytest.mark.full, pytest.mark.slow]
PACKAGES = ("apache-airflow==3.3.2", "apache-airflow-providers-papermill==3.13.3")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `airflow` in an environment without any of our packages."""
    folder = tmp_path_factory.mktemp("airflow") / "venv"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    done = subprocess.run([uv, "pip", "install", "--quiet", "--python", folder / "bin/python", *PACKAGES], capture_output=True, text=True)
    need(done.returncode == 0, f"Airflow cannot be installed here: {done.stderr[-300:]}")
    return folder / "bin/airflow"


def test_airflow_executes_a_sweep_by_the_notebook_and_sees_one_that_fails(tmp_path: Path, aws_config: Path, airflow: Path) -> None:
    here = Workspace(tmp_path, aws_config)
    for name in ("10_batch.ipynb", "runbook_lib.py"):
        shutil.copyfile(ROOT / "notebooks" / name, tmp_path / "notebooks" / name)
    here.sweep(["well"])
    status, dag = here.run("batch", "sweep.yaml", "--every", "6h", "--as", "airflow", apart=True)
    assert status == 0
    environment = {"HOME": str(tmp_path), "PATH": os.defpath, "AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    line = next(line for line in dag.splitlines() if "ipykernel install" in line)
    subprocess.run(shlex.split(line), check=True, env=environment)  # as the DAG's head says
    (tmp_path / "airflow/dags").mkdir(parents=True)
    (tmp_path / "airflow/dags/sweep.py").write_text(dag)

    def airflow_says(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([airflow, *words], env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert airflow_says("db", "migrate").returncode == 0
    done = airflow_says("dags", "test", "runbook-batch-s")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert here.tries("well") == ["begun", "ended"] and here.found()["well"]["state"] == "verified"
    [executed] = (tmp_path / "runs/_airflow/runbook-batch-s").glob("*.ipynb")
    assert "deployments verified" in executed.read_text()

    here.sweep(["well", "refused"])
    done = airflow_says("dags", "test", "runbook-batch-s")
    said = done.stdout + done.stderr
    assert re.search(r"state.?[=:].?failed|dag_run.*failed|Marking run .* failed", said), said[-4000:]
    assert "1 of 2 deployments of s did not end well: s-refused" in said
