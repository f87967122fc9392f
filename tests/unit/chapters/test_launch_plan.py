"""What chapter 01's plan says besides the cloud, where machines that serve stop or are replaced."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.changes import Change, Pending, Plan
from runbook_lib.chapters.launch import Launch
from runbook_lib.errors import HostError
from runbook_lib.launch.instances.renewing import RENEW
from runbook_lib.launch.instances.resizing import RESIZE
from runbook_lib.launch.machines import GROW
from tests.fakes import context_with_keys


def chapter(name: str, *pending: Pending, down: bool = False) -> SimpleNamespace:
    def plan() -> Plan:
        if down:
            raise HostError("not running: lb-1", "x")
        return Plan(name, {}, pending)

    return SimpleNamespace(name=name, plan=plan)


def launch(verb: str, booted: frozenset[str]) -> Launch:
    """Chapter 01 of a cluster in which one machine is due, chapter 02 has a change pending, and Nginx's machine does not run."""
    topology = context_with_keys("greg-single").topology
    cloud = Plan("x", {}, (Pending("greg-1", "machine", Change("machine greg-1", verb, "as asked")),))
    d: Any = SimpleNamespace(
        topology=topology,
        journal=SimpleNamespace(attempt=lambda *_: pytest.MonkeyPatch.context()),
        cloud=SimpleNamespace(plan=lambda renew: cloud),
        context=lambda: SimpleNamespace(booted=booted),
        mysql=chapter("02_install_mysql", Pending("db-1", "settings", Change("file /etc/x", "change", "differs"))),
        product=chapter("04_configure_greg_nodes"),
        nginx=chapter("05_configure_nginx", down=True),
        instances=lambda: {"greg-1": SimpleNamespace(state="stopped")},
        out_of_reach=dict,
        fleet=lambda without: SimpleNamespace(each=lambda work, names: {}),
        spec=topology.spec,
    )
    found = Launch.__new__(Launch)
    found.deployment = d
    return found


@pytest.mark.parametrize(
    ("verb", "booted", "told"),
    [
        (RENEW, frozenset({"greg-1"}), ["apply", "interrupt", "lose"]),
        (RESIZE, frozenset({"greg-1"}), ["apply", "interrupt"]),  # its disk stays
        (GROW, frozenset({"greg-1"}), []),  # in place, and nothing stops
        (RENEW, frozenset(), []),  # nobody is served yet
    ],
)
def test_it_says_what_is_done_before_whom_it_interrupts_and_what_is_lost(verb: str, booted: frozenset[str], told: list[str]) -> None:
    plan = launch(verb, booted).plan()
    assert [p.change.verb for p in plan.pending] == [verb, *told]
    if told:
        assert plan.pending[1].change.summary == "db-1: change file /etc/x"
