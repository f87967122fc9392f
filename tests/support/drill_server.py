"""What the stream of a drill is pointed at in unit tests: a server on loopback that behaves as each test wants; and samples that it could have given."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from itertools import count

from runbook_lib import pki
from runbook_lib.checks.drill.load import Sample, Stream, Target
from runbook_lib.checks.drill.result import Drill

HOST = "app.lab.test"


class Server:
    """Answers every request by `behave(number of the request, its cookies)`: (status, headers), or None to hang up."""

    def __init__(self, folder, behave):
        ca = pki.make_ca("test")
        certificate, key = pki.issue(ca, [HOST])
        (folder / "server.pem").write_text(key + certificate)
        self.ca, self.behave, self.connections, self.numbers = ca.cert_pem, behave, 0, count()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(folder / "server.pem")
        self.ready = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self.thread.start()
        assert self.ready.wait(5)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(5)

    async def serve(self):
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.talk, "127.0.0.1", 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.stop.wait()
        server.close()

    async def talk(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                cookies = next((line[8:] for line in head.splitlines() if line.lower().startswith("cookie: ")), "")
                answer = self.behave(next(self.numbers), cookies)
                if answer == "silence":
                    await self.stop.wait()
                if answer is None or answer == "silence":
                    break
                status, headers = answer
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}Content-Length: 2\r\n\r\nok".encode())
                await writer.drain()
        writer.close()

    def target(self):
        return Target(HOST, "127.0.0.1", "/x", self.ca, self.port)

    def run(self, requests=40, rate=50.0, visitors=4):
        with Stream(self.target(), rate, visitors) as stream:
            assert stream.wait(lambda: len(stream.samples) >= requests, 20)
        return stream


def good(number, cookies):
    return 200, [("X-Served-By", "one")]


def sample(at=0.0, node="one", failure="", lost=False, visitor=0, took=0.01, late=0.0):
    return Sample(at, took, visitor, node, failure, False, lost, late)


def result(samples, kind="power-cut", balance: float | None = 3.0, seconds=1.0, rate=1.0):
    chapter, touched = "06_verify_as_cluster", ("one",) if kind in ("power-cut", "rolling-restart") else ()
    return Drill(kind, HOST, chapter, rate, seconds, tuple(samples), ((0.5, "cut <one>"),), ("one", "two"), touched, 2, balance)
