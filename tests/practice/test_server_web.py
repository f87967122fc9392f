"""What conformance.yaml does not ask of the web surface: users by SOAP, roles that are written, logout, footers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.practice.practice_nodes import Node, Nodes, form_of, returned, sign_in, soap

PASSWORD = "Secret-1 "  # ends with a space: passwords are not trimmed


@pytest.fixture(scope="module")
def node(nodes: Nodes) -> Iterator[Node]:
    made = nodes.make()
    made.edit("repository/conf/registry.xml", ">35</startingDelayInSeconds>", ">1</startingDelayInSeconds>")
    made.edit("repository/conf/registry.xml", ">3</indexingFrequencyInSeconds>", ">1</indexingFrequencyInSeconds>")
    made.start("-Dsetup")
    yield made
    made.stop()


@pytest.fixture
def user(node: Node, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh user with the roles that the test's parameter names."""
    name = f"u{time.monotonic_ns()}"
    roles = getattr(request, "param", [])
    assert soap(node, "addUser", userName=name, credential=PASSWORD, roleList=roles).status_code == 202
    yield name
    soap(node, "deleteUser", userName=name)
    soap(node, "deleteRole", roleName=f"Internal/private_{name}")


def roles_of(node: Node, user: str) -> set[str]:
    return set(returned(soap(node, "getRoleListOfUser", userName=user))) - {"Internal/everyone"}


def test_users_and_roles_by_soap(node: Node, user: str) -> None:
    assert returned(soap(node, "isExistingUser", userName=user)) == ["true"]
    assert user in returned(soap(node, "listUsers", filter="*", maxItemLimit="100"))
    assert {"admin", "Internal/everyone", "Internal/store", "Internal/publisher", "Internal/reviewer"} <= set(returned(soap(node, "getRoleNames")))
    soap(node, "updateRoleListOfUser", userName=user, newRoles=["Internal/store", "admin"])
    assert roles_of(node, user) == {"Internal/store", "admin"}
    soap(node, "updateRoleListOfUser", userName=user, deletedRoles=["admin"])
    assert roles_of(node, user) == {"Internal/store"}
    assert soap(node, "addUser", userName=user, credential=PASSWORD).status_code == 500  # it exists
    assert soap(node, "updateRoleListOfUser", userName=user, newRoles=["Internal/nobody"]).status_code == 500
    assert soap(node, "getRoleNames", auth=(user, PASSWORD)).status_code == 401  # not an administrator
    soap(node, "updateCredentialByAdmin", userName=user, newCredential="Other-1")
    assert returned(soap(node, "authenticate", userName=user, credential="Other-1")) == ["true"]
    soap(node, "deleteUser", userName=user)
    assert returned(soap(node, "isExistingUser", userName=user)) == ["false"]


@pytest.mark.parametrize("user", [["Internal/publisher"]], indirect=True)
def test_password_endpoint_of_the_store_writes_its_role(node: Node, user: str) -> None:
    with node.client() as client:
        assert sign_in(client, "store", user, PASSWORD)[0].status_code == 401
        given = {"username": user, "password": PASSWORD}
        assert client.post("/store/apis/authenticate", data=given).status_code == 200
    assert roles_of(node, user) == {"Internal/publisher", "Internal/store", f"Internal/private_{user}"}
    with node.client() as client:
        assert sign_in(client, "store", user, PASSWORD)[0].url.path == "/store/pages/top-assets"


@pytest.mark.parametrize("user", [["Internal/publisher"]], indirect=True)
def test_who_signed_in_at_the_publisher_before_gets_no_role_at_the_store(node: Node, user: str) -> None:
    with node.client() as client:
        assert sign_in(client, "publisher", user, PASSWORD)[0].url.path == "/publisher/pages/gc-landing"
        client.post("/store/apis/authenticate", data={"username": user, "password": PASSWORD})
    assert roles_of(node, user) == {"Internal/publisher", f"Internal/private_{user}"}


@pytest.mark.parametrize("user", [["Internal/store"]], indirect=True)
def test_password_endpoint_of_the_publisher_opens_pages_but_no_assets(node: Node, user: str) -> None:
    with node.client() as client:
        client.post("/publisher/apis/authenticate", data={"username": user, "password": PASSWORD})
        assert client.get("/publisher/pages/gc-landing").status_code == 200
        assert client.post("/publisher/apis/assets?type=gadget", data={"overview_name": "x"}).status_code == 403
    assert roles_of(node, user) == {"Internal/store"}


def test_logout_at_the_store_ends_the_publisher_too(node: Node) -> None:
    with node.client() as client:
        sign_in(client, "store", "admin", "admin")
        assert not sign_in(client, "publisher", "admin", "admin")[2]  # one sign-in opens both
        page = client.get("/store/logout")
        target, fields = form_of(page)
        assert target == f"{node.url}/samlsso"
        answer = client.post(target, data=fields)
        target, fields = form_of(answer)
        assert target.endswith("/store/acs")
        assert client.post(target, data=fields).status_code == 302
        assert client.get("/store/pages/my-items").status_code == 401
        assert client.get("/publisher/pages/gc-landing").headers["location"].endswith("/publisher/login")
        assert sign_in(client, "publisher", "admin", "admin")[2]


def test_an_asset_appears_in_the_store_when_it_is_published(node: Node) -> None:
    with node.client() as client:
        sign_in(client, "publisher", "admin", "admin")
        made = client.post("/publisher/apis/assets?type=gadget", data={"overview_name": "clock <1>"}).json()
        listed = "/store/apis/assets?type=gadget"
        change = f"/publisher/apis/asset/{made['id']}/change-state?type=gadget"
        assert client.post(change, data={"nextState": "Published"}).status_code == 500  # one step at a time
        assert client.post(change, data={"nextState": "in-review"}).status_code == 200
        assert client.get(listed).json()["count"] == 0
        client.post(change, data={"nextState": "published"})
        deadline = time.monotonic() + 20
        while client.get(listed).json()["count"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "clock &lt;1&gt;" in client.get("/store/pages/top-assets").text
        assert client.delete(f"/publisher/apis/assets/{made['id']}?type=gadget").status_code == 200


PAGES = ["/store/pages/top-assets", "/store/pages/sso-login", "/store/pages/my-items", "/store/none", "/sso/register"]
PAGES += [
    "/sso/login",
    "/social/",
    "/carbon/admin/login.jsp",
    "/publisher/pages/basic-auth-login",
    "/services/",
    "/registry",
]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_what_this_is(node: Node, page: str) -> None:
    with node.client() as client:
        assert "practice server" in client.get(page).text


def test_the_log_says_what_this_is_before_anything_else(node: Node) -> None:
    assert "practice server" in node.log().splitlines()[0]
    assert "5.1.0-practice" in node.log()
