"""A deployment in a lab that is as slow as AWS: what is made is invisible for 2 s, calls are throttled at AWS's rates, consoles are empty at first."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ec2lab.lifecycle import down
from ec2lab.paths import find_lab

from runbook_cli.lab import up
from runbook_lib.launch import elastic_ips, machines, network, routes, teardown
from runbook_lib.launch.cloud import Cloud
from runbook_lib.spec.loader import load_spec
from tests.support.deployments import in_lab, made
from tests.support.lab_fixtures import require_lab_machine

NAME, RANGE = "slow", "10.218.0.0/16"
CONSOLE = 10.0  # seconds until a console shows something; on AWS it is minutes


@pytest.fixture(scope="module")
def slow_lab() -> Iterator[Any]:
    """A lab of its own, beside the session's."""
    require_lab_machine()
    lab = find_lab(NAME, RANGE)
    down(lab, say=lambda text: None)
    up(lab, say=lambda text: None, pace=CONSOLE)
    yield SimpleNamespace(lab=lab, aws_config=lab.aws_config)
    down(lab, say=lambda text: None)


def test_machines_are_launched_and_taken_down(slow_lab: Any) -> None:
    deployed = in_lab(slow_lab, "greg-original", "slow-machines", 1)
    spec = load_spec(deployed.params, deployed.overrides)
    Cloud(spec).apply()
    assert not Cloud(spec).plan()
    checks = Cloud(spec).verify()
    assert checks.ok, str(checks)
    larger = load_spec(deployed.params, {**deployed.overrides, "cloud.disk_gb": 32})
    assert [p.change.verb for p in Cloud(larger).apply().changed] == [machines.GROW] * len(Cloud(spec).topology.nodes)
    assert not Cloud(larger).plan()
    assert "throttled" in slow_lab.lab.log.read_text(), "Parameter Store refused writes, and got them later"
    left = teardown.destroy(Cloud(spec))
    assert left.ok, str(left)


def test_a_network_with_its_ways_in_and_out_is_made_at_once(slow_lab: Any) -> None:
    deployed = in_lab(slow_lab, "greg-single", "slow-network", 3, cloud__connect_via="public", cloud__operator_cidr="198.51.100.7/32")
    cloud = Cloud(load_spec(deployed.params, deployed.overrides))
    inventory = cloud.observe()
    network.choose_zone(inventory)
    for make in (network.apply, elastic_ips.apply, routes.begin, routes.apply):
        make(inventory)
    afterwards = cloud.observe()
    assert not [p for kind in (network, elastic_ips, routes) for p in kind.plan(afterwards)]
    assert afterwards.gateway and afterwards.nat and set(afterwards.addresses) == {"nat", "lb-1"}
    left = teardown.destroy(cloud)
    assert left.ok, str(left)


@pytest.mark.full
def test_a_whole_cluster_is_made_and_is_then_as_planned(slow_lab: Any) -> None:
    with made(in_lab(slow_lab, "greg-single", "slow-cluster", 2)) as deployed:
        assert deployed.result["ok"]
        assert deployed.cli("plan").returncode == 0
        done = deployed.cli("destroy", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
