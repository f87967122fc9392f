"""One opened deployment: where the world meets its machines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from runbook_lib.session import Session
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology.model import topology_of


def test_the_world_meets_a_machine_at_its_public_address_where_it_has_one() -> None:
    session: Any = object.__new__(Session)
    session.topology = topology_of(load_spec("params/greg-single.lab.yaml"))
    first, second, *_ = session.topology.nodes
    found = {first.name: SimpleNamespace(public_address="203.0.113.7"), second.name: SimpleNamespace(public_address="")}
    session.instances = lambda: found
    assert session.outside() == {node.name: node.address for node in session.topology.nodes} | {first.name: "203.0.113.7"}
