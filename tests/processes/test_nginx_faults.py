"""The faults of the teaching cells are what the text says they are, on a real Nginx."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from runbook_lib.checks.nginx_faults import faults, try_faults
from runbook_lib.ssh import Completed
from tests.conftest import need
from tests.support.nginx_process import site, with_secrets

NET = 200 + os.getpid() % 50


class Here:
    """This machine as a host, without sudo."""

    name = "here"

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60) -> Completed:
        done = subprocess.run(["sh", "-c", command.removeprefix("sudo -n ")], input=stdin, capture_output=True, timeout=timeout)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def table():
    need(shutil.which("nginx"), "nginx is not installed (apt-get install --no-install-recommends nginx-light)")
    return try_faults(Here())  # type: ignore[arg-type]


def test_the_silent_faults_are_accepted_and_the_loud_ones_are_not(table):
    said = {fault.id: row[1].split(":")[0] for fault, row in zip(faults(), table.rows, strict=True)}
    assert said["same-node-twice"] == said["plain-port-behind-https"] == "accepted without a word"
    assert said["listen-without-ssl"] == said["every-path-forwarded"] == "accepted without a word"
    assert said["ssl-on"] in ("accepted, with a warning", "refused")
    assert said["variable-in-proxy-pass"] == "refused"


def test_every_repair_is_accepted_without_a_word(table):
    assert {row[2] for row in table.rows} == {"accepted without a word"}


def test_the_same_node_twice_leaves_the_other_without_visitors(tmp_path):
    ctx = with_secrets("greg-separated", "full")
    addresses = [f"127.{NET}.0.{last}:19443" for last in (71, 72)]
    with site(ctx, tmp_path, NET, change=(f"server {addresses[1]}", f"server {addresses[0]}")) as found:
        assert {found.get("publisher", "/publisher/").node for _ in range(30)} == {"publisher-1"}


def test_a_plain_port_is_hidden_by_the_retry_and_all_load_sits_on_the_other_node(tmp_path):
    ctx = with_secrets("greg-separated", "full")
    broken = f"127.{NET + 1}.0.62"
    with site(ctx, tmp_path, NET + 1, change=(f"server {broken}:19443", f"server {broken}:18080")) as found:
        answers = [found.get("store", "/store/") for _ in range(30)]
    assert {(answer.status, answer.node) for answer in answers} == {(200, "store-1")}


@pytest.mark.parametrize(("hardening", "status"), [("hosts", 200), ("full", 404)])
def test_a_location_that_forwards_every_path_opens_the_publisher_on_the_stores_host(tmp_path, hardening, status):
    with site(with_secrets("greg-separated", hardening), tmp_path, NET + 2) as found:
        assert found.get("store", "/publisher/").status == status
