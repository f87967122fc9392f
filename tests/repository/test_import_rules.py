"""Which module may import which: the contracts in pyproject.toml, no circle anywhere, folders that can be read at a glance, a class name per meaning."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter

import grimp
import pytest

from tests.conftest import ROOT

MOST_FILES = 12  # in a folder, __init__.py not counted


def test_the_contracts_hold() -> None:
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["runbook_lib", "runbook_cli", "ec2lab", "wso2_practice"])
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    graph = grimp.build_graph(package, cache_dir=None)
    order = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).static_order()  # CycleError names it
    assert set(order) >= graph.modules


def test_a_folder_holds_few_files() -> None:
    folders = {file.parent for package in ("runbook_lib", "runbook_cli", "lab", "practice") for file in (ROOT / package).rglob("*.py")}
    counts = {folder: sum(file.name != "__init__.py" for file in folder.glob("*.py")) for folder in folders}
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_a_class_name_is_defined_once() -> None:
    places = defaultdict(list)
    for folder in ("runbook_lib", "runbook_cli", "lab", "practice"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for name in re.findall(r"^class (\w+)", file.read_text(), re.MULTILINE):
                places[name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_test_imports_from_another() -> None:
    """What several tests need lies in tests/fakes.py or tests/support/."""
    found = {
        f"{file.relative_to(ROOT)}: {module}"
        for file in (ROOT / "tests").rglob("*.py")
        for module in re.findall(r"^\s*(?:from|import) (\S*\btest_\w+)", file.read_text(), re.MULTILINE)
    }
    assert not found
