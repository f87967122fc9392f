"""What is put on the manager reaches the workers by itself, and what is taken from it goes from them too."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from wso2_practice.build import probe_war

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.errors import RunbookError
from runbook_lib.operations import deploy_archive
from runbook_lib.roles import appserver, carbon
from tests.support.deployments import on
from tests.support.lab_fixtures import eventually

WORKERS = ("as-worker-1", "as-worker-2")


def root(deployment: Deployment) -> str:
    return f"{carbon.home_of(deployment.spec)}/{appserver.DEPLOYMENT}"


def all_workers(deployment: Deployment, holds: Callable[[str], bool], script: str) -> None:
    eventually(lambda: all(holds(on(deployment, worker, script)) for worker in WORKERS), script, 90)


def test_an_application_is_deployed_on_every_node_and_again_is_no_change(as_deployment: Deployment, tmp_path: Path) -> None:
    deployment = as_deployment
    archive = tmp_path / "from-the-test.war"
    probe_war(archive)
    first = deployment.appserver.deploy(str(archive))
    assert first.changed and set(first.seconds) == {"as-manager-1", *WORKERS}
    answers = [on(deployment, worker, "curl -sk https://$(hostname -I | tr -d ' '):9443/from-the-test/") for worker in WORKERS]
    assert [worker in answer for worker, answer in zip(WORKERS, answers, strict=True)] == [True, True]
    assert not deployment.appserver.deploy(str(archive)).changed
    assert set(deployment.appserver.undeploy("from-the-test.war").seconds) == {"as-manager-1", *WORKERS}
    left = [on(deployment, node, f"ls {root(deployment)}/webapps") for node in ("as-manager-1", *WORKERS)]
    assert ["from-the-test" in names for names in left] == [False] * 3 and all("probe.war" in names for names in left)
    again = deployment.appserver.undeploy("from-the-test.war")
    assert not again.changed and "nothing to take away: no node has from-the-test.war" in str(again)


def test_what_a_worker_unpacked_from_a_carbon_application_is_left_alone_as_long_as_that_is_deployed(as_deployment: Deployment, tmp_path: Path) -> None:
    """The practice server does not unpack Carbon applications: the folders stand for what the product unpacks on each node (facts 3.6)."""
    deployment, car = as_deployment, tmp_path / "orders.car"
    with zipfile.ZipFile(car, "w") as out:
        out.writestr("Web_1.0.0/orders-web.war", "")
    nodes = ("as-manager-1", *WORKERS)
    pull = f"systemctl start {appserver.PULL_UNIT}.service; systemctl start {appserver.PULL_UNIT}.service"
    make = f"cd {root(deployment)}; install -d -o wso2carbon webapps/orders-web; echo $(hostname) > webapps/orders-web/index.html"
    put = f"base64 -d > {root(deployment)}/carbonapps/orders.car; chown wso2carbon: {root(deployment)}/carbonapps/orders.car"
    on(deployment, nodes[0], f"echo {base64.b64encode(car.read_bytes()).decode()} | {put}")
    for node in nodes:
        on(deployment, node, make)
    try:
        for worker in WORKERS:
            on(deployment, worker, pull)
        read = f"cat {root(deployment)}/webapps/orders-web/index.html"
        kept = [on(deployment, node, read).strip() for node in nodes]
        assert len(set(kept)) == 3, kept
    finally:
        on(deployment, nodes[0], f"cd {root(deployment)}; rm -rf carbonapps/orders.car webapps/orders-web")
    for worker in WORKERS:
        on(deployment, worker, pull)
        assert "orders" not in on(deployment, worker, f"ls {root(deployment)}/webapps {root(deployment)}/carbonapps")


def test_a_sample_that_the_pack_deploys_can_be_taken_away_and_no_plan_brings_it_back(as_deployment: Deployment, tmp_path: Path) -> None:
    deployment, sample = as_deployment, tmp_path / "example.war"
    sample.write_bytes(base64.b64decode(on(deployment, "as-manager-1", f"base64 {root(deployment)}/webapps/example.war")))
    assert set(deployment.appserver.undeploy("example.war").seconds) == {"as-manager-1", *WORKERS}
    assert not deployment.appserver.plan()
    assert deployment.appserver.deploy(str(sample)).changed, "put back"


OTHERS = {
    "from-the-test.car": ("artifacts.xml", '<artifacts><artifact name="Orders" version="1.0.0" type="carbon/application"/></artifacts>'),
    "from-the-test.aar": ("META-INF/services.xml", "<service/>"),
}


@pytest.mark.full
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_web_application_is_gone_when_every_product_has_ended_it(as_deployment: Deployment, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr(*OTHERS[name])
    assert as_deployment.appserver.deploy(str(tmp_path / name)).changed
    assert set(as_deployment.appserver.undeploy(name).seconds) == {"as-manager-1", *WORKERS}
    ended = {".car": "Successfully Undeployed Carbon Application : Orders_1.0.0", ".aar": "Undeploying Web service: from-the-test"}[name[-4:]]
    log = f"{carbon.home_of(as_deployment.spec)}/{carbon.LOG}"
    assert [on(as_deployment, node, f"grep -c '{ended}' {log}").strip() for node in ("as-manager-1", *WORKERS)] == ["1"] * 3


@pytest.mark.full
def test_folders_come_whole_and_metadata_does_not(as_deployment: Deployment) -> None:
    deployment = as_deployment
    there = root(deployment)
    make = f"cd {there}; mkdir -p jaggeryapps/shop/a artifactMetafiles; echo 1 > jaggeryapps/shop/a/b.jag"
    on(deployment, "as-manager-1", f"{make}; echo 1 > artifactMetafiles/m; chown -R wso2carbon: jaggeryapps")
    all_workers(deployment, lambda found: "shop/a/b.jag" in found, f"find {there}/jaggeryapps")
    assert all("artifactMetafiles" not in on(deployment, worker, f"ls {there}") for worker in WORKERS)
    on(deployment, "as-manager-1", f"cd {there}; rm -r jaggeryapps/shop artifactMetafiles")
    all_workers(deployment, lambda found: "shop" not in found, f"find {there}/jaggeryapps")


def test_a_manager_that_is_away_takes_nothing_from_the_workers(as_deployment: Deployment) -> None:
    deployment = as_deployment
    before = on(deployment, "as-worker-1", f"ls {root(deployment)}/webapps")
    on(deployment, "as-manager-1", "systemctl stop rsync")
    try:
        pull = f"systemctl start {appserver.PULL_UNIT}.service || echo refused"
        assert "refused" in on(deployment, "as-worker-1", pull)
        assert on(deployment, "as-worker-1", f"ls {root(deployment)}/webapps") == before
    finally:
        on(deployment, "as-manager-1", "systemctl start rsync")


def test_nobody_but_the_workers_reads_the_managers_artifacts(as_deployment: Deployment) -> None:
    deployment = as_deployment
    address = deployment.topology.of("as-manager")[0].address
    ask = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/873 && head -1 <&3' || echo shut"
    eventually(lambda: "RSYNCD" in on(deployment, "as-worker-1", ask), "the service that the test before has started")
    assert "shut" in on(deployment, "lb-1", ask)
    push = f"cd /root; touch x; rsync x rsync://{address}/webapps/x 2>&1 || true"
    assert "read only" in on(deployment, "as-worker-2", push)


WRONG = {
    "none.war": "there is no",
    "notes.txt": "no archive that is deployed",
    "odd name.war": "no name for",
    "text.war": "no zip",
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_no_archive_is_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    if name != "none.war":
        (tmp_path / name).write_text("text")
    with pytest.raises(RunbookError, match=WRONG[name]):
        deploy_archive.deploy(None, None, tmp_path / name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../conf/carbon.xml", "/etc/app.war", "app", "app.zip"])
def test_what_is_no_archives_name_is_not_taken_away(name: str) -> None:
    with pytest.raises(RunbookError, match="is no name of an archive"):
        deploy_archive.undeploy(None, None, name)  # type: ignore[arg-type]
