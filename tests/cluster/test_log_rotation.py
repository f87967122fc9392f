"""A cluster whose logs were renamed at midnight since its nodes started, as the product does every day."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.roles import carbon
from tests.support.deployments import on


@pytest.fixture
def next_day(as_deployment: Deployment) -> Iterator[Deployment]:
    log = f"{carbon.home_of(as_deployment.spec)}/{carbon.LOG}"
    nodes = [node.name for node in as_deployment.topology.wso2_nodes]
    for node in nodes:
        on(as_deployment, node, f"mv {log} {log}.2026-11-22; install -o wso2carbon -g wso2carbon -m 640 /dev/null {log}")
    yield as_deployment
    for node in nodes:
        on(as_deployment, node, f"mv {log}.2026-11-22 {log}")


def test_the_nodes_and_their_cluster_are_verified_as_on_the_day_before(next_day: Deployment) -> None:
    assert next_day.appserver.verify().ok
    assert next_day.cluster.verify().ok
    assert not next_day.appserver.plan()


def test_each_day_a_node_removes_what_is_a_month_old(as_deployment: Deployment) -> None:
    folder = f"{carbon.home_of(as_deployment.spec)}/{carbon.LOG}".rpartition("/")[0]
    on(as_deployment, "as-worker-1", f"cd {folder}; for one in wso2carbon.log audit.log; do install -o wso2carbon -m 640 /dev/null $one.2026-09-01; done")
    on(as_deployment, "as-worker-1", f"touch -d '40 days ago' {folder}/*.2026-09-01; systemctl start {carbon.LOGS_UNIT}.service")
    left = on(as_deployment, "as-worker-1", f"ls {folder}/*.2026-09-01; systemctl is-active {carbon.LOGS_UNIT}.timer; rm {folder}/*.2026-09-01")
    assert left.split() == [f"{folder}/audit.log.2026-09-01", "active"]
