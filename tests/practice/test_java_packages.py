"""The packages of the practice server: which exist, and that none imports itself by way of others."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

from wso2_practice.build import HERE

TOP = "org.runbook.practice"
IMPORT = re.compile(rf"^import (?:static )?{re.escape(TOP)}((?:\.[a-z]+)*)\.[A-Z]", re.MULTILINE)


def imports() -> dict[str, set[str]]:
    """Each package, and the other packages of the server that its files import."""
    graph: dict[str, set[str]] = {}
    for file in (HERE / "server").rglob("*.java"):
        text = file.read_text()
        package = ".".join(file.parent.relative_to(HERE / "server").parts)
        assert text.startswith(f"package {package};"), file
        graph.setdefault(package, set()).update(TOP + below for below in IMPORT.findall(text))
    return {package: found - {package} for package, found in graph.items()}


def test_the_packages_form_no_circle() -> None:
    graph = imports()
    names = {TOP, *(f"{TOP}.{name}" for name in ("apps", "boot", "cluster", "conf", "db", "registry", "sso", "users", "web"))}
    assert set(TopologicalSorter(graph).static_order()) == names  # CycleError names the circle


def test_the_base_package_imports_no_other() -> None:
    assert imports()[TOP] == set()
