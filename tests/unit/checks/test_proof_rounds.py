"""An attempt from outside meets every node behind a public host: what only one of two nodes lets through is found. Nginx is made up."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from runbook_lib.checks.sso.attempts import Attempt
from runbook_lib.checks.sso.environment import PROBE, ProductNode, Scene
from runbook_lib.checks.sso.proof import Proof, try_out
from runbook_lib.webclient.transport import Response, Wire
from tests.fakes import attempt, scene

REFUSES, OPENS = (302, "/carbon/admin/login.jsp"), (302, "/publisher/login")
NGINX = (404, "")
TIERS = {"store": ("store-1", "store-2"), "publisher": ("publisher-1", "publisher-2")}
AT_PUBLISHER = ({"get": "publisher /publisher/"},)


class Balancer:
    """It chooses a node by the route cookie as Nginx does, and names it to whoever asks. `down`: nodes that answer nobody; `asked`: who answered an attempt."""

    def __init__(self, answers: dict[str, tuple[int, str]], down: frozenset[str] = frozenset()):
        self.answers, self.down, self.asked = answers, down, list[str]()

    def send(self, method: str, origin: str, target: str, headers: dict[str, str], *_: object) -> Response:
        app = headers["Host"].split(".")[0]
        route = re.search("runbook_route=([0-9a-f]{32})", headers.get("Cookie", ""))
        at = int(route[1], 16) if route else 0
        node = next(name for turn in (0, 1) if (name := TIERS[app][(at + turn) % 2]) not in self.down)
        status, location = REFUSES if target == "/samlsso" else self.answers.get(node, REFUSES)
        if target != "/samlsso":
            self.asked.append(node if status != 404 else "nginx")
        named = [("x-served-by", node)] if headers.get("X-Runbook-Probe") == PROBE["X-Runbook-Probe"] and status != 404 else []
        return Response(status, [*named, ("location", location)], b"<center>nginx</center>" if status == 404 else b"")


def standing(**sizes: int) -> Scene:
    tiers = {key: tuple(ProductNode(name, "10.0.0.1", None) for name in names[: sizes.get(key, 2)]) for key, names in TIERS.items()}  # type: ignore[arg-type]
    return replace(scene(), nodes=tiers)


def tried(monkeypatch: pytest.MonkeyPatch, front: Balancer, there: Scene, row: Attempt | None = None):
    monkeypatch.setattr(Wire, "send", lambda _, *request: front.send(*request))
    row = row or attempt(id="a", steps=AT_PUBLISHER, held=frozenset(["nginx-404", "to-console-login"]), leak=frozenset(["to-publisher-login"]))
    return try_out(row, there, {}, there.rounds())


@pytest.mark.parametrize(
    ("sizes", "met"),
    [
        ({}, [["publisher-1", "store-1"], ["publisher-2", "store-2"]]),
        ({"store": 1}, [["publisher-1", "store-1"], ["publisher-2", "store-1"]]),
        ({"store": 1, "publisher": 1}, [[]]),
        ({"store": 0, "publisher": 0}, [[]]),
    ],
    ids=str,
)
def test_every_node_behind_a_host_is_met_in_some_round(monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], met: list[list[str]]) -> None:
    front = Balancer({}, frozenset(name for key, names in TIERS.items() for name in names[sizes.get(key, 2) :] if sizes.get(key, 2)))
    monkeypatch.setattr(Wire, "send", lambda _, *request: front.send(*request))
    rounds = standing(**sizes).rounds()
    assert [sorted(pin.node for pin in pins.values()) for pins in rounds] == met
    assert all(pin.route for pins in rounds for pin in pins.values())


BOTH = "from outside, answered by publisher-1, publisher-2"
ONE = "from outside, answered by publisher-1"
ROUNDS = {  # what the nodes answer, which of them are down; state, words, place, and who was asked
    "both refuse": ({}, (), "held", "console login", BOTH, ["publisher-1", "publisher-2"]),
    "the first lets it through": ({"publisher-1": OPENS}, (), "leak", "/publisher/login, by publisher-1)", BOTH, ["publisher-1", "publisher-2"]),
    "the second lets it through": ({"publisher-2": OPENS}, (), "leak", "/publisher/login, by publisher-2)", BOTH, ["publisher-1", "publisher-2"]),
    "both let it through": ({"publisher-1": OPENS, "publisher-2": OPENS}, (), "leak", "the Publisher answers", BOTH, ["publisher-1", "publisher-2"]),
    "Nginx refuses it": ({"publisher-1": NGINX, "publisher-2": NGINX}, (), "held", "Nginx refuses", "from outside", ["nginx"]),
    "the second is down": ({}, ("publisher-2",), "undecided", "publisher-1 answered in place of publisher-2", ONE, ["publisher-1"] * 2),
    "the second is down, the first lets it through": ({"publisher-1": OPENS}, ("publisher-2",), "leak", "the Publisher answers", ONE, ["publisher-1"] * 2),
    "the second is down, Nginx refuses it": ({"publisher-1": NGINX}, ("publisher-2",), "held", "Nginx refuses", "from outside", ["nginx"]),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "down", "state", "words", "where", "asked"), ROUNDS.values(), ids=ROUNDS)
def test_what_one_of_two_nodes_lets_through_is_one_way_and_names_the_node(monkeypatch: pytest.MonkeyPatch, answers, down, state, words, where, asked) -> None:
    front = Balancer(answers, frozenset(down))
    found = tried(monkeypatch, front, standing())
    assert (found.state, found.where, front.asked) == (state, where, asked)
    assert words in found.observed, found.observed
    assert len(Proof(standing(), (found,)).ways) == (state == "leak")
    assert len(found.exchanges) == 1  # of the round that decides it


def test_a_node_that_Nginx_does_not_name_is_none_that_was_met(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Balancer({"publisher-1": (500, ""), "publisher-2": (500, "")})
    plain = front.send
    front.send = lambda *request: replace(plain(*request), headers=[])  # type: ignore[method-assign]
    found = tried(monkeypatch, front, standing())
    assert (found.state, found.observed) == ("undecided", "a node that Nginx did not name answered in place of publisher-1")


def test_a_thief_keeps_the_node_of_the_round_and_not_the_route_of_the_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Balancer({})
    steps = ({"get": "store /store/", "any": True}, {"carry": "all", "from": "store", "to": "publisher"}, {"get": "publisher /publisher/"})
    row = attempt(id="a", steps=steps, held=frozenset(["to-console-login"]), leak=frozenset())
    for _ in range(8):  # a carried route would lead to the other node every second time
        assert tried(monkeypatch, front, standing(), row).state == "held"
    assert front.asked == ["store-1", "publisher-1", "store-2", "publisher-2"] * 8
