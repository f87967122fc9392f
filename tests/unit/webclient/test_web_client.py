"""The visitor does what a browser does, and writes exactly what it is told to write."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runbook_lib.webclient.client import Client, holds_assertion
from runbook_lib.webclient.cookies import Cookie, Jar, parse_set_cookie
from runbook_lib.webclient.response import shortened
from runbook_lib.webclient.transport import Closed, Refused, Response, Timeout, TlsRefused, Wire

HOSTS = ("store.test", "publisher.test")
SAML = '<form method="post" action="{action}"><input type="hidden" name="{name}" value="{value}"/></form>'
LOGIN = """<form action="../../commonauth" method="post"><input type="hidden" name="sessionDataKey" value="k1"/>
<input name="username"/><input type="password" name="password"/><input type="checkbox" name="chkRemember"/>
<input type="submit" name="go" value="Sign in"/></form>"""


def certificate(names: tuple[str, ...]) -> bytes:
    """A self-signed certificate for these names, with its key, as PEM."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, *plain)


class Server:
    """A TLS server that keeps every request as received and answers from a table: first line -> raw answer."""

    def __init__(self, folder: Path):
        pem = folder / "server.pem"
        pem.write_bytes(certificate(HOSTS))
        self.ca = pem.read_text().split("-----BEGIN PRIVATE")[0]
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self.names: list[str | None] = []
        self.requests: list[str] = []
        self.answers: dict[str, str | None] = {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            try:
                with self.context.wrap_socket(plain, server_side=True) as connection:
                    self._answer(connection)
            except OSError:
                plain.close()

    def _answer(self, connection: ssl.SSLSocket) -> None:
        text = ""
        while "\r\n\r\n" not in text or len(text.partition("\r\n\r\n")[2]) < self._length(text):
            if not (received := connection.recv(65536).decode()):
                return
            text += received
        self.requests.append(text)
        answer = self.answers.get(text.split("\r\n")[0].removesuffix(" HTTP/1.1"), "404")
        if answer is not None:
            head, _, body = answer.partition("\n\n")
            status, *headers = head.split("\n")
            lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body.encode())}", *headers]
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    @staticmethod
    def _length(text: str) -> int:
        marker = "content-length: "
        return next((int(x[len(marker) :]) for x in text.lower().split("\r\n") if x.startswith(marker)), 0)

    def lines(self) -> list[str]:
        return [text.split("\r\n")[0].removesuffix(" HTTP/1.1") for text in self.requests]

    def header(self, name: str, request: int = -1) -> str | None:
        found = [x for x in self.requests[request].split("\r\n") if x.lower().startswith(name.lower() + ":")]
        return found[0].partition(":")[2].strip() if found else None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()
    server.thread.join(5)


@pytest.fixture
def visitor(server: Server) -> Client:
    return Client(dict.fromkeys(HOSTS, server.address), ca=server.ca, timeout=5)


def test_a_request_that_was_one_too_many_is_sent_again(server: Server, visitor: Client) -> None:
    turns = iter(["429\n\nlater", "429\n\nlater", "200\n\nin"])

    class Turns(dict):
        def get(self, line: str, default: str = "") -> str:
            return next(turns)

    server.answers = Turns()
    assert visitor.request("POST", "https://store.test/commonauth", form={"password": "x"}).text == "in"
    assert server.lines() == ["POST /commonauth"] * 3 and len(visitor.exchanges) == 1


def test_what_stays_too_many_is_returned_as_it_is(server: Server) -> None:
    server.answers = {"GET /": "429\n\nlater"}
    impatient = Client(dict.fromkeys(HOSTS, server.address), ca=server.ca, timeout=5, patience=0.3)
    assert impatient.get("https://store.test/").status == 429


@pytest.mark.parametrize(
    "target",
    [
        "/store/%2e%2e/publisher/",
        "//publisher/",
        "/store/..;/publisher/",
        "/store/../publisher",
        "/store;a/config/store.json",
        "/PUBLISHER/",
        "/a;b=1/c?x=%zz&y=/../",
        "/%%2e/",
        "/a|b\\c",
        "/?q",
    ],
)
def test_the_target_goes_out_as_it_is_written(server: Server, visitor: Client, target: str):
    assert visitor.get("https://store.test" + target).status == 404
    assert server.lines() == ["GET " + target]


def test_a_host_name_leads_to_its_address_and_the_server_sees_the_name(server: Server, visitor: Client):
    visitor.get("https://publisher.test/")
    assert (server.names, server.header("host")) == (["publisher.test"], "publisher.test")


def test_tls_name_and_host_header_can_be_others(server: Server, visitor: Client):
    visitor.request("GET", "https://store.test/", host="evil.example", sni="publisher.test")
    assert (server.names, server.header("host")) == (["publisher.test"], "evil.example")


def test_a_port_stands_in_the_host_header_unless_it_is_the_usual_one(server: Server, visitor: Client):
    visitor.get("https://store.test:9443/")
    assert server.header("host") == "store.test:9443"
    visitor.get("https://store.test:443/")
    assert server.header("host") == "store.test"


def test_a_certificate_for_another_name_is_refused(server: Server):
    with pytest.raises(TlsRefused):
        Client({"other.test": server.address}, ca=server.ca, timeout=5).get("https://other.test/")


def test_a_certificate_of_another_authority_is_refused(server: Server):
    stranger = certificate(HOSTS).decode().split("-----BEGIN PRIVATE")[0]
    with pytest.raises(TlsRefused):
        Client({"store.test": server.address}, ca=stranger, timeout=5).get("https://store.test/")


def test_without_a_ca_a_node_is_reached_under_any_name(server: Server):
    assert Client({"node": server.address}, timeout=5).request("GET", "https://node/", host="store.test").status == 404


def test_a_connection_closed_without_an_answer_is_told_from_others(server: Server, visitor: Client):
    server.answers["GET /"] = None
    with pytest.raises(Closed):
        visitor.get("https://store.test/")
    assert (visitor.exchanges[-1].status, "closed" in visitor.exchanges[-1].note) == (None, True)


def test_a_closed_port_is_refused_and_a_silent_one_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Timeout):
            Client({"store.test": f"127.0.0.1:{port}"}, timeout=0.2).get("https://store.test/")
    with pytest.raises(Refused):
        Client({"store.test": f"127.0.0.1:{port}"}, timeout=5).get("https://store.test/")


def test_any_connected_object_will_do(server: Server):
    class Channel:  # what a paramiko channel offers, without a file descriptor
        def __init__(self, peer: socket.socket):
            self.sendall, self.recv, self.settimeout, self.close = peer.sendall, peer.recv, peer.settimeout, peer.close

    asked = []

    def connect(address: str, port: int) -> Channel:
        asked.append((address, port))
        host, _, real = server.address.partition(":")
        return Channel(socket.create_connection((host, int(real))))

    visitor = Client({"store.test": "10.9.8.7:9443"}, ca=server.ca, connect=connect, timeout=5)
    assert visitor.get("https://store.test/x").status == 404
    assert (asked, server.lines()) == ([("10.9.8.7", 9443)], ["GET /x"])


def test_redirects_are_followed_only_when_told_and_never_to_strangers(server: Server, visitor: Client):
    server.answers["GET /store"] = "302\nLocation: https://store.test:443/store/"
    server.answers["GET /store/"] = "302\nLocation: pages/top"
    server.answers["GET /store/pages/top"] = "302\nLocation: https://localhost:9443/commonauth"
    assert visitor.get("https://store.test/store").location == "https://store.test:443/store/"
    answer = visitor.get("https://store.test/store", follow=True)
    assert [hop.url for hop in answer.hops] == ["https://store.test/store", "https://store.test:443/store/"]
    assert (answer.status, answer.location) == (302, "https://localhost:9443/commonauth")


def test_a_redirect_loop_ends(server: Server, visitor: Client):
    server.answers["GET /a"] = "302\nLocation: /a"
    assert len(visitor.get("https://store.test/a", follow=True).hops) == 25
    assert len(visitor.open("https://store.test/a").hops) == 25


def login_pages(server: Server, acs: str = "https://store.test/store/acs") -> None:
    server.answers |= {
        "GET /store/login": "200\n\n" + SAML.format(action="https://store.test/samlsso", name="SAMLRequest", value="q"),
        "POST /samlsso": "302\nLocation: https://store.test:443/sso/login;jsessionid=A?sessionDataKey=k1",
        "GET /sso/login;jsessionid=A?sessionDataKey=k1": "200\n\n" + LOGIN,
        "POST /commonauth": "302\nLocation: /samlsso?sessionDataKey=k1\nSet-Cookie: commonAuthId=c; Secure; HttpOnly",
        "GET /samlsso?sessionDataKey=k1": "200\n\n" + SAML.format(action=acs, name="SAMLResponse", value="signed"),
        "POST /store/acs": "302\nLocation: /store/\nSet-Cookie: JSESSIONID=s; Path=/store/; Secure; HttpOnly",
        "GET /store/": "200\n\nwelcome",
    }


def test_signing_in_walks_the_whole_flow(server: Server, visitor: Client):
    login_pages(server)
    flow = visitor.sign_in("https://store.test/store/login", "anna", "s3cret&")
    assert (flow.asked, flow.final.status, flow.final.text) == (True, 200, "welcome")
    assert flow.saml_response is not None and flow.saml_response.fields == {"SAMLResponse": "signed"}
    assert server.requests[3].endswith("sessionDataKey=k1&username=anna&password=s3cret%26")
    assert {cookie.name for cookie in visitor.jar} == {"commonAuthId", "JSESSIONID"}


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        (LOGIN, True),
        ('<form action="/commonauth" method="post"><input type="password" name="password"></form>', True),
        ('<form id="change"><input type="password" name="password"></form>', False),  # the Store's page of a signed-in user
        ('<form id="change"><input type="password" name="password"></form>' + LOGIN, True),
        ('<form action="/sso/register"><input type="password" name="password"></form>', False),
        ('<form action="/commonauth"><input name="sessionDataKey"></form>', False),
    ],
)
def test_a_password_was_asked_for_where_the_login_form_is(server: Server, visitor: Client, page: str, asked: bool):
    server.answers |= {"GET /store/": "200\n\n" + page, "POST /commonauth": "200\n\nwelcome"}
    flow = visitor.sign_in("https://store.test/store/", "anna", "pw")
    assert (flow.asked, [line for line in server.lines() if line.startswith("POST")]) == (asked, ["POST /commonauth"] * asked)


def test_no_password_and_no_assertion_stand_in_the_record(server: Server, visitor: Client):
    login_pages(server)
    visitor.sign_in("https://store.test/store/login", "anna", "s3cret")
    record = repr(visitor.exchanges)
    assert "commonAuthId" in record and "s3cret" not in record and "signed" not in record


def test_an_assertion_can_be_held_back_and_posted_elsewhere(server: Server, visitor: Client):
    login_pages(server)
    flow = visitor.sign_in("https://store.test/store/login", "anna", "pw", hold=holds_assertion)
    assert flow.saml_response is not None and "POST /store/acs" not in server.lines()
    visitor.fresh().submit(flow.saml_response, action="https://publisher.test/publisher/acs")
    assert (server.lines()[-1], server.header("host")) == ("POST /publisher/acs", "publisher.test")
    assert server.requests[-1].endswith("SAMLResponse=signed") and server.header("cookie") is None


def test_an_assertion_for_a_stranger_is_not_posted(server: Server, visitor: Client):
    login_pages(server, acs="https://localhost:9443/store/acs")
    flow = visitor.sign_in("https://store.test/store/login", "anna", "pw")
    assert flow.saml_response is not None and flow.saml_response.action == "https://localhost:9443/store/acs"
    assert flow.final.status == 200 and not any(line.endswith("/acs") for line in server.lines())


def test_cookies_go_back_to_their_host_and_path_only(server: Server, visitor: Client):
    server.answers["GET /store/a"] = "200\nSet-Cookie: S=1; Path=/store/\nSet-Cookie: T=2\nSet-Cookie: R=3; Path=/"
    visitor.get("https://store.test/store/a")
    for url in ("https://store.test/store/x", "https://store.test/publisher/", "https://publisher.test/store/x"):
        visitor.get(url)
    assert [server.header("cookie", n) for n in (1, 2, 3)] == ["S=1; T=2; R=3", "R=3", None]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=b", Cookie("a", "b", "h", "/store")),
        ("a=b=c; Path=/x; Secure; HttpOnly", Cookie("a", "b=c", "h", "/x", secure=True, http_only=True)),
        ("a=b; Max-Age=0", Cookie("a", "b", "h", "/store", expired=True, max_age=0, lifetime=0)),
        ("a=b; Max-Age=7200", Cookie("a", "b", "h", "/store", max_age=7200, lifetime=7200)),
        ("a=b; Expires=Tue, 24-Nov-2026 18:00:00 GMT", Cookie("a", "b", "h", "/store", lifetime=7200)),
        ("a=b; Max-Age=60; Expires=Tue, 24 Nov 2026 18:00:00 GMT", Cookie("a", "b", "h", "/store", max_age=60, lifetime=60)),
        ("a=b; Expires=Tue, 24-Nov-2026 15:59:59 GMT", Cookie("a", "b", "h", "/store", expired=True, lifetime=-1)),
        ("a=b; Expires=soon; SameSite=Lax", Cookie("a", "b", "h", "/store", same_site="Lax")),
        ("a=b; Max-Age=soon", Cookie("a", "b", "h", "/store", expired=True)),
        ("a=b; Domain=elsewhere.test", Cookie("a", "b", "h", "/store")),
    ],
)
def test_set_cookie_is_read_as_browsers_read_it(header: str, expected: Cookie):
    assert parse_set_cookie(header, "h", "/store/page?x=/y", datetime(2026, 11, 24, 16, tzinfo=UTC)) == expected


def test_expires_counts_from_now_when_nobody_says_otherwise():
    ends = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    assert parse_set_cookie(f"a=b; Expires={ends}", "h", "/").lifetime == pytest.approx(7200, abs=60)


def test_a_cookie_without_a_path_set_at_the_root_is_for_everything():
    assert parse_set_cookie("commonAuthId=1", "h", "/commonauth").path == "/"  # facts 6.2


def test_an_expired_cookie_deletes_its_namesake_and_secure_ones_stay_off_plain_http():
    jar = Jar()
    jar.keep(Cookie("a", "1", "h", secure=True))
    assert (jar.header("h", "/", True), jar.header("h", "/", False)) == ("a=1", "")
    jar.keep(Cookie("a", "", "h", expired=True))
    assert list(jar) == []


def test_long_values_of_a_query_are_cut_for_the_record():
    assert shortened("https://h/p;x=1?SAMLRequest=" + "q" * 90 + "&a=b") == "https://h/p;x=1?SAMLRequest=qqqqqqqqqqqq…&a=b"
    assert shortened("https://h/store/login;jsessionid=0123ABCD.n1?a=b") == "https://h/store/login;jsessionid=…?a=b"


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/html; charset=iso-8859-1", b"na\xefve", "naïve"),
        ("text/html", "naïve".encode(), "naïve"),
        ("text/html; charset=nobodys", "naïve".encode(), "naïve"),
        ("", b"a\xff", "a\ufffd"),
    ],
)
def test_a_body_is_read_in_the_encoding_that_the_answer_names(kind: str, body: bytes, text: str):
    assert Response(200, [("content-type", kind)], body).text == text


def test_headers_of_one_name_are_told_apart_or_together():
    answer = Response(200, [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("location", "/x")], b"")
    assert (answer.all("set-cookie"), answer.header("location"), answer.header("age")) == (["a=1", "b=2"], "/x", "")


def test_a_kept_connection_serves_again_and_a_closed_one_is_no_answer(tmp_path: Path):
    pem = tmp_path / "server.pem"
    pem.write_bytes(certificate(HOSTS))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                for answer in (b"HTTP/1.1 204 X\r\n\r\n", b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok"):
                    came.append(connection.recv(65536).decode())
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        wire = Wire(dict.fromkeys(HOSTS, f"127.0.0.1:{listener.getsockname()[1]}"), pem.read_text().split("-----BEGIN PRIVATE")[0], None, 5, keep=True)
        said = [wire.send(method, "https://store.test", "/%2e%2e/", {"Host": "store.test"}, b"") for method in ("GET", "POST")]
        thread.join(5)
        assert [(answer.status, answer.text) for answer in said] == [(204, ""), (200, "ok")]
        assert ["content-length: 0" in text.lower() for text in came] == [False, True] and came[0].startswith("GET /%2e%2e/ HTTP/1.1\r\n")
        with pytest.raises(Closed):
            wire.send("GET", "https://store.test", "/", {"Host": "store.test"}, b"")
        wire.close()
