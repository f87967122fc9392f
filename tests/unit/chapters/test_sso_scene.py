"""The proof's probe machine comes beside the first attempts, and goes whatever happens; a fake cloud, no machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.chapters import sso
from runbook_lib.check import Check
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.errors import CloudError


@dataclass
class World:
    """What happened to the probe, in order. `go`: its launch waits for it."""

    happened: list[str] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    fault: Exception | None = None
    stays: Exception | None = None
    told: list[Check] = field(default_factory=list)
    removed: list[Check] = field(default_factory=list)

    def launch(self) -> None:
        assert self.go.wait(20), "nobody let the launch go on"
        if self.fault:
            raise self.fault
        self.happened.append("launched")

    def beside(self, name: str) -> Any:
        host = SimpleNamespace(tunnel=lambda address, port, seconds: f"{name} to {address}:{port}")
        return type("Connections", (dict,), {"close": lambda _: self.happened.append("closed")})({name: host})

    def terminate(self) -> None:
        self.happened.append("terminated")
        if self.stays:
            raise self.stays

    def deployment(self) -> Any:
        cloud = SimpleNamespace(launch_probe=self.launch, terminate_probe=self.terminate)
        spec, journal = SimpleNamespace(cloud=SimpleNamespace(probe=False)), SimpleNamespace(checked=lambda chapter, rows: self.told.extend(rows))
        return SimpleNamespace(writing=nullcontext, cloud=cloud, beside=self.beside, spec=spec, journal=journal)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    bare = Scene("full", "separated", {}, {}, {}, Login("admin", "x"))
    monkeypatch.setattr(sso, "scene_of", lambda deployment: bare)
    made = World()
    yield made
    made.go.set()


def test_attempts_begin_before_the_probe_is_there_and_those_from_it_wait(world: World) -> None:
    with sso.Sso(world.deployment()).scene(world.removed) as scene:
        assert world.happened == []
        world.go.set()
        assert scene.neighbour is not None
        name, connect = scene.neighbour
        assert (name, connect("10.0.0.1", 9443)) == ("probe-1", "probe-1 to 10.0.0.1:9443")
        scene.leave_neighbour()
    assert world.happened == ["launched", "terminated", "closed"]
    assert [(row.id, row.status) for row in world.told] == [("sso.probe-removed", "pass")]


def test_the_probe_goes_once_when_nobody_leaves_it_and_when_the_proof_fails(world: World) -> None:
    with pytest.raises(ZeroDivisionError), sso.Sso(world.deployment()).scene(world.removed):
        world.go.set()
        raise ZeroDivisionError
    assert world.happened == ["launched", "terminated"]


def test_a_probe_that_cannot_be_launched_is_an_error_at_the_end_and_nothing_of_it_stays(world: World) -> None:
    world.fault = CloudError("no capacity", "EC2", "later")
    world.go.set()
    with pytest.raises(CloudError, match="no capacity"), sso.Sso(world.deployment()).scene(world.removed) as scene:
        assert scene.neighbour is not None
        with pytest.raises(CloudError):
            scene.neighbour[1]("10.0.0.1", 9443)
    assert world.happened == ["terminated"]


def test_a_probe_that_cannot_be_removed_is_a_failed_check_and_loses_no_finished_proof(world: World) -> None:
    world.stays = CloudError("the cloud refused (DependencyViolation: resource sg-1 has a dependent object)", "EC2", "later")
    world.go.set()
    with sso.Sso(world.deployment()).scene(world.removed) as scene:
        scene.leave_neighbour()
    assert world.happened == ["launched", "terminated", "closed"] and world.removed == world.told
    [row] = world.removed
    assert (row.id, row.status) == ("sso.probe-removed", "fail") and "DependencyViolation" in row.observed and "prove again" in row.observed


def test_a_probe_that_stays_behind_a_failed_proof_hides_no_reason(world: World) -> None:
    world.stays = RuntimeError()  # an error without words, too
    world.go.set()
    with pytest.raises(ZeroDivisionError), sso.Sso(world.deployment()).scene(world.removed):
        raise ZeroDivisionError
    assert [(row.id, row.status) for row in world.told] == [("sso.probe-removed", "fail")]
