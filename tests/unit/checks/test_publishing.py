"""What is published is looked for as a Store user, on every node under the Store's name; strangers must see nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.checks.sso import publishing
from runbook_lib.checks.sso.environment import Login, ProductNode, Scene
from runbook_lib.checks.sso.proof_users import Logins
from runbook_lib.webclient.response import Answer

STORE, PUBLISHER = "store.test", "publisher.test"
NODES = tuple(ProductNode(f"store-{n}", f"10.0.0.{n}", lambda *_: None, 9443) for n in (1, 2))  # type: ignore[arg-type, return-value]


class Product:
    """Publisher and Store in memory. `delay`: looks until a place shows the asset; `blind`: a place that never does;
    `open`: strangers see it, as the product does not let them."""

    def __init__(self, delay: int = 0, blind: str = "", open: bool = False, status: int = 200):
        self.delay, self.blind, self.open, self.status = delay, blind, open, status
        self.assets: list[str] = []
        self.looks: list[tuple[str, str]] = []

    def browser(self, place: str) -> Any:
        who = SimpleNamespace(user="")

        def sign_in_at(host: str, app: str, user: str, password: str) -> Any:
            who.user = user
            return SimpleNamespace(final=Answer(200, f"https://{host}/{app}/?x", [], "", [], 0.0))

        def request(method: str, url: str, form: dict[str, str] | None = None) -> Answer:
            if method == "POST":
                self.assets.append((form or {})["overview_name"])
                return Answer(201, url, [], '{"id": "7"}', [], 0.0)
            self.assets.clear()
            return Answer(self.status, url, [], "", [], 0.0)

        def get(url: str) -> Answer:
            assert url == f"https://{STORE}/store/apis/assets?type=restservice"
            self.looks.append((place, who.user))
            ready = place != self.blind and sum(at == place for at, _ in self.looks) > self.delay
            shown = self.assets if ready and (who.user.startswith("proof-store") or self.open) else []
            return Answer(200, url, [], json.dumps({"data": [{"name": name} for name in shown]}), [], 0.0)

        return SimpleNamespace(sign_in_at=sign_in_at, request=request, get=get)


def published(product: Product, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The statuses by id."""
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
    return {check.id: check.status for check in publishing.verify_published(scene)}


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
