"""The dependencies are named once, in pyproject.toml: environment.yml, the locks and the imports follow it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
ENVIRONMENT: list[str] = PYPROJECT["dependency-groups"]["environment"]
DECLARED = [*PROJECT["dependencies"], *(name for group in EXTRAS.values() for name in group)]
LOCKS = {
    "requirements.lock": [*PROJECT["dependencies"], *EXTRAS["lab"], *EXTRAS["browser"], *EXTRAS["book"], *ENVIRONMENT],
    "requirements-classroom.lock": [*PROJECT["dependencies"], *EXTRAS["lab"], *EXTRAS["browser"], *EXTRAS["book"], *EXTRAS["classroom"], *ENVIRONMENT],
    "requirements-test.lock": [*DECLARED, *ENVIRONMENT],
}
LAB: list[str] = tomllib.loads((ROOT / "lab/pyproject.toml").read_text())["project"]["dependencies"]
# what the code of a folder may import: at the top of a file, and inside of a function or for types
MAY_IMPORT = {
    "runbook_lib": (PROJECT["dependencies"], [*PROJECT["dependencies"], *EXTRAS["browser"], *EXTRAS["book"], *EXTRAS["dask"]]),
    "runbook_cli": ([*PROJECT["dependencies"], *EXTRAS["classroom"]], [*PROJECT["dependencies"], *EXTRAS["classroom"]]),
    "lab": (LAB, LAB),
    "practice": (PROJECT["dependencies"], PROJECT["dependencies"]),
    "benchmarks": (DECLARED, DECLARED),
    "tests": (DECLARED, DECLARED),
}


def locked(lock: str) -> dict[str, list[Requirement]]:
    """The entries of a lock by the package's name, each with version, marker and at least one hash."""
    entries: dict[str, list[Requirement]] = {}
    text = (ROOT / lock).read_text().replace(" \\\n", "")
    for line in text.splitlines():
        if not line.startswith("#"):
            entry, *hashes = line.split("    --hash=sha256:")
            assert hashes and all(re.fullmatch("[0-9a-f]{64}", found) for found in hashes), f"{entry} has no hash"
            requirement = Requirement(entry)
            entries.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return entries


def test_conda_users_get_the_same_dependencies() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    assert sorted(pip) == sorted(DECLARED)
    assert f"python{PROJECT['requires-python']}" in listed


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_holds_a_version_that_each_dependency_allows(lock: str) -> None:
    entries = locked(lock)
    for requirement in map(Requirement, LOCKS[lock]):
        found = entries.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement.name} is not in {lock}"
        for entry in found:
            version = str(entry.specifier).removeprefix("==")
            assert requirement.specifier.contains(version), f"{entry} is not {requirement.specifier}"


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_pins_everything_and_names_no_index(lock: str) -> None:
    assert all(re.fullmatch(r"==[\w.+!]+", str(entry.specifier)) and not entry.url for entries in locked(lock).values() for entry in entries)
    assert not re.search(r"://|^-", (ROOT / lock).read_text(), re.M)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_holds_what_is_needed_here_and_nothing_else(lock: str) -> None:
    """Followed from the declared dependencies through what the installed packages say they require."""
    here = {name for name, entries in locked(lock).items() if any(not entry.marker or entry.marker.evaluate() for entry in entries)}
    needed: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in LOCKS[lock]]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ["", *requirement.extras]:
            key = (canonicalize_name(requirement.name), wanted)
            if key not in needed:
                needed.add(key)
                waiting += [(Requirement(text), wanted) for text in metadata.requires(requirement.name) or []]
    assert {name for name, _ in needed} == here


def test_each_lock_is_the_one_before_and_more() -> None:
    """Of the same versions; a package that one lock needs for some Pythons only, another may need for all."""
    chapters, classroom, tests = ({name: {str(entry.specifier) for entry in entries} for name, entries in locked(lock).items()} for lock in LOCKS)
    assert {name: classroom.get(name) for name in chapters} == chapters
    assert {name: tests.get(name) for name in classroom} == classroom
    assert {canonicalize_name(Requirement(name).name) for name in EXTRAS["test"]} - {"packaging", "nbconvert"} <= set(tests) - set(chapters)


@pytest.mark.parametrize("lock", LOCKS)
def test_contributing_says_how_the_lock_is_made(lock: str) -> None:
    command = (ROOT / lock).read_text().splitlines()[1].removeprefix("#").strip()
    assert command.startswith("uv pip compile") and command in re.sub(r"\s*\\\n\s*", " ", (ROOT / "CONTRIBUTING.md").read_text())


def test_what_the_lab_needs_comes_with_the_runbook_too() -> None:
    assert set(LAB) <= set(DECLARED)


def test_every_dependency_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for name in DECLARED:
        line = next(line for line in lines if f'"{name}"' in line)
        assert re.search(r'",\s+# \S', line), f"{name} has no reason"


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level names of the packages that a file imports, and whether it does so at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        yield from ((name.partition(".")[0], node in tree.body) for name in names)


def ours(folder: Path) -> set[str]:
    """Names that are found without an installed package: ours, and those of scripts beside each other."""
    return {*MAY_IMPORT, "ec2lab", "wso2_practice", *(path.stem for path in folder.rglob("*.py"))}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_every_import_is_of_a_declared_dependency(folder: str) -> None:
    makers = metadata.packages_distributions()
    at_top, anywhere = ({canonicalize_name(Requirement(text).name) for text in declared} for declared in MAY_IMPORT[folder])
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name, top in imports(path)
        if name not in sys.stdlib_module_names and name not in ours(ROOT / folder)
        if not {canonicalize_name(maker) for maker in makers.get(name, [])} & (at_top if top else anywhere)
    }
    assert not undeclared
