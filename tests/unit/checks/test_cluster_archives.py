"""What of the manager's archives a worker lacks; a node that cannot be looked at is no node with nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.checks.cluster import archives, lacking_of
from runbook_lib.errors import HostError
from runbook_lib.spec.loader import load_spec
from runbook_lib.ssh import Completed, Fleet
from runbook_lib.topology.model import topology_of

APP, OTHER = "webapps/app.war", "carbonapps/other.car"


WORKERS: dict[str, tuple[dict[str, str], list[str]]] = {
    "all of them": ({APP: "1", OTHER: "2"}, []),
    "one is missing": ({APP: "1"}, [OTHER]),
    "one is another": ({APP: "old", OTHER: "2"}, [APP]),
    "none": ({}, [APP, OTHER]),
    "one of its own besides": ({APP: "1", OTHER: "2", "webapps/x.war": "3"}, []),
}


@pytest.mark.parametrize(("worker", "lacks"), WORKERS.values(), ids=WORKERS)
def test_what_a_worker_lacks_is_named(worker: dict[str, str], lacks: list[str]) -> None:
    there = {"m": {APP: "1", OTHER: "2"}, "w": worker}
    assert lacking_of(there, "m", ["w"]) == {"w": lacks}


def deployment(answer: Completed) -> Any:
    """An AS cluster whose every node says the same."""
    spec = load_spec("params/as-cluster.lab.yaml")
    topology = topology_of(spec)
    host = {n.name: SimpleNamespace(name=n.name, run=lambda *_, **__: answer, close=lambda: None) for n in topology.wso2_nodes}
    return SimpleNamespace(spec=spec, topology=topology, fleet=lambda: Fleet(host))  # type: ignore[arg-type]


def test_names_with_blanks_are_read_whole() -> None:
    found = archives(deployment(Completed(0, "abc  webapps/my app.war\n", "")))
    assert found["as-worker-1"] == {"webapps/my app.war": "abc"}


def test_a_node_that_cannot_be_listed_is_an_error_and_not_an_empty_node() -> None:
    with pytest.raises(HostError, match="cannot be listed: no such folder"):
        archives(deployment(Completed(2, "", "no such folder")))
