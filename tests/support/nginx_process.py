"""The generated configuration in a real Nginx, an ordinary process on loopback addresses, before stub nodes."""

from __future__ import annotations

import http.client
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runbook_lib import pki
from runbook_lib.roles import nginx
from runbook_lib.roles.context import Context
from runbook_lib.topology.model import Node
from tests.conftest import need
from tests.fakes import context

HTTPS, HTTP, NODE = 18443, 18080, 19443


def secrets_of(ctx: Context) -> dict[str, str]:
    """The certificates and keys that Nginx and the nodes need, made as chapter 01 makes them."""
    ca = pki.make_ca("test")
    found = {"ca.pem": ca.cert_pem}
    for host in ctx.spec.hosts.values():
        certificate, key = pki.issue(ca, [host])
        found[f"tls/{host}"] = key + certificate
    # hosts that a key's nodes serve; a subject of its own each, or OpenSSL could not tell the certificates apart
    for name in ctx.topology.tier_keys:
        hosts = [host for key, host in ctx.spec.hosts.items() if name in (key, "greg", "as")]
        found[f"tier-key/{name}"] = pki.make_tier_key(hosts[0], hosts)
    return found


def with_secrets(pattern: str, hardening: str | None = None, **settings: Any) -> Context:
    """The context of a pattern with certificates and keys that a real Nginx takes."""
    ctx = context(pattern, hardening, **settings)
    return replace(ctx, secrets=secrets_of(ctx))


class StubNode:
    """A node that says its name, what it was asked and which headers came. `delay`: seconds before each answer."""

    def __init__(self, name: str, address: str, bundle: Path):
        self.name, self.address, self.bundle, self.delay = name, address, bundle, 0.0
        self.seen: list[tuple[str, str]] = []
        self.open: list[ssl.SSLSocket] = []
        self.server: http.server.ThreadingHTTPServer | None = None

    def start(self) -> None:
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                node.seen.append((self.command, self.path))
                time.sleep(node.delay)
                body = "\n".join([node.name, self.path, *(f"{name}: {value}" for name, value in self.headers.items())]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def finish_request(self, request, client_address):  # the handshake in the connection's own thread
                safe = tls.wrap_socket(request, server_side=True)
                node.open.append(safe)
                super().finish_request(safe, client_address)

            def handle_error(self, request, client_address):
                pass

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.bundle)
        self.server = Server((self.address, NODE), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
            for connection in self.open:  # kept ones would go on answering
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.open.clear()


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str
    cookies: list[str] = field(default_factory=list)

    @property
    def node(self) -> str:
        return self.body.split("\n", 1)[0]

    def header(self, name: str) -> str | None:
        """A header as the node received it."""
        lines = (line.partition(": ") for line in self.body.splitlines()[2:])
        return next((value for found, _, value in lines if found.lower() == name.lower()), None)


@dataclass
class Site:
    """A running Nginx. `moved` turns an address of the topology into the loopback address that stands for it."""

    ctx: Context
    lb: Node
    ca: Path
    moved: Mapping[str, str]
    nodes: Mapping[str, StubNode]
    process: subprocess.Popen
    folder: Path

    def get(self, key: str, target: str, method: str = "GET", headers: Mapping[str, str] | None = None,
            sni: str | None = None, host: str | None = None, body: bytes | None = None) -> Answer:  # fmt: skip
        """One request on a connection of its own. ConnectionError when Nginx closes without an answer."""
        name = self.ctx.spec.hosts.get(key, key)
        tls = ssl.create_default_context(cafile=str(self.ca))
        if sni is not None or name not in self.ctx.spec.hosts.values():
            tls.check_hostname = False
        wire = tls.wrap_socket(socket.create_connection((self.moved[self.lb.address], HTTPS), 60), server_hostname=sni or name)
        connection = http.client.HTTPConnection(name)
        connection.sock = wire
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host or name)
            for header, value in (headers or {}).items():
                connection.putheader(header, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            text = answer.read().decode()
            return Answer(answer.status, dict(answer.getheaders()), text, answer.headers.get_all("Set-Cookie") or [])
        finally:
            connection.close()

    def reload(self) -> None:
        subprocess.run(["nginx", "-c", self.folder / "nginx.conf", "-s", "reload"], check=True, capture_output=True)


def local(text: str, moved: Mapping[str, str], lb: Node, folder: Path) -> str:
    """The configuration with every address, port and path of the machine replaced by the test's own."""
    here = moved[lb.address]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in kinds)
    changes = {
        "user www-data;": "user root; daemon off;", "/run/nginx.pid": f"{folder}/pid", "/var/log/nginx/": f"{folder}/",
        "worker_processes auto;": "worker_processes 2;",
        "listen 443": f"listen {here}:{HTTPS}", "listen 80": f"listen {here}:{HTTP}",
        f"127.0.0.1:{nginx.STATUS_PORT}": f"{here}:{nginx.STATUS_PORT}", "@TREE@": str(folder), "@VERSION@": "test",
        "server_tokens off;": f"server_tokens off; {temporary}",
    }  # fmt: skip
    for address, there in moved.items():
        changes[f"{address}:9443"] = f"{there}:{NODE}"
        changes[f"{address}:9443".replace(".", r"\.")] = f"{there}:{NODE}".replace(".", r"\.")
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


@contextmanager
def site(ctx: Context, folder: Path, net: int, lb: Node | None = None, change: tuple[str, str] = ("", "")) -> Iterator[Site]:
    """Stub nodes and Nginx at 127.<net>.…; `change` replaces one text in the configuration. All ends with the block."""
    need(shutil.which("nginx"), "nginx is not installed (apt-get install --no-install-recommends nginx-light)")
    lb = lb or ctx.topology.lbs[0]
    moved = {node.address: f"127.{net}.0.{node.address.rpartition('.')[2]}" for node in ctx.topology.nodes}
    for file in nginx.files(lb, ctx):
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    (folder / "nginx.conf").write_text(local((folder / "nginx.conf").read_text(), moved, lb, folder).replace(*change))
    (folder / "ca.pem").write_text(ctx.secrets["ca.pem"])
    nodes = {}
    for node in ctx.topology.wso2_nodes:
        bundle = folder / f"{node.name}.pem"
        bundle.write_text(ctx.secrets[f"tier-key/{ctx.topology.key_of(node.tier or '')}"])
        nodes[node.name] = StubNode(node.name, moved[node.address], bundle)
    process = None
    try:
        for stub in nodes.values():
            stub.start()
        process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")], stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not answers(moved[lb.address]):
            assert process.poll() is None, (process.stderr.read() if process.stderr else b"").decode()
            assert time.monotonic() < deadline, "nginx does not answer"
            time.sleep(0.02)
        yield Site(ctx, lb, folder / "ca.pem", moved, nodes, process, folder)
    finally:
        if process:
            process.terminate()
            process.wait(60)
        for stub in nodes.values():
            stub.stop()


def answers(address: str) -> bool:
    try:
        socket.create_connection((address, nginx.STATUS_PORT), 1).close()
        return True
    except OSError:
        return False
