"""The practice AS: console and admin services on the manager only, archives that come and go, sessions that stay."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from wso2_practice.build import probe_war

from runbook_lib.checks.secrets import user_store
from runbook_lib.checks.secrets.user_store import AS, GREG
from runbook_lib.operations import demo_app, deploy_archive
from runbook_lib.webclient.client import Client
from tests.support.practice_nodes import SOAP, Node, Nodes, returned, sign_in, soap

WEBAPPS = "repository/deployment/server/webapps"
JSP = '<%@ page session="true" %><%= application.getContextPath() %> says ${1 + 1} and VERSION'


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def manager(nodes: Nodes) -> Iterator[Node]:
    node = nodes.make("as")
    node.edit("repository/conf/carbon.xml", ">15</DeploymentUpdateInterval>", ">1</DeploymentUpdateInterval>")
    probe_war(node.home / WEBAPPS / "probe.war")
    node.start("-Dsetup")
    yield node
    node.stop()


@pytest.fixture(scope="module")
def worker(nodes: Nodes) -> Iterator[Node]:
    node = nodes.make("as")
    node.edit("repository/conf/carbon.xml", ">15</DeploymentUpdateInterval>", ">1</DeploymentUpdateInterval>")
    probe_war(node.home / WEBAPPS / "probe.war")
    node.start("-Dsetup", "-DworkerNode=true")
    yield node
    node.stop()


def test_manager_has_console_and_user_service(manager: Node) -> None:
    with manager.client() as client:
        assert client.get("/carbon").headers["location"] == f"{manager.url}/carbon/"
        assert client.get("/carbon/admin/login.jsp").status_code == 200
        given = {"username": "admin", "password": "admin"}
        answer = client.post("/carbon/admin/login_action.jsp", data=given)
        assert answer.headers["location"].endswith("/carbon/admin/index.jsp?loginStatus=true")
        assert "probe" in client.get("/carbon/admin/index.jsp").text
    assert "Mgt Console URL  : https://" in manager.log()
    assert returned(soap(manager, "listUsers", service=AS, filter="*", limit="10")) == ["admin"]
    assert soap(manager, "listUsers", service=GREG, filter="*", maxItemLimit="10").status_code == 500, "G-Reg's own service"


def test_the_user_store_of_as_takes_the_right_password_alone_and_changes_it_for_who_knows_it(manager: Node) -> None:
    client = Client({"localhost": "127.0.0.1"})
    assert user_store.sign_in(AS, client, manager.url, "admin", "admin") == 200
    assert user_store.sign_in(AS, client, manager.url, "admin", "wrong") == user_store.WRONG_PASSWORD
    assert soap(manager, "changePassword", service=AS, userName="admin", newPassword="New-1").status_code == 500, "not one's own"
    assert user_store.change_password(AS, client, manager.url, "admin", "wrong", "New-1") == 500
    assert user_store.change_password(AS, client, manager.url, "admin", "admin", "New-1") == 0
    assert user_store.sign_in(AS, client, manager.url, "admin", "admin") == user_store.WRONG_PASSWORD
    assert user_store.change_password(AS, client, manager.url, "admin", "New-1", "admin") == 0


def test_the_user_store_of_as_lists_a_hundred_names_at_most(manager: Node) -> None:
    names = [f"drill-0a1b2c-{number:04d}" for number in range(102)]
    for name in names:
        assert soap(manager, "addUser", service=AS, userName=name, password="Pw1-drill").status_code == 202
    assert returned(soap(manager, "listUsers", service=AS, filter="drill-*", limit="-1")) == names[:100]
    assert returned(soap(manager, "listUsers", service=AS, filter="drill-0a1b2c-01*", limit="-1")) == names[100:]
    for name in names:
        soap(manager, "deleteUser", service=AS, userName=name)
    assert returned(soap(manager, "listUsers", service=AS, filter="*", limit="-1")) == ["admin"]


@pytest.mark.parametrize("role", ["manager", "worker"])
def test_the_sample_that_the_pack_deploys_answers_everybody_on_the_node_itself(role: str, request: pytest.FixtureRequest) -> None:
    with request.getfixturevalue(role).client() as client:
        page = client.get("/example/carbon/usermgt/index.jsp")
    assert page.status_code == 200 and "Practice server, not WSO2" in page.text and "answers GET" in page.text


def test_worker_has_neither_and_serves_applications(worker: Node) -> None:
    with worker.client() as client:
        assert client.get("/carbon/").status_code == 404
        assert client.get("/carbon/admin/login.jsp").status_code == 404
        assert client.get("/probe/").json()["counter"] == 1
    assert user_store.sign_in(AS, Client({"localhost": "127.0.0.1"}), worker.url, "admin", "admin") == user_store.WORKER
    assert "Invoking admin services on worker node is forbidden" in worker.log()
    assert "Mgt Console URL" not in worker.log()


STRANGERS: dict[str, tuple[dict[str, Any], int]] = {
    "nobody": ({"content": SOAP.format(service=AS, op="listUsers", fields="")}, 401),
    "a wrong password": ({"content": SOAP.format(service=AS, op="listUsers", fields=""), "auth": ("admin", "wrong")}, 500),
    "the administrator, with no message": ({"auth": ("admin", "admin")}, 500),
}


@pytest.mark.parametrize(("request_", "status"), STRANGERS.values(), ids=STRANGERS)
def test_a_worker_refuses_as_one_only_what_names_an_operation_and_comes_from_somebody_who_may_ask(worker: Node, request_: dict[str, Any], status: int) -> None:
    with worker.client() as client:
        assert client.post(AS.path, headers={"SOAPAction": "urn:listUsers", "Content-Type": "text/xml"}, **request_).status_code == status


def test_a_session_counts_on_its_node_and_starts_anew_elsewhere(manager: Node, worker: Node) -> None:
    with manager.client() as client, worker.client() as other:
        counters = [client.get("/probe/").json()["counter"] for _ in range(3)]
        assert counters == [1, 2, 3]
        cookie = client.cookies["JSESSIONID"]
        assert other.get("/probe/", headers={"Cookie": f"JSESSIONID={cookie}"}).json()["counter"] == 1


def test_an_archive_comes_changes_and_goes_while_the_server_runs(manager: Node) -> None:
    archive = manager.home / WEBAPPS / "shop.war"

    def drop(version: str) -> None:
        half = archive.with_suffix(".part")
        with zipfile.ZipFile(half, "w") as war:
            war.writestr("index.jsp", JSP.replace("VERSION", version))
            war.writestr("WEB-INF/web.xml", '<web-app xmlns="http://java.sun.com/xml/ns/javaee" version="3.0"/>')
        half.replace(archive)

    with manager.client() as client:

        def page() -> httpx2.Response:
            return client.get("/shop/")

        drop("one")
        until(lambda: page().status_code == 200 and "/shop says 2 and one" in page().text)
        assert (manager.home / WEBAPPS / "shop/index.jsp").exists()  # unpackWARs
        drop("two, longer")
        until(lambda: "two, longer" in page().text)
        archive.unlink()
        until(lambda: page().status_code == 302 and not (manager.home / WEBAPPS / "shop").exists())
    until(lambda: manager.log().count("StandardContext[/shop]") == 4)
    assert "Deploying Web app : " in manager.log()


OTHERS = {
    "orders.car": (
        "artifacts.xml",
        '<artifacts><artifact name="Orders" version="1.0.0" type="carbon/application"/></artifacts>',
        "Orders_1.0.0 {super-tenant}",
    ),
    "orders.aar": ("META-INF/services.xml", "<service/>", "orders"),
    "broken.car": ("x", "", "broken.car"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_carbon_application_and_a_service_are_logged_as_the_product_does(manager: Node, name: str) -> None:
    entry, text, known = OTHERS[name]
    archive = manager.home / WEBAPPS / ".." / deploy_archive.FOLDERS[name[-4:]] / name
    archive.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive.with_suffix(".part"), "w") as out:
        out.writestr(entry, text)
    archive.with_suffix(".part").replace(archive)
    begun = "Deploying Web service: orders.aar - file:" if name.endswith("aar") else f"Deploying Carbon Application : {name}..."
    manager.wait_for(begun)
    manager.wait_for("Error while deploying carbon application " if name == "broken.car" else known)
    archive.unlink()
    ended = {"orders.car": "Successfully Undeployed Carbon Application : ", "orders.aar": "Undeploying Web service: "}
    line = manager.wait_for(ended.get(name, "Undeploying Faulty Carbon Application On : ")).splitlines()[-1]
    assert f"{known} " in f"{line} "


def test_the_runbooks_demonstration_application_runs(worker: Node) -> None:
    (worker.home / WEBAPPS / "shown.war").write_bytes(demo_app.archive())
    with worker.client() as client:
        until(lambda: client.get("/shown/").status_code == 200)
        told = [client.get("/shown/") for _ in range(3)]
    assert [answer.json()["counter"] for answer in told] == [2, 3, 4] and len({answer.json()["session"] for answer in told}) == 1
    assert told[0].headers["content-type"].startswith("application/json") and told[0].headers["cache-control"] == "no-store"


def test_half_an_archive_is_tried_again(manager: Node) -> None:
    archive = manager.home / WEBAPPS / "late.war"
    whole = manager.home / "late.whole"
    probe_war(whole)
    archive.write_bytes(whole.read_bytes()[:500])
    manager.wait_for("Error while deploying webapp: ")
    archive.write_bytes(whole.read_bytes())
    with manager.client() as client:
        until(lambda: client.get("/late/").status_code == 200)
        assert client.get("/late/").text
    archive.unlink()


def test_as_is_no_identity_provider(manager: Node) -> None:
    with manager.client() as client:
        assert client.get("/samlsso").headers["location"].endswith("/carbon/admin/login.jsp")
        assert sign_in(client, "store", "admin", "admin")[0].url.path == "/carbon/admin/login.jsp"
