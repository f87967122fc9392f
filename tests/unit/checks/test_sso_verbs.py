"""What single steps of an attempt make of answers that are no refusal, and of a place that reaches nothing; the answers are made up."""

from __future__ import annotations

import base64
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from lxml import etree

from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.environment import Login, Scene, traits_of
from runbook_lib.checks.sso.proof import try_out
from runbook_lib.checks.sso.verbs import CannotTell, Walk
from runbook_lib.topology.model import probe_only
from runbook_lib.webclient.client import Flow
from runbook_lib.webclient.forgery import EXTENSIONS, NAME_ID, SIGNATURE, forged
from runbook_lib.webclient.response import Answer, Form
from runbook_lib.webclient.transport import Closed, Timeout
from tests.fakes import context, scene

STORE, PUBLISHER = "https://store.test", "https://publisher.test"
NGINX, FORM = "<center>nginx</center>", '<form action="/commonauth"><input name=username><input name=password type=password><input name=sessionDataKey></form>'
REFUSED, ASKED, LANDING, SIGNED_IN = (401, ""), (200, FORM), (200, "<a href='/publisher/logout'>"), (200, "<a href='/store/logout'>")


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
    walk = Walk(scene(), matrix()[1], assertion=Form(f"{STORE}/store/acs", "POST", {"SAMLResponse": "PHgvPg=="}))
    if page:
        walk.do_replay("publisher", alter=alter)
    else:
        with pytest.raises(CannotTell, match=f"/publisher/acs .*{acs[0]}"):
            walk.do_replay("publisher", alter=alter)
    assert [seen.page for seen in walk.seen] == [page][: bool(page)]


@pytest.mark.parametrize(("own_items", "page"), [((401, ""), "my-items-401"), ((200, "My items"), "my-items"), ((500, "error"), "my-items")])
def test_the_store_is_entered_only_where_it_shows_the_users_own_items(monkeypatch: pytest.MonkeyPatch, own_items: tuple[int, str], page: str) -> None:
    public = (200, "<a href='/store/login'></a><h4>admin</h4>")  # an asset that bears the user's name; the signed-in my-items was measured as 500
    at(monkeypatch, {f"{STORE}/store/acs": (200, ""), f"{STORE}/store/pages/top-assets": public, f"{STORE}/store/pages/my-items": own_items})
    walk = Walk(scene(), matrix()[1], login=Login("admin", "x"), assertion=Form(f"{PUBLISHER}/publisher/acs", "POST", {"SAMLResponse": "PHgvPg=="}))
    walk.do_replay("store")
    assert [seen.page for seen in walk.seen] == [page]


SPACES = 'xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:s="urn:oasis:names:tc:SAML:2.0:assertion" xmlns:d="http://www.w3.org/2000/09/xmldsig#"'
RESPONSE = (
    f'<p:Response {SPACES} ID="a"><s:Issuer>i</s:Issuer><d:Signature>whole</d:Signature> behind it<s:Assertion ID="b">'
    "<d:Signature>part</d:Signature><s:Subject><s:NameID>anna</s:NameID></s:Subject></s:Assertion></p:Response>"
)
COVERED = RESPONSE.replace("<d:Signature>whole</d:Signature>", "")


class Applications:
    """Store and Publisher, and the clients that visit them: an assertion that `takes` accepts signs its client in, if its user has the role.

    `takes`: told whether it was given out for this application as it is, and whether it was used already.
    """

    def __init__(self, takes: Callable[[bool, bool], bool]):
        self.takes, self.given, self.used = takes, dict[str, str](), set[str]()

    def visitor(self, *_: object) -> SimpleNamespace:
        inside: set[str] = set()

        def given(url: str, user: str, *_: object, **__: object) -> Flow:
            app = urlsplit(url).path.split("/")[1]
            message = RESPONSE.replace('"a"', f'"a-{len(self.given)}"').replace("anna", user)
            form = Form(f"https://{app}.test/{app}/acs", "POST", {"SAMLResponse": base64.b64encode(message.encode()).decode()})
            self.given[form.fields["SAMLResponse"]] = app
            return Flow((page(200, url, ""),), True, form)

        def submit(form: Form, action: str) -> Answer:
            app, message = urlsplit(action).path.split("/")[1], form.fields["SAMLResponse"]
            taken = self.takes(self.given.get(message) == app, message in self.used)
            self.used.add(message)
            if taken and app == "publisher" and b"admin" not in base64.b64decode(message):
                return page(401, action, "")
            inside.update([app] if taken else [])
            return page(302 if taken else 200, action, "")

        def opened(url: str) -> Flow:
            if url.endswith("/store/pages/my-items"):
                return Flow((page(200 if "store" in inside else 401, url, "My items"),))
            return Flow((page(200, f"{PUBLISHER}/publisher/pages/gc-landing", LANDING[1]) if "publisher" in inside else page(200, url, FORM),))

        def sign_in_at(host: str, app: str, user: str, *_: object) -> Flow:
            flow = given(f"https://{host}/{app}/login", user)
            assert flow.saml_response is not None
            submit(flow.saml_response, flow.saml_response.action)
            return Flow((page(200, f"{STORE}/store/pages/top-assets", SIGNED_IN[1] if app in inside else "/store/"),), True, flow.saml_response)

        return SimpleNamespace(exchanges=[], jar=[], sign_in=given, submit=submit, open=opened, sign_in_at=sign_in_at)


def page(status: int, url: str, text: str) -> Answer:
    return Answer(status, url, [], text, [], 0.0)


# what the applications take, and so what the rows of forged and of carried assertions say, and the row of a second use
TAKEN: dict[str, tuple[Callable[[bool, bool], bool], str, str]] = {
    "what was given out for them, any number of times, as the product": (lambda own, used: own, "held", "leak"),
    "what was given out for them, once": (lambda own, used: own and not used, "held", "held"),
    "anything": (lambda own, used: True, "leak", "leak"),
    "nothing at all, whatever the reason": (lambda own, used: False, "undecided", "undecided"),
}


@pytest.mark.parametrize(("takes", "state", "second_use"), TAKEN.values(), ids=TAKEN)
def test_a_refusal_counts_only_of_an_application_that_takes_what_was_not_forged(
    monkeypatch: pytest.MonkeyPatch, takes: Callable[[bool, bool], bool], state: str, second_use: str
) -> None:
    logins = {"admin": Login("admin", "x"), "store-only": Login("proof-store-0a1b2c", "x")}
    rows = [row for row in matrix()[0] if any("replay" in step for step in row.steps)]
    monkeypatch.setattr(Scene, "visitor", Applications(takes).visitor)
    found = {row.id: try_out(row, scene(), logins).state for row in rows}
    assert len(rows) == 8 and found == {row.id: second_use if row.kind == "limit" else state for row in rows}


@pytest.mark.parametrize(
    ("how", "names", "signatures", "ids"),
    [
        ("name", ["admin"], ["whole", "part"], ["a", "b"]),
        ("signature", ["anna"], [], ["a", "b"]),
        ("wrapped", ["anna", "admin"], ["whole", "part"], ["_forged", "_forged-0", "a", "b"]),
    ],
)
def test_an_assertion_is_forged_in_one_respect_only(how: str, names: list[str], signatures: list[str], ids: list[str]) -> None:
    given = Form("https://h/acs", "POST", {"SAMLResponse": base64.b64encode(RESPONSE.encode()).decode(), "RelayState": "r"})
    message = etree.fromstring(base64.b64decode(forged(given, how).fields["SAMLResponse"]))
    assert [name.text for name in message.iter(NAME_ID)] == names and forged(given, how).fields["RelayState"] == "r"
    assert [one.text for one in message.iter(SIGNATURE)] == signatures and sorted(message.xpath("//@ID")) == ids
    if how == "wrapped":
        assert [one.tag.split("}")[1] for one in message] == ["Issuer", "Signature", "Extensions", "Assertion"] and message[2].tag == EXTENSIONS
        assert etree.tostring(message[2][0], method="c14n", exclusive=True) == etree.tostring(etree.fromstring(COVERED), method="c14n", exclusive=True)


# what each ACS answers a message that names an empty file, and one that names a file that does not exist
ENTITIES: dict[str, tuple[Any, Any, str]] = {
    "the file is opened": ((200, ""), (500, "error"), "leak"),
    "entities are left alone": ((200, ""), (200, ""), "held"),
    "no message with entities is taken": ((500, "error"), (500, "error"), "held"),
    "nobody is taken without a signature": ((401, ""), (401, ""), "held"),
    "it failed once, for another reason": ((500, "error"), (200, ""), "undecided"),
    "nginx has no node to ask": ((200, ""), (502, NGINX), "undecided"),
    "nginx does not pass it on": ((404, NGINX), (404, NGINX), "undecided"),
    "one too many": ((200, ""), (429, ""), "undecided"),
    "nobody answers": (Timeout("late"), Timeout("late"), "undecided"),
}


@pytest.mark.parametrize(("empty", "missing", "state"), ENTITIES.values(), ids=ENTITIES)
def test_a_node_opens_what_a_message_names_where_only_a_file_that_does_not_exist_is_an_error(
    monkeypatch: pytest.MonkeyPatch, empty: Any, missing: Any, state: str
) -> None:
    class Named(Browser):
        def request(self, method: str, url: str, *, form: dict[str, str], **_: object) -> Answer:  # type: ignore[override]
            message = base64.b64decode(form["SAMLResponse"])
            assert method == "POST" and b"Signature" not in message
            self.answers = {url: missing if b'SYSTEM "file:///runbook-no-such-file"' in message else empty}
            return super().request(method, url)

    monkeypatch.setattr(Scene, "visitor", lambda *_: Named({}))
    row = next(row for row in matrix()[0] if row.id == "message-names-file")
    found = try_out(row, scene(), {})
    assert found.state == state and row.kind == "limit", found.observed


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
