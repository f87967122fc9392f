"""The HTTP proxy through which the machines get Debian packages: it has a disk cache and serves this machine's mirrors only.

Packages and by-hash indexes never change, so they are fetched once. Release files are requested again after ten
minutes, and served from the cache when the mirror cannot be reached. How this machine itself reaches the mirror
(a proxy, https) is handled here; the machines use plain HTTP.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from ec2lab.errors import lab_command
from ec2lab.machines.image import mirrors
from ec2lab.paths import CACHE
from ec2lab.shell import lines

log = logging.getLogger("proxy")
UNCHANGING = ("/pool/", "/by-hash/")
FRESH_SECONDS = 600  # age up to which a cached Release file is served without a request to the mirror
KEPT_HEADERS = ("content-type", "last-modified", "etag")


class PackageCache:
    """Responses of the mirrors, kept on disk. `fetched` counts the files downloaded from a mirror."""

    def __init__(self, folder: Path = CACHE / "packages"):
        self.folder = folder
        self.fetched = 0
        self.schemes = {urlsplit(uri).netloc: urlsplit(uri).scheme for uri in mirrors().values()}
        host_proxy = lines("apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy")
        self.client = httpx2.Client(
            proxy=host_proxy[0] if host_proxy and host_proxy[0] not in ("", "DIRECT") else None,
            timeout=60,
            follow_redirects=True,
            headers={"Accept-Encoding": "identity"},
        )
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, url: str) -> tuple[int, dict[str, str], Path | None]:
        """Return status, headers and file (None without one) for `url`. Simultaneous requests for the same URL wait for one download.

        The status is 403 for a host that is not a mirror, 504 when the mirror cannot be reached and the file is not cached.
        """
        parts = urlsplit(url)
        if parts.netloc not in self.schemes:
            return 403, {}, None
        kept = self.folder / parts.netloc / hashlib.sha256(parts.path.encode()).hexdigest()[:2] / _file_name(parts.path)
        with self._guard:
            lock = self._locks.setdefault(url, threading.Lock())
        with lock:
            if kept.is_file() and (any(part in parts.path for part in UNCHANGING) or _is_fresh(kept)):
                return 200, _read_headers(kept), kept
            return self._fetch(parts._replace(scheme=self.schemes[parts.netloc]).geturl(), kept)

    def _fetch(self, url: str, kept: Path) -> tuple[int, dict[str, str], Path | None]:
        known = _read_headers(kept) if kept.is_file() else {}
        asked = {"If-Modified-Since": known["last-modified"]} if "last-modified" in known else {}
        try:
            with self.client.stream("GET", url, headers=asked) as answer:
                if answer.status_code == 304:
                    kept.touch()
                    return 200, known, kept
                if answer.status_code != 200:
                    return answer.status_code, {}, None
                self._keep(answer, kept)
                return 200, _read_headers(kept), kept
        except httpx2.HTTPError as problem:
            log.warning("%s: %s", url, problem)
            return (200, known, kept) if kept.is_file() else (504, {}, None)

    def _keep(self, answer: httpx2.Response, kept: Path) -> None:
        """Write the response to a temporary file and rename it, so that a reader never sees a partial file."""
        kept.parent.mkdir(parents=True, exist_ok=True)
        headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as half:
            try:
                for chunk in answer.iter_bytes():
                    half.write(chunk)
                size = answer.headers.get("content-length")
                if size is not None and half.tell() != int(size):
                    raise httpx2.ReadError(f"{half.tell()} of {size} bytes")
            except BaseException:
                os.unlink(half.name)
                raise
        kept.with_name(kept.name + ".headers").write_text("".join(f"{k}: {v}\n" for k, v in headers.items()))
        os.replace(half.name, kept)
        self.fetched += 1
        log.info("fetched %s", answer.url)


def _is_fresh(kept: Path) -> bool:
    return time.time() - kept.stat().st_mtime < FRESH_SECONDS


def _file_name(path: str) -> str:
    """Return a file name that is readable and unique for the path."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:16]}-{path.rsplit('/', 1)[-1][-80:]}"


def _read_headers(kept: Path) -> dict[str, str]:
    with suppress(FileNotFoundError):
        return dict(line.split(": ", 1) for line in kept.with_name(kept.name + ".headers").read_text().splitlines())
    return {}


def serve(address: str, port: int, cache: PackageCache, allowed: Iterable[str] = ()) -> ThreadingHTTPServer:
    """Return a listening proxy that does not serve yet. `allowed`: hosts that may also be reached by CONNECT, uncached."""
    tunnels = frozenset(allowed)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/statistics":
                return self._text(200, str(cache.fetched))
            status, headers, body = cache.get(self.path)
            if body is None:
                why = "the lab's proxy serves Debian's mirrors only" if status == 403 else "the mirror said so"
                return self._text(status, why)
            asked, modified = self.headers.get("If-Modified-Since"), headers.get("last-modified")
            self.send_response(304 if asked and asked == modified else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            if asked and asked == modified:
                return self.end_headers()
            with body.open("rb") as handle:
                self.send_header("Content-Length", str(os.fstat(handle.fileno()).st_size))
                self.end_headers()
                self.wfile.flush()
                self.connection.sendfile(handle)

        def do_CONNECT(self) -> None:
            host, _, port_text = self.path.rpartition(":")
            if host not in tunnels or not port_text.isdigit():
                return self._text(403, f"{host} was not asked for: {lab_command(f'up --allow {host}')}")
            with socket.create_connection((host, int(port_text)), timeout=30) as far:
                self.send_response(200)
                self.end_headers()
                _relay(self.connection, far)
            self.close_connection = True

        def _text(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text) + 1))
            self.end_headers()
            self.wfile.write(text.encode() + b"\n")

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    ThreadingHTTPServer.daemon_threads = True
    return ThreadingHTTPServer((address, port), Handler)


def _relay(near: socket.socket, far: socket.socket) -> None:
    """Copy bytes both ways until one side closes, or nothing was sent for 300 seconds."""
    while True:
        ready, _, _ = select.select([near, far], [], [], 300)
        if not ready:
            return
        for end in ready:
            data = end.recv(65536)
            if not data:
                return
            (far if end is near else near).sendall(data)
