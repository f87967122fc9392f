"""One HTTP exchange on a connection of its own: chosen address, chosen TLS name, request target byte for byte.

h11 writes the request and reads the answer. The connection is ours, so that a host name can stand for any address,
any object with `sendall` and `recv` can be the connection (a socket, a channel of an SSH connection), and no library
normalises `/store/%2e%2e/publisher/`. No request asks for a compressed answer. Every exchange opens a new connection, because a kept one would hide
a closed port or a changed certificate; only the load of a drill and the generated attempts keep their connections.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import h11

_T = TypeVar("_T")
BLOCK = 65536  # bytes
LONGEST_HEAD = 100 * 1024  # bytes of an answer's status line and headers
WITH_LENGTH = ("POST", "PUT", "PATCH")  # methods that say how long their body is, also when there is none
CHARSET = re.compile(r"charset=[\"']?([\w-]+)", re.IGNORECASE)


class Connected(Protocol):
    """What a connection must offer; sockets and paramiko channels do."""

    def sendall(self, data: bytes, /) -> Any: ...
    def recv(self, count: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> Any: ...
    def close(self) -> Any: ...


Connect = Callable[[str, int], Connected]


class Closed(ConnectionError):
    """The server closed the connection without an answer (Nginx does so for status 444)."""


class Refused(ConnectionError):
    """Nothing listens there, or a firewall rejects the connection."""


class Timeout(TimeoutError):
    """No connection or no complete answer in time (a security group drops packets silently)."""


class TlsRefused(ConnectionError):
    """The TLS handshake failed: the certificate is not trusted or not for this name, or the server refuses the name."""


@dataclass(frozen=True)
class Response:
    """The answer as it came: `headers` with their names in small letters."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return the values of a header, with commas between them; empty when there is none. `name` is in small letters."""
        return ", ".join(self.all(name))

    def all(self, name: str) -> list[str]:
        """Return the value of each header of this name."""
        return [value for given, value in self.headers if given == name]

    @property
    def text(self) -> str:
        """The body in the encoding that the answer names, or UTF-8. What is not of this encoding is replaced."""
        named = CHARSET.search(self.header("content-type"))
        with suppress(LookupError):
            return self.body.decode(named[1] if named else "utf-8", "replace")
        return self.body.decode("utf-8", "replace")


class _Plain:
    """A connected object with one deadline for all that is sent and received."""

    def __init__(self, channel: Connected, deadline: float):
        self._channel, self._deadline = channel, deadline

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Timeout("no complete answer in time")
        self._channel.settimeout(left)

    def read(self) -> bytes:
        self._arm()
        return self._channel.recv(BLOCK)

    def write(self, data: bytes) -> None:
        self._arm()
        self._channel.sendall(data)

    def close(self) -> None:
        self._channel.close()


class _Tls:
    """TLS through memory buffers: unlike `wrap_socket` it needs no file descriptor below."""

    def __init__(self, below: _Plain, context: ssl.SSLContext, name: str):
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._pump(self._tls.do_handshake)

    def _pump(self, step: Callable[[], _T]) -> _T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                received = self._below.read()
                self._incoming.write(received) if received else self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if waiting := self._outgoing.read():
            self._below.write(waiting)

    def read(self) -> bytes:
        try:
            return self._pump(lambda: self._tls.read(BLOCK))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def write(self, data: bytes) -> None:
        self._pump(lambda: self._tls.write(data))

    def close(self) -> None:
        self._below.close()


class _Connection:
    """HTTP/1.1 on one connection."""

    def __init__(self, stream: _Plain | _Tls):
        self._stream, self._http = stream, h11.Connection(h11.CLIENT, LONGEST_HEAD)

    def exchange(self, request: h11.Request, body: bytes) -> Response:
        """Send a request and return the answer to it."""
        self._stream.write((self._http.send(request) or b"") + (self._http.send(h11.Data(body)) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        answer: h11.Response | h11.InformationalResponse | None = None
        parts = []
        for event in self._events():
            if isinstance(event, h11.Response | h11.InformationalResponse):  # the last of them: one that says "go on" comes before
                answer = event
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
        if answer is None:
            raise Closed("the server closed the connection without an answer")
        headers = [(name.decode("ascii"), _decoded(value)) for name, value in answer.headers]
        return Response(answer.status_code, headers, b"".join(parts))

    def _events(self) -> Iterator[Any]:
        """Yield what comes until the answer has ended."""
        while not isinstance(event := self._http.next_event(), h11.EndOfMessage | h11.PAUSED):
            if event is h11.NEED_DATA:
                received = self._stream.read()
                if not received and self._http.their_state is h11.SEND_RESPONSE:
                    raise Closed("the server closed the connection without an answer")
                self._http.receive_data(received)
            yield event

    def again(self) -> bool:
        """Return whether another request can be sent, and be ready for it."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        self._stream.close()


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("iso-8859-1")


def tls_context(ca: str | Path | None) -> ssl.SSLContext:
    """Return a TLS context that trusts exactly the CA given (PEM text or file); None verifies nothing and accepts even the packs' weak key."""
    if ca is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        return context
    if "-----BEGIN" in str(ca):
        return ssl.create_default_context(cadata=str(ca))
    return ssl.create_default_context(cafile=ca)


class Wire:
    """Sends one request and reads its answer.

    `addresses` gives `address` or `address:port` for a host name; a name without an entry is used as it is. `timeout`
    (seconds) bounds a whole exchange. Raises `Refused`, `Timeout`, `TlsRefused` or `Closed`, all of them `OSError`.
    `keep` holds connections open from one exchange to the next, for one thread; `timeout` then bounds a connection's life.
    """

    def __init__(self, addresses: Mapping[str, str], ca: str | Path | None, connect: Connect | None, timeout: float, keep: bool = False):
        self._addresses, self._connect, self._timeout, self._keep = addresses, connect, timeout, keep
        self._context = tls_context(ca)
        self._context.set_alpn_protocols(["http/1.1"])
        self._kept: dict[tuple[str, str, str], _Connection] = {}

    def close(self) -> None:
        """Close the connections that are kept."""
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def send(self, method: str, origin: str, target: str, headers: Mapping[str, str], body: bytes, sni: str | None = None) -> Response:
        """Send one request and return the answer.

        `origin` is scheme://host[:port]; `target` is sent exactly as written; `sni` replaces the TLS name.
        """
        sent = dict(headers)
        if (body or method in WITH_LENGTH) and "content-length" not in map(str.lower, sent):
            sent["Content-Length"] = str(len(body))
        request = h11.Request(method=method, target=target.encode("utf-8"), headers=[(name, value) for name, value in sent.items()])
        scheme, _, place = origin.partition("://")
        key, connection, keep = (scheme, place, sni or ""), None, False
        try:
            connection = self._kept.pop(key, None) or self._opened(scheme, place, sni)
            answer = connection.exchange(request, body)
            keep = self._keep and connection.again()
        except Exception as error:
            raise _translated(error, origin) from error
        finally:
            if connection and not keep:
                connection.close()
        if keep:
            self._kept[key] = connection
        return answer

    def _opened(self, scheme: str, place: str, sni: str | None) -> _Connection:
        """Return a new connection to a host, or host and port: the address comes from `addresses`."""
        host, _, port = place.partition(":")
        address, mapped = self._addresses.get(host, host), ""
        if address.count(":") == 1:
            address, _, mapped = address.partition(":")
        at = address, int(mapped or port or (443 if scheme == "https" else 80))
        deadline = time.monotonic() + self._timeout
        try:
            channel = self._connect(*at) if self._connect else socket.create_connection(at, timeout=self._timeout)
        except TimeoutError:
            raise
        except OSError as error:
            raise Refused(error.strerror or str(error)) from error
        plain = _Plain(channel, deadline)
        try:
            return _Connection(_Tls(plain, self._context, sni or host) if scheme == "https" else plain)
        except BaseException:
            plain.close()
            raise


def _translated(error: Exception, origin: str) -> Exception:
    if isinstance(error, TimeoutError):
        return Timeout(f"{origin}: no answer in time")
    if isinstance(error, Refused):
        return Refused(f"{origin}: {error}")
    if isinstance(error, ssl.SSLError):
        return TlsRefused(f"{origin}: {getattr(error, 'verify_message', '') or error.reason or error}")
    if isinstance(error, (OSError, EOFError, h11.RemoteProtocolError)):
        return Closed(f"{origin}: the server closed the connection without an answer")
    return error
