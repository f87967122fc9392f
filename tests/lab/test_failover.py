"""The failover drill on the real cluster of the lab: a steady stream of visitors while nodes go and come."""

from __future__ import annotations

import pytest

from runbook_lib.checks.failover import drill

pytestmark = pytest.mark.full


@pytest.mark.parametrize("kind", ["nginx-reload", "rolling-restart", "power-cut"])
def test_no_get_fails_and_the_balance_comes_back(as_cluster, kind):
    """The stream's rate is a figure of benchmarks, not of tests: how busy this machine is decides it."""
    deployment = as_cluster.open()
    try:
        result = drill(deployment, kind=kind, rate=100.0, seconds=20.0)
    finally:
        deployment.close()
    assert [str(check) for check in result.checks if not check.ok and not check.id.endswith("-rate")] == []
    assert len(result.samples) > 500
    assert {sample.node for sample in result.samples} == {"as-worker-1", "as-worker-2"}
