"""An AS cluster of four workers, made smaller and larger while visitors use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.deployments import Deployed, in_lab, made, on
from tests.support.watched import Meanwhile, ended, under_load

pytestmark = pytest.mark.full
FEW, MANY = ["as-worker-1", "as-worker-2"], ["as-worker-1", "as-worker-2", "as-worker-3", "as-worker-4"]


@pytest.fixture(scope="module")
def four(lab: Any) -> Iterator[Deployed]:
    with made(in_lab(lab, "as-cluster", "test-scale", 6, nodes__worker=4, drill=False)) as deployed:
        yield deployed


@pytest.fixture(scope="module")
def two(four: Deployed) -> Deployed:
    """The same deployment, as its parameters are with two workers."""
    return replace(four, overrides={**four.overrides, "nodes.worker": 2})


def run_under_load(deployed: Deployed) -> Meanwhile:
    meanwhile = under_load(deployed, ("as",), lambda: deployed.cli("run", seconds=900))
    meanwhile.was_served(ended(meanwhile.done))
    return meanwhile


def observed(deployed: Deployed, id: str) -> str:
    [row] = [check for check in deployed.result["checks"] if check["id"] == id]
    assert row["status"] == "pass", row
    return row["observed"]


def is_whole(deployed: Deployed, workers: list[str]) -> None:
    """One cluster of the manager and these workers; each of them gets requests, and has the application."""
    deployment = deployed.open()
    names = {"as-manager-1", *workers}
    members = set(observed(deployed, "cluster-members-as").split(", "))
    assert members < names and len(members) == len(workers), "the oldest node saw all the others join"
    assert {part.rpartition(" ")[0] for part in observed(deployed, "cluster-spread-as").split(", ")} == set(workers)
    assert observed(deployed, "cluster-artifact-as").split(", ") == workers
    addresses = {node.address for node in deployment.topology.wso2_nodes}
    for name in names:
        text = on(deployment, name, "sed -n '/<members>/,/<.members>/p' /opt/wso2/as/repository/conf/axis2/axis2.xml")
        assert {line.strip()[10:-11] for line in text.splitlines() if "<hostName>" in line} == addresses
    deployment.close()
    assert deployed.cli("plan").returncode == 0, "nothing is left to change"


def test_four_workers_from_nothing_are_one_cluster(four: Deployed) -> None:
    is_whole(four, MANY)
    assert set(four.open().instances()) == {"lb-1", "db-1", "as-manager-1", *MANY}


def test_surplus_workers_are_named_in_the_plan_and_go_without_a_failed_request(two: Deployed) -> None:
    planned = two.cli("plan")
    assert planned.returncode == 2
    for name in ("as-worker-3", "as-worker-4"):
        [line] = [line for line in planned.stdout.splitlines() if "machine" in line and name in line]
        assert "delete" in line and "Nginx stops sending to it, then it is terminated" in line
    meanwhile = run_under_load(two)
    left = two.journal("left")
    assert {row["host"] for row in left if "out of Nginx, then its product was stopped within" in row["change"]} == {"as-worker-3", "as-worker-4"}, left
    assert meanwhile.nodes("as") == set(MANY), "all were in use before"
    is_whole(two, FEW)
    assert set(two.open().instances()) == {"lb-1", "db-1", "as-manager-1", *FEW}


def test_new_workers_join_a_cluster_that_serves_without_a_failed_request(four: Deployed, two: Deployed) -> None:
    assert run_under_load(four).nodes("as") == set(MANY), "the new ones were in use at the end"
    assert four.journal("left") == []
    is_whole(four, MANY)
