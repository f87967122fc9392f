"""A node's Java dies, or its machine is lost while visitors use its cluster: the other of its role answers them, and another machine takes its place."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.checks.drill.failover import settle, target_of
from runbook_lib.operations import demo_app, startup
from runbook_lib.roles import carbon
from runbook_lib.roles.carbon_settings import home_of
from tests.support.deployments import Deployed, on
from tests.support.drift_tools import identities, named_in
from tests.support.lab_fixtures import eventually
from tests.support.watched import ended, under_load

pytestmark = pytest.mark.full
LOST = {"greg-separated": ("store-1", ("store", "publisher")), "as-cluster": ("as-worker-1", ("as",))}


def archives(d: Deployment) -> dict[str, str]:
    """By node the checksums of the archives that are deployed on it."""
    look = f"cd {home_of(d.spec)}/repository/deployment/server; find . -name '*.war' -exec sha256sum {{}} + | sort"
    return {node.name: on(d, node.name, look) for node in d.topology.wso2_nodes}


def test_a_node_whose_java_was_killed_is_started_again_by_systemd(either: Deployed, either_opened: Deployment) -> None:
    d = either_opened
    node = LOST[d.spec.pattern][0]
    started = f"systemctl show -P ExecMainStartTimestampMonotonic {carbon.UNIT}"
    before = on(d, node, started)
    on(d, node, "pkill -KILL -x java")
    eventually(lambda: on(d, node, started) not in (before, "0\n"), "another start", 60)
    assert startup.start(d.fleet(), d.context(), node, "watch").line
    assert either.cli("plan").returncode == 0


def test_every_get_is_answered_and_another_machine_takes_its_address_with_keys_of_its_own(either: Deployed, either_opened: Deployment) -> None:
    """The promise is that of a power cut: Nginx asks the next node where one does not answer, so no GET fails, from the first second on."""
    d, cluster = either_opened, either
    node, hosts = LOST[d.spec.pattern]
    before, deployed = identities(d), archives(d)

    def lose() -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
        d.cloud.aws.client("ec2").terminate_instances(InstanceIds=[before[node][0]])
        eventually(lambda: node not in d.instances(), f"{node} has no machine")
        return cluster.cli("plan"), cluster.cli("run", "--to", "05", seconds=900)

    meanwhile = under_load(cluster, hosts, lose)
    planned, done = meanwhile.done
    assert named_in(ended(planned, 2), d) == {node}, planned.stdout
    meanwhile.was_served(ended(done))
    after = identities(d)
    assert {name for name in after if after[name] != before[name]} == {node} and after.keys() == before.keys()
    assert after[node][0] != before[node][0] and after[node][1] == before[node][1] and not set(after[node][2]) & set(before[node][2])
    for host in hosts:
        settle(target_of(d, host), [one.name for one in d.topology.upstream(host)], 60)  # each of them serves again
    assert archives(d) == deployed and (hosts != ("as",) or demo_app.NAME in deployed[node])
    assert cluster.cli("plan").returncode == 0


def test_a_change_repairs_a_node_that_is_down_before_its_neighbour_goes_out_and_no_get_fails(either: Deployed, either_opened: Deployment) -> None:
    """The node that serves alone is not restarted before the other one serves again, whatever their names."""
    d = either_opened
    name, hosts = LOST[d.spec.pattern]
    down = d.topology.of(d.topology.node(name).role)[1].name
    other = replace(either, overrides={**either.overrides, "memory.heap": "400m"})
    since = f'date -d "$(systemctl show -P ExecMainStartTimestamp {carbon.UNIT})" +%s'
    on(d, down, f"systemctl stop {carbon.UNIT}")
    meanwhile = under_load(either, hosts, lambda: other.cli("run", "--to", "05", seconds=900))
    meanwhile.was_served(ended(meanwhile.done))
    assert int(on(d, down, since)) < int(on(d, name, since))
    ended(either.cli("run", "--to", "05", seconds=900))
