"""The lab is of use without the runbook: its own wheel, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import runbook_lib
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with ec2lab and what this environment has, without this clone's packages."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "lab", folder / "lab", ignore=shutil.ignore_patterns("__pycache__"))  # a build writes beside its sources
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "lab")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", *folder.glob("*.whl"))
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its packages, not the .pth files that lie there
    return python.parent


def run(*words: object) -> str:
    done = subprocess.run(list(map(str, words)), cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_its_command_runs_where_there_is_no_runbook(alone: Path) -> None:
    assert "bring the lab up" in run(alone / "ec2lab", "--help")
    assert run(alone / "python", "-c", "import importlib.util as found; print(found.find_spec('runbook_lib'))").strip() == "None"


def test_a_lab_that_is_not_up_is_named_with_the_lab_s_own_command(alone: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EC2LAB_")}
    done = subprocess.run([str(alone / "ec2lab"), "status", "--name", "never"], cwd="/", env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "lab never is not up" in done.stderr and "next:  ec2lab up" in done.stderr


def test_it_bears_the_runbook_s_version() -> None:
    assert tomllib.loads((ROOT / "lab/pyproject.toml").read_text())["project"]["version"] == runbook_lib.__version__
