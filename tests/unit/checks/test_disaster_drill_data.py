"""What a drill writes is found again by whoever signs in, and what is half there or changed is named. Against products in memory."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from runbook_lib.checks.drill.data import Accounts, Assets
from runbook_lib.checks.secrets import user_store
from runbook_lib.checks.secrets.user_store import AS, Service
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.errors import RunbookError
from runbook_lib.webclient.response import Answer

ONE, TWO = "drill-0a1b2c-0001", "drill-0a1b2c-0002"
LOGINS = {"publisher-only": Login("proof-publisher-0a1b2c", "x"), "store-only": Login("proof-store-0a1b2c", "x")}
LOGIN_PAGE = '<form action="/commonauth" method="post"><input name="username"><input type="password" name="password"></form>'


class Product:
    """Publisher and Store: `assets` by id in the registry, `hidden` names by application that its list does not show; `closed`: who cannot sign in."""

    def __init__(self) -> None:
        self.assets: dict[str, dict[str, str]] = {}
        self.hidden: dict[str, set[str]] = {"publisher": set(), "store": set()}
        self.closed, self.down = "", False
        self.sessions = 0

    def browser(self) -> Any:
        signed_in: set[str] = set()

        def sign_in_at(host: str, app: str, user: str, password: str) -> Any:
            self.sessions += 1
            signed_in.add(app)
            page = LOGIN_PAGE if self.closed == app else ""
            return SimpleNamespace(final=Answer(200, f"https://{host}/{app}/", [], page, [], 0.0))

        def request(method: str, url: str, form: dict[str, str] | None = None) -> Answer:
            path = urlsplit(url).path
            app, asked = path.split("/")[1], path.rpartition("/")[2]
            if self.down:
                return Answer(502, url, [], "", [], 0.0)
            assert app in signed_in
            if method == "POST":
                self.assets[str(len(self.assets))] = dict(form or {})
                return Answer(201, url, [], json.dumps({"id": str(len(self.assets) - 1)}), [], 0.0)
            if method == "DELETE":
                self.assets.pop(asked)
                return Answer(200, url, [], "", [], 0.0)
            if asked != "assets":
                return Answer(200, url, [], json.dumps({"data": {"attributes": self.assets[asked]}}), [], 0.0)
            shown = [(id, fields) for id, fields in self.assets.items() if fields["overview_name"] not in self.hidden[app]]
            data = [{"id": id, "name": fields["overview_name"], "attributes": dict(fields)} for id, fields in shown]
            return Answer(200, url, [], json.dumps({"data": data}), [], 0.0)

        return SimpleNamespace(sign_in_at=sign_in_at, request=request, get=lambda url: request("GET", url))


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> Product:
    found = Product()
    monkeypatch.setattr(Scene, "visitor", lambda self: found.browser())
    return found


def scene(**hosts: str) -> Scene:
    return Scene("full", "separated", hosts, {}, {}, Login("admin", "x"))


@pytest.fixture
def assets(product: Product) -> Assets:
    found = Assets(scene(store="store.test", publisher="publisher.test"), LOGINS)
    for name in (ONE, TWO):
        found.write(name)
    product.assets["of-somebody"] = {"overview_name": "weather"}
    return found


def test_assets_are_found_in_both_lists_by_users_of_each_and_removed_without_those_of_others(assets: Assets, product: Product) -> None:
    assert product.sessions == 1, "the author's session is kept"
    assets.look(ONE)
    assert assets.found() == {ONE: "", TWO: ""}
    assets.remove()
    assert assets.found() == {} and [*product.assets] == ["of-somebody"]


@pytest.mark.parametrize(("hidden", "app"), [("Publisher", "publisher"), ("Store", "store")])
def test_what_one_application_does_not_show_is_half_there(assets: Assets, product: Product, hidden: str, app: str) -> None:
    product.hidden[app] = {TWO}
    assert assets.found() == {ONE: "", TWO: f"not in the {hidden}'s list"}
    with pytest.raises(RunbookError, match=f"the {hidden} does not show {TWO}"):
        assets.look(TWO)


def test_what_comes_back_with_other_content_is_not_whole(assets: Assets, product: Product) -> None:
    product.assets["1"]["overview_context"] = "/other"
    assert assets.found() == {ONE: "", TWO: "not as it was written in the Publisher's list and the Store's list and the registry"}


@pytest.mark.parametrize("app", ["publisher", "store"])
def test_who_cannot_sign_in_finds_nothing(assets: Assets, product: Product, app: str) -> None:
    product.closed = app
    with pytest.raises(RunbookError, match=f"the {app.title()} does not sign its user in"):
        assets.look(ONE)


def test_an_author_signs_in_anew_after_a_failure(assets: Assets, product: Product) -> None:
    product.down = True
    with pytest.raises(RunbookError, match="the Publisher made no asset: HTTP 502"):
        assets.write("drill-0a1b2c-0003")
    product.down = False
    assets.write("drill-0a1b2c-0004")
    assert product.sessions == 2


class Manager:
    """The manager of an AS cluster behind a fake `ask`: `users` with their passwords, of which it lists a hundred at most, as the product does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.users, self.asked = {"maria": "y"}, set[str]()
        self.page = SimpleNamespace(status=200, url="https://as.test/probe/")
        monkeypatch.setattr(user_store, "ask", self.ask)
        monkeypatch.setattr(Scene, "visitor", lambda scene: SimpleNamespace(get=lambda url: self.page))

    def ask(self, service: Service, client: Any, origin: str, user: str, password: str, operation: str, /, **given: Any) -> Answer:
        self.asked.add(origin + service.path)
        said: list[str] = []
        match operation, given:
            case "addUser", {"userName": name, "password": new}:
                self.users[name] = new
            case "deleteUser", {"userName": name}:
                del self.users[name]
            case "changePasswordByUser", {"userName": name, "oldPassword": old, "newPassword": new}:
                if self.users[name] != old:
                    return Answer(500, origin, [], "Wrong old credential provided", [], 0.0)
                self.users[name] = new
            case "listUsers", {"filter": like, "limit": "-1"}:
                said = sorted(name for name in self.users if fnmatch(name, like))[:100]
            case _:
                return Answer(500, origin, [], "unknown operation", [], 0.0)
        body = "".join(f"<n:return>{text}</n:return>" for text in said)
        return Answer(200, origin, [], f'<r xmlns:n="{AS.namespace}">{body}</r>', [], 0.0)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Manager:
    return Manager(monkeypatch)


@pytest.fixture
def accounts(manager: Manager) -> Accounts:
    return Accounts(scene(**{"as": "as.test", "mgt": "mgt.test"}))


def test_accounts_are_found_when_they_sign_in_and_those_of_others_stay(manager: Manager, accounts: Accounts) -> None:
    for name in (ONE, TWO):
        accounts.write(name)
    accounts.look(ONE)
    manager.users[TWO] = "another password"
    assert accounts.found() == {ONE: "", TWO: "cannot sign in"}
    manager.page.status = 502
    with pytest.raises(RunbookError, match="the application does not answer: HTTP 502"):
        accounts.look(ONE)
    accounts.remove()
    assert [*manager.users] == ["maria"] and manager.asked == {"https://mgt.test/services/UserAdmin"}


def test_more_accounts_than_the_product_lists_at_once_are_all_found(manager: Manager, accounts: Accounts) -> None:
    names = [f"drill-0a1b2c-{number:04d}" for number in range(1, 251)]
    for name in names:
        accounts.write(name)
    accounts.look(names[-1])
    assert [*accounts.found()] == names
    accounts.remove()
    assert [*manager.users] == ["maria"]
