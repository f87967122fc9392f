"""The test users of a proof: a store in memory that fails as the product's does, and what the proof makes of it."""

from __future__ import annotations

import re
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from runbook_lib.checks.secrets.user_store import GREG
from runbook_lib.checks.sso import proof as sso
from runbook_lib.checks.sso import proof_users
from runbook_lib.checks.sso.environment import Login, ProductNode
from runbook_lib.checks.sso.proof import Outcome, Proof
from runbook_lib.checks.sso.proof_users import PRIVATE, TRIES, Logins, UserStore, sweep, test_users
from runbook_lib.checks.sso.verbs import CannotTell, Walk
from runbook_lib.errors import RunbookError
from runbook_lib.webclient.response import Answer
from runbook_lib.webclient.transport import Timeout
from tests.fakes import attempt, scene

DEADLOCK = "Deadlock found when trying to get lock; try restarting transaction"
FAULT = "<soapenv:Fault xmlns:soapenv='s'><faultstring>{}</faultstring></soapenv:Fault>"
CALL = re.compile(r"<soapenv:Body><ser:(\w+)>(.*)</ser:\w+></soapenv:Body>")
FIELD = re.compile(r"<ser:(\w+)>([^<]*)</ser:\w+>")


class Product:
    """A user store in memory behind the scene's visitor. `faults`: what the next calls of an operation answer instead.

    A second deletion while one is under way is a deadlock, as it was measured.
    """

    def __init__(self) -> None:
        self.there = ["proof-reader", "anna"]
        self.rolenames = ["Internal/store", "Internal/publisher"]
        self.faults: dict[str, list[str]] = {}
        self.calls: list[str] = []
        self.deleting = threading.Lock()

    # a scene, as far as test_users needs one
    admin, machines = Login("admin", "x"), (ProductNode("store-1", "10.0.0.1", None),)  # type: ignore[arg-type]

    def visitor(self, *_: object) -> Any:
        return SimpleNamespace(request=self.request)

    def request(self, method: str, url: str, data: str, headers: dict[str, str]) -> Answer:
        operation, fields = CALL.search(data).groups()  # type: ignore[union-attr]
        self.calls.append(operation)
        if faults := self.faults.get(operation):
            if (text := faults.pop(0)) == "silence":
                raise ConnectionError("no answer")
            if text:
                return Answer(500, url, [], FAULT.format(text), [], 0.0)
        texts = getattr(self, operation)(**dict(FIELD.findall(fields)))
        if texts == "busy":
            return Answer(500, url, [], FAULT.format(DEADLOCK), [], 0.0)
        body = "".join(f"<ns:return xmlns:ns='{GREG.namespace}'>{text}</ns:return>" for text in texts)
        return Answer(200, url, [], f"<a>{body}</a>", [], 0.0)

    def listUsers(self, filter: str, maxItemLimit: str) -> list[str]:
        return [user for user in self.there if user.startswith(filter.rstrip("*"))]

    def getRoleNames(self) -> list[str]:
        return self.rolenames

    def addUser(self, userName: str, **_: str) -> list[str]:
        self.there.append(userName)
        self.rolenames.append(PRIVATE + userName)
        return []

    def deleteUser(self, userName: str) -> Any:
        return self._gone(self.there, userName)

    def deleteRole(self, roleName: str) -> Any:
        return self._gone(self.rolenames, roleName)

    def _gone(self, names: list[str], name: str) -> Any:
        if not self.deleting.acquire(blocking=False):
            return "busy"
        time.sleep(0.01)
        names.remove(name)
        self.deleting.release()
        return []


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof_users, "PAUSE", 0.0)


@pytest.fixture
def product() -> Product:
    return Product()


def proven(product: Product) -> tuple[Logins, list[str]]:
    """The users after a proof, and what is left in the store besides those who are no business of ours."""
    with test_users(product) as logins:  # type: ignore[arg-type]
        assert sum(name.startswith("proof-") for name in product.there) == 5
    return logins, [*(set(product.there) - {"proof-reader", "anna"}), *(role for role in product.rolenames if role.startswith(PRIVATE))]


def test_users_and_their_roles_are_gone_without_a_deadlock(product: Product):
    logins, left = proven(product)
    assert (left, logins.left, logins.check("07", "the attempts").status) == ([], (), "pass")
    assert product.calls.count("deleteUser") == product.calls.count("deleteRole") == 4, "each asked for once"


@pytest.mark.parametrize("operation", ["deleteUser", "deleteRole"])
def test_a_deletion_that_met_a_deadlock_is_tried_again(product: Product, operation: str):
    product.faults[operation] = [DEADLOCK] * (TRIES - 1)
    logins, left = proven(product)
    assert (left, logins.left) == ([], ())
    assert product.calls.count(operation) == 4 + TRIES - 1


@pytest.mark.parametrize(
    ("faults", "users_left", "roles_left"),
    [
        ({"deleteUser": [DEADLOCK] * TRIES}, 1, 0),
        ({"deleteUser": ["not allowed"]}, 1, 0),
        ({"deleteRole": ["", "silence"]}, 0, 1),
        ({"deleteUser": ["no"] * 4, "deleteRole": ["no"] * 4}, 4, 4),
    ],
)
def test_what_cannot_be_removed_is_named_and_raises_nothing(product: Product, faults: dict, users_left: int, roles_left: int):
    product.faults = faults
    logins, left = proven(product)
    assert sorted(left) == sorted(logins.left) and len(left) == users_left + roles_left
    row = logins.check("07", "the attempts")
    assert (row.id, row.status) == ("sso.clean-up", "fail")
    assert all(name in row.observed for name in left) and "the user store refuses delete" in row.observed and "console" in row.observed


def test_only_a_deadlock_is_asked_again(product: Product):
    product.faults["deleteUser"] = ["not allowed"]
    proven(product)
    assert product.calls.count("deleteUser") == 4


def test_a_store_that_cannot_be_looked_at_any_more_counts_as_full(product: Product):
    with test_users(product) as logins:  # type: ignore[arg-type]
        product.faults = {"listUsers": ["silence"] * 9}
    assert len(logins.left) == 4 and "nobody could look" in logins.check("07", "the attempts").observed


def test_what_the_proof_itself_met_wins_over_its_clean_up(product: Product):
    product.faults["deleteUser"] = ["no"] * 9
    with pytest.raises(ZeroDivisionError), test_users(product):  # type: ignore[arg-type]
        _ = 1 / 0


def test_the_next_proof_removes_what_was_left_and_says_when_it_cannot(product: Product):
    product.faults["deleteUser"] = ["no"]
    [left] = proven(product)[0].left
    product.faults["deleteUser"] = ["no"]
    with pytest.raises(RunbookError, match="refuses deleteUser"):
        sweep(UserStore(product, product.machines[0]))  # type: ignore[arg-type]
    assert sweep(UserStore(product, product.machines[0])) == [left]  # type: ignore[arg-type]
    assert product.there == ["proof-reader", "anna"]


class Registering(Product):
    """It also takes what the form of registration sends, and answers with `status`; `makes`: an account is made of it."""

    hosts: ClassVar = {"store": "store.test", "publisher": "publisher.test"}

    def __init__(self, status: int, makes: bool, text: str = ""):
        super().__init__()
        self.status, self.makes, self.text = status, makes, text

    def request(self, method: str, url: str, data: str = "", headers: Any = None, form: Any = None) -> Answer:
        if not form:
            return super().request(method, url, data, headers)
        if self.makes:
            self.addUser(form["reg-username"])
        if not self.status:
            raise Timeout("no answer in time")
        return Answer(self.status, url, [], self.text, [], 0.0)


NGINX = "<center>nginx</center>"
REGISTERED = {
    "made": ((200, True), ["account-made"]),
    "made, but nobody said so": ((502, True, NGINX), ["account-made"]),
    "the product makes none": ((200, False), ["no-account"]),
    "nginx refuses it (404)": ((404, False, NGINX), ["no-account"]),
    "nginx refuses it (403)": ((403, False, NGINX), ["no-account"]),
    "nginx has no node to ask": ((502, False, NGINX), []),
    "nginx waited too long": ((504, False, NGINX), []),
    "one too many": ((429, False, NGINX), []),
    "the product fails": ((500, False), []),
    "no answer, though it was made": ((0, True), ["timeout"]),
}


@pytest.mark.parametrize(("answers", "pages"), REGISTERED.values(), ids=REGISTERED)
def test_a_registration_is_refused_only_where_somebody_refused_it_and_its_account_goes_with_the_others(answers: tuple, pages: list[str]):
    product = Registering(*answers)
    with test_users(product) as logins:  # type: ignore[arg-type]
        walk = Walk(product, sso.matrix()[1], logins=logins)  # type: ignore[arg-type]
        with nullcontext() if pages else pytest.raises(CannotTell, match="proves nothing"):
            walk.step({"register": "publisher /sso/register"})
        assert [seen.page for seen in walk.seen] == pages
        assert sum(name.startswith("proof-newcomer-") for name in product.there) == 1 + product.makes
    assert product.there == ["proof-reader", "anna"] and logins.check("07", "the attempts").status == "pass"


def test_a_registered_account_that_cannot_be_removed_stays_a_leak_and_is_named(product: Product):
    product = Registering(200, True)
    product.faults["deleteUser"] = ["no"] * 9
    with test_users(product) as logins:  # type: ignore[arg-type]
        walk = Walk(product, sso.matrix()[1], logins=logins)  # type: ignore[arg-type]
        walk.step({"register": "publisher /sso/register"})
        assert [seen.page for seen in walk.seen] == ["account-made"]
    row = logins.check("07", "the attempts")
    (made,) = logins.also
    assert row.status == "fail" and made in row.observed and made in product.there


@pytest.mark.parametrize(("fault", "good"), [("", True), ("no", False)])
def test_a_finished_proof_keeps_its_verdict_and_gets_a_row_about_its_users(product: Product, monkeypatch: pytest.MonkeyPatch, fault: str, good: bool):
    held = {row.id: Outcome(attempt(id=row.id), "held", (), "x") for row in sso.matrix()[0]}
    monkeypatch.setattr(sso, "_all", lambda *_: held)
    monkeypatch.setattr(sso, "test_users", lambda _: test_users(product))  # type: ignore[arg-type]
    product.faults["deleteUser"] = [fault]
    proof: Proof = sso.prove(scene())
    assert (proof.verdict, proof.as_expected, proof.checks[-1].id) == ("separated", good, "sso.clean-up")
    assert "The test users are removed again" in str(proof) and "sso.clean-up" in proof._repr_html_()
