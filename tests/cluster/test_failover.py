"""The failover drill on the real cluster of the lab: a steady stream of visitors while nodes go and come."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib.checks.drill import ramp
from runbook_lib.checks.drill.failover import KINDS, drill
from tests.support.watched import ENOUGH

REQUESTS = 200 * 30  # the figure: 200 requests a second for 30 s


def failing(result):
    """The stream's rate is a figure of benchmarks, not of tests: how busy this machine is decides it, and whether it can judge at all."""
    return [str(check) for check in result.checks if check.status == "fail" and not check.id.endswith("-rate")]


def test_a_power_cut_costs_no_get_and_each_lost_session_is_told(as_deployment):
    result = drill(as_deployment, rate=200.0)
    assert failing(result) == [], result
    assert len(result.samples) > 0.25 * REQUESTS, f"too few to say anything\n{result}"
    before = {sample.node for sample in result.samples if sample.at < result.marks[0][0]}
    assert before == {"as-worker-1", "as-worker-2"}
    on_the_cut_node = {sample.visitor for sample in result.samples if sample.node == "as-worker-2" and sample.at < result.marks[0][0]}
    assert result.lost_away == result.lost_home == len(on_the_cut_node) > 0, f"the route cookie leads home\n{result}"


def test_without_a_rate_the_cluster_is_measured_and_drilled_at_half_of_what_it_serves(as_deployment, monkeypatch):
    monkeypatch.setattr(ramp, "SOON", 2.0)  # how busy this machine is decides nothing
    result = drill(as_deployment)
    assert failing(result) == [], result
    assert result.ramp and result.ramp.best and result.rate == result.ramp.rate >= 6, result
    assert result.ramp.why in str(result) and "beforehand, at 12/s" in str(result)
    answering = [at for at, text in result.marks if text == "as-worker-2 answers again"]
    assert len(answering) == 1 and result.balance, result


@pytest.mark.full
@pytest.mark.parametrize("kind, lost", [("nginx-reload", 0), ("rolling-restart", 60), ("manager-cut", 0)])
def test_no_get_fails_and_no_other_session_is_lost(as_deployment, kind, lost):
    result = drill(as_deployment, kind=kind, rate=100.0, seconds=20.0)
    assert failing(result) == [], result
    assert len(result.samples) >= ENOUGH * result.rate * result.seconds and result.lost == lost, result
    assert {sample.node for sample in result.samples} == {"as-worker-1", "as-worker-2"}


@pytest.mark.full
def test_chapter_06_makes_every_drill_where_the_parameters_ask_for_them(as_cluster):
    asking = replace(as_cluster, overrides={**as_cluster.overrides, "drill": True})
    done = asking.cli("run", "--from", "06")
    assert done.returncode == 0, done.stdout[-5000:]
    found = {check["id"]: check["status"] for check in asking.result["checks"] if check["id"].startswith("drill-")}
    assert {name.rpartition("-")[0] for name in found} == {f"drill-{kind}" for kind in KINDS}
    assert {status for name, status in found.items() if not name.endswith("-rate")} == {"pass"}, found
