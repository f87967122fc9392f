"""Which attempts are made out of a pack: none that a browser needs, each of its kind, the same ones every time."""

from __future__ import annotations

import json

import pytest

from runbook_lib.checks.sso import generated, verbs
from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.contents import APPS, WEBAPPS, Contents, contents_of
from runbook_lib.checks.sso.generated import KNOWN, REST, SPELLINGS, Request, RequestList, generate
from runbook_lib.checks.sso.proof import Outcome, try_out
from runbook_lib.spec import front_doors
from runbook_lib.webclient.transport import Closed, Response, Timeout
from tests.fakes import context, scene

SCRIPT = "/publisher/extensions/app/x/apis/authenticate.jag"
SMALL = Contents((SCRIPT, "/publisher/config/publisher.json", "/publisher/themes/default/css/x.css"), ("/publisher/test/*", "/publisher/acs"))


def doors(host: str) -> tuple[front_doors.Door, ...]:
    return front_doors.open_doors(context("greg-separated", "full").spec, host)


def made(contents: Contents = SMALL, most: int = generated.MOST) -> dict[str, tuple[Request, ...]]:
    return {app: chosen.requests for app, chosen in generate(contents, doors("store"), doors("publisher"), most).items()}


def test_what_a_browser_needs_is_not_among_them():
    found = [request for requests in made().values() for request in requests]
    assert [one for one in found if front_doors.find(doors(one.host), one.method, one.target)] == []
    assert not any(one.target == "/publisher/themes/default/css/x.css" and one.host == "publisher" for one in found)


def test_a_script_is_asked_for_on_both_hosts_by_every_user_read_and_posted_to():
    plain = {(one.host, one.method, one.who) for one in made()["publisher"] if one.target == SCRIPT}
    assert plain == {(host, method, who) for host in ("store", "publisher") for method in ("GET", "POST") for who in generated.USERS}


def test_a_script_is_spelt_in_every_way_at_the_host_that_serves_it():
    targets = {one.target for requests in made().values() for one in requests if one.host == "publisher"}
    assert {spell(SCRIPT) for spell in SPELLINGS.values()} <= targets


def test_the_spellings_differ_from_the_path_and_from_each_other():
    assert len({SCRIPT, *(spell(SCRIPT) for spell in SPELLINGS.values())}) == len(SPELLINGS) + 1


def test_a_mapping_is_asked_with_every_method_and_its_star_is_something():
    found = {(one.method, one.target) for one in made()["publisher"] if one.host == "store" and one.target.startswith("/publisher/test")}
    assert found == {(method, target) for method in front_doors.METHODS for target in ("/publisher/test/x", "/publisher/test/")}


@pytest.mark.parametrize(
    ("script", "address"),
    [
        ("/publisher/extensions/app/publisher-apis/apis/authenticate.jag", "/publisher/apis/authenticate"),
        ("/publisher/extensions/app/publisher-common/pages/basic-authenticator.jag", "/publisher/pages/basic-authenticator"),
        ("/publisher/extensions/app/publisher-common/pages/basic-auth-login-controller.jag", "/publisher/pages/basic-auth-login"),
        ("/store/extensions/app/store-common/pages/my_items.jag", "/store/pages/my-items"),
        ("/store/extensions/assets/wsdl/apis/hidden.jag", "/store/assets/wsdl/apis/hidden"),
    ],
)
def test_an_extensions_script_is_asked_at_its_address_too(script, address):
    found = {(one.host, one.method) for requests in made(Contents((script,), ())).values() for one in requests if one.target == address}
    assert ("publisher", "POST") in found and ("store", "POST") in found


def test_a_mapping_that_is_needed_by_one_method_is_refused_by_the_others():
    assert {one.method for one in made()["publisher"] if one.target == "/publisher/acs" and one.host == "publisher"} == {"GET", "PUT", "DELETE"}


THEMES = tuple(f"/publisher/themes/default/css/{number}.css" for number in range(3000))
SCRIPTS = tuple(f"/store/apis/{number}.jag" for number in range(300))
LARGE = Contents((*THEMES, *SCRIPTS, SCRIPT, "/sso/config/sso.json"), ("/publisher/test/*",), ("/governance/",))
KINDS = {  # of a large pack: all that is asked for of a kind, and whether some of it is left out
    "the product's own paths": ({"/carbon/", "/services/"}, False),
    "web archives": ({"/governance/"}, False),
    "mappings": ({"/publisher/test/x", "/publisher/test/"}, False),
    "scripts": ({SCRIPT, *SCRIPTS}, False),
    "addresses of scripts": ({"/publisher/apis/authenticate"}, False),
    "files that nobody serves": ({"/sso/config/sso.json"}, False),
    "spellings": ({spell(script) for script in SCRIPTS for spell in SPELLINGS.values()}, True),
    "public files": (set(THEMES), True),
}


@pytest.mark.parametrize(("targets", "some_left_out"), KINDS.values(), ids=KINDS)
def test_a_large_pack_loses_spellings_and_public_files_and_no_other_kind(targets, some_left_out):
    asked = {one.target for requests in made(LARGE, most=6000).values() for one in requests}
    assert bool(targets - asked) == some_left_out


def test_what_is_dangerous_is_asked_for_however_much_it_is():
    few = made(LARGE, most=10)
    assert {one.target for one in few["store"]} >= set(SCRIPTS) and few[REST] == made(LARGE)[REST]
    assert not {one.target for requests in few.values() for one in requests} & set(THEMES)


def test_what_a_large_pack_loses_is_counted_by_application():
    whole, cut = (generate(LARGE, doors("store"), doors("publisher"), most) for most in (10**6, 6000))
    assert sum(len(chosen.requests) for chosen in cut.values()) == 6000
    assert {app: len(chosen.requests) + chosen.left_out for app, chosen in cut.items()} == {app: len(chosen.requests) for app, chosen in whole.items()}
    assert cut[REST].left_out == 0 < cut["publisher"].left_out


def test_the_same_pack_gives_the_same_attempts():
    generate.cache_clear()
    first = made()
    generate.cache_clear()
    assert made() == first


def test_who_is_signed_out_by_a_script_is_so_at_the_end():
    found = made(Contents(("/store/a/logout.jag", "/store/b/x.jag"), ()))["store"]
    assert ["logout" in one.target for one in found] == sorted("logout" in one.target for one in found)


@pytest.mark.parametrize(
    ("target", "app"),
    [
        ("/publisher/x.jag", "publisher"), ("//publisher/x", "publisher"), ("/%70ublisher/x", "publisher"), ("/publisher;a/x", "publisher"),
        ("/publisher", "publisher"),
        ("/sso/login/..;/../store/x.jag", "store"), ("/sso/views/css/../../../social/x", "social"), ("/sso/login", "sso"), ("/carbon/", REST),
        ("/storefront/x", REST),
        ("/publisher\\x", "publisher"), ("/publisher%2fx", "publisher"), ("/t/carbon.super/store/", REST),
    ],
)  # fmt: skip
def test_a_request_counts_for_the_application_that_it_leads_to(target, app):
    assert generated._app_of(target) == app


def test_a_pack_is_read_for_files_mappings_and_archives():
    text = {"urlMappings": [{"url": "/apis/*", "path": "/a.jag"}, {"url": "/acs", "path": "/b.jag"}]}
    members = [
        f"{APPS}store/a.jag",
        f"{APPS}store/jaggery.conf",
        f"{APPS}notes.txt",
        f"{WEBAPPS}governance.war",
        f"{WEBAPPS}cmis/WEB-INF/web.xml",
        "bin/wso2server.sh",
    ]
    found = contents_of(members, lambda name: ("// a comment\n" + json.dumps(text)).encode())
    assert found == Contents(("/store/a.jag", "/store/jaggery.conf"), ("/store/apis/*", "/store/acs"), ("/cmis/", "/governance/"))


class Answering:
    """A wire that answers every request in turn with a status of Nginx, or with an error; the last answer stands for all that follow."""

    def __init__(self, *answers: int | Exception):
        self.answers = list(answers)

    def send(self, method: str, origin: str, target: str, headers: dict[str, str], body: bytes) -> Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Response(answer, (), b"" if answer < 400 else b"<center>nginx</center>")

    def close(self) -> None:
        pass


CLOSED = Closed("closed")
SENT = {
    "every one refused": ((404,), "held", "every one refused by Nginx"),
    "one came through": ((404, 200, 404), "leak", "1 of "),
    "the network is lost": ((404, CLOSED), "undecided", "got no answer, first: "),
    "nobody listens": ((OSError("no route"),), "undecided", "closed without an answer"),
    "no answer in time": ((404, Timeout("late"), 404), "undecided", "1 of 3 requests"),
    "a kept connection was closed": ((404, CLOSED, 404), "held", "every one refused by Nginx"),
    "one too many": ((404, 429, 404), "undecided", "429"),
    "one came through before the network is lost": ((200, CLOSED), "leak", "1 of "),
    "nginx has no node to ask, so it passes on": ((502, 404), "leak", "502"),
}


@pytest.mark.parametrize(("answers", "state", "words"), SENT.values(), ids=SENT)
def test_what_nobody_answered_is_neither_refused_nor_let_through(monkeypatch: pytest.MonkeyPatch, answers, state, words):
    wire = Answering(*answers)
    monkeypatch.setattr(generated, "THREADS", 1)
    monkeypatch.setattr(generated, "_wire", lambda _: wire)
    requests = tuple(Request("store", "GET", f"/store/{number}.jag") for number in range(3))
    found = asked_of_the_store(monkeypatch, RequestList(requests))
    assert (found.state, words in found.observed) == (state, True), found.observed


def asked_of_the_store(monkeypatch: pytest.MonkeyPatch, chosen: RequestList) -> Outcome:
    monkeypatch.setattr(verbs, "generate", lambda *_: {"store": chosen})
    row = next(row for row in matrix()[0] if row.id == "generated-store")
    return try_out(row, scene(pack=SMALL, doors={host: doors(host) for host in ("store", "publisher")}), {})


def test_a_row_without_requests_is_undecided(monkeypatch: pytest.MonkeyPatch):
    found = asked_of_the_store(monkeypatch, RequestList(()))
    assert (found.state, found.observed) == ("undecided", "no request was made out of the pack, so that none was refused")


def test_a_row_says_how_many_requests_were_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generated, "_wire", lambda _: Answering(404))
    found = asked_of_the_store(monkeypatch, RequestList((Request("store", "GET", "/store/x.jag"),), 1234))
    assert (found.state, "; 1,234 more were left out, because the pack is large" in found.observed) == ("held", True)


def test_every_group_of_them_has_a_row_of_the_matrix():
    assert {step["generated"] for row in matrix()[0] for step in row.steps if "generated" in step} == {*KNOWN, REST}
