"""A wheel made from this clone works where there is no clone: in an environment of its own, from another folder."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import runbook_lib
from tests.conftest import ROOT
from tests.support.wheel import clean, install, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel with its dependencies, without extras."""
    return install(tmp_path_factory.mktemp("package"))


def test_the_command_tells_its_version(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "runbook", "--version", cwd=tmp_path).strip() == f"runbook {runbook_lib.__version__}"


def test_it_is_the_package_that_is_imported(installed: Path, tmp_path: Path) -> None:
    code = "import ec2lab, runbook_cli, runbook_lib, wso2_practice; modules = ec2lab, runbook_cli, runbook_lib, wso2_practice\n"
    code += "print(runbook_lib.open_deployment.__module__, *(module.__file__ for module in modules))"
    module, *paths = run(installed / "python", "-c", code, cwd=tmp_path).split()
    assert module == "runbook_lib.chapters.deployment"
    assert all(Path(path).is_relative_to(installed.parent) for path in paths)


def test_neither_test_tools_nor_extras_come_with_it(installed: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('pytest', 'hypothesis', 'mypy', 'ruff', 'nbval', 'moto', 'playwright') if u.find_spec(n)])"
    assert run(installed / "python", "-c", code).strip() == "[]"


def test_every_data_file_is_in_it(installed: Path) -> None:
    folders = ("runbook_lib", "runbook_cli", "lab/ec2lab", "practice/wso2_practice")
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    site = Path(run(installed / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    listed = [name.removeprefix("lab/").removeprefix("practice/") for name in listed]
    assert [name for name in listed if not (site / name).exists() and not name.endswith(".gitattributes")] == []


def test_a_folder_to_work_in_is_made_and_used(installed: Path, tmp_path: Path) -> None:
    made = run(installed / "runbook", "new", tmp_path / "work", cwd=tmp_path)
    assert re.search(r"\d+ files made", made)
    for folder, kind in (("notebooks", "*.ipynb"), ("exercises", "*.ipynb"), ("params", "*.yaml"), ("docs", "*.md")):
        assert {path.name for path in (tmp_path / "work" / folder).glob(kind)} >= {path.name for path in (ROOT / folder).glob(kind) if tracked(path)}
    code = "from runbook_lib import show_patterns; from runbook_lib.spec.loader import load_spec; print(load_spec('params/greg-single.lab.yaml').source)"
    assert run(installed / "python", "-c", code, cwd=tmp_path / "work" / "notebooks").strip() == str(tmp_path / "work/params/greg-single.lab.yaml")
    again = run(installed / "runbook", "new", tmp_path / "work", cwd=tmp_path)
    assert "nothing to make" in again


def tracked(path: Path) -> bool:
    return bool(subprocess.run(["git", "ls-files", str(path)], cwd=ROOT, capture_output=True, text=True).stdout)


def test_doctor_runs(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run([str(installed / "runbook"), "doctor"], cwd=tmp_path, env=clean(), capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1) and "Traceback" not in done.stdout + done.stderr
    assert "Python" in done.stdout
