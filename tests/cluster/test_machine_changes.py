"""Other machines for a cluster that visitors use: another type, larger disks, more nodes of a tier and fewer, each by a change of the parameters."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from runbook_lib.aws.s3.backup_store import BEFORE_WORK
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.checks.drill.failover import settle, target_of
from runbook_lib.operations.startup import mark_of
from runbook_lib.roles import carbon
from tests.support.deployments import Deployed, in_lab, made, on
from tests.support.drift_tools import Running, as_root, identities, named_in
from tests.support.lab_fixtures import eventually
from tests.support.watched import ended, under_load

pytestmark = pytest.mark.full
STORES, WORKERS = ["store-1", "store-2"], ["as-worker-1", "as-worker-2"]
STOPPED = "out of Nginx, then its product was stopped within"


def with_params(cluster: Deployed, **more: Any) -> Deployed:
    return replace(cluster, overrides={**cluster.overrides, **{key.replace("__", "."): value for key, value in more.items()}})


@pytest.fixture(scope="module")
def cluster(lab: Any) -> Iterator[Deployed]:
    """A deployment of its own: disks never shrink again. The tests are told in their order."""
    with made(in_lab(lab, "greg-separated", "test-machines", 14, nodes__publisher=1), "--to", "05") as deployed:
        yield deployed


@pytest.fixture(scope="module")
def d(cluster: Deployed) -> Iterator[Deployment]:
    deployment = cluster.open()
    yield deployment
    deployment.close()


def types(d: Deployment) -> dict[str, str]:
    return {name: machine.instance_type for name, machine in d.instances().items()}


def test_another_type_comes_one_node_at_a_time_and_no_get_fails(cluster: Deployed, d: Deployment) -> None:
    larger, before, who = with_params(cluster, cloud__instance_type={"store": "t3.large"}), types(d), identities(d)
    said = ended(larger.cli("plan"), 2)
    rows = [line for line in said.splitlines() if "~ resize" in line or "~ drain" in line]
    assert len(rows) == 4 and all(name in said for name in STORES) and "t3.large" in rows[0], said
    meanwhile = under_load(cluster, ("store",), lambda: larger.cli("run", "--to", "01", seconds=900))
    said = ended(meanwhile.done)
    meanwhile.was_served(said)
    assert meanwhile.nodes("store") == set(STORES)
    assert types(d) == before | dict.fromkeys(STORES, "t3.large") != before
    assert identities(d) == who, "no other machine, address or host key"
    assert larger.cli("plan").returncode == 0


def test_killed_while_a_node_is_stopped_the_next_run_ends_it(cluster: Deployed, d: Deployment) -> None:
    before, who = types(d), identities(d)
    assert {before[name] for name in STORES} == {"t3.large"}, "the test before makes them so"
    running = Running(cluster, "run", "--to", "01")
    running.until(lambda: d.instances()["store-1"].state == "stopped", "store-1 is stopped")
    running.kill()
    ended(cluster.cli("run", "--to", "05", seconds=900))
    assert {types(d)[name] for name in STORES}.isdisjoint({"t3.large"}) and identities(d) == who
    assert cluster.cli("plan").returncode == 0 and not d.nginx.plan()


def test_the_databases_machine_is_backed_up_before_and_the_interruption_is_measured(cluster: Deployed, d: Deployment) -> None:
    larger, before = with_params(cluster, cloud__instance_type={"db": "t3.large"}), len(d.backups.made())
    said = ended(larger.cli("plan"), 2)
    assert "interrupt" in said and "what needs the databases" in said
    ended(larger.cli("run", "--to", "05", seconds=900))
    journal = (cluster.latest / "journal.jsonl").read_text()
    assert types(d)["db-1"] == "t3.large" and [len(kept := d.backups.made()), kept[0].why] == [before + 1, BEFORE_WORK]
    assert "interrupted for " in journal and larger.cli("plan").returncode == 0
    ended(cluster.cli("run", "--to", "05", seconds=900))  # no other test waits for the database


def test_larger_disks_are_filled_at_once_and_no_get_fails(cluster: Deployed, d: Deployment) -> None:
    larger, before = with_params(cluster, cloud__disk_gb=28), identities(d)
    said = ended(larger.cli("plan"), 2)
    assert "grow" in said and "→ 28 GiB in place" in said
    meanwhile = under_load(cluster, ("store", "publisher"), lambda: larger.cli("run", "--to", "01", seconds=900))
    meanwhile.was_served(ended(meanwhile.done))
    [smaller] = [line for line in cluster.cli("plan").stderr.splitlines() if "never shrinks" in line]
    assert "28 GiB" in smaller and identities(d) == before


@pytest.mark.parametrize(("tier", "numbers"), [("store", (2, 3, 2)), ("publisher", (1, 2, 1)), ("store", (2, 4, 1, 2))], ids=str)
def test_a_tier_gets_nodes_and_loses_them_and_no_get_fails(cluster: Deployed, d: Deployment, tier: str, numbers: tuple[int, ...]) -> None:
    for before, number in pairwise(numbers):
        wanted = with_params(cluster, cloud__disk_gb=28, **{f"nodes__{tier}": number})
        meanwhile = under_load(cluster, (tier,), lambda wanted=wanted: wanted.cli("run", "--to", "05", seconds=1200))
        meanwhile.was_served(ended(meanwhile.done))
        there, then = ([f"{tier}-{one + 1}" for one in range(count)] for count in (before, number))
        left = wanted.journal("left")
        assert [row["host"] for row in left] == there[number:] and all(STOPPED in row["change"] for row in left), left
        assert meanwhile.nodes(tier) == {*there, *then}
        assert {name for name in d.instances() if name.startswith(tier)} == set(then)
        assert wanted.cli("plan").returncode == 0


def test_a_tier_of_eight_is_one_cluster_of_which_each_node_gets_requests(cluster: Deployed, d: Deployment) -> None:
    """Without load: two processors do not carry six first boots beside it."""
    eight, two = with_params(cluster, cloud__disk_gb=28, nodes__store=8), with_params(cluster, cloud__disk_gb=28)
    ended(eight.cli("run", "--to", "05", seconds=1200))
    settle(target_of(d, "store"), [f"store-{number + 1}" for number in range(8)], 120)
    assert eight.cli("plan").returncode == 0
    ended(two.cli("run", "--to", "05", seconds=900))
    assert {name for name in d.instances() if name.startswith("store")} == set(STORES)


def test_killed_while_a_store_node_more_boots_the_next_run_ends_it_and_no_get_fails(cluster: Deployed) -> None:
    three = with_params(cluster, cloud__disk_gb=28, nodes__store=3)
    deployment = three.open()
    path = mark_of(deployment.context())

    def mark() -> str:
        return as_root(deployment.fleet()["store-3"], f"cat {path} || true").strip()

    def grow() -> subprocess.CompletedProcess[str]:
        running = Running(three, "run", "--to", "05")
        running.until(lambda: mark() == "begun", "the first boot of store-3", 600, pause=0.5)
        running.kill()
        assert "store-3" not in deployment.context().booted
        eventually(lambda: mark() == "complete", "the node boots to its end by itself", 120)
        return three.cli("run", "--to", "05", seconds=900)

    try:
        meanwhile = under_load(cluster, ("store",), grow)
        meanwhile.was_served(ended(meanwhile.done))
        assert three.cli("plan").returncode == 0
        settle(target_of(deployment, "store"), [*STORES, "store-3"], 60)  # every one of them serves
    finally:
        deployment.close()
        done = with_params(cluster, cloud__disk_gb=28).cli("run", "--to", "05", seconds=900)
    ended(done)


def test_workers_get_another_type_one_at_a_time_and_go_back_and_no_get_fails(as_cluster: Deployed, as_deployment: Deployment) -> None:
    before, who = types(as_deployment), identities(as_deployment)
    after = before | dict.fromkeys(WORKERS, "t3.large")
    larger = with_params(as_cluster, cloud__instance_type={"as-worker": "t3.large"})
    assert after != before
    try:
        for wanted, expected in ((larger, after), (as_cluster, before)):
            said = ended(wanted.cli("plan"), 2)
            assert named_in(said, as_deployment) == set(WORKERS), said
            meanwhile = under_load(as_cluster, ("as",), lambda wanted=wanted: wanted.cli("run", "--to", "01", seconds=900))
            meanwhile.was_served(ended(meanwhile.done))
            assert meanwhile.nodes("as") == set(WORKERS)
            assert types(as_deployment) == expected
            assert identities(as_deployment) == who, "no other machine, address or host key"
            assert wanted.cli("plan").returncode == 0
    finally:
        if types(as_deployment) != before:
            as_cluster.cli("run", "--to", "05", seconds=900)


OWN = "repository/components/dropins/own_1.0.0.jar"
MARK = "INSERT INTO WSO2_USER_DB.UM_HYBRID_ROLE (UM_ROLE_NAME, UM_TENANT_ID) VALUES ('kept', -1234)"
FOUND = "SELECT COUNT(*) FROM WSO2_USER_DB.UM_HYBRID_ROLE WHERE UM_ROLE_NAME = 'kept'"


@pytest.fixture
def own_image(lab: Any, launch: Any) -> dict[str, Any]:
    """The parameters of an image of one's own, made of a machine of the lab."""
    box = launch(10).booted()
    image = lab.ec2.create_image(InstanceId=box.id, Name="own")["ImageId"]
    eventually(lambda: lab.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available", "the image is made")
    return {"cloud.image": image, "cloud.login_user": "admin"}


def noticed(cluster: Deployed) -> dict[str, str]:
    """What the evidence of the newest run says that visitors noticed, by machine."""
    [table] = [row for row in cluster.journal("table") if row["key"] == "What visitors noticed"]
    return {row[0]: row[-1] for row in table["rows"]}


def interrupted(said: str) -> float:
    found = re.search(r"interrupted for ([\d.]+) s", said)
    assert found, said
    return float(found[1])


def test_another_machine_for_nginx_that_is_asked_for(cluster: Deployed, d: Deployment) -> None:
    now = with_params(cluster, cloud__disk_gb=28)
    before = identities(d)
    said = ended(now.cli("replace", "lb-1"), 2)
    assert "renew" in said and "interrupt" in said and identities(d) == before
    said = ended(now.cli("replace", "lb-1", "--yes", seconds=900))
    after = identities(d)
    assert {name for name in after if after[name] != before[name]} == {"lb-1"}
    assert after["lb-1"][1] == before["lb-1"][1] and not set(after["lb-1"][2]) & set(before["lb-1"][2])
    assert 0 < interrupted(noticed(cluster)["lb-1"]) < 300, said
    assert now.cli("plan").returncode == 0


def test_killed_while_nginx_has_no_machine_the_next_run_ends_it(cluster: Deployed, d: Deployment) -> None:
    now = with_params(cluster, cloud__disk_gb=28)
    running = Running(now, "replace", "lb-1", "--yes")
    running.until(lambda: "lb-1" not in d.instances(), "the machine is gone")
    running.kill()
    ended(now.cli("run", "--to", "05", seconds=900))
    assert now.cli("plan").returncode == 0


def databases_machine_is_another(d: Deployment, before: dict[str, Any]) -> bool:
    """It alone, at its old address, with what the databases held."""
    after = identities(d)
    assert {name for name in after if after[name] != before[name]} == {"db-1"} and after["db-1"][1] == before["db-1"][1]
    return on(d, "db-1", f'$(command -v mariadb || command -v mysql) -BN -e "{FOUND}"').strip() == "1"


def test_another_machine_for_the_database_that_is_asked_for_has_what_it_held(cluster: Deployed, d: Deployment) -> None:
    now = with_params(cluster, cloud__disk_gb=28)
    before, backups = identities(d), len(d.backups.made())
    on(d, "db-1", f'$(command -v mariadb || command -v mysql) -e "{MARK}"')
    said = ended(now.cli("replace", "db-1"), 2)
    assert "renew" in said and "the product stops, then a backup" in said and identities(d) == before
    said = ended(now.cli("replace", "db-1", "--yes", seconds=900))
    assert databases_machine_is_another(d, before) and len(d.backups.made()) == backups + 1
    assert 0 < interrupted(noticed(cluster)["db-1"]) < 600, said
    assert now.cli("plan").returncode == 0


def test_killed_while_the_database_has_no_machine_nothing_goes_on_until_the_backup_is_restored(cluster: Deployed, d: Deployment) -> None:
    now = with_params(cluster, cloud__disk_gb=28)
    before = identities(d)
    running = Running(now, "replace", "db-1", "--yes")
    running.until(lambda: "db-1" not in d.instances(), "the machine is gone", 300)
    running.kill()
    refused = now.cli("run", "--to", "05", seconds=900)
    assert refused.returncode == 1 and "./runbook restore" in refused.stdout, refused.stdout + refused.stderr
    ended(now.cli("restore", "--yes", seconds=900))
    ended(now.cli("run", "--to", "05", seconds=900))
    assert databases_machine_is_another(d, before)
    assert now.cli("plan").returncode == 0


def test_another_image_renews_every_machine_and_nothing_is_lost(cluster: Deployed, d: Deployment, own_image: dict[str, Any]) -> None:
    newer = replace(cluster, overrides={**cluster.overrides, "cloud.disk_gb": 28, **own_image})
    before = identities(d)
    on(d, "store-1", f"install -D -o wso2carbon /dev/stdin {carbon.home_of(d.spec)}/{OWN} <<< own")
    said = ended(newer.cli("plan"), 2)
    assert said.count(" renew") >= 1 and all(name in said for name in before)
    [lost] = [line for line in said.splitlines() if "~ lose" in line]
    assert lost.split()[0] == "store-1" and f"- {OWN}\n" in said, "the plan names what ends with a disk, and nothing else"

    def until_the_stores_are_renewed() -> Running:
        """The only publisher comes after them, then Nginx itself, of which visitors notice an interruption."""
        running = Running(newer, "run")
        running.until(lambda: "publisher-1" not in (there := d.instances()) or there["publisher-1"].id != before["publisher-1"][0], "its turn", 900, pause=2)
        return running

    meanwhile = under_load(cluster, ("store",), until_the_stores_are_renewed)
    running = meanwhile.done
    said = running.output(1100)
    assert running.process.returncode == 0, said
    meanwhile.was_served(said)
    assert meanwhile.nodes("store") == set(STORES)
    after = identities(d)
    assert all(after[name][0] != before[name][0] and after[name][1] == before[name][1] for name in before)
    assert {machine.image for machine in d.instances().values()} == {own_image["cloud.image"]}
    assert on(d, "db-1", f'$(command -v mariadb || command -v mysql) -BN -e "{FOUND}"').strip() == "1"
    met = noticed(cluster)
    assert all(met[name].startswith("0 of ") for name in STORES), met
    assert all(interrupted(met[name]) > 0 for name in ("lb-1", "db-1", "publisher-1")), met
    assert newer.cli("plan").returncode == 0
