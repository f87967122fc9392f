"""What an opened deployment tells about its machines, without a cloud."""

from __future__ import annotations

from types import SimpleNamespace

from runbook_lib.session import Session
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology.model import topology_of


def test_the_world_meets_a_machine_at_its_public_address_and_where_it_has_none_at_its_private_one() -> None:
    topology = topology_of(load_spec("params/greg-single.lab.yaml"))
    machines = {"lb-1": SimpleNamespace(public_address="198.51.100.7"), "db-1": SimpleNamespace(public_address="")}
    opened = SimpleNamespace(topology=topology, instances=lambda: machines)
    found = Session.public_addresses(opened)  # type: ignore[arg-type]
    assert found == {node.name: node.address for node in topology.nodes} | {"lb-1": "198.51.100.7"}
