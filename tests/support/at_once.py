"""Which tests go to which of pytest's processes, and the lab and the folder of runs that each process has for itself.

Whoever shares a cluster stays together, so that it is made once, and so do the tests of one file. A process that is free takes the next of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

from runbook_lib.files import ROOT

NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # of this process
LAB = f"test{NUMBER or ''} 10.{218 + NUMBER if NUMBER else 214}.0.0/16"  # 215 to 218 are of tests that make labs themselves
CLUSTERS = ("separated", "as_cluster", "original", "watched")  # of tests/support/deployments.py; begun in this order, the longest first
TOGETHER = ("practice", "processes")  # folders whose tests look for free ports, or share a server
FOLDERS = ("cluster", "browser", "lab", "practice", "notebooks", "processes", "unit", "repository")  # begun in this order: machines first, they take longest


def group_of(folder: str, fixtures: Sequence[Any]) -> str:
    """Return what a test shares with tests of other files, by its folder below tests/ and its fixtures; "" for nothing."""
    return next((cluster for cluster in CLUSTERS if cluster in fixtures), folder if folder in TOGETHER else "")


def pytest_configure() -> None:
    if NUMBER:  # deployments of one name in two labs
        os.environ.setdefault("RUNBOOK_RUNS", str(ROOT / "runs" / f"_{NUMBER}"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("dist", "no") != "loadgroup":
        return
    order = {}
    for item in items:
        folder = item.nodeid.split("/")[1]
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        given = item.get_closest_marker("xdist_group")
        group = given.args[0] if given else group_of(folder, [*getattr(item, "fixturenames", ()), *parameters])
        if group and not given:
            item.add_marker(pytest.mark.xdist_group(group))
        order[item] = (CLUSTERS.index(group) if group in CLUSTERS else len(CLUSTERS), FOLDERS.index(folder))
    items.sort(key=order.__getitem__)


class ByCluster(LoadGroupScheduling):
    """Tests of no group go by files."""

    def _split_scope(self, nodeid: str) -> str:
        group = super()._split_scope(nodeid)
        return nodeid.partition("::")[0] if group == nodeid else group


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCluster | None:
    return ByCluster(config, log) if config.getoption("dist") == "loadgroup" else None
