"""Which nodes a change restarts, and that they are out of Nginx exactly while it does."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.changes import Change, Pending, Plan
from runbook_lib.errors import HostError
from runbook_lib.operations import replacement, rolling_restart, startup
from runbook_lib.roles import appserver, nginx
from runbook_lib.roles.context import Context, Download
from runbook_lib.ssh import Completed
from runbook_lib.topology.model import Topology, with_leaving
from tests.fakes import context_with_keys

CONF = "/opt/wso2/as/repository/conf"


@dataclass
class Stand:
    """The part of a deployment that the batches look at."""

    topology: Topology

    def fleet(self) -> None:
        return None


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the cluster, in order. A node whose name alone stands in it does not serve until it is changed."""
    told: list[Any] = []

    def wait_ready(fleet: Any, ctx: Context, names: list[str]) -> None:
        told.append(("serve", *names))
        if dead := not_serving(fleet, ctx, set(names)):
            raise HostError(f"{', '.join(dead)} does not start", ", ".join(dead), "read its log")

    def not_serving(fleet: Any, ctx: Context, names: set[str]) -> set[str]:
        return {name for name in names if told.count(name) == 1}

    monkeypatch.setattr(startup, "wait_ready", wait_ready)
    monkeypatch.setattr(startup, "not_serving", not_serving)
    monkeypatch.setattr(rolling_restart, "take_out", lambda deployment, names: told.append(("out", *sorted(names))))
    return told


def roll(ctx: Context, planned: Plan, done: list[Any]) -> None:
    """Go through the batches as an apply does; a node that is changed serves again."""
    stand: Any = Stand(ctx.topology)
    for batch in rolling_restart.batches(stand, ctx, planned):
        done.append(("changed", *batch))
        done += [name for name in batch if name in done]


def as_cluster(booted: tuple[str, ...]) -> Context:
    return replace(context_with_keys("as-cluster"), booted=frozenset(booted))


def plan(ctx: Context, *pending: tuple[str, str]) -> Plan:
    wish = {node.name: appserver.desired(node, ctx) for node in ctx.topology.wso2_nodes}
    return Plan("AS nodes", wish, tuple(Pending(host, "stage", Change(key, "change", "differs")) for host, key in pending))


@pytest.mark.parametrize(
    ("key", "restarts"),
    [
        (f"settings in {CONF}/axis2/axis2.xml", True),
        (f"file {CONF}/hazelcast.properties", True),
        ("unit wso2carbon.service", True),
        ("file /etc/systemd/system/wso2-pull-artifacts.timer", False),
        ("package rsync", False),
    ],
)
def test_a_node_is_restarted_when_its_unit_watches_what_changes(key: str, restarts: bool) -> None:
    ctx = as_cluster(("as-manager-1", "as-worker-1", "as-worker-2"))
    assert rolling_restart.restarted_by(plan(ctx, ("as-worker-1", key))) == ({"as-worker-1"} if restarts else set())


@pytest.mark.parametrize(
    ("booted", "workers", "late"),
    [
        (("as-manager-1", "as-worker-1"), 2, {"as-worker-1"}),  # the second comes, and takes over meanwhile
        (("as-manager-1", "as-worker-1", "as-worker-2"), 3, set()),  # two are enough to go one after the other
        (("as-manager-1", "as-worker-1"), 1, set()),  # nobody comes
        ((), 2, set()),
    ],
)
def test_the_only_node_that_serves_waits_for_those_that_are_still_to_be_booted(booted: tuple[str, ...], workers: int, late: set[str]) -> None:
    ctx = replace(context_with_keys("as-cluster", nodes={"worker": workers}), booted=frozenset(booted))
    every = [(node.name, f"settings in {CONF}/carbon.xml") for node in ctx.topology.wso2_nodes]
    stand: Any = Stand(ctx.topology)
    assert rolling_restart.without_stand_in(stand, ctx, plan(ctx, *every)) == late


@pytest.mark.parametrize(
    ("there", "workers"),
    [(("as-manager-1", "as-worker-1", "as-worker-2", "as-worker-3"), 3), (("as-manager-1", "as-worker-1"), 1), ((), 1)],
)
def test_nodes_that_leave_serve_until_they_have_gone(there: tuple[str, ...], workers: int) -> None:
    topology = with_leaving(context_with_keys("as-cluster", nodes={"worker": 1}).topology, there)
    assert [node.name for node in topology.of("as-worker")] == [f"as-worker-{number + 1}" for number in range(workers)]


EVERY = ("as-manager-1", "as-worker-1", "as-worker-2")
OUT = {name: (("serve", other), ("out", name)) for name, other in (("as-worker-1", "as-worker-2"), ("as-worker-2", "as-worker-1"))}


@pytest.mark.parametrize(
    ("down", "first", "second"),
    [
        (None, (*OUT["as-worker-1"], ("changed", "as-manager-1", "as-worker-1")), (*OUT["as-worker-2"], ("changed", "as-worker-2"))),
        ("as-worker-2", (("serve",), ("out", "as-worker-2"), ("changed", "as-manager-1", "as-worker-2")), (*OUT["as-worker-1"], ("changed", "as-worker-1"))),
    ],
    ids=["the only manager is missed, not replaced", "what does not serve goes first: nobody misses it"],
)
def test_what_is_restarted_is_out_meanwhile_and_only_while_its_neighbours_serve(done: list[Any], down: str | None, first: Any, second: Any) -> None:
    ctx = as_cluster(EVERY)
    done += [down] if down else []
    roll(ctx, plan(ctx, *((name, f"settings in {CONF}/carbon.xml") for name in EVERY)), done)
    assert [each for each in done if each != down] == [*first, ("out",), *second, ("out",)]


def test_the_only_node_that_serves_stays_when_the_change_does_not_concern_the_dead_one(done: list[Any]) -> None:
    ctx = as_cluster(EVERY)
    done.append("as-worker-2")
    with pytest.raises(HostError, match=r"as-worker-1 cannot be taken out of Nginx, .*: as-worker-2 does not start") as error:
        roll(ctx, plan(ctx, ("as-worker-1", f"settings in {CONF}/carbon.xml")), done)
    assert done == ["as-worker-2", ("serve", "as-worker-2")] and error.value.where == "as-worker-2" and "read its log" in str(error.value)


def test_where_nobody_serves_all_are_repaired_one_after_the_other(done: list[Any]) -> None:
    ctx = as_cluster(EVERY)
    done += ["as-worker-1", "as-worker-2"]
    roll(ctx, plan(ctx, *((name, f"settings in {CONF}/carbon.xml") for name in EVERY)), done)
    assert [each for each in done if each[0] == "changed"] == [("changed", "as-manager-1", "as-worker-1"), ("changed", "as-worker-2")]


def test_another_pack_goes_one_node_of_a_tier_at_a_time_first_where_another_one_stands_in(done: list[Any]) -> None:
    ctx = replace(as_cluster(EVERY), pack=Download("cd" * 32, listing=dict))
    replaced = plan(ctx, *((node.name, "archive /opt/wso2/as") for node in ctx.topology.wso2_nodes))
    replaced = replace(replaced, pending=tuple(replace(p, change=replace(p.change, verb="replace")) for p in replaced.pending))
    started = replace(replaced, pending=(*replaced.pending, *plan(ctx, *((node.name, "unit wso2carbon.service") for node in ctx.topology.wso2_nodes)).pending))
    assert replacement.replaced_by(started) == {"as-manager-1", "as-worker-1", "as-worker-2"}
    assert [p.change.key for p in replacement.dumps_due(ctx, started)] == ["database WSO2_USER_DB", "database WSO2_REGISTRY_DB"]
    roll(ctx, started, done)
    changed = [("changed", name) for name in ("as-worker-1", "as-worker-2", "as-manager-1")]
    assert done == [*OUT["as-worker-1"], changed[0], ("out",), *OUT["as-worker-2"], changed[1], ("out",), changed[2]]


def test_a_node_that_never_booted_and_a_change_that_restarts_nobody_leave_nginx_alone(done: list[Any]) -> None:
    ctx = as_cluster(("as-manager-1", "as-worker-1"))
    stand: Any = Stand(ctx.topology)
    pending = [("as-worker-2", f"settings in {CONF}/carbon.xml"), ("as-worker-1", "package rsync")]
    assert list(rolling_restart.batches(stand, ctx, plan(ctx, *pending))) == [["as-worker-2"], ["as-manager-1", "as-worker-1"]]
    assert done == []


@pytest.mark.parametrize(("out", "told"), [((), []), (("as-worker-1",), ["as-worker-1"]), (("as-worker-1", "as-worker-2"), ["as-worker-1"])])
def test_a_booted_node_to_which_nginx_sends_nobody_is_told(tmp_path: Path, out: tuple[str, ...], told: list[str]) -> None:
    ctx = as_cluster(("as-manager-1", "as-worker-1"))  # as-worker-2 never booted: it is rightly out
    (tmp_path / "nginx.conf").write_text(nginx.configuration(ctx.topology.lbs[0], ctx, set(out)))

    class Balancer:
        def run(self, command: str) -> Completed:
            words = command.replace("sudo -n ", "").replace("/etc/nginx", str(tmp_path))
            done = subprocess.run(["sh", "-c", words], capture_output=True, text=True)
            return Completed(done.returncode, done.stdout, done.stderr)

    class Deployment(Stand):
        def context(self) -> Context:
            return ctx

        def fleet(self) -> dict[str, Balancer]:
            return {"lb-1": Balancer()}

    deployment: Any = Deployment(ctx.topology)
    assert rolling_restart.left_out(deployment) == told
