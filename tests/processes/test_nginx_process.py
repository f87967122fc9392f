"""What the generated Nginx does with requests: a real Nginx on loopback, stub nodes behind it."""

from __future__ import annotations

import os
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import yaml

from runbook_lib.checks.sso.environment import Login, ProductNode, Scene
from runbook_lib.spec import front_doors
from tests.fakes import context
from tests.support.lab_fixtures import eventually
from tests.support.nginx_process import HTTP, HTTPS, secrets_of, site, with_secrets

PATHS = yaml.safe_load((Path(__file__).parent / "nginx_paths.yaml").read_text())
OPENED = ["GET,POST /services/Orders(|.{word}){more}(|/)", "GET /services/AdministrationReport", "GET /docs{more}"]
NET = 64 + os.getpid() % 128  # so that two test runs on one machine do not meet


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with site(with_secrets("greg-separated", "full"), tmp_path_factory.mktemp("guarded"), NET) as found:
        yield found


@pytest.fixture(scope="module")
def dangers(tmp_path_factory):
    with site(with_secrets("greg-separated", "allow-list"), tmp_path_factory.mktemp("dangers"), NET + 8) as found:
        yield found


@pytest.fixture(scope="module")
def open_(tmp_path_factory):
    with site(with_secrets("greg-separated", "hosts"), tmp_path_factory.mktemp("open"), NET + 1) as found:
        yield found


@pytest.fixture(scope="module")
def appserver(tmp_path_factory):
    ctx = with_secrets("as-cluster", cloud={"operator_cidr": "127.0.0.0/8"}, also_allow={"as": OPENED}, nginx={"sign_ins_per_second": 1})
    with site(ctx, tmp_path_factory.mktemp("as"), NET + 2) as found:
        yield found


def outcome(answer):
    """As the table writes it."""
    if answer.status == 302:
        return "-> " + answer.headers["Location"].split("/", 3)[3].join(["/", ""])
    return "pass" if answer.status == 200 and answer.node.rstrip("-0123456789") else answer.status


def asked(row):
    """Method and raw target of a row."""
    return next((name.upper(), row[name]) for name in ("get", "post", "put") if name in row)


def ask(found, row):
    method, target = asked(row)
    return outcome(found.get(row["host"], target, method, body=None if method == "GET" else b""))


def named(row):
    return " ".join((row["host"], *asked(row)))


@pytest.mark.parametrize("row", PATHS["greg"], ids=named)
def test_full_passes_on_what_a_browser_needs_and_nothing_else(guarded, row):
    assert ask(guarded, row) == row.get("doors", row["dangers"])


@pytest.mark.parametrize("row", PATHS["greg"], ids=named)
def test_the_python_side_of_the_table_decides_as_nginx_does(row):
    ctx = context("greg-separated", "full")
    method, target = asked(row)
    door = front_doors.find(front_doors.open_doors(ctx.spec, row["host"]), method, target)
    expected = "404" if door is None else f"-> /{row['host']}/" if door.leads else "pass"
    assert expected == str(row.get("doors", row["dangers"]))


@pytest.mark.parametrize("row", PATHS["greg"], ids=named)
def test_a_list_of_known_dangers_passes_on_the_unknown_ones(dangers, row):
    assert ask(dangers, row) == row["dangers"]


@pytest.mark.parametrize("row", PATHS["greg"], ids=named)
def test_an_open_host_passes_everything_on(open_, row):
    assert ask(open_, row) == row["open"]


@pytest.mark.parametrize("row", PATHS["as"], ids=lambda row: f"{row['host']} {row['get']}")
def test_the_application_server_hosts_serve_applications_and_console_apart(appserver, row):
    assert outcome(appserver.get(row["host"], row["get"])) == row["guarded"]


def test_each_host_leads_to_its_own_tier(guarded):
    assert guarded.get("store", "/store/").node.startswith("store-")
    assert guarded.get("publisher", "/publisher/").node.startswith("publisher-")


def test_a_path_is_passed_on_byte_for_byte(guarded):
    target = "/store/storage/wsdl/1/a%20b.png;jsessionid=1?x=%2F&y=;"
    assert guarded.get("store", target).body.splitlines()[1] == target


def test_the_node_is_told_who_asks_and_visitors_cannot_forge_it(guarded):
    forged = {name: "evil" for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Proxy")}
    answer = guarded.get("store", "/store/", headers=forged)
    seen = {name: answer.header(name) for name in ("Host", *forged)}
    assert seen == {"Host": "store.lab.test", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https",
                    "X-Forwarded-Host": "store.lab.test", "Forwarded": None, "Proxy": None}  # fmt: skip


def test_a_websocket_upgrade_reaches_the_node_and_ordinary_connections_are_kept(guarded):
    upgraded = guarded.get("store", "/store/", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert (upgraded.header("Upgrade"), upgraded.header("Connection")) == ("websocket", "upgrade")
    assert guarded.get("store", "/store/").header("Connection") is None


def test_a_new_visitor_gets_a_route_that_only_https_carries_and_an_old_one_keeps_his(guarded):
    (cookie,) = guarded.get("store", "/store/").cookies
    assert cookie.startswith("runbook_route=") and cookie.endswith("; Path=/; Secure; HttpOnly; SameSite=None")
    again = guarded.get("store", "/store/", headers={"Cookie": cookie.split(";")[0]})
    assert again.cookies == []


def test_a_visitor_stays_on_the_node_that_the_first_answer_came_from(guarded):
    for _ in range(10):
        first = guarded.get("store", "/store/")
        cookie = first.cookies[0].split(";")[0]
        assert {guarded.get("store", "/store/", headers={"Cookie": f"a=b; {cookie}"}).node for _ in range(4)} == {first.node}


def test_visitors_are_spread_over_the_nodes(guarded):
    assert {guarded.get("store", "/store/").node for _ in range(40)} == {"store-1", "store-2"}


def test_an_invented_route_cookie_is_replaced(guarded):
    assert guarded.get("store", "/store/", headers={"Cookie": "runbook_route=../x"}).cookies[0].startswith("runbook_route=")


def test_the_node_that_answered_is_named_only_to_those_who_ask(guarded):
    asked = guarded.get("store", "/store/", headers={"X-Runbook-Probe": "1"})
    assert asked.headers["X-Served-By"] == asked.node
    assert "X-Served-By" not in guarded.get("store", "/store/").headers


def test_the_proof_finds_a_route_to_every_node_and_none_to_one_that_is_down(tmp_path):
    with site(with_secrets("greg-separated", "full"), tmp_path, NET + 20) as found:
        hosts = dict(found.ctx.spec.hosts)
        nodes = {key: tuple(ProductNode(node.name, node.address, None) for node in found.ctx.topology.upstream(hosts[key])) for key in hosts}
        front = f"{found.moved[found.lb.address]}:{HTTPS}"
        scene = Scene("full", "separated", hosts, dict.fromkeys(hosts, front), nodes, Login("admin", "x"), ca=found.ca)
        met = []
        for pins in scene.rounds():
            visitor = scene.visitor(pins=pins)
            for key in (*hosts, *hosts):
                visitor.get(f"https://{hosts[key]}/{key}/")
            met.append({exchange.node for exchange in visitor.exchanges})
        assert met == [{"store-1", "publisher-1"}, {"store-2", "publisher-2"}]
        found.nodes["publisher-2"].stop()
        assert [[pin.node for pin in pins.values() if not pin.route] for pins in scene.rounds()] == [[], ["publisher-2"]]


def test_a_target_with_a_host_in_it_is_judged_by_its_path(guarded):
    assert guarded.get("publisher", "https://publisher.lab.test/publisher/pages/gc-landing").status == 200
    assert guarded.get("publisher", "https://publisher.lab.test/publisher/test/executer.jag").status == 404
    assert guarded.get("publisher", "https://publisher.lab.test?/publisher/").status == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "store.lab.test.evil.example"])
def test_an_unknown_host_gets_no_answer(guarded, host):
    with pytest.raises(ConnectionError):
        guarded.get(host, "/store/", sni=host)


@pytest.mark.parametrize(("sni", "host"), [("store.lab.test", "publisher.lab.test"), ("evil.example", "store.lab.test")])
def test_a_certificate_for_one_host_is_no_way_into_another(guarded, sni, host):
    assert guarded.get("store", "/publisher/", sni=sni, host=host).status == 421


def test_an_open_nginx_serves_any_host_as_the_original_did(open_):
    assert open_.get("evil.example", "/store/", sni="evil.example").header("Host") == "evil.example"


def test_plain_http_is_sent_to_https_and_answers_are_for_https_only(guarded):
    address = guarded.moved[guarded.lb.address]
    answer = httpx2.get(f"http://{address}:{HTTP}/store/?a=b", headers={"Host": "store.lab.test"})
    assert (answer.status_code, answer.headers["Location"]) == (301, "https://store.lab.test/store/?a=b")
    assert guarded.get("store", "/store/").headers["Strict-Transport-Security"] == "max-age=31536000"
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(f"http://{address}:{HTTP}/", headers={"Host": "evil.example"})


def test_a_node_that_shows_another_tiers_certificate_gets_no_request(tmp_path):
    ctx = with_secrets("greg-separated", "full")
    with site(ctx, tmp_path, NET + 3) as found:
        assert found.get("store", "/store/").status == 200
        for stub in (found.nodes["store-1"], found.nodes["store-2"]):
            stub.stop()
            stub.bundle.write_text(secrets_of(ctx)["tier-key/store"])
            stub.start()
        assert found.get("store", "/store/").status == 502


def test_large_headers_and_uploads_pass(guarded):
    assert guarded.get("store", "/samlsso?SAMLRequest=" + "a" * 12000).status == 200
    assert guarded.get("publisher", "/publisher/apis/assets", "POST", body=b"x" * 3_000_000).status == 200


def test_a_node_that_refuses_costs_no_request_and_its_visitors_come_back_to_it(tmp_path):
    with site(with_secrets("greg-separated", "full"), tmp_path, NET + 4, change=("fail_timeout=10s", "fail_timeout=1s")) as found:
        first = found.get("store", "/store/")
        cookie = {"Cookie": first.cookies[0].split(";")[0]}
        found.nodes[first.node].stop()
        answers = [found.get("store", "/store/", headers=cookie) for _ in range(20)]
        assert {answer.status for answer in answers} == {200} and first.node not in {answer.node for answer in answers}
        assert found.get("store", "/store/acs", "POST", cookie, body=b"x").status == 200
        found.nodes[first.node].start()

        deadline = time.monotonic() + 20
        while found.get("store", "/store/", headers=cookie).node != first.node:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("method, target, status, nodes_asked", [("GET", "/store/pages/my-items", 200, 2), ("POST", "/store/acs", 502, 1)])
def test_what_a_dying_node_was_asked_is_asked_again_only_if_it_may_be_done_twice(tmp_path, method, target, status, nodes_asked):
    with site(with_secrets("greg-separated", "full"), tmp_path, NET + 7) as found, ThreadPoolExecutor(1) as pool:
        first = found.get("store", "/store/")
        cookie, dying = {"Cookie": first.cookies[0].split(";")[0]}, found.nodes[first.node]
        dying.delay = 10
        request = pool.submit(found.get, "store", target, method, cookie, body=b"x" if method == "POST" else None)
        eventually(lambda: (method, target) in dying.seen, "the request at the node")
        dying.stop()
        assert request.result(10).status == status
        assert sum((method, target) in node.seen for node in found.nodes.values()) == nodes_asked


def test_the_console_of_the_application_server_is_refused_outside_the_operators_range(tmp_path):
    ctx = with_secrets("as-cluster", cloud={"operator_cidr": "10.9.0.0/16"})
    with site(ctx, tmp_path, NET + 5) as found:
        assert found.get("mgt", "/carbon/admin/login.jsp").status == 403
        told = found.get("mgt", "/")
        assert told.status == 302 and told.headers["Location"].endswith("/carbon/"), "the path of the console is no secret, and no node was asked"
        assert not any(seen for node in found.nodes.values() for seen in node.seen)
        assert found.get("as", "/app/").status == 200


def test_the_publisher_is_refused_outside_its_range(tmp_path):
    with site(with_secrets("greg-separated", publisher_allow_cidr=["10.9.0.0/16"]), tmp_path, NET + 6) as found:
        assert found.get("publisher", "/publisher/").status == 403
        assert found.get("store", "/store/").status == 200


def test_what_runs_can_be_asked_on_loopback(guarded):
    address = guarded.moved[guarded.lb.address]
    assert httpx2.get(f"http://{address}:8099/version").text == "test"
    assert "Active connections" in httpx2.get(f"http://{address}:8099/status").text


KEY = "sessionDataKey=0f0e0d0c-1111-2222-3333-444455556666"
WHO_IS_THERE = f"/commonauth?{KEY}&type=samlsso"  # where the identity provider sends every browser before it asks for a password
PASSWORDS = {
    "posted": ("POST", "/commonauth"),
    "in the query of a POST": ("POST", f"{WHO_IS_THERE}&username=a&password=b"),
    "by GET": ("GET", f"/commonauth?{KEY}&username=a&password=b"),
    "by HEAD": ("HEAD", f"/commonauth?{KEY}&username=a&password=b"),
    "behind what is not counted": ("GET", f"{WHO_IS_THERE}&username=a&password=b"),
    "before what is not counted": ("GET", f"/commonauth?username=a&password=b&{KEY}&type=samlsso"),
    "by encoded names": ("GET", f"/commonauth?{KEY}&%75sername=a&passwor%64=b"),
    "in the value of another": ("GET", f"/commonauth?{KEY}%26username=a&password=b&type=samlsso"),
    "with a session's parameter": ("GET", f"/commonauth;jsessionid=0123456789ABCDEF?{KEY}&username=a&password=b"),
    "with what begins a sign-on": ("POST", "/samlsso"),
    "in the query of what begins it": ("GET", "/samlsso?SAMLRequest=x&username=a&password=b"),
    "with a provider's name": ("GET", "/samlsso?spEntityID=store&username=a&password=b"),
    "behind what ends a sign-on": ("GET", f"/samlsso?{KEY}&username=a&password=b"),
    "posted to what ends it": ("POST", f"/samlsso?{KEY}"),
    "to make an account": ("POST", "/sso/register"),
    "to recover one": ("POST", "/sso/password"),
    "to recover one by GET": ("GET", "/sso/challenge?answer=a"),
}


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    strangers = {"self_registration": True, "account_recovery": True}
    with site(with_secrets("greg-separated", "full", nginx={"sign_ins_per_second": 1}, **strangers), tmp_path_factory.mktemp("slow"), NET + 16) as found:
        yield found


@pytest.mark.parametrize(("method", "target"), PASSWORDS.values(), ids=PASSWORDS)
def test_passwords_are_tried_slowly_from_one_address_however_they_are_sent(slow, method, target):
    began = time.monotonic()
    hosts = ("store", "store" if target.startswith("/sso/") else "publisher")  # one limit for both
    statuses = [slow.get(hosts[turn % 2], target, method, body=b"username=a&password=b" if method == "POST" else None).status for turn in range(30)]
    assert set(statuses) - {200} == {429} and statuses.count(200) <= 12 + time.monotonic() - began  # one a second, and ten at once


def test_a_service_is_asked_for_a_password_as_slowly_and_for_nothing_else_at_any_pace(appserver):
    began, basic = time.monotonic(), {"Authorization": "Basic eDp5"}
    statuses = [
        appserver.get(("mgt", "as")[turn % 2], ("/services/UserAdmin", "/services/Orders")[turn % 2], "POST", basic, body=b"").status for turn in range(30)
    ]
    assert set(statuses) - {200} == {429} and statuses.count(200) <= 12 + time.monotonic() - began
    assert {appserver.get("as", "/services/Orders").status for _ in range(30)} == {200}, "without a password"
    assert {appserver.get("as", "/app/page", headers=basic).status for _ in range(30)} == {200}, "an application of the user's own"


def test_no_service_that_administers_the_product_is_passed_on_by_the_workers_host(appserver):
    names = yaml.safe_load(front_doors.TABLE.read_text())["administration"]
    assert len(names) > 90
    assert {appserver.get("as", f"/services/{name}").status for name in names} == {404}


def test_a_host_that_has_another_name_than_when_the_nodes_keys_were_made_is_served(tmp_path):
    before = with_secrets("as-cluster")
    keys = {name: value for name, value in before.secrets.items() if name.startswith("tier-key/")}
    after = with_secrets("as-cluster", hosts={"as": "apps.example.org", "mgt": "console.example.org"}, cloud={"operator_cidr": "127.0.0.0/8"})
    with site(replace(after, secrets={**after.secrets, **keys}), tmp_path, NET + 21) as found:
        assert (found.get("as", "/app/").status, found.get("mgt", "/carbon/").status) == (200, 200)


@pytest.mark.parametrize(
    "page", ["/store/", "/store/pages/sso-login", "/sso/register_new_user", WHO_IS_THERE, f"/samlsso?{KEY}", f"/samlsso?{KEY}&chkRemember=on"]
)
def test_what_takes_no_password_is_not_counted(slow, page):
    assert {slow.get("store", page).status for _ in range(30)} == {200}


@pytest.mark.parametrize(
    ("policy", "header", "other"),
    [
        ("enforce", "Content-Security-Policy", "Content-Security-Policy-Report-Only"),
        ("report-only", "Content-Security-Policy-Report-Only", "Content-Security-Policy"),
    ],
)
def test_browsers_are_told_what_pages_may_do(tmp_path, policy, header, other):
    with site(with_secrets("greg-separated", "full", nginx={"content_security_policy": policy}), tmp_path, NET + 17) as found:
        headers = found.get("store", "/store/").headers
    assert "frame-ancestors 'self'" in headers[header] and "https://publisher." in headers[header] and other not in headers
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "strict-origin-when-cross-origin")


def test_modern_tls_is_1_3_alone(tmp_path):
    with site(with_secrets("greg-separated", "full", nginx={"tls": "modern"}), tmp_path, NET + 18) as found:
        assert found.get("store", "/store/").status == 200
        tls = ssl.create_default_context(cafile=str(found.ca))
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection((found.moved[found.lb.address], HTTPS)) as plain, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            tls.wrap_socket(plain, server_hostname=found.ctx.spec.hosts["store"])


@pytest.mark.parametrize("length", [47, 240])
def test_hosts_may_have_long_names(tmp_path, length):
    domain = "".join(f".{label}" for label in ("a" * 60, "b" * 60, "c" * 60, "d" * 40))
    hosts = {name: (name + domain)[:length].rstrip(".") for name in ("store", "publisher")}
    with site(with_secrets("greg-separated", "full", hosts=hosts), tmp_path, NET + 19) as found:
        assert found.get("publisher", "/publisher/").node.startswith("publisher-")
