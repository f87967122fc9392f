"""Whole clusters on other systems, database servers and Java runtimes than the usual one (`matrix.yaml`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.roles.carbon import UNIT
from tests.support.deployments import Deployed, in_lab, made, on

CELLS = yaml.safe_load(Path(__file__).with_name("matrix.yaml").read_text())
SMALLEST = {
    "greg-separated": {"nodes.store": 1, "nodes.publisher": 1},
    "as-cluster": {"nodes.manager": 1, "nodes.worker": 1, "drill": False},
}


@pytest.mark.full
@pytest.mark.parametrize("pattern", list(SMALLEST))
@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell["cell"], marks=pytest.mark.image(cell["image"])) for cell in CELLS])
def test_a_cluster_is_made_verified_and_left_alone_by_a_second_run(lab: Any, cell: dict[str, Any], pattern: str) -> None:
    settings = {"cloud.image": cell["image"], **SMALLEST[pattern], **cell.get("set", {})}
    with made(in_lab(lab, pattern, "test-matrix", 40, **settings)) as deployed:
        found = {check["id"]: check for check in deployed.result["checks"]}
        assert deployed.result["ok"] and cell["server"] in found["mysql-server"]["observed"]
        assert deployed.cli("plan").returncode == 0, "a second run would change something"
        deployment = deployed.open()
        try:
            runs_on(deployment, cell["java"])
            survives_a_restart_of_the_database(deployment)
            holds_after_a_restore_what_it_held(deployed, deployment)
            comes_back_from_s3(deployed, deployment)
        finally:
            deployment.close()


def runs_on(deployment: Deployment, version: str) -> None:
    for node in deployment.topology.wso2_nodes:
        assert f'version "{version}' in on(deployment, node.name, "$(ps -o args= -C java | head -1 | cut -d' ' -f1) -version 2>&1")


def survives_a_restart_of_the_database(deployment: Deployment) -> None:
    """A MySQL server that has just started knows no password: whoever signs in first must be able to without the runbook's check before it."""
    on(deployment, "db-1", "systemctl restart mysql || systemctl restart mariadb")
    for node in deployment.topology.wso2_nodes:
        on(deployment, node.name, f"systemctl restart {UNIT}")
    chapter = nodes_of(deployment)
    chapter.apply(chapter.plan())
    assert chapter.verify().ok


def holds_after_a_restore_what_it_held(deployed: Deployed, deployment: Deployment) -> None:
    dumps = {row[0]: (row[1], row[-1]) for row in deployment.mysql.dump().rows}
    restored = deployment.mysql.restore(*(path for _, path in dumps.values()), confirm=deployed.name)
    assert {row[0]: row[1] for row in restored.rows} == {name: rows for name, (rows, _) in dumps.items()}
    assert not deployment.mysql.plan()
    chapter = nodes_of(deployment)
    chapter.apply(chapter.plan())
    assert chapter.verify().ok


def nodes_of(deployment: Deployment) -> Any:
    return deployment.appserver if deployment.spec.pattern == "as-cluster" else deployment.greg


def comes_back_from_s3(deployed: Deployed, deployment: Deployment) -> None:
    try:
        rows = {part.name: part.rows[:12] for part in deployment.backups.make().databases}
        on(deployment, "db-1", "$(command -v mariadb || command -v mysql) WSO2_USER_DB -e 'DELETE FROM UM_USER_ROLE'")
        restored = deployment.backups.restore(confirm=deployed.name)
        assert {row[0]: row[1] for row in restored.rows if row[1]} == rows
        assert not deployment.mysql.plan() and not nodes_of(deployment).plan()
        assert nodes_of(deployment).verify().ok
    finally:
        BackupStore(deployment.cloud.aws, deployed.name).delete_all()
