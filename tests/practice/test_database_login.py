"""The check that signs in at the database through an SSH channel, against a server that offers TLS as MySQL 8 and MariaDB 11.8 do."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from runbook_lib import pki
from runbook_lib.checks.database import _login
from runbook_lib.ssh import Host
from runbook_lib.topology.databases import Database as Wanted
from runbook_lib.webclient.transport import tls_context
from tests.conftest import need
from tests.support.practice_nodes import Database


class Channel:
    """What a channel of an SSH connection offers of a socket, and no more."""

    def __init__(self, wire: socket.socket):
        self.sendall, self.recv, self.settimeout = wire.sendall, wire.recv, wire.settimeout
        self.makefile, self.close = wire.makefile, wire.close


class Node:
    """A host whose tunnels end at this machine's own server."""

    name = "store-1"

    def __init__(self, port: int):
        self._port = port

    def tunnel(self, address: str, port: int) -> Channel:
        return Channel(socket.create_connection(("127.0.0.1", self._port), 10))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    need(shutil.which("mariadbd") and shutil.which("mariadb-install-db"), "needs mariadb-server-core")
    folder = tmp_path_factory.mktemp("tls")
    authority = pki.make_ca("test")
    certificate, key = pki.issue(authority, ["10.0.0.1"])
    (folder / "server.pem").write_text(certificate)
    (folder / "server.key").write_text(key)
    found = Database(tmp_path_factory.mktemp("mariadb"), f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key")
    found.ca = authority.cert_pem
    yield found
    found.stop()


def test_an_account_signs_in_inside_tls(server: Database) -> None:
    assert server.sql("SELECT @@have_ssl") == ["YES"]
    server.sql("DROP DATABASE IF EXISTS test; CREATE DATABASE one; CREATE USER one@'%' IDENTIFIED BY 'right'; GRANT ALL ON one.* TO one@'%'")
    host, wanted = cast(Host, Node(server.port)), Wanted("one", "one", "", 0, "", "")
    trusted, others = (tls_context(each) for each in (server.ca, pki.make_ca("another").cert_pem))
    assert _login(host, "10.0.0.1", wanted, "right", trusted) == ""
    assert "Access denied" in _login(host, "10.0.0.1", wanted, "wrong", trusted)
    assert "certificate verify failed" in _login(host, "10.0.0.1", wanted, "right", others)
    assert "certificate verify failed" in _login(host, "10.0.0.2", wanted, "right", trusted), "it is for another address"
