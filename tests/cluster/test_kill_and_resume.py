"""Killed with -9, and machines without power, at the worst moments: the next run goes on and finishes the job.

One deployment lives through all of it; the tests are told in their order. It has what the params for AWS name, a MySQL server and
Java 8, which every test run thus sees on a cluster that is verified whole; `test_matrix.py` has the other systems.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.operations import registry
from runbook_lib.operations.startup import mark_of
from tests.support.deployments import Deployed, in_lab
from tests.support.drift_tools import OURS, Running, as_root, named_in

AS_ON_AWS = {"cloud__image": "debian-sid", "database__package": "mysql-server", "java__package": "openjdk-8-jre-headless"}
pytestmark = pytest.mark.image(AS_ON_AWS["cloud__image"])
MINE = [{"Name": "tag:runbook:deployment", "Values": ["test-killed"]}]
JAVA_VERSION = "$(ps -o args= -C java | head -1 | cut -d' ' -f1) -version 2>&1"  # of the JVM that runs
TABLES = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'WSO2_USER_DB'"


@pytest.fixture(scope="module")
def cluster(lab: Any) -> Iterator[Deployed]:
    deployed = in_lab(lab, "greg-separated", "test-killed", 3, nodes__store=1, nodes__publisher=1, **AS_ON_AWS)
    yield deployed
    deployed.cli("destroy", "--yes")


@pytest.fixture
def opened(cluster: Deployed) -> Iterator[Deployment]:
    deployment = cluster.open()
    yield deployment
    deployment.close()


def _mark(deployment: Deployment, node: str) -> str:
    return as_root(deployment.fleet()[node], f"cat {mark_of(deployment.context())} || true").strip()


def test_killed_while_machines_are_launched(cluster: Deployed, lab: Any) -> None:
    running = Running(cluster, "run", "--to", "01")
    running.until(lambda: lab.ec2.describe_instances(Filters=MINE)["Reservations"], "a first machine", 120)
    running.kill()

    done = cluster.cli("run", "--to", "01")
    assert done.returncode == 0, done.stdout + done.stderr
    machines = [m for r in lab.ec2.describe_instances(Filters=MINE)["Reservations"] for m in r["Instances"]]
    nodes = [tag["Value"] for m in machines for tag in m["Tags"] if tag["Key"] == "runbook:node" and m["State"]["Name"] == "running"]
    assert sorted(nodes) == ["db-1", "lb-1", "publisher-1", "store-1"]
    assert len(lab.ec2.describe_vpcs(Filters=MINE)["Vpcs"]) == 1


def test_killed_while_a_schema_is_loaded_and_the_database_machine_without_power(cluster: Deployed, opened: Deployment) -> None:
    running, db = Running(cluster, "run", "--from", "02", "--to", "02"), opened.fleet()["db-1"]
    running.until(lambda: int(db.run(f'sudo -n mysql -BNe "{TABLES}"').stdout) > 0, "a first table")
    opened.cloud.power_cut("db-1")
    running.kill()

    done = cluster.cli("run", "--to", "02")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not opened.mysql.plan()


@pytest.mark.full
def test_a_node_that_loses_its_power_during_its_first_boot_ends_the_run_with_its_name(cluster: Deployed, opened: Deployment) -> None:
    running = Running(cluster, "run", "--from", "04", "--to", "04")
    running.until(lambda: _mark(opened, "publisher-1") == "begun", "the first boot of publisher-1, after that of store-1")
    opened.cloud.power_cut("publisher-1")
    output = running.output()
    assert running.process.returncode == 1
    assert "publisher-1" in output and "next:" in output and not OURS.search(output)
    assert cluster.cli("run", "--to", "01").returncode == 0, "it runs again"


def test_killed_during_a_first_boot_the_next_run_makes_the_databases_anew_by_itself(cluster: Deployed, opened: Deployment) -> None:
    running = Running(cluster, "run", "--from", "04", "--to", "04")
    running.until(
        lambda: _mark(opened, "store-1") == "begun" and registry.is_used(opened.fleet()["db-1"]),
        "store-1 fills the registry",
    )
    running.kill()
    assert not opened.context().booted
    opened.cloud.power_cut("store-1")  # the product is cut short too, not only who waits for it

    done = cluster.cli("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {entry["key"] for entry in cluster.journal("recreate")} >= {"WSO2_USER_DB"}
    assert opened.context().booted == {"store-1", "publisher-1"}


def test_what_was_killed_so_often_is_whole_and_a_second_run_changes_nothing(cluster: Deployed, opened: Deployment) -> None:
    found = {check["id"]: check for check in cluster.result["checks"]}
    assert cluster.result["verdict"] == "separated" and {check["status"] for check in found.values()} == {"pass"}
    assert "MySQL" in found["mysql-server"]["observed"]
    assert 'version "1.8.' in as_root(opened.fleet()["store-1"], JAVA_VERSION)
    done = cluster.cli("run", "--to", "05")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {chapter["name"][:2]: chapter["changed"] for chapter in cluster.result["chapters"]} == {
        "01": 0,
        "02": 0,
        "04": 0,
        "05": 0,
    }


@pytest.mark.full
def test_killed_during_the_first_boot_of_a_replaced_node_the_way_out_is_named(cluster: Deployed, opened: Deployment) -> None:
    """The databases hold what others made by now: nothing is dropped without being asked."""
    opened.cloud.aws.client("ec2").terminate_instances(InstanceIds=[opened.cloud.instance("publisher-1").id])
    plan = cluster.cli("plan")
    assert plan.returncode == 2 and "the machine is not launched" in plan.stdout
    assert named_in(plan.stdout, opened) == {"publisher-1"}, plan.stdout
    running = Running(cluster, "run", "--to", "04")
    running.until(lambda: _mark(opened, "publisher-1") == "begun", "the first boot of publisher-1")
    opened.cloud.power_cut("publisher-1")
    running.kill()

    done = cluster.cli("run", "--to", "04")
    assert done.returncode == 1
    assert "the first boot of publisher-1 was cut short" in done.stdout
    assert "deployment.mysql.recreate(confirm=" in done.stdout and re.search(r"terminate publisher-1, then run chapter 01", done.stdout)
    assert not cluster.journal("recreate")

    opened.cloud.aws.client("ec2").terminate_instances(InstanceIds=[opened.cloud.instance("publisher-1").id])
    done = cluster.cli("run", "--to", "05")
    assert done.returncode == 0, done.stdout + done.stderr
