"""Another pack on a serving cluster: what the operator put there stays, no visitor notices, and a pack that does not serve is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from wso2_practice.build import probe_war

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.product_nodes import BEFORE_PACK
from runbook_lib.converge.agent.homes import UNPROVEN
from runbook_lib.errors import RunbookError
from runbook_lib.operations.deploy_archive import PULLED_ANEW
from runbook_lib.roles import carbon
from tests.support.changed_packs import another_pack
from tests.support.deployments import Deployed, on
from tests.support.drift_tools import Running
from tests.support.watched import under_load

pytestmark = pytest.mark.full
HOME = "/opt/wso2/as"
NODES = ("as-manager-1", "as-worker-1", "as-worker-2")
OWN = {"as": "/own/"}  # the page that is requested under load
BY_HAND = {  # what an operator put below repository/, and whether another pack takes it over
    "components/lib/mine.jar": True,
    "components/dropins/mine_1.0.0.jar": True,
    "deployment/server/carbonapps/mine.car": True,
    "deployment/server/webapps/exploded/index.html": True,
    "conf/mine.properties": False,
}


def with_pack(cluster: Deployed, given: dict[str, str], **more: Any) -> Deployed:
    return replace(cluster, overrides={**cluster.overrides, **given, **{key.replace("__", "."): value for key, value in more.items()}})


@pytest.fixture(scope="module")
def used(as_cluster: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The AS cluster with an application of its operator, and files of his on the manager. Afterwards it has its own pack again."""
    deployment = as_cluster.open()
    archive = tmp_path_factory.mktemp("applications") / "own.war"
    probe_war(archive)
    deployment.appserver.deploy(str(archive))
    on(deployment, "as-manager-1", f"cd {HOME}/repository; " + "; ".join(f"install -D -o wso2carbon /dev/stdin {path} <<< {path}" for path in BY_HAND))
    for worker in ("as-worker-1", "as-worker-2"):  # else they fetch it between a plan and its apply, which then is refused
        on(deployment, worker, PULLED_ANEW)
    yield as_cluster
    deployment.appserver.apply(deployment.appserver.plan())
    on(deployment, "as-manager-1", f"cd {HOME}/repository; rm -rf {' '.join(BY_HAND)} deployment/server/webapps/exploded")
    deployment.appserver.undeploy("own.war")
    deployment.appserver.verify()
    deployment.backups.store.delete_all()
    deployment.close()


def version(deployment: Deployment, node: str) -> str:
    return on(deployment, node, f"cat {HOME}/bin/version.txt").strip()


def started(deployment: Deployment, node: str) -> str:
    return on(deployment, node, f"systemctl show -p ExecMainStartTimestampMonotonic {carbon.UNIT}")


def in_nginx(deployment: Deployment) -> bool:
    """Whether every node gets requests."""
    return not deployment.nginx.plan()


def test_under_load_no_get_fails_and_what_the_operator_put_there_is_served_by_the_new_pack(used: Deployed, lab: Any) -> None:
    deployment = with_pack(used, another_pack(lab, used.params, "1")).open()
    before = version(deployment, "as-worker-1")
    on(deployment, "as-worker-1", f"echo '# by hand' >> {HOME}/repository/conf/tenant-mgt.xml")
    planned = deployment.appserver.plan()
    words = str(planned)
    assert "nothing is known here about" in words and "- not carried over: repository/conf/tenant-mgt.xml (changed since it was unpacked)" in words
    assert all((f"+ carried over: repository/{path}" in words) == kept for path, kept in BY_HAND.items())
    assert "- not carried over: repository/conf/mine.properties" in words

    meanwhile = under_load(used, ("as",), lambda: deployment.appserver.apply(planned), OWN)
    done = meanwhile.done
    meanwhile.was_served(done)
    assert meanwhile.nodes("as") == {"as-worker-1", "as-worker-2"}

    assert {(p.host, p.change.key, p.change.verb) for p in done.changed} == {(p.host, p.change.key, p.change.verb) for p in planned.pending}
    assert not deployment.appserver.plan() and in_nginx(deployment)
    for node in NODES:
        assert version(deployment, node) != before
        assert node in on(deployment, node, "curl -sk https://$(hostname -I | tr -d ' '):9443/own/")
    for path, kept in BY_HAND.items():
        assert on(deployment, "as-manager-1", f"cat {HOME}/repository/{path} || true").strip() == (path if kept else "")
    kept = deployment.backups.made()[0]
    assert (kept.why, kept.version) == (BEFORE_PACK, before), "labelled with the pack that ran, not with the one in the parameters"

    assert "as.previous" in on(deployment, "as-worker-1", "ls /opt/wso2")
    deployment.appserver.verify()
    assert all("as.previous" not in on(deployment, node, "ls /opt/wso2") for node in NODES)
    deployment.close()


SPOILT = {  # what the product's script does before it starts Java, and what is said of it
    "mute": ("sleep 1000; ", "did not say that it is started within 30 s"),
    "listening where it must not": ("python3 -m http.server --bind 127.0.0.1 9763 >/dev/null 2>&1 & ", "node-listens-as-worker-1 (fail)"),
}


@pytest.mark.parametrize("why", list(SPOILT))
def test_a_pack_that_is_no_good_is_taken_back_and_the_others_are_not_touched(used: Deployed, lab: Any, why: str) -> None:
    does, said = SPOILT[why]
    spoilt = {"bin/wso2server.sh": lambda text: text.replace(b'    "$JAVACMD" \\', b"    " + does.encode() + b'"$JAVACMD" \\')}
    now = with_pack(used, another_pack(lab, used.params, "1")).open()
    if planned := now.appserver.plan():  # the test before has done it
        now.appserver.apply(planned)
        now.appserver.verify()
    deployment = with_pack(used, another_pack(lab, used.params, why.split()[0], spoilt), timeouts__boot=30).open()
    before, planned = version(now, "as-worker-1"), deployment.appserver.plan()
    others = {node: started(now, node) for node in ("as-manager-1", "as-worker-2")}

    def taken_back() -> pytest.ExceptionInfo[RunbookError]:
        with pytest.raises(RunbookError, match="as-worker-1 did not serve with the new pack: rolled back") as told:
            deployment.appserver.apply(planned)
        return told

    meanwhile = under_load(used, ("as",), taken_back, OWN)
    told = meanwhile.done
    meanwhile.was_served(told.value)
    assert said in told.value.what and "product.pack" in (told.value.next_step or "")
    kept = now.backups.made()[0]
    assert f"./runbook restore PARAMS --at {kept.time}" in (told.value.next_step or "") and now.backups.choose(kept.time) == kept

    assert {node: started(now, node) for node in others} == others
    assert {version(now, node) for node in NODES} == {before}
    assert not now.appserver.plan() and in_nginx(now)
    now.appserver.verify()
    assert on(now, "as-worker-1", "ls /opt/wso2").split() == ["as"]
    deployment.close()
    now.close()


def test_killed_and_without_power_in_the_middle_the_next_run_ends_with_one_pack_everywhere(used: Deployed, lab: Any) -> None:
    third = with_pack(used, another_pack(lab, used.params, "3"))
    deployment = third.open()
    running = Running(third, "run", "--from", "03", "--to", "03")
    running.until(lambda: "as.previous" in on(deployment, "as-worker-1", "ls /opt/wso2"), "the first node's home is replaced")
    deployment.cloud.power_cut("as-worker-1")
    running.kill()

    done = third.cli("run", "--from", "01", "--to", "05")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert {version(deployment, node)[-10:] for node in NODES} == {version(deployment, "as-worker-1")[-10:]}
    assert "3-practice" in version(deployment, "as-worker-1")
    assert not deployment.appserver.plan() and in_nginx(deployment)
    for node in NODES:
        assert node in on(deployment, node, "curl -sk https://$(hostname -I | tr -d ' '):9443/own/")
        assert on(deployment, node, "ls /opt/wso2").split() == ["as"]

    on(deployment, "as-worker-2", f"touch {HOME}/{UNPROVEN}")  # killed after the start, before anybody saw it serving
    planned = deployment.appserver.plan()
    assert [(p.host, p.change.verb) for p in planned.pending] == [("as-worker-2", "watch")]
    assert deployment.appserver.apply(planned).changed == planned.pending
    assert not deployment.appserver.plan() and in_nginx(deployment)
    deployment.close()


def test_store_and_publisher_go_side_by_side_a_changed_page_stays_changed_and_no_get_fails(separated: Deployed, lab: Any) -> None:
    own, other = separated.open(), with_pack(separated, another_pack(lab, separated.params, "1")).open()
    page = "/opt/wso2/greg/repository/deployment/server/jaggeryapps/store/themes/store/css/practice.css"
    on(own, "store-2", f"cp -a {page} {page}.kept; echo '/* by hand */' >> {page}")
    try:
        planned = other.greg.plan()
        assert "+ carried over: repository/deployment/server/jaggeryapps/store/themes/store/css/practice.css" in str(planned)
        meanwhile = under_load(separated, ("store", "publisher"), lambda: other.greg.apply(planned))
        done = meanwhile.done
        meanwhile.was_served(done)
        assert (meanwhile.nodes("store"), meanwhile.nodes("publisher")) == ({"store-1", "store-2"}, {"publisher-1", "publisher-2"})
        assert {(p.host, p.change.key, p.change.verb) for p in done.changed} == {(p.host, p.change.key, p.change.verb) for p in planned.pending}
        assert not other.greg.plan() and in_nginx(other)
        other.greg.verify()
        assert "by hand" in on(own, "store-2", f"tail -1 {page}")
    finally:
        own.greg.apply(own.greg.plan())
        on(own, "store-2", f"mv {page}.kept {page}")
        own.greg.verify()
        own.backups.store.delete_all()
    own.close()
    other.close()
