"""What is stored is looked for as a Store user, on every node under the Store's name; strangers must see nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.check import CheckTable
from runbook_lib.checks.sso import publishing
from runbook_lib.checks.sso.environment import Login, ProductNode, Scene
from runbook_lib.checks.sso.proof_users import Logins
from runbook_lib.webclient.response import Answer
from runbook_lib.webclient.transport import Timeout

STORE, PUBLISHER = "store.test", "publisher.test"
NODES = tuple(ProductNode(f"store-{n}", f"10.0.0.{n}", lambda *_: None, 9443) for n in (1, 2))  # type: ignore[arg-type, return-value]


class Product:
    """Publisher and Store in memory. `delay`: looks until a place shows the asset; `blind`: a place that never does;
    `open`: strangers see it, as the product does not let them; `late`: which requests get no answer in time, and how many of each."""

    def __init__(self, delay: int = 0, blind: str = "", open: bool = False, status: int = 200, **late: int):
        self.delay, self.blind, self.open, self.status, self.late = delay, blind, open, status, late
        self.told = '{"id": "7"}'  # the answer to who makes an asset
        self.assets: list[str] = []
        self.looks: list[tuple[str, str]] = []

    def answer(self, what: str) -> None:
        """Raise Timeout while requests of this kind get no answer."""
        if self.late.get(what, 0) > 0:
            self.late[what] -= 1
            raise Timeout("no answer in time")

    def browser(self, place: str) -> Any:
        who = SimpleNamespace(user="")

        def sign_in_at(host: str, app: str, user: str, password: str) -> Any:
            self.answer(f"sign_in_{app}")
            who.user = user
            return SimpleNamespace(final=Answer(200, f"https://{host}/{app}/?x", [], "", [], 0.0))

        def request(method: str, url: str, form: dict[str, str] | None = None) -> Answer:
            if method == "POST":
                self.assets.append((form or {})["overview_name"])
                self.answer("POST")
                return Answer(201, url, [], self.told, [], 0.0)
            self.assets.clear()
            self.answer("DELETE")
            return Answer(self.status, url, [], "", [], 0.0)

        def get(url: str) -> Answer:
            self.answer("GET" if who.user else "unasked")
            if url == f"https://{PUBLISHER}/publisher/apis/assets?type=restservice":
                return Answer(200, url, [], json.dumps({"data": [{"name": name, "id": "7"} for name in self.assets]}), [], 0.0)
            assert url == f"https://{STORE}/store/apis/assets?type=restservice"
            self.looks.append((place, who.user))
            ready = place != self.blind and sum(at == place for at, _ in self.looks) > self.delay
            shown = self.assets if ready and (who.user.startswith("proof-store") or self.open) else []
            return Answer(200, url, [], json.dumps({"data": [{"name": name} for name in shown]}), [], 0.0)

        return SimpleNamespace(sign_in_at=sign_in_at, request=request, get=get)


def checked(product: Product, monkeypatch: pytest.MonkeyPatch) -> CheckTable:
    """The rows."""
    scene = Scene("full", "separated", {"store": STORE, "publisher": PUBLISHER}, {}, {"store": NODES}, Login("admin", "x"))
    users = Logins({"store-only": Login("proof-store-0a1b2c", "x"), "publisher-only": Login("proof-publisher-0a1b2c", "x")})

    @contextlib.contextmanager
    def made(_: Scene) -> Iterator[Logins]:
        yield users

    monkeypatch.setattr(publishing, "test_users", made)
    monkeypatch.setattr(publishing, "PAUSE", 0.0)
    monkeypatch.setattr(publishing, "SECONDS", 0.05)
    monkeypatch.setattr(Scene, "visitor", lambda self: product.browser("nginx"))
    monkeypatch.setattr(Scene, "visitor_of", lambda self, node: product.browser(node.name))
    return publishing.verify_published(scene)


def published(product: Product, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The statuses by id."""
    return {check.id: check.status for check in checked(product, monkeypatch)}


ALL = ("asset-published", "asset-seen-store", "asset-seen-store-1", "asset-seen-store-2", "asset-anonymous", "asset-removed", "sso.clean-up")


@pytest.mark.parametrize(
    ("product", "wrong"),
    [
        (Product(), {}),
        (Product(delay=3), {}),
        (Product(blind="store-2"), {"asset-seen-store-2": "fail", "asset-anonymous": "undecided"}),
        (Product(open=True), {"asset-anonymous": "fail"}),
        (Product(status=500), {"asset-removed": "fail"}),
    ],
)
def test_each_place_is_asked_as_a_store_user_and_a_stranger_sees_nothing(product: Product, wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    assert published(product, monkeypatch) == {**dict.fromkeys(ALL, "pass"), **wrong}
    assert {user for place, user in product.looks if place != "nginx"} == {"proof-store-0a1b2c"}
    assert product.looks[-1] == ("nginx", ""), "who is not signed in looks last, when the asset is known to be there"


NEVER = 10**9
LATE = {
    "one look": (Product(GET=1), dict.fromkeys(ALL, "pass")),
    "one sign-in at the Store": (Product(sign_in_store=1), dict.fromkeys(ALL, "pass")),
    "every look": (
        Product(GET=NEVER),
        {**dict.fromkeys(ALL, "pass"), **dict.fromkeys((id for id in ALL if id.startswith("asset-seen")), "fail"), "asset-anonymous": "undecided"},
    ),
    "the look of who is not signed in": (Product(unasked=NEVER), {**dict.fromkeys(ALL, "pass"), "asset-anonymous": "undecided"}),
    "the sign-in at the Publisher": (Product(sign_in_publisher=1), {"asset-published": "fail", "sso.clean-up": "pass"}),
    "the asset that was made": (Product(POST=1), {"asset-published": "fail", "asset-removed": "pass", "sso.clean-up": "pass"}),
    "the asset that was made, and one look for it": (Product(POST=1, GET=1), {"asset-published": "fail", "asset-removed": "pass", "sso.clean-up": "pass"}),
    "its removal": (Product(DELETE=1), {**dict.fromkeys(ALL, "pass"), "asset-removed": "fail"}),
}


@pytest.mark.parametrize(("product", "rows"), LATE.values(), ids=LATE)
def test_an_answer_that_does_not_come_in_time_is_a_row_and_no_end(product: Product, rows: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    assert published(product, monkeypatch) == rows
    assert not product.assets, "and nothing stays in the Publisher"


@pytest.mark.parametrize(
    ("told", "observed"),
    [
        ('{"id": "7"}', "made as 7"),
        ('{"id": "7", "lifecycleState": "Created"}', "made as 7, in the state Created"),
        ('{"data": {"id": "7", "lifecycleState": "Development"}}', "made as 7, in the state Development"),
    ],
)
def test_an_asset_is_said_to_be_stored_and_in_which_state_where_the_answer_names_it(told: str, observed: str, monkeypatch: pytest.MonkeyPatch):
    product = Product()
    product.told = told
    row = checked(product, monkeypatch)[0]
    assert (row.title, row.observed) == ("A Publisher user stores an asset", observed)


def test_an_error_in_between_is_not_hidden_by_a_removal_that_gets_no_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publishing, "_look_unasked", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        published(Product(DELETE=1), monkeypatch)


def test_a_visitor_of_a_node_meets_it_under_every_public_name_and_from_the_node_itself():
    asked = []
    node = ProductNode("store-1", "10.0.0.1", lambda address, port: asked.append((address, port)) or _refuse(), 9443)
    visitor = Scene("full", "separated", {"store": STORE, "publisher": PUBLISHER}, {}, {}, Login("admin", "x")).visitor_of(node)
    for host in (STORE, PUBLISHER):
        with pytest.raises(OSError, match="nobody listens"):
            visitor.get(f"https://{host}/store/")
    assert asked == [("10.0.0.1", 9443)] * 2 and visitor.ca is None


def _refuse() -> Any:
    raise ConnectionRefusedError("nobody listens")
