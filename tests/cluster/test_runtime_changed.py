"""Another Java runtime and another JDBC driver for a cluster that visitors use: a change of the parameters and a run, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.roles.carbon_settings import home_of
from tests.support.deployments import Deployed, on
from tests.support.runtime_by_url import by_url
from tests.support.watched import ended, under_load

pytestmark = pytest.mark.full
HOSTS = {"greg-separated": ("store", "publisher"), "as-cluster": ("as",)}


def in_use(d: Deployment) -> dict[str, tuple[str, str]]:
    """By node the program that its process runs, and the sha256 of the driver that it found."""
    look = "readlink -f /proc/$(pgrep -u wso2carbon -f -o bin/java)/exe; sha256sum {home}/repository/components/lib/*.jar | cut -d' ' -f1"
    said = {node.name: on(d, node.name, look.format(home=home_of(d.spec))).split() for node in d.topology.wso2_nodes}
    return {name: (words[0], words[-1]) for name, words in said.items()}


def starts(d: Deployment) -> dict[str, str]:
    """By node how often systemd started its service since the machine booted."""
    count = "journalctl -b -u wso2carbon.service -o cat --no-pager | grep -c '^Started'"
    return {node.name: on(d, node.name, count) for node in d.topology.wso2_nodes}


def test_both_come_one_node_of_a_tier_at_a_time_and_go_again_and_no_get_fails(either: Deployed, either_opened: Deployment, lab: Any) -> None:
    cluster, d = either, either_opened
    hosts, given = HOSTS[d.spec.pattern], by_url(lab)
    other, before = replace(cluster, overrides={**cluster.overrides, **given}), in_use(d)
    said = ended(other.cli("plan"), 2)
    assert all(name in said for name in before), said
    for wanted in (other, cluster):
        count = starts(d)
        meanwhile = under_load(cluster, hosts, lambda wanted=wanted: wanted.cli("run", "--to", "05", seconds=900))
        said = ended(meanwhile.done)
        meanwhile.was_served(said)
        assert {name: int(now) - int(count[name]) for name, now in starts(d).items()} == dict.fromkeys(before, 1), "each node restarts once"
        now = in_use(d)
        if wanted is other:
            assert all(program.startswith("/opt/java/") and jar == given["database.driver.sha256"] for program, jar in now.values()), now
        else:
            assert now == before
        assert wanted.cli("plan").returncode == 0
