"""The table of what a browser needs: which rows hold, what an operator may add, and that nothing in it is slow."""

from __future__ import annotations

import re

import pytest

from runbook_lib.checks.sso.generated import SPELLINGS
from runbook_lib.spec import front_doors
from tests.fakes import context

HOSTS = ("store", "publisher")
PARTIALS = ("themes/x/partials", "extensions/app/x/themes/x/partials", "extensions/assets/x/themes/x/partials")  # folders of templates


def spec(**settings):
    return context("greg-separated", "full", **settings).spec


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("settings", [{}, {"self_registration": True, "account_recovery": True}], ids=["default", "all parameters"])
def test_no_row_opens_a_side_door_or_a_script(host, settings):
    doors = front_doors.open_doors(spec(**settings), host)
    scripts = [f"/{app}/{path}.jag" for app in ("store", "publisher", "sso", "social") for path in ("x", "apis/x", "views/x", "themes/x/js/x", "storage/x/1/x")]
    asked = [(method, path) for method in front_doors.METHODS for path in (*front_doors.side_doors(), *scripts)]
    assert [one for one in asked if front_doors.find(doors, *one)] == []


@pytest.mark.parametrize("folder", PARTIALS)
@pytest.mark.parametrize("host", HOSTS)
def test_a_folder_of_templates_opens_templates_and_no_script_however_it_is_spelt(host, folder):
    doors = front_doors.open_doors(spec(), host)
    script = f"/{host}/{folder}/x.jag"
    scripts = [script, *(spell(script) for spell in SPELLINGS.values()), f"{script}.hbs", f"{script};.hbs", f"{script}%3b.hbs", f"{script}/x.hbs"]
    asked = [
        (method, path) for method in front_doors.METHODS for path in (*scripts, f"/{host}/{folder}/x.hbs", f"/{host}/{folder}/x.js", f"/{host}/{folder}/x.json")
    ]
    assert [one for one in asked if front_doors.find(doors, *one)] == [("GET", f"/{host}/{folder}/x.hbs")]


@pytest.mark.parametrize(
    ("parameter", "method", "target"),
    [
        ("self_registration", "GET", "/sso/register_new_user?RelayState=x&relyingParty=store"),
        ("self_registration", "POST", "/sso/register"),
        ("account_recovery", "GET", "/sso/reset-link?username=x"),
        ("account_recovery", "POST", "/sso/password"),
    ],
)
def test_forms_for_strangers_are_open_on_the_store_host_and_only_where_the_parameter_says_so(parameter, method, target):
    found = {
        (host, wanted): front_doors.find(front_doors.open_doors(spec(**{parameter: wanted}), host), method, target) is not None
        for host in HOSTS
        for wanted in (False, True)
    }
    assert found == {("store", False): False, ("store", True): True, ("publisher", False): False, ("publisher", True): False}


def test_an_operators_own_row_opens_that_path_on_that_host_alone():
    given = spec(also_allow={"publisher": ["GET,POST /publisher/pages/{word}/of/(mine|yours)"]})
    ask = lambda host, method, path: front_doors.find(front_doors.open_doors(given, host), method, path) is not None  # noqa: E731
    assert ask("publisher", "POST", "/publisher/pages/one/of/mine") and ask("publisher", "HEAD", "/publisher/pages/one/of/yours")
    assert not ask("publisher", "PUT", "/publisher/pages/one/of/mine") and not ask("publisher", "GET", "/publisher/pages/a.b/of/mine")
    assert not ask("store", "GET", "/publisher/pages/one/of/mine")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("/publisher/x", "METHOD"),
        ("FETCH /publisher/x", "METHOD"),
        ("GET publisher/x", "METHOD"),
        ("GET /publisher/{thing}", "no such word"),
        ("GET /publisher/x.JAG", "script by its own path"),
        ("POST /publisher/apis/{word}", "/publisher/apis/authenticate"),
        ("GET /publisher/test/{word}", "/publisher/test/x"),
        ("GET /carbon", "/carbon"),
        ("GET /publisher/(x", "brackets do not match"),
        ("GET /publisher/x)", "brackets do not match"),
        ("GET /publisher/{Word}", "no such word"),
        ("GET /publisher/*", "a star stands for nothing else"),
        ('GET /publisher/"x', "plainly written"),
        ("GET /publisher/x y", "plainly written"),
        ("GET /publisher/$x", "plainly written"),
        ("GET /publisher/x?y=1", "a query is not looked at"),
        ("GET /publisher/../x", "plainly written"),
        ("GET /publisher/x|y", "plainly written"),
        ("GET /publisher/(x|y)|z", "plainly written"),
        ("GET /publisher/(x|y?z)", "plainly written"),
    ],
)
def test_an_operators_row_that_is_wrong_or_opens_a_side_door_is_refused_with_the_reason(row, why):
    with pytest.raises(ValueError, match=why):
        front_doors.parse("publisher", row)


APPSERVER = {
    "POST /services/Orders": "",
    "GET,POST /services/Orders(|.{word}){more}(|/)": "",
    "GET /services/AdministrationReport": "",
    "GET /services/RemoteOrders": "",
    "GET /t/tenant.com/services/Orders": "",
    "GET /docs/(|index.jag)": "",
    "POST /services/UserAdmin": "administers the product",
    "POST /services/(Orders|LogViewer)": "/services/LogViewer: it administers",
    "POST /services/LogViewer.LogViewerHttpsSoap11Endpoint/": "administers the product",
    "POST /services/{word}": "administers the product",
    "POST /services/{word}.{word}{more}": "administers the product",
    "POST /services/User{word}/addUser": "administers the product",
    "POST /t/tenant.com/services/{word}": "administers the product",
    "GET /example/index.html": "it would open /example/index.html: a sample",
    "GET /(docs|example){more}": "it would open /example: a sample",
    "GET /carbon/admin/login.jsp": "the console",
    "GET /CARBON": "the console",
    "GET /app/page": "Nginx passes /app/page on without it",
    "GET /{word}": "passes /x on without it",
}


@pytest.mark.parametrize(("row", "why"), APPSERVER.items(), ids=APPSERVER)
def test_on_the_application_servers_host_a_row_opens_a_service_of_ones_own_by_its_name_and_nothing_that_administers(row, why):
    if not why:
        assert front_doors.parse("as", row)
        return
    with pytest.raises(ValueError, match=re.escape(why)):
        front_doors.parse("as", row)


def test_a_row_with_many_choices_is_read_at_once():
    assert front_doors.parse("store", "GET /store/pages" + "/(a|b|(c|d.css))" * 40).admits("GET", "/store/pages" + "/a/d.css" * 20)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"), ("/store/", "/store/"), ("/store?x=/../;", "/store"), ("/sso/login;jsessionid=AB.1-2?x", "/sso/login"),
        ("/a%20b/%C3%A4.png", "/a%20b/%C3%A4.png"), ("//store/", ""), ("/store//x", ""), ("/store/./x", ""), ("/store/../x", ""), ("/store/.x", ""),
        ("/store;a/x", ""), ("/store/x;a", ""), ("/store/x;jsessionid=1;a", ""), ("/store/x;jsessionid=1/../x", ""), ("/%73tore", ""),
        ("/store%2fx", ""), ("/store/%2e%2e/x", ""), ("/store/x%3ba", ""), ("/store/x%00", ""), ("/store/%c0%af", ""), ("/store/x%25", ""),
        ("/store/x%5c", ""), ("/store\\x", ""), ("store", ""), ("", ""), ("/store/x#y", ""), ("/store/x%2", ""), ("/store/é", ""), ("/a/b%0ac", ""),
    ],
)  # fmt: skip
def test_only_a_plainly_written_path_is_looked_up(target, path):
    assert front_doors.clean(target) == path


def test_every_row_says_why_and_names_words_that_exist():
    for door in front_doors.doors():
        assert door.why and set(door.hosts) <= set(HOSTS) and set(door.methods) <= set(front_doors.METHODS) and door.pattern
