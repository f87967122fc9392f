"""The dependencies are named once: pyproject.toml; environment.yml and requirements.lock follow it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [*PROJECT["dependencies"], *(name for group in PROJECT["optional-dependencies"].values() for name in group)]
LOCKED = (ROOT / "requirements.lock").read_text().splitlines()


def test_conda_users_get_the_same_dependencies() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    assert sorted(pip) == sorted(WANTED)
    assert f"python{PROJECT['requires-python']}" in listed


def test_the_lock_holds_a_version_that_each_dependency_allows() -> None:
    locked = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LOCKED)}
    for text in WANTED:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{name} is not in requirements.lock"
        assert requirement.specifier.contains(locked[name]), f"{name} {locked[name]} is not {requirement.specifier}"


def test_the_lock_pins_everything_and_names_no_index() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+!]+", line) for line in LOCKED)


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for name in PROJECT["dependencies"]:
        line = next(line for line in text.splitlines() if f'"{name}"' in line)
        assert "#" in line, f"{name} has no reason"
