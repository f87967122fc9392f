"""A cluster on the internet, as far as the lab has one: Nginx at an Elastic IP, everything else behind it, by every chapter."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from runbook_lib.chapters.deployment import Deployment
from tests.support.deployments import Deployed, in_lab, made, on
from tests.support.lab_fixtures import LabClient, eventually

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def public(lab: LabClient) -> Iterator[Deployed]:
    here = f"{lab.lab.gateway}/32"  # what machines see of who comes to a public address
    with made(in_lab(lab, "greg-single", "test-public", 12, cloud__connect_via="public", cloud__operator_cidr=here)) as deployed:
        yield deployed


@pytest.fixture
def cluster(public: Deployed) -> Iterator[Deployment]:
    deployment = public.open()
    yield deployment
    deployment.close()


def peers(cluster: Deployment, node: str) -> set[str]:
    """From which addresses SSH sessions of a machine come."""
    return {line.rpartition(":")[0] for line in on(cluster, node, "ss -Htn state established sport = :22 | awk '{print $4}'").split()}


def test_every_chapter_passes(public: Deployed) -> None:
    assert public.result["ok"], [check for check in public.result["checks"] if check["status"] != "pass"]
    assert {chapter["name"][:2] for chapter in public.result["chapters"]} >= {"01", "02", "04", "05", "07"}


def test_only_nginx_has_a_public_address_and_ssh_reaches_the_others_through_it(cluster: Deployment, lab: LabClient) -> None:
    machines = cluster.instances()
    assert [name for name, machine in machines.items() if machine.public_address] == ["lb-1"]
    assert f"public address: lb-1 {machines['lb-1'].public_address}" in str(cluster.status())
    for name in ("db-1", "greg-1"):
        with pytest.raises(TimeoutError):
            socket.create_connection((machines[name].address, 22), timeout=2).close()
        assert peers(cluster, name) == {machines["lb-1"].address}
    assert str(lab.lab.gateway) in peers(cluster, "lb-1")


def test_the_public_address_stays_over_stop_and_start(cluster: Deployment) -> None:
    before = cluster.public_addresses()["lb-1"]
    cluster.cloud.stop("lb-1")
    eventually(lambda: cluster.cloud.instance("lb-1").state == "stopped", "lb-1 to stop")
    cluster.launch.apply(cluster.launch.plan())
    assert cluster.public_addresses()["lb-1"] == before
    cluster.nginx.verify()


def test_it_goes_private_and_public_again_as_planned_and_keeps_its_machines(public: Deployed, cluster: Deployment) -> None:
    before = {name: machine.id for name, machine in cluster.instances().items()}
    private = public.open(cloud__connect_via="private", cloud__operator_cidr="auto")
    for target in (private, cluster):
        plan = target.launch.plan()
        assert {p.stage for p in plan.pending} == {"network", "Elastic IP", "rule"}
        target.launch.apply(plan)
        assert not target.launch.plan()
        target.launch.verify()
        target.greg.verify()
        target.nginx.verify()
    private.close()
    assert {name: machine.id for name, machine in cluster.instances().items()} == before


def test_without_the_nat_gateway_a_machine_has_no_way_to_packages_and_the_chapter_mends_it(cluster: Deployment) -> None:
    ask = "apt-get -o Acquire::http::Timeout=2 -o Acquire::Retries=0 update 2>&1 | tail -3; true"
    ec2 = cluster.cloud.aws.client("ec2")
    inventory = cluster.cloud.observe()
    assert inventory.nat
    table = inventory.route_tables["private"]["RouteTableId"]
    ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    assert "Failed to fetch" in on(cluster, "db-1", ask)
    assert [check.id for check in cluster.cloud.verify().failed()] == ["launch-way-out"]
    cluster.launch.apply(cluster.launch.plan())
    assert "Failed to fetch" not in on(cluster, "db-1", ask)
