"""Who is told something: a web server and a mail server on loopback that keep what they hear."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string, policy
from email.message import EmailMessage
from typing import Any


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def web_listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a web server, and the JSON that was posted to it; whatever has /refuse in its path is answered with 500, and kept too."""
    heard: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if "/refuse" in self.path else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with _serving(server):
        yield f"http://127.0.0.1:{server.server_port}", heard


@contextmanager
def mail_listener() -> Iterator[tuple[str, list[EmailMessage]]]:
    """HOST:PORT of a mail relay (RFC 5321, the commands that a client needs), and the mails that it took."""
    heard: list[EmailMessage] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 listener")
            while line := self.rfile.readline().decode().strip():
                verb = line[:4].upper()
                if verb == "DATA":
                    self._say("354 go on")
                    heard.append(self._letter())
                self._say({"QUIT": "221 bye", "EHLO": "250 listener"}.get(verb, "250 ok"))
                if verb == "QUIT":
                    return

        def _letter(self) -> EmailMessage:
            lines = []
            while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                lines.append(line.removeprefix(".") if line.startswith("..") else line)
            return message_from_string("\n".join(lines), policy=policy.default)  # type: ignore[return-value]

        def _say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with _serving(server):
        yield f"127.0.0.1:{server.server_address[1]}", heard
