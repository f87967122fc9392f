"""One HTTP exchange on a connection of its own: chosen address, chosen TLS name, request target byte for byte.

httpx2 builds the request and reads the answer. The connection is ours, so that a host name can stand for any address,
any object with `sendall` and `recv` can be the connection (a socket, a channel of an SSH connection), and no library
normalises `/store/%2e%2e/publisher/`. Every exchange opens a new connection, because a kept one would hide a closed port
or a changed certificate; only the load of a drill keeps its connections.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpcore2
import httpx2

_T = TypeVar("_T")


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


class _Plain(httpcore2.NetworkStream):
    """A connected object as a stream of httpcore2, with one deadline for the whole exchange."""

    def __init__(self, channel: Connected, deadline: float):
        self._channel, self._deadline = channel, deadline

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Timeout("no complete answer in time")
        self._channel.settimeout(left)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._arm()
        return self._channel.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._arm()
        self._channel.sendall(buffer)

    def close(self) -> None:
        self._channel.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None) -> httpcore2.NetworkStream:
        return _Tls(self, ssl_context, server_hostname)

    def get_extra_info(self, info: str) -> Any:
        return None


class _Tls(httpcore2.NetworkStream):
    """TLS through memory buffers: unlike `wrap_socket` it needs no file descriptor below."""

    def __init__(self, below: _Plain, context: ssl.SSLContext, name: str | None):
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
                received = self._below.read(65536)
                self._incoming.write(received) if received else self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if waiting := self._outgoing.read():
            self._below.write(waiting)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._pump(lambda: self._tls.read(max_bytes))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._pump(lambda: self._tls.write(buffer))

    def close(self) -> None:
        self._below.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else None


class _Connector(httpcore2.NetworkBackend):
    """Opens the connection: looks the host name up in `addresses`, then calls `connect`."""

    def __init__(self, addresses: Mapping[str, str], connect: Connect | None, timeout: float):
        self._addresses, self._connect, self._timeout = addresses, connect, timeout

    def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore2.NetworkStream:
        deadline = time.monotonic() + self._timeout
        address = self._addresses.get(host, host)
        if address.count(":") == 1:
            address, _colon, mapped = address.partition(":")
            port = int(mapped)
        try:
            if self._connect:
                return _Plain(self._connect(address, port), deadline)
            return _Plain(socket.create_connection((address, port), timeout=self._timeout), deadline)
        except TimeoutError:
            raise
        except OSError as error:
            raise Refused(error.strerror or str(error)) from error


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
        self._backend, self._context, self._keep = _Connector(addresses, connect, timeout), tls_context(ca), keep
        self._pool = self._fresh_pool()

    def _fresh_pool(self) -> httpcore2.ConnectionPool:
        return httpcore2.ConnectionPool(ssl_context=self._context, network_backend=self._backend, max_keepalive_connections=2 if self._keep else 0)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()

    def send(self, method: str, origin: str, target: str, headers: Mapping[str, str], body: bytes, sni: str | None = None) -> httpx2.Response:
        """Send one request and return the answer.

        `origin` is scheme://host[:port]; `target` is sent exactly as written; `sni` replaces the TLS name.
        """
        request = httpx2.Request(method, origin, headers=headers, content=body)
        extensions = {"target": target.encode("utf-8")} | ({"sni_hostname": sni} if sni else {})
        url = httpcore2.URL(scheme=request.url.scheme, host=request.url.host, port=request.url.port, target=extensions["target"])
        try:
            raw = self._pool.handle_request(httpcore2.Request(method, url, headers=request.headers.raw, content=body, extensions=extensions))
            content = raw.read()
            raw.close()
        except Exception as error:
            raise _translated(error, origin) from error
        return httpx2.Response(raw.status, headers=raw.headers, content=content, request=request)


def _translated(error: Exception, origin: str) -> Exception:
    if isinstance(error, TimeoutError):
        return Timeout(f"{origin}: no answer in time")
    if isinstance(error, Refused):
        return Refused(f"{origin}: {error}")
    if isinstance(error, ssl.SSLError):
        return TlsRefused(f"{origin}: {getattr(error, 'verify_message', '') or error.reason or error}")
    if isinstance(error, (OSError, EOFError, httpcore2.RemoteProtocolError)):
        return Closed(f"{origin}: the server closed the connection without an answer")
    return error
