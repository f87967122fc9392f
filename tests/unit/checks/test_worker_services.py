"""A worker is asked for its administration services as who has the right to them, with a message that names an operation."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.check import Check
from runbook_lib.checks.cluster import Front, shut
from runbook_lib.ssh import Fleet
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.response import Answer
from tests.fakes import context

PASSWORD = "of-the-administrator"
AS_ADMINISTRATOR = "Basic " + b64encode(f"admin:{PASSWORD}".encode()).decode()


WRONG = "Access Denied. Authentication failed - Invalid credentials provided."


def verified(monkeypatch: pytest.MonkeyPatch, authorised: int | None, body: str = "", path: str = "/services/UserAdmin") -> Check:
    """The check of one worker that answers in the order of the product's handlers: no operation, nobody signed in, then `authorised`.

    It has one service, at `path`.
    """
    ctx = context("as-cluster")

    def request(self: Client, method: str, url: str, *, data: Any = None, headers: Mapping[str, str] | None = None, **_: object) -> Answer:
        given = headers or {}
        status = 401 if data and "SOAPAction" in given and url.endswith(path) else 500
        if status == 401 and given.get("Authorization") == AS_ADMINISTRATOR:
            if authorised is None:
                raise ConnectionRefusedError("nobody listens")
            status = authorised
        return Answer(status, url, [], body if status == authorised else "", [], 0.0)

    monkeypatch.setattr(Client, "request", request)
    deployment: Any = SimpleNamespace(
        spec=ctx.spec,
        topology=ctx.topology,
        vault={"ca.pem": None, "carbon-admin-password": PASSWORD},
        public_addresses=lambda: {node.name: node.address for node in ctx.topology.nodes},
        fleet=lambda: Fleet({node.name: SimpleNamespace(name=node.name, tunnel=None) for node in ctx.topology.nodes}),  # type: ignore[misc]
    )
    return next(check for check in shut(Front(deployment), deployment) if check.id == "cluster-services-as-worker-1")


@pytest.mark.parametrize(
    ("authorised", "body", "status"),
    [(403, "", "pass"), (202, "", "pass"), (200, "<roles/>", "fail"), (500, "another fault", "fail"), (500, WRONG, "undecided"), (None, "", "undecided")],
    ids=["refused as a worker does", "refused, with the servlet's own status", "served", "a fault", "the password is another", "no answer"],
)
def test_only_the_refusal_of_somebody_with_the_right_shows_that_a_worker_is_shut(
    monkeypatch: pytest.MonkeyPatch, authorised: int | None, body: str, status: str
) -> None:
    assert verified(monkeypatch, authorised, body).status == status


def test_a_worker_is_asked_at_a_service_that_the_application_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verified(monkeypatch, 403, path="/services/RemoteUserStoreManagerService").status == "fail"
