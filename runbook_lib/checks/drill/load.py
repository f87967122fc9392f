"""A steady stream of requests through Nginx from many visitors, with the result of each request.

    with Stream(target, rate=200) as stream:
        stream.until(5)
        stream.mark("power of store-2 cut")
        ...
    stream.samples

Each request is sent at its due time, whether earlier ones have a response or not, so that a delay is measured in full.
Connections are kept and each visitor keeps its cookies, as browsers do. When the server closes a kept connection without
a response, the request is retried once on a new connection, as browsers do with GET (RFC 9112, 9.3.1). Retries are counted.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from types import TracebackType

import httpcore2

from runbook_lib.errors import RunbookError
from runbook_lib.waiting import wait_until

ANSWER_SECONDS = 10.0  # timeout: a request without a complete response by then has failed
POLL = 0.05  # seconds between two looks at the stream, and the longest sleep within it
ARRIVING = 8  # visitors that make their first request at the same time
LATE = 0.25  # seconds by which this machine may be late itself: beyond that it is too busy to say what the cluster did


@dataclass(frozen=True)
class Target:
    """What is requested: `path` of `https://host:port`, at this address, with a certificate of this CA (PEM).

    `status`: the only status that is no failure; 0 for any below 400.
    """

    host: str
    address: str
    path: str
    ca: str
    port: int = 443
    status: int = 0

    @property
    def url(self) -> str:
        return f"https://{self.host}{self.path}"

    def refuses(self, status: int) -> bool:
        """Return whether a response with this status is a failure."""
        return status != self.status if self.status else status >= 400


@dataclass(frozen=True)
class Sample:
    """One request that has ended.

    `at`: seconds after the stream's start at which it was due; `took`: seconds from then until it ended. `visitor`: the
    visitor's number. `node`: value of X-Served-By. `failure`: empty for a good response (`Target.refuses`), else the reason.
    `retried`: a kept connection was closed and a new one used. `lost`: the visitor's session was replaced by another.
    `late`: by how many seconds at most this machine itself was late meanwhile.
    """

    at: float
    took: float
    visitor: int
    node: str
    failure: str
    retried: bool
    lost: bool
    late: float = 0.0

    @property
    def doubtful(self) -> bool:
        """Whether it tells more of this machine, which was busy, than of the cluster."""
        return self.late >= LATE


@dataclass
class Visitor:
    """One visitor: its cookies, how many sessions it was given, and its first node."""

    cookies: dict[str, str] = field(default_factory=dict)
    sessions: int = 0
    home: str = ""  # the node that served it first

    def header(self) -> str:
        """Return the value of the Cookie header."""
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())


@dataclass
class Stream:
    """A stream of `rate` requests per second in all (`pace` changes it), made in turn by `visitors`. It runs in a thread within `with`."""

    target: Target
    rate: float = 200.0
    visitors: int = 60
    samples: list[Sample] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0  # how long it ran; set when it has ended
    people: list[Visitor] = field(default_factory=list)
    lags: list[tuple[float, float]] = field(default_factory=list)  # when this machine was late itself, and by how many seconds

    def __enter__(self) -> Stream:
        """Start the stream and return it once every visitor has made a first request. Raises `RunbookError` when one of these fails."""
        self._ended, self._arrived = threading.Event(), threading.Event()
        self._began = time.monotonic()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        try:
            self._thread.start()
            self._arrived.wait()
        except BaseException:  # an interrupt: nobody calls __exit__, and the thread would send for as long as this process lives
            self._ended.set()
            raise
        if self._error:
            raise self._error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Send no new requests and wait for the open ones. Raises the error that ended the stream, unless the block raised one."""
        self._ended.set()
        self._thread.join(ANSWER_SECONDS + 5)
        if self._error and not error:
            raise self._error

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def pace(self, rate: float) -> float:
        """Change the rate to `rate` requests per second; return the time of the change in seconds after the start."""
        self.rate = rate
        return self.now

    @property
    def homes(self) -> dict[int, str]:
        """The first node of each visitor, by the visitor's number."""
        return {number: visitor.home for number, visitor in enumerate(self.people) if visitor.home}

    @property
    def holders(self) -> int:
        """Number of visitors who were given a session."""
        return sum(visitor.sessions > 0 for visitor in self.people)

    def mark(self, text: str) -> float:
        """Record an event; return its time in seconds after the start."""
        self.marks.append((self.now, text))
        return self.marks[-1][0]

    def until(self, second: float) -> None:
        """Wait until `second` seconds after the start, or until the stream has ended."""
        self.wait(lambda: self.now >= second, second - self.now + 1)

    def wait(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait until `reached()` is true or the stream has ended, at most `seconds`; return whether it is true."""
        wait_until(lambda: reached() or not self._thread.is_alive(), seconds, pause=POLL)
        return reached()

    def since(self, second: float) -> list[Sample]:
        """Return the ended requests that were due at `second` after the start or later."""
        return [sample for sample in list(self.samples) if sample.at >= second]

    def ended_since(self, second: float) -> list[Sample]:
        """Return the requests that ended at `second` after the start or later, newest first.

        When the local host is overloaded, they may have been due long before.
        """
        return list(takewhile(lambda sample: sample.at + sample.took >= second, reversed(self.samples)))

    def _run(self) -> None:
        try:
            asyncio.run(self._flow())
        except BaseException as error:  # raised again in the caller's thread by __enter__ or __exit__
            self._error = error
        finally:
            self._arrived.set()

    async def _flow(self) -> None:
        """Send the first request of every visitor, start the clock, then send requests at the rate until the stream is ended."""
        people = self.people = [Visitor() for _ in range(self.visitors)]
        under_way: set[asyncio.Task[None]] = set()
        control = asyncio.create_task(self._watch_this_machine())
        connections = _Connections(self.target)
        for first in range(0, self.visitors, ARRIVING):
            some = range(first, min(first + ARRIVING, self.visitors))
            await asyncio.gather(*(self._one(connections, number, people[number], self.now) for number in some))
        self._refuse_failures()
        self.samples.clear()
        self.lags.clear()
        self._began, number = time.monotonic(), 0
        rate, since, first = self.rate, 0.0, 0  # the rate, when it began, and the number of its first request
        self._arrived.set()
        while not self._ended.is_set():
            if rate != self.rate:
                rate, since, first = self.rate, self.now, number
            due = since + (number - first) / rate
            if (early := due - self.now) > 0:
                await asyncio.sleep(min(early, POLL))
                continue
            visitor = number % self.visitors
            task = asyncio.create_task(self._one(connections, visitor, people[visitor], due))
            under_way.add(task)
            task.add_done_callback(lambda done: self._account(done, under_way))
            number += 1
        self.seconds = self.now
        if under_way:
            await asyncio.wait(under_way, timeout=ANSWER_SECONDS + 2)
        control.cancel()
        await connections.close()

    async def _watch_this_machine(self) -> None:
        """Note how late a sleep ends: nothing of the cluster is in it, so it is the measure of what this machine adds by itself."""
        while True:
            before = self.now
            await asyncio.sleep(POLL)
            if (late := self.now - before - POLL) >= LATE:
                self.lags.append((self.now, late))

    def late_since(self, second: float) -> float:
        """Return by how many seconds at most this machine was late itself since `second` after the start; 0.0 when it was not."""
        return max((late for ended, late in reversed(self.lags) if ended >= second), default=0.0)

    def _refuse_failures(self) -> None:
        """Raise `RunbookError` when a first request failed: a drill of a deployment that does not work proves nothing."""
        failed = [sample.failure for sample in self.samples if sample.failure]
        if failed:
            what = f"{len(failed)} of {self.visitors} visitors got no good answer before the drill: {failed[0]}"
            raise RunbookError(what, self.target.url, "verify the chapters before; then drill again")

    def _account(self, done: asyncio.Task[None], under_way: set[asyncio.Task[None]]) -> None:
        """Remove an ended task. An unexpected exception in it is an error of this program, not a failed request: it ends the stream."""
        under_way.discard(done)
        if not done.cancelled() and (error := done.exception()):
            self._error = error
            self._ended.set()

    async def _one(self, connections: _Connections, number: int, visitor: Visitor, due: float) -> None:
        """Send one request and append its `Sample`."""
        sent, node, failure, retried, lost = dict(visitor.cookies), "", "", False, False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer, retried = await connections.ask(visitor.header())
            headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in answer.headers]
            node = next((value for name, value in headers if name == "x-served-by"), "")
            visitor.home = visitor.home or node
            failure = f"status {answer.status}" if self.target.refuses(answer.status) else ""
            lost = _keep(visitor, sent, [value for name, value in headers if name == "set-cookie"])
        except TimeoutError:
            failure = f"no answer within {ANSWER_SECONDS:.0f} s"
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
            failure = f"{type(error).__name__}: {error}".rstrip(": ")
        await asyncio.sleep(0)  # the control, if it is late as well, says so first
        self.samples.append(Sample(due, self.now - due, number, node, failure, retried, lost, self.late_since(due)))


class _Connections:
    """Kept connections; the one used last is used first.

    The library's own pool inspects every connection for every request, which is too slow with a hundred open requests.
    """

    def __init__(self, target: Target):
        self._to = target
        self._tls = ssl.create_default_context(cadata=target.ca)
        self._idle: list[httpcore2.AsyncHTTPConnection] = []

    async def ask(self, cookies: str) -> tuple[httpcore2.Response, bool]:
        """Send the request; return the response, and whether it was retried because a kept connection was closed."""
        to = self._to
        url = httpcore2.URL(scheme="https", host=to.address, port=to.port, target=to.path)
        headers = {"Host": to.host, "X-Runbook-Probe": "1", "User-Agent": "runbook-drill"}
        headers |= {"Cookie": cookies} if cookies else {}
        request = httpcore2.Request("GET", url, headers=list(headers.items()), extensions={"sni_hostname": to.host})
        if kept := await self._kept():
            with suppress(httpcore2.RemoteProtocolError, httpcore2.ReadError, httpcore2.WriteError):
                return await self._ask_on(kept, request), False
        # The retry does not use another kept connection: what closed the first one (a reload of Nginx) closes all of them.
        fresh = httpcore2.AsyncHTTPConnection(url.origin, ssl_context=self._tls, keepalive_expiry=60)
        return await self._ask_on(fresh, request), kept is not None

    async def _ask_on(self, connection: httpcore2.AsyncHTTPConnection, request: httpcore2.Request) -> httpcore2.Response:
        try:
            answer = await connection.handle_async_request(request)
            await answer.aread()
            await answer.aclose()
        except BaseException:
            await connection.aclose()
            raise
        if connection.is_idle():
            self._idle.append(connection)
        return answer

    async def _kept(self) -> httpcore2.AsyncHTTPConnection | None:
        """Return the last used idle connection that has not expired, or None."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def close(self) -> None:
        for connection in self._idle:
            await connection.aclose()


def _keep(visitor: Visitor, sent: dict[str, str], given: list[str]) -> bool:
    """Store the cookies of a response; return whether it replaced the session that the request had sent.

    When several open requests sent the same old session, only the first response counts as a loss.
    """
    lost = False
    for text in given:
        name, _, value = text.split(";", 1)[0].partition("=")
        if name == "JSESSIONID":
            stale = name in sent and visitor.cookies.get(name) != sent[name]
            lost = lost or (name in sent and not stale)
            if stale:
                continue
            visitor.sessions += 1
        visitor.cookies[name] = value
    return lost
