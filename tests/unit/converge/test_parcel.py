"""A parcel on its way: what it puts where, and that one that is damaged puts nothing, checked beforehand or not."""

from __future__ import annotations

import http.server
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.converge.agent import homes
from runbook_lib.converge.engine import ask
from runbook_lib.errors import HostError
from tests.support.local_host import LocalHost

HELD = {"webapps/own.war": b"own", "carbonapps/own.car": b"car"}


@dataclass
class Store:
    """A place that gives one object to whoever asks; `tmp` is the host's disk, with the home `home` and the shelf `kept`."""

    tmp: Path
    url: str
    body: bytes = b""
    withheld: int = 0  # bytes of the body that its answer announces and does not send
    ended: threading.Event | None = None  # what the answer then waits for; None: the connection is closed

    def asked(self, what: str, **spoilt: Any) -> dict[str, Any]:
        order = {
            "kind": "parcel", "key": "parcel", "what": what, "base": str(self.tmp / "home"), "owner": "", "from": {"url": self.url, "headers": {}},
            "to": {"url": self.url, "headers": {}}, "folders": ["webapps", "carbonapps"], "endings": [".war", ".car"],
            "sha256": sha256(self.body).hexdigest(), "holds": [*HELD], **spoilt,
        }  # fmt: skip
        hurry = {"timeout=300": "timeout=5"} if self.ended else {}
        host: Any = LocalHost("db-1", {"/var/backups/runbook-mysql": str(self.tmp / "kept"), **hurry})
        said: dict[str, Any] = {}
        ask(host, "apply", [order], said.update)
        return said

    def stays(self) -> list[str]:
        return [os.path.join(folder, name) for folder, _, names in os.walk(self.tmp) for name in names]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    class Objects(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body[: len(found.body) - found.withheld])
            if found.ended:
                found.ended.wait(60)

        def do_PUT(self) -> None:
            found.body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in HELD.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            (tmp_path / "home" / name).parent.mkdir(parents=True)
    found = Store(tmp_path, f"http://127.0.0.1:{server.server_port}/archives.tar.gz", packed.getvalue())
    yield found
    server.shutdown()


def test_a_whole_one_puts_its_files_where_they_differ_and_checking_it_puts_nothing(store: Store) -> None:
    assert store.asked("check")["put"] == [] and store.stays() == []
    assert store.asked("take")["put"] == [*HELD] and store.asked("take")["put"] == []
    assert {str(store.tmp / "home" / name): content for name, content in HELD.items()} == {path: Path(path).read_bytes() for path in store.stays()}


def test_what_the_homes_own_archive_brought_is_not_sent_unless_it_was_changed(store: Store) -> None:
    home = store.tmp / "home"
    for name, text in {"webapps/shipped.war": "shipped", "webapps/replaced.war": "shipped", "webapps/own.war": "own"}.items():
        (home / name).write_text(text)
    homes.write_manifest(str(home), {name: homes.checksum(str(home / name)) for name in ("webapps/shipped.war", "webapps/replaced.war")})
    (home / "webapps/replaced.war").write_text("another")
    said = store.asked("send")
    assert said["holds"] == ["webapps/own.war", "webapps/replaced.war"] and said["sha256"] == sha256(store.body).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(store.body)) as archive:
        assert archive.getnames() == said["holds"]


@pytest.mark.parametrize("what", ["check", "take"])
@pytest.mark.parametrize(
    "spoil", [lambda store: {"sha256": "ab" * 32}, lambda store: {"holds": ["webapps/other.war"]}, lambda store: setattr(store, "body", store.body[:40]) or {}],
    ids=["another file", "a file that it lacks", "cut short"],
)  # fmt: skip
def test_a_damaged_one_is_told_with_the_way_out_and_nothing_of_it_stays(store: Store, what: str, spoil: Callable[[Store], dict[str, Any]]) -> None:
    with pytest.raises(HostError, match="its manifest says") as told:
        store.asked(what, **spoil(store))
    assert "restore an earlier backup" in (told.value.next_step or "") and store.stays() == []


@pytest.mark.parametrize("stalls", [False, True])
def test_one_whose_connection_breaks_is_not_called_damaged(store: Store, stalls: bool) -> None:
    store.withheld, store.ended = 10, threading.Event() if stalls else None
    with pytest.raises(HostError, match=r"cannot fetch .*/archives\.tar\.gz: cut short") as told:
        store.asked("take")
    assert "then run the step again" in (told.value.next_step or "") and store.stays() == []
    if store.ended:
        store.ended.set()
