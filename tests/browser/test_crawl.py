"""The crawler against a small Store and Publisher: what it walks, what it names, where it ends, what it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from runbook_lib.check import Check, CheckTable
from runbook_lib.checks.sso import crawl, screenshots
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.checks.sso.proof_users import CLEAN_UP, Logins
from runbook_lib.errors import RunbookError
from tests.conftest import need
from tests.support.quiet_network import apart
from tests.support.small_application import HOSTS, Application, served

USERS = {kind: Login(kind, "Pw1-of-a-test") for kind in ("store-only", "publisher-only", "admin")}
STORE_USER = next(walk for walk in crawl.WALKS if walk[0] == "store-only")
PUBLISHER_USER = next(walk for walk in crawl.WALKS if walk[0] == "publisher-only")
DETAILS = "/store/assets/wsdl/details/"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    need(not screenshots.missing(), screenshots.missing())

    @contextmanager
    def users(_scene: Scene) -> Iterator[Mapping[str, Login]]:
        yield Logins(USERS)

    monkeypatch.setattr(screenshots, "test_users", users)
    monkeypatch.setattr(crawl, "SECONDS", 200.0)
    with apart(), served(tmp_path) as found:
        yield found


def scene(site: Application, **more: object) -> Scene:
    fronts = dict.fromkeys(HOSTS, site.address)
    return Scene("full", "separated", HOSTS, fronts, {"store": (), "publisher": ()}, USERS["admin"], site.ca, **more)


def one(site: Application, monkeypatch: pytest.MonkeyPatch, walk: tuple[str, str, str, str]) -> Check:
    monkeypatch.setattr(crawl, "WALKS", (walk,))
    row, cleaned_up = crawl.crawl(scene(site))
    assert cleaned_up.id == CLEAN_UP
    return row


def test_everybody_walks_all_of_his_own_application_once_and_signs_out_last(site: Application) -> None:
    found = crawl.crawl(scene(site))
    assert [(row.id, row.status) for row in found] == [
        ("sso.works-visitor-store", "pass"),
        ("sso.works-store-only-store", "pass"),
        ("sso.works-publisher-only-publisher", "pass"),
        ("sso.works-admin-store", "pass"),
        ("sso.works-admin-publisher", "pass"),
        (CLEAN_UP, "pass"),
    ], found
    walked = site.paths("store-only", "")
    assert walked[-1] == "/store/logout" and walked.count("/store/logout") == 1
    assert {"/store/pages/my-items", "/store/pages/about", "/store/themes/site.css"} <= set(walked)
    assert len([path for path in walked if path.startswith(DETAILS)]) == 1, "pages that differ by an id only"
    assert walked.count("/store/pages/about") == 1 and not [path for path in walked if path.startswith("/publisher")]
    assert "/store/logout" not in site.paths("", "store") and "/store/login" in site.paths("", "store")
    assert len(site.made) == 2 and site.assets == {}, "the Publisher's user and the administrator"
    assert "none refused" in found[1].observed and "the product itself answered 404 to 1" in found[1].observed


def test_one_form_is_sent_and_what_it_made_is_gone(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    row = one(site, monkeypatch, PUBLISHER_USER)
    [made] = site.made
    assert site.assets == {}
    assert made["name"].startswith("proof-asset-") and made["overview_context"] == f"/{made['name']}" and made["overview_version"]
    assert "the form of /publisher/assets/restservice/create was answered 201, 1 of its assets removed" in row.observed


@pytest.mark.parametrize("after", [0, 30, 100, 300, 1000])
def test_a_form_whose_script_goes_on_to_another_page_is_followed_and_what_it_made_is_gone(
    site: Application, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    site.goes_on = f"() => setTimeout(() => {{ location.href = '/publisher/pages/gc-landing'; }}, {after})"
    row = one(site, monkeypatch, PUBLISHER_USER)
    assert row.status == "pass" and "was answered 201, 1 of its assets removed" in row.observed, row.observed
    assert len(site.made) == 1 and site.assets == {}


def test_what_nginx_refuses_is_named_with_the_page_that_asked(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ("logo.png", "site.css", "site.js")
    site.refused = {"/publisher/apis/assets", "/publisher/assets/wsdl/create", *(f"/publisher/themes/{name}" for name in files)}
    row = one(site, monkeypatch, PUBLISHER_USER)
    assert row.status == "fail"
    refused = row.observed.partition("refused: ")[2]
    assert "GET /publisher/apis/assets 404 (asked by /publisher/assets/wsdl/list)" in refused
    assert "GET /publisher/themes/logo.png 404 (asked by /publisher/assets/restservice/list)" in refused
    assert "GET /publisher/themes/site.css 404 (asked by /publisher/pages/gc-landing)" in refused
    assert "GET /publisher/themes/site.js 404 (asked by /publisher/pages/gc-landing)" in refused
    assert "answered" not in refused.partition("the form of")[0], "an answer of Nginx is none of the product's"
    assert "GET /publisher/assets/wsdl/create 404 (asked by /publisher/pages/gc-landing)" in refused
    assert "POST /publisher/apis/assets 404 (asked by /publisher/assets/restservice/create)" in refused


def test_a_connection_that_is_closed_is_a_refusal_too(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    site.closed = {"/store/themes/site.css"}
    row = one(site, monkeypatch, STORE_USER)
    assert row.status == "fail" and "GET /store/themes/site.css ERR_EMPTY_RESPONSE (asked by /store/pages/top-assets)" in row.observed


def test_what_a_browser_asks_by_itself_is_no_failure(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    site.refused = {"/store/themes/site.css"}
    monkeypatch.setattr("runbook_lib.checks.sso.recorder.BY_ITSELF", {"/store/themes/site.css": "for this test"})
    assert one(site, monkeypatch, STORE_USER).status == "pass"


def test_a_walk_ends_at_its_number_of_pages_and_says_so(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    site.many = 40
    row = one(site, monkeypatch, STORE_USER)
    assert row.observed.startswith("25 pages (") and "more linked; at most 25 and 200 s" in row.observed and row.status == "pass"
    assert site.requests[-1] == ("store-only", "GET", "/store/logout")


def test_a_walk_ends_at_its_time_and_says_so(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawl, "LAST", 180.0)
    clock = SimpleNamespace(monotonic=lambda: float(len(site.paths("store-only", "store"))))  # a request takes a second, whatever this machine's pace
    monkeypatch.setattr(crawl, "time", clock)
    site.many = 40
    row = one(site, monkeypatch, STORE_USER)
    assert row.status == "pass" and "more linked; at most 25 and 200 s" in row.observed
    assert int(row.observed.split()[0]) < 25 and site.requests[-1][2] == "/store/logout"


def test_who_cannot_sign_in_has_proven_nothing(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(crawl.SIGNED_IN, "store", "store-anonymous")
    row = one(site, monkeypatch, STORE_USER)
    assert row.status == "undecided" and "could not sign in: in the Store, signed in" in row.observed


def test_a_login_page_that_is_refused_is_a_failure_and_named(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawl, "PATIENCE", 4000)
    site.refused = {"/store/login"}
    row = one(site, monkeypatch, STORE_USER)
    assert row.status == "fail" and "GET /store/login 404 (asked by the address bar)" in row.observed


def test_an_asset_that_stays_is_a_failure_and_named(site: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    site.undeletable = True
    row = one(site, monkeypatch, PUBLISHER_USER)
    [left] = site.assets
    assert row.status == "fail" and f"left behind: {left} (DELETE: 500)" in row.observed


def test_without_a_browser_the_rows_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawl, "missing", lambda: "no browser here")
    found: CheckTable = crawl.crawl(Scene("full", "separated", HOSTS, {}, {}, USERS["admin"]))
    assert {(row.status, row.observed) for row in found} == {("skipped", "no browser here")} and len(found) == len(crawl.WALKS)


def test_nothing_is_touched_where_nobody_agreed(site: Application) -> None:
    with pytest.raises(RunbookError, match="test users"):
        crawl.crawl(scene(site, ask_first=True))
    assert site.requests == []
