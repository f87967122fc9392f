"""The package proxy: one download for all machines, for Debian's mirrors only, also when the mirror is away."""

from __future__ import annotations

import http.server
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from ec2lab import proxy


def downloads(lab) -> list[str]:
    """What the lab's log says of packages that it fetched; Release files are asked for again after ten minutes."""
    with urllib.request.urlopen(f"{lab.lab.proxy}/statistics") as answer:
        counted = int(answer.read())
    fetched = [line for line in lab.lab.log.read_text().splitlines() if " fetched " in line]
    assert len(fetched) >= counted, "the log has every download that the proxy counted"
    return [line for line in fetched if "/pool/" in line]


def test_the_second_machine_that_installs_a_package_downloads_nothing(lab, net, launch):
    first, second = launch(10), launch(11)
    lab.internet(net.vpc)
    for box in (first, second):
        lab.elastic_ip(box)
    install = "sudo apt-get update -q && sudo DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends jq"
    first.run(install)
    before = downloads(lab)
    second.run(install)
    assert second.run("jq --version").startswith("jq-")
    assert downloads(lab) == before


class Mirror:
    """A mirror of two files, whose requests are counted; `gate` holds answers back."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                mirror.gate.wait(10)
                if self.path.endswith("missing.deb"):
                    return self.send_error(404)
                body = self.path.encode() * 10000
                self.send_response(200)
                self.send_header("Content-Length", str(len(body) + (1 if "cut" in self.path else 0)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@pytest.fixture
def mirror():
    mirror = Mirror()
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()


@pytest.fixture
def cache(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(proxy, "mirrors", lambda: {"": mirror.url("/debian")})
    monkeypatch.setattr(proxy, "lines", lambda *command: [])
    return proxy.PackageCache(tmp_path)


def test_many_requests_for_one_file_make_one_download(cache, mirror):
    url = mirror.url("/debian/pool/a.deb")
    mirror.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(cache.get, url) for _ in range(8)]
        mirror.gate.set()
        bodies = {answer.result()[2].read_bytes() for answer in answers}
    assert bodies == {b"/debian/pool/a.deb" * 10000}
    assert mirror.requests == ["/debian/pool/a.deb"]


def test_two_files_are_downloaded_at_the_same_time(cache, mirror):
    mirror.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(cache.get, mirror.url(f"/debian/pool/{name}.deb")) for name in "ab"]
        while len(mirror.requests) < 2:  # both must have arrived before either is answered
            assert not any(answer.done() for answer in answers)
        mirror.gate.set()
        assert [answer.result()[0] for answer in answers] == [200, 200]


def test_a_release_file_is_served_from_the_cache_when_the_mirror_is_away(cache, mirror, monkeypatch):
    monkeypatch.setattr(proxy, "FRESH_SECONDS", 0)
    url = mirror.url("/debian/dists/bookworm/InRelease")
    first = cache.get(url)[2].read_bytes()
    mirror.server.shutdown()
    mirror.server.server_close()
    status, _, kept = cache.get(url)
    assert (status, kept.read_bytes()) == (200, first)


def test_what_the_mirror_does_not_have_is_not_kept(cache, mirror):
    url = mirror.url("/debian/pool/missing.deb")
    assert [cache.get(url)[0], cache.get(url)[0]] == [404, 404]
    assert len(mirror.requests) == 2


def test_a_download_that_breaks_off_is_not_kept(cache, mirror):
    status, _, kept = cache.get(mirror.url("/debian/pool/cut.deb"))
    assert (status, kept) == (504, None)
    assert not [path for path in cache.folder.rglob("*") if path.is_file()]


def test_other_hosts_are_refused(lab, cache):
    assert cache.get("http://example.invalid/pool/a.deb")[0] == 403
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": lab.lab.proxy}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open("http://example.invalid/pool/a.deb")
    assert caught.value.code == 403


def test_a_tunnel_leads_only_where_it_was_asked_for(cache, mirror):
    port = urlsplit(mirror.url("/")).port
    for allowed, expected in (([], b"403"), (["127.0.0.1"], b"200")):
        server = proxy.serve("127.0.0.1", 0, cache, allowed)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection(server.server_address) as peer:
            peer.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
            assert peer.recv(100).split()[1] == expected
        server.shutdown()
        server.server_close()
