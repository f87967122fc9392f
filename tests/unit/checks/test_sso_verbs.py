"""What single steps of an attempt make of answers that are no refusal, and of a place that reaches nothing; the answers are made up."""

from __future__ import annotations

from typing import Any

import pytest

from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.environment import Login, Scene, traits_of
from runbook_lib.checks.sso.proof import try_out
from runbook_lib.checks.sso.verbs import CannotTell, Walk
from runbook_lib.topology.model import probe_only
from runbook_lib.webclient.client import Flow
from runbook_lib.webclient.response import Answer, Form
from runbook_lib.webclient.transport import Closed, Timeout
from tests.fakes import context, scene

STORE, PUBLISHER = "https://store.test", "https://publisher.test"
NGINX, FORM = "<center>nginx</center>", '<form action="/commonauth"><input name=username><input name=password type=password><input name=sessionDataKey></form>'


class Browser:
    """It gets the same answer, or error, to every request for an address; `answers`: status and text by the address."""

    def __init__(self, answers: dict[str, Any]):
        self.answers, self.exchanges = answers, list[object]()

    def request(self, method: str, url: str, **_: object) -> Answer:
        answer = self.answers[url]
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer[0], url, [], answer[1], [], 0.0)

    def open(self, url: str) -> Flow:
        return Flow((self.request("GET", url),))

    def submit(self, form: Form, action: str) -> Answer:
        return self.request("POST", action)

    def sign_in_at(self, host: str, app: str, *_: str) -> Flow:
        return Flow((self.request("POST", f"https://{host}/{app}/acs"),))


def at(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> None:
    monkeypatch.setattr(Scene, "visitor", lambda *_: Browser(answers))


# what /publisher/acs answers, how the assertion was altered, and the page that is seen; without one the step cannot tell
REPLAYED: dict[str, tuple[tuple[int, str], str, str]] = {
    "the measured refusal": ((200, ""), "", "login-form"),
    "without its role": ((401, ""), "", "acs-401"),
    "nginx has no node to ask": ((502, NGINX), "", ""),
    "nginx waits for the node": ((503, NGINX), "", ""),
    "nginx does not pass it on": ((404, NGINX), "", ""),
    "one too many": ((429, ""), "", ""),
    "the product fails": ((500, "error"), "", ""),
    "the product fails at another name": ((500, "error"), "name", "login-form"),
    "the product fails without a signature": ((500, "error"), "signature", "login-form"),
    "nginx has no node to ask for another name": ((502, NGINX), "name", ""),
}


@pytest.mark.parametrize(("acs", "alter", "page"), REPLAYED.values(), ids=REPLAYED)
def test_an_assertion_is_refused_only_by_the_application_that_it_reached(monkeypatch: pytest.MonkeyPatch, acs: tuple[int, str], alter: str, page: str) -> None:
    at(monkeypatch, {f"{PUBLISHER}/publisher/acs": acs, f"{PUBLISHER}/publisher/": (200, FORM)})
    walk = Walk(scene(), matrix()[1], assertion=Form(f"{STORE}/store/acs", "POST", {"SAMLResponse": "PHg+"}))
    if page:
        walk.do_replay("publisher", alter)
    else:
        with pytest.raises(CannotTell, match=f"/publisher/acs .*{acs[0]}"):
            walk.do_replay("publisher", alter)
    assert [seen.page for seen in walk.seen] == [page][: bool(page)]


@pytest.mark.parametrize(("own_items", "page"), [((401, ""), "my-items-401"), ((200, "My items"), "my-items"), ((500, "error"), "my-items")])
def test_the_store_is_entered_only_where_it_shows_the_users_own_items(monkeypatch: pytest.MonkeyPatch, own_items: tuple[int, str], page: str) -> None:
    public = (200, "<a href='/store/login'></a><h4>admin</h4>")  # an asset that bears the user's name; the signed-in my-items was measured as 500
    at(monkeypatch, {f"{STORE}/store/acs": (200, ""), f"{STORE}/store/pages/top-assets": public, f"{STORE}/store/pages/my-items": own_items})
    walk = Walk(scene(), matrix()[1], login=Login("admin", "x"), assertion=Form(f"{PUBLISHER}/publisher/acs", "POST", {"SAMLResponse": "PHg+"}))
    walk.do_replay("store")
    assert [seen.page for seen in walk.seen] == [page]


PUBLIC = (200, "<a href='/store/'>")
FROM_THERE: dict[str, tuple[Any, Any, str]] = {
    "nginx refuses it": (PUBLIC, (403, NGINX), "held"),
    "the Publisher's nginx is silent, the Store answers": (PUBLIC, Timeout("late"), "held"),
    "the Publisher's nginx closes, the Store answers": (PUBLIC, Closed("closed"), "held"),
    "it is let in": (PUBLIC, (200, FORM), "leak"),
    "nothing is reached from there": (Timeout("late"), Timeout("late"), "undecided"),
    "nginx has no node to ask": ((502, NGINX), (403, NGINX), "undecided"),
}


@pytest.mark.parametrize(("store", "publisher", "state"), FROM_THERE.values(), ids=FROM_THERE)
def test_silence_of_the_publisher_is_a_refusal_only_where_the_store_answers(monkeypatch: pytest.MonkeyPatch, store: Any, publisher: Any, state: str) -> None:
    at(monkeypatch, {f"{STORE}/store/pages/top-assets": store, f"{PUBLISHER}/publisher/": publisher})
    row = next(row for row in matrix()[0] if row.id == "publisher-outside-allow-cidr")
    assert try_out(row, scene(), {}).state == state


REFUSED, ASKED, LANDING, SIGNED_IN = (401, ""), (200, FORM), (200, "<a href='/publisher/logout'>"), (200, "<a href='/store/logout'>")
# what is met after a 401 at acs: the Publisher's landing page, the Store's page of the user's own items, its public page; which of the three rows it turns
LEFT_OVER: dict[str, tuple[tuple[Any, Any, Any], tuple[str, str, str]]] = {
    "nothing is left": ((ASKED, REFUSED, PUBLIC), ("held", "held", "held")),
    "the Publisher's session works": ((LANDING, REFUSED, PUBLIC), ("leak", "held", "leak")),
    "the Store's session works": ((ASKED, (500, "error"), PUBLIC), ("held", "leak", "leak")),
    "the Store's session works where no role is asked for": ((ASKED, REFUSED, SIGNED_IN), ("held", "leak", "leak")),
    "nobody can look": ((Timeout("late"), Timeout("late"), PUBLIC), ("undecided", "undecided", "undecided")),
}


@pytest.mark.parametrize(("met", "states"), LEFT_OVER.values(), ids=LEFT_OVER)
def test_a_session_that_is_left_over_after_a_401_is_a_leak(monkeypatch: pytest.MonkeyPatch, met: tuple[Any, Any, Any], states: tuple[str, ...]) -> None:
    pages = (f"{PUBLISHER}/publisher/pages/gc-landing", f"{STORE}/store/pages/my-items", f"{STORE}/store/pages/top-assets")
    at(monkeypatch, {f"{STORE}/store/acs": REFUSED, f"{PUBLISHER}/publisher/acs": REFUSED, **dict(zip(pages, met, strict=True))})
    logins = {who: Login(f"proof-{who}-0a1b2c", "x") for who in ("store-only", "publisher-only", "neither")}
    rows = {row.id: row for row in matrix()[0]}
    found = tuple(try_out(rows[id_], scene(), logins).state for id_ in ("sso-without-role", "sso-without-role-store", "sso-neither"))
    assert found == states


@pytest.mark.parametrize(
    ("ranges", "left_out"),
    [
        (("0.0.0.0/0",), False),
        (("10.0.0.0/8",), False),
        (("203.0.113.0/24", "10.213.1.0/24"), False),
        (("203.0.113.0/24",), True),
        (("10.213.1.7/32",), True),
    ],
)
def test_the_neighbour_is_outside_only_where_no_range_has_its_address(ranges: tuple[str, ...], left_out: bool) -> None:
    given = context("greg-separated", "full", publisher_allow_cidr=ranges)
    (probe,) = probe_only(given.topology).nodes
    assert probe.address.startswith("10.213.1.")
    assert ("neighbour-left-out" in traits_of(given.spec, 1, probe.address)) is left_out
