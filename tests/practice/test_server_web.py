"""What conformance.yaml does not ask of the web surface: users by SOAP, roles that are written, logout, footers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from tests.support.practice_nodes import Node, Nodes, form_of, returned, sign_in, soap

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
    assert soap(node, "getRoleNames", auth=(user, PASSWORD)).status_code == 500  # not an administrator
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
        assert client.get("/publisher/apis/assets?type=gadget").json()["data"] == []
        assert client.post("/publisher/apis/assets?type=gadget", data={"overview_name": "x"}).status_code == 500
    assert roles_of(node, user) == {"Internal/store"}


def test_logout_at_the_store_ends_the_publisher_too(node: Node) -> None:
    with node.client() as client:
        sign_in(client, "store", "admin", "admin")
        assert not sign_in(client, "publisher", "admin", "admin")[2]  # one sign-in opens both
        page = client.get("/store/logout")
        assert page.headers["location"] == f"{node.url}/store/pages/sso-logout"
        page = client.get(page.headers["location"])
        target, fields = form_of(page)
        assert target == f"{node.url}/samlsso"
        answer = client.post(target, data=fields)
        target, fields = form_of(answer)
        assert target.endswith("/store/acs")
        assert client.post(target, data=fields).status_code == 302
        assert client.get("/store/pages/my-items").status_code == 401
        assert client.get("/publisher/pages/gc-landing").headers["location"].endswith("/publisher/login")
        assert sign_in(client, "publisher", "admin", "admin")[2]


def test_an_asset_appears_in_the_store_when_it_is_published_to_its_users_only(node: Node) -> None:
    with node.client() as client, node.client() as stranger:
        sign_in(client, "publisher", "admin", "admin")
        sign_in(client, "store", "admin", "admin")
        made = client.post("/publisher/apis/assets?type=gadget", data={"overview_name": "clock <1>"}).json()
        listed = "/store/apis/assets?type=gadget"
        change = f"/publisher/apis/asset/{made['id']}/change-state?type=gadget"
        assert client.post(change, data={"nextState": "Published"}).status_code == 500  # one step at a time
        assert client.post(change, data={"nextState": "in-review"}).status_code == 200
        assert client.get(listed).json()["count"] == 0
        client.post(change, data={"nextState": "published"})
        deadline = time.monotonic() + 120
        while client.get(listed).json()["count"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        details = f"/store/assets/gadget/details/{made['id']}"
        assert "clock &lt;1&gt;" in client.get("/store/pages/top-assets").text
        assert client.get(details).status_code == 200
        assert stranger.get(listed).json() == {"data": []}
        assert "clock" not in stranger.get("/store/pages/top-assets").text
        assert stranger.get(details).status_code == 404
        assert client.delete(f"/publisher/apis/assets/{made['id']}?type=gadget").status_code == 200


@pytest.mark.parametrize("script", ["extensions/app/store-apis/apis/authenticate.jag", "extensions/app/store-common/pages/basic-authenticator.jag"])
@pytest.mark.parametrize("user", [["Internal/publisher"]], indirect=True)
def test_the_stores_own_script_of_the_api_writes_its_role_and_that_of_the_page_does_not(node: Node, user: str, script: str) -> None:
    with node.client() as client:
        assert client.post(f"/store/{script}", data={"username": user, "password": PASSWORD}).status_code == 200
        assert client.get("/store/pages/my-items").status_code == (200 if "apis" in script else 401)
    assert ("Internal/store" in roles_of(node, user)) == ("apis" in script)


@pytest.mark.parametrize("path", ["/sso/register", "/sso/views/register.jag", "/store/%2e%2e/sso//views/register%2ejag;a"])
def test_registration_makes_a_store_user_by_every_path(node: Node, path: str) -> None:
    name = f"r{time.monotonic_ns()}"
    given = {"action": "register", "reg-username": name, "reg-password": PASSWORD.strip(), "reg-claims": "{}", "relyingParty": "store"}
    with node.client() as client:
        assert client.post(path, data=given).json()["error"] == "false"
        assert client.post(path, data=given).json()["error"] == "true"  # it exists
    assert roles_of(node, name) == {"Internal/store", f"Internal/private_{name}"}
    with node.client() as client:
        assert sign_in(client, "store", name, PASSWORD.strip())[0].url.path == "/store/pages/top-assets"
    soap(node, "deleteUser", userName=name)
    soap(node, "deleteRole", roleName=f"Internal/private_{name}")


def test_a_script_called_by_a_signed_in_user_answers_as_that_user(node: Node) -> None:
    script = "/publisher/extensions/assets/default/apis/assets.jag?type=gadget"
    with node.client() as client:
        assert client.get(script).status_code == 401
        sign_in(client, "publisher", "admin", "admin")
        assert client.get(script).status_code == 200
        made = client.post(script, data={"overview_name": "by-script"}).json()
        assert client.delete(f"/publisher/apis/assets/{made['id']}?type=gadget").status_code == 200


def test_of_two_deletions_at_once_one_meets_a_deadlock(node: Node) -> None:
    for _ in range(10):  # on a busy machine the two do not always meet
        names = [f"d{n}{time.monotonic_ns()}" for n in range(2)]
        for name in names:
            soap(node, "addUser", userName=name, credential=PASSWORD, roleList=[])
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda name: soap(node, "deleteUser", userName=name), names))
        if {answer.status_code for answer in answers} != {202}:
            break
    assert sorted(answer.status_code for answer in answers) == [202, 500]
    assert ["Deadlock found" in answer.text for answer in answers if answer.status_code == 500] == [True]
    for name in names:
        assert soap(node, "deleteUser", userName=name).status_code == 202  # one after the other works


def test_the_identity_provider_begins_for_any_name_and_ends_for_an_unknown_one_at_the_error_page(node: Node) -> None:
    with node.client() as client:
        sign_in(client, "store", "admin", "admin")
        for provider, ends in (("publisher", "SAMLResponse"), ("nobody", "samlsso_notification.do")):
            answer = client.get(f"/samlsso?spEntityID={provider}")
            assert "/commonauth?" in answer.headers["location"]
            answer = client.get(answer.headers["location"])
            answer = client.get(urljoin(node.url, answer.headers["location"]))
            assert ends in answer.text + answer.headers.get("location", "")


@pytest.mark.parametrize(("password", "ends"), [("admin", "/samlsso"), ("wrong", "authFailure=true")])
def test_the_identity_provider_takes_a_password_by_get_as_by_post(node: Node, password: str, ends: str) -> None:
    with node.client() as client:
        begun = client.get(client.get("/samlsso?spEntityID=store").headers["location"])
        key = parse_qs(urlsplit(begun.headers["location"]).query)["sessionDataKey"][0]
        answer = client.get("/commonauth", params={"sessionDataKey": key, "username": "admin", "password": password})
        assert ends in answer.headers["location"] and ("commonAuthId" in answer.cookies) == (password == "admin")


@pytest.mark.parametrize(("password", "ends"), [("admin", "/samlsso"), ("wrong", "authFailure=true")])
def test_the_identity_provider_keeps_a_password_that_begins_a_sign_on(node: Node, password: str, ends: str) -> None:
    with node.client() as client:
        begun = client.get("/samlsso", params={"spEntityID": "store", "username": "admin", "password": password})
        answer = client.get(begun.headers["location"])
        assert ends in answer.headers["location"] and ("commonAuthId" in answer.cookies) == (password == "admin")


def test_a_page_opens_a_session_at_the_first_visit_and_a_file_none(node: Node) -> None:
    scripts = ["/store/", "/store/pages/top-assets", "/publisher/login", "/publisher/apis/assets", "/sso/register", "/social/", "/store/none.jag"]
    files = ["/", "/store", "/publisher/config/publisher.json", "/store/themes/store/css/practice.css", "/store/config/store.json"]
    opened = {}
    for path in (*scripts, *files):
        with node.client() as client:
            opened[path] = "JSESSIONID" in client.get(path).cookies
    assert opened == {path: path in scripts and path != "/store/none.jag" for path in (*scripts, *files)}
    with node.client() as client:
        client.get("/store/")
        assert "set-cookie" not in client.get("/store/pages/top-assets").headers


PAGES = ["/store/pages/top-assets", "/store/pages/sso-login", "/store/pages/my-items", "/store/none"]
PAGES += [
    "/sso/login",
    "/sso/register_new_user?relyingParty=store",
    "/sso/views/update_password.jag",
    "/store/extensions/app/store-apis/apis/tags.jag",
    "/publisher/controllers/rxt-api.jag",
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


STARTS = {
    "store": ["/store/pages/top-assets"],
    "publisher": ["/publisher/pages/gc-landing"],
    "sso": ["/sso/register_new_user?relyingParty=store", "/sso/views/recover_via_email.jag", "/sso/views/update_password.jag"],
}
WALKED = {
    "store": {".css", ".js", ".png", ".woff", ".ttf"},
    "publisher": {".css", ".js", ".png", ".woff", ".woff2", ".ttf"},
    "sso": {".css", ".js", ".png", ".woff"},
}


@pytest.mark.parametrize("app", STARTS)
def test_every_link_and_file_of_the_pages_is_there(node: Node, app: str) -> None:
    """A walk over what links, images, styles and scripts name: nothing is missing, nothing is elsewhere."""
    with node.client() as client:
        if app != "sso":
            sign_in(client, app, "admin", "admin")
        todo, seen = list(STARTS[app]), {}
        while todo:
            path = todo.pop()
            if path in seen or path.endswith("/logout"):
                continue
            answer = client.get(path)
            seen[path] = answer.status_code
            assert not re.search(r"https?://(?!localhost)", answer.text if answer.headers["content-type"].startswith("text") else "")
            kind = r'(?:href|src)="([^"]+)"|url\("([^"]+)"\)' if answer.headers["content-type"].startswith("text") else "(?!)"
            found = [urljoin(str(answer.url), first or second) for first, second in re.findall(kind, answer.text)]
            todo += [url.removeprefix(node.url) for url in found if url.startswith(f"{node.url}/{app}/")]
    assert {path: status for path, status in seen.items() if status != 200} == {}
    assert {path[path.rindex(".") :] for path in seen if "." in path and ".jag" not in path} == WALKED[app]
    if app == "publisher":
        types = ("policy", "restservice", "schema", "soapservice", "swagger", "wadl", "wsdl")
        assert {f"/publisher/assets/{kind}/{page}" for kind in types for page in ("list", "create")} <= set(seen)


def test_the_log_says_what_this_is_before_anything_else(node: Node) -> None:
    assert "practice server" in node.log().splitlines()[0]
    assert "5.1.0-practice" in node.log()
