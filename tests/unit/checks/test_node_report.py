"""What a node says of its present start, as rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib import pki
from runbook_lib.checks import node_report
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology.model import topology_of

STORE = topology_of(load_spec("params/greg-separated.lab.yaml")).node("store-1")
KEY, OTHER = (pki.certificate_of(pki.make_tier_key("store.lab.test", ["store.lab.test"])) for _ in range(2))
MOUNT, KNOWS = "Connected to mount at sharedregistry", "SSO Service Provider is registered for : "
GOOD = node_report.Running(
    ["WSO2 Carbon started", MOUNT, MOUNT, f"{KNOWS}store", f"{KNOWS}social"],
    [f"{STORE.address}:9763", f"{STORE.address}:9443"],
    KEY,
)


def verdicts(found: node_report.Running) -> dict[str, str]:
    rows = node_report.rows(STORE, found, ("store", "social"), KEY, "04_configure_greg_nodes")
    return {check.id.removeprefix("node-").removesuffix("-store-1"): check.status for check in rows}


def test_a_node_as_it_should_be_passes() -> None:
    assert verdicts(GOOD) == dict.fromkeys(("mounts", "providers", "listens", "key"), "pass")


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"lines": [line for line in GOOD.lines if "mount" not in line]}, {"mounts": "fail"}),
        ({"lines": [*GOOD.lines, f"{KNOWS}publisher"]}, {"providers": "fail"}),
        ({"lines": [line for line in GOOD.lines if "social" not in line]}, {"providers": "fail"}),
        ({"listening": ["0.0.0.0:9443", *GOOD.listening]}, {"listens": "fail"}),
        ({"listening": ["*:9443", "*:9763"]}, {"listens": "fail"}),
        ({"listening": []}, {"listens": "fail"}),
        ({"certificate": OTHER}, {"key": "fail"}),
        ({"certificate": ""}, {"key": "fail"}),
        ({"lines": []}, {"mounts": "undecided", "providers": "undecided"}),
    ],
)
def test_each_shortcoming_is_named(changes: dict[str, object], wrong: dict[str, str]) -> None:
    found = verdicts(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert {what: status for what, status in found.items() if status != "pass"} == wrong


def test_a_node_that_printed_nothing_is_no_error_of_ours() -> None:
    assert node_report.answer("") == node_report.Running([], [], "")
