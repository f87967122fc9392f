"""The manager of an AS cluster is lost with what was deployed on it, or replaced: the workers serve meanwhile, and nothing is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from wso2_practice.build import probe_war

from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.roles import appserver
from tests.support.deployments import Deployed, on
from tests.support.drift_tools import Running
from tests.support.watched import ended, under_load

pytestmark = pytest.mark.full
WAR = "/opt/wso2/as/repository/deployment/server/webapps/own.war"
MANAGER, NODES = "as-manager-1", ("as-manager-1", "as-worker-1", "as-worker-2")


@pytest.fixture(scope="module", autouse=True)
def deployed(as_deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An application of an operator is deployed."""
    archive = tmp_path_factory.mktemp("applications") / "own.war"
    probe_war(archive)
    as_deployment.appserver.deploy(str(archive))


def sums(d: Deployment) -> set[str]:
    return {on(d, node, f"sha256sum {WAR} | cut -d' ' -f1") for node in NODES}


def test_what_was_deployed_comes_back_from_a_worker_and_no_get_fails(as_cluster: Deployed, as_deployment: Deployment) -> None:
    d, before = as_deployment, sums(as_deployment)
    lost = d.cloud.instance(MANAGER).id
    d.cloud.aws.client("ec2").terminate_instances(InstanceIds=[lost])
    said = as_cluster.cli("plan").stdout
    assert MANAGER in said and "as-worker-1" not in "".join(line for line in said.splitlines() if "machine" in line)
    meanwhile = under_load(as_cluster, ("as",), lambda: as_cluster.cli("run", "--to", "05", seconds=900))
    meanwhile.was_served(ended(meanwhile.done))
    assert d.cloud.instance(MANAGER).id != lost and sums(d) == before and len(before) == 1
    assert as_cluster.cli("plan").returncode == 0


def test_killed_while_the_manager_has_no_machine_the_next_run_ends_it(as_cluster: Deployed, as_deployment: Deployment) -> None:
    d, before, old = as_deployment, sums(as_deployment), as_deployment.cloud.instance(MANAGER).id
    running = Running(as_cluster, "replace", MANAGER, "--yes")
    running.until(lambda: d.instances()[MANAGER].id != old if MANAGER in d.instances() else True, "the manager's machine is gone")
    running.kill()
    ended(as_cluster.cli("run", "--to", "05", seconds=900))
    assert d.cloud.instance(MANAGER).id != old and sums(d) == before and as_cluster.cli("plan").returncode == 0


def test_lost_with_the_database_it_gets_back_also_what_is_newer_than_the_backup(as_cluster: Deployed, as_deployment: Deployment, tmp_path: Path) -> None:
    """The workers hold it, and would remove it as soon as a manager without it answers them."""
    d, newer, archive = as_deployment, WAR.replace("own", "newer"), tmp_path / "newer.war"
    d.backups.make()
    try:
        probe_war(archive)
        d.appserver.deploy(str(archive))
        found = d.instances()
        d.cloud.aws.client("ec2").terminate_instances(InstanceIds=[found[name].id for name in (MANAGER, "db-1")])
        ended(as_cluster.cli("restore", "--yes", seconds=900))
        on(d, "as-worker-1", f"systemctl start {appserver.PULL_UNIT}.service; systemctl start {appserver.PULL_UNIT}.service")
        assert [on(d, node, f"sha256sum {newer}") for node in NODES] and as_cluster.cli("run", "--to", "05", seconds=900).returncode == 0
        d.appserver.undeploy("newer.war")
    finally:
        BackupStore(d.cloud.aws, d.spec.deployment).delete_all()
