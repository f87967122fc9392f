"""Never two nodes of a role out of service at once, and what does not serve again stays out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from runbook_lib.errors import HostError
from runbook_lib.operations import rolling_restart, startup
from runbook_lib.operations.upkeep import turns
from runbook_lib.roles.context import Context
from tests.fakes import context

NODES = ("store-1", "store-2", "publisher-1", "publisher-2")


@dataclass
class Stand:
    """The part of a deployment that a turn looks at."""

    given: Context

    @property
    def topology(self) -> Any:
        return self.given.topology

    def context(self) -> Context:
        return self.given

    def fleet(self) -> None:
        return None


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the cluster, in order. A node whose name alone stands in it does not serve."""
    told: list[Any] = []

    def wait_ready(fleet: Any, ctx: Context, names: list[str]) -> None:
        told.append(("serves", *names))
        if set(names) & set(told):
            raise HostError("does not serve")

    monkeypatch.setattr(rolling_restart, "take_out", lambda d, names: told.append(("out", *sorted(names))))
    monkeypatch.setattr(startup, "wait_ready", wait_ready)
    return told


def turn(stand: Stand, name: str, done: list[Any], fails: bool = False) -> None:
    deployment: Any = stand
    with turns.out_of_service(deployment, name, lambda host, doing: None):
        done.append("work")
        if fails:
            raise HostError("apt failed")


def stand(*booted: str) -> Stand:
    return Stand(replace(context("greg-separated"), booted=frozenset(booted)))


def test_the_others_serve_before_a_node_goes_out_and_it_serves_before_it_is_back(done: list[Any]) -> None:
    turn(stand(*NODES), "store-1", done)
    assert done == [("serves", "store-2"), ("out", "store-1"), "work", ("serves", "store-1"), ("out",)]


@pytest.mark.parametrize("booted", [NODES, ("store-1", "publisher-1")], ids=["that is broken", "without a first boot"])
def test_no_node_goes_out_while_another_of_its_role_does_not_serve(done: list[Any], booted: tuple[str, ...]) -> None:
    done.append("store-2")  # which does not serve
    with pytest.raises(HostError):
        turn(stand(*booted), "store-1", done)
    assert "work" not in done and ("out", "store-1") not in done


def test_a_node_whose_work_fails_stays_out(done: list[Any]) -> None:
    with pytest.raises(HostError, match="apt failed"):
        turn(stand(*NODES), "store-1", done, fails=True)
    assert done[-1] == "work" and ("out",) not in done


def test_a_single_node_is_worked_on_where_it_is(done: list[Any]) -> None:
    single = Stand(replace(context("greg-separated", nodes={"store": 2, "publisher": 1}), booted=frozenset(("store-1", "store-2", "publisher-1"))))
    turn(single, "publisher-1", done)
    assert done == ["work", ("serves", "publisher-1")]
