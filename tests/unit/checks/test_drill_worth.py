"""A drill that could show nothing is not made, and says what to do: no stand-in for the node, or no page that an application answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.chapters.cluster import Cluster
from runbook_lib.checks.drill import failover
from runbook_lib.checks.drill.failover import nothing_to_show, target_of
from runbook_lib.checks.drill.load import Stream
from runbook_lib.errors import RunbookError
from tests.fakes import context
from tests.support.drill_server import Server


def deployment(pattern: str, **settings: Any) -> Any:
    ctx = context(pattern, **settings)
    addresses = {node.name: "127.0.0.1" for node in ctx.topology.nodes}
    return SimpleNamespace(spec=ctx.spec, topology=ctx.topology, vault={"ca.pem": ""}, public_addresses=lambda: addresses)


ANSWERS = [("as-cluster", 200, True), ("as-cluster", 302, False), ("as-cluster", 404, False), ("greg-separated", 302, True)]


@pytest.mark.parametrize(("pattern", "status", "good"), ANSWERS)
def test_a_page_that_nobody_deployed_is_told_and_its_redirect_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, status: int, good: bool
) -> None:
    with Server(tmp_path, lambda number, cookies: (status, [])) as server:
        to, d = server.target(), deployment(pattern)
        target = replace(to, status=target_of(d, d.spec.design.hosts[0]).status)
        monkeypatch.setattr(failover, "target_of", lambda *_: target)
        told = nothing_to_show(d, "power-cut")
        if good:
            assert told == ""
            return
        with pytest.raises(RunbookError, match=f"2 of 2 visitors got no good answer before the drill: status {status}"), Stream(target, 10.0, 2):
            pass
    assert f"answers {status}: deploy the demonstration application in chapter 03" in told and 'drill(path="/app/")' in told


ALONE = [
    ("as-cluster", {"manager": 1, "worker": 1}, "power-cut", "`nodes.worker: 2`"),
    ("as-cluster", {"manager": 1, "worker": 1}, "rolling-restart", "`nodes.worker: 2`"),
    ("as-cluster", {"manager": 1, "worker": 1}, "manager-cut", ""),
    ("as-cluster", {"manager": 1, "worker": 1}, "nginx-reload", ""),
    ("as-cluster", {"manager": 1, "worker": 2}, "power-cut", ""),
    ("greg-separated", {"store": 1, "publisher": 2}, "power-cut", "`nodes.store: 2`"),
    ("greg-separated", {"store": 2, "publisher": 1}, "power-cut", ""),
    ("greg-single", {"greg": 1}, "power-cut", "this pattern has one only"),
]


@pytest.mark.parametrize(("pattern", "nodes", "kind", "words"), ALONE, ids=[f"{p}-{'-'.join(map(str, n.values()))}-{k}" for p, n, k, _ in ALONE])
def test_a_node_without_a_stand_in_is_not_drilled_and_the_parameter_for_one_is_named(
    monkeypatch: pytest.MonkeyPatch, pattern: str, nodes: dict[str, int], kind: str, words: str
) -> None:
    monkeypatch.setattr(failover, "not_there", lambda target: "")
    told = nothing_to_show(deployment(pattern, nodes=nodes), kind)
    assert words in told and bool(told) == bool(words)


def test_a_chapter_says_why_it_makes_no_drill_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "drill", lambda *_, **__: pytest.fail("a drill was made"))
    told = Cluster(deployment("as-cluster", nodes={"manager": 1, "worker": 1}, drill=True)).drill()
    assert told.startswith("no drill: as-worker-1 is the only node behind")
