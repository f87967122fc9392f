"""Nginx's access log is read as its configuration writes it, and a start's log with its times."""

from __future__ import annotations

import re

import pytest

from runbook_lib.checks.membership import happened
from runbook_lib.checks.product_nodes import _utc
from runbook_lib.checks.request_way import logged
from tests.conftest import ROOT

VALUES = {
    "remote_addr": "198.51.100.7", "time_iso8601": "2026-01-01T00:00:00+00:00", "request_method": "GET", "host": "store.lab.test", "uri": "/store/a b",
    "status": "200", "body_bytes_sent": "12", "request_time": "0.020", "upstream_addr": "10.0.0.61:9443", "upstream_connect_time": "0.001",
    "upstream_response_time": "0.019",
}  # fmt: skip
TWO = {"upstream_addr": "10.0.0.61:9443, 10.0.0.62:9443", "upstream_connect_time": "-, 0.001", "upstream_response_time": "0.000, 0.019"}


def written(**changes: str) -> str:
    """A line as the format of nginx.conf.j2 writes it."""
    found = re.search(r"log_format runbook ((?:'[^']*'\s*)+);", (ROOT / "runbook_lib" / "roles" / "nginx.conf.j2").read_text())
    assert found
    return re.sub(r"\$(\w+)", lambda name: (VALUES | changes)[name[1]], "".join(re.findall(r"'([^']*)'", found[1])))


@pytest.mark.parametrize(
    ("changes", "upstream", "connect", "response"),
    [
        ({}, "10.0.0.61:9443", "0.001", "0.019"),
        (TWO, TWO["upstream_addr"], "-, 0.001", "0.000, 0.019"),
        (dict.fromkeys(TWO, "-"), "-", "-", "-"),
    ],
    ids=["one node", "a second node after the first failed", "refused by Nginx itself"],
)
def test_a_line_is_read_as_the_configuration_writes_it(changes: dict[str, str], upstream: str, connect: str, response: str) -> None:
    (line,) = logged(f"something else\n{written(**changes)}\n")
    assert (line.method, line.host, line.path, line.status, line.seconds) == ("GET", "store.lab.test", "/store/a b", "200", "0.020")
    assert (line.upstream, line.connect, line.response) == (upstream, connect, response)


def test_a_starts_log_is_read_with_times() -> None:
    lines = (
        "Starting WSO2 Carbon... {x}", "Cluster domain: store.domain {x}", "Elected this member [a-1] as the Coordinator node {x}",
        "Cluster initialization completed {x}", "WSO2 Carbon started in 4 sec {x}", "Member joined [b-2]: /10.0.0.62:4000 {x}", "nothing of note",
    )  # fmt: skip
    log = "\n".join(f"TID: [-1234] [] [2026-01-01 01:00:0{number},500]  INFO {{x}} -  {words}" for number, words in enumerate(lines))
    assert [(what, who) for _, what, who in happened(log)] == [
        ("starting", ""), ("domain", "store.domain"), ("elected", ""), ("joined", ""), ("ready", "WSO2 Carbon started in 4 sec"), ("met", "10.0.0.62"),
    ]  # fmt: skip
    assert _utc(happened(log)[1][0], "+0130\n") == "2025-12-31T23:30:01.500+00:00"
