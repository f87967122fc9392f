"""A small Store and Publisher behind TLS, for a crawler to walk: a few pages, a form, and what a test says is refused."""

from __future__ import annotations

import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from runbook_lib import pki

HOSTS = {"store": "store.test", "publisher": "publisher.test"}
NGINX = "<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center><hr><center>nginx</center></body></html>"
HOME = {"store": "/store/pages/top-assets", "publisher": "/publisher/pages/gc-landing"}
STYLE = '<link rel="stylesheet" href="/{app}/themes/site.css"><script src="/{app}/themes/site.js"></script><h1>{title}</h1>'
FORM = """<form action="/publisher/apis/assets?type=TYPE"><input name="overview_name"><input name="overview_context">
<input name="overview_version"><button type="submit">Create</button></form><script>
document.forms[0].addEventListener("submit", event => { event.preventDefault();
  fetch(event.target.action, {method: "POST", body: new URLSearchParams(new FormData(event.target))}).then(GOES_ON); });</script>"""
LOGIN = '<form method="post"><input name="username"><input name="password" type="password"><button>Sign in</button></form>'
BODIES = {
    "/store/pages/my-items": "mine",
    "/store/pages/about": '<a href="/store/pages/top-assets#top">home</a><a href="https://elsewhere.test/store/x">x</a>',
    "/publisher/assets/wsdl/list": '<script>fetch("/publisher/apis/assets?type=wsdl")</script>',
    "/publisher/assets/wsdl/create": FORM.replace("TYPE", "wsdl"),
    "/publisher/assets/restservice/create": FORM.replace("TYPE", "restservice"),
    "/publisher/assets/restservice/list": '<img src="/publisher/themes/logo.png">',
}
MENU = {
    "store": ("/store/pages/about", "/store/pages/gone", "/publisher/pages/gc-landing", *(f"/store/assets/wsdl/details/{uuid.uuid4()}" for _ in "ab")),
    "publisher": tuple(path for path in BODIES if path.startswith("/publisher")),
}


@dataclass
class Application:
    """`refused`: paths that Nginx refuses. `requests`: (user, method, path) in the order in which they came."""

    refused: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    undeletable: bool = False
    goes_on: str = "() => 0"  # what the form's script does after the answer, in JavaScript
    many: int = 0
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    assets: dict[str, dict[str, str]] = field(default_factory=dict)
    made: list[dict[str, str]] = field(default_factory=list)
    ca: str = ""
    address: str = ""

    def paths(self, user: str, app: str) -> list[str]:
        """What a user asked of one application, in order."""
        return [path for who, _method, path in self.requests if who == user and path.startswith(f"/{app}")]

    def answer(self, method: str, target: str, user: str, form: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers."""
        path = urlsplit(target).path
        app = path.split("/")[1]
        if path in self.refused:
            return 404, NGINX, {}
        if path.startswith("/publisher/apis/assets"):
            return self.api(method, path, form)
        if path.endswith("/login") and method == "POST":
            return 302, "", {"Location": HOME[app], "Set-Cookie": f"user={form['username']}; Path=/"}
        if path.endswith("/login"):
            return 200, LOGIN, {}
        if path.endswith("/logout"):
            return 200, "signed out", {"Set-Cookie": "user=; Path=/; Max-Age=0"}
        if path in ("/store/", "/publisher/"):
            return 302, "", {"Location": HOME[app]}
        if path.endswith((".css", ".js", ".png")):
            return 200, "", {"Content-Type": "text/javascript" if path.endswith(".js") else "text/css"}
        if path.startswith("/store/assets/wsdl/details/") or path in BODIES or path.startswith("/store/pages/n"):
            return 200, STYLE.format(app=app, title=path) + BODIES.get(path, "details").replace("GOES_ON", self.goes_on), {}
        if path != HOME.get(app):
            return 404, "no such page, says the product", {}
        links = [*MENU[app], *(f"/store/pages/n{number}" for number in range(self.many if app == "store" else 0))]
        links += [f"/{app}/logout", "/store/pages/my-items"] if user else ["/store/login"]
        return 200, STYLE.format(app=app, title="home") + "".join(f'<a href="{link}">{link}</a>' for link in links), {}

    def api(self, method: str, path: str, form: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        told = {"Content-Type": "application/json"}
        name = path.rpartition("/")[2]
        if method == "POST":
            made = {"id": str(uuid.uuid4()), "name": form["overview_name"], **form}
            self.made.append(made)
            self.assets[made["id"]] = made
            return 201, json.dumps({"data": made}), told
        if method == "DELETE" and not self.undeletable:
            return (200, "{}", told) if self.assets.pop(name, None) else (404, "{}", told)
        return (500, "{}", told) if method == "DELETE" else (200, json.dumps({"data": list(self.assets.values())}), told)


@contextmanager
def served(folder: Path) -> Iterator[Application]:
    """The application on a free port, for as long as it takes."""
    site = Application()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            user = next((part.split("=")[1] for part in self.headers.get("Cookie", "").split("; ") if part.startswith("user=")), "")
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            site.requests.append((user, self.command, path))
            if path in site.closed:
                self.close_connection = True
                return
            form = {name: values[0] for name, values in parse_qs(sent).items()}
            status, body, headers = site.answer(self.command, self.path, user, form)
            self.send_response(status)
            for name, value in {"Content-Type": "text/html", **headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the browser went away

    ca = pki.make_ca("crawl-test")
    certificate, key = pki.issue(ca, list(HOSTS.values()))
    (folder / "tls.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem")
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site.ca, site.address = ca.cert_pem, f"127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
