"""What an attempt is given: the public hosts, the nodes, the users, and the places from which it may be made.

A place is a callable that opens a connection (`connect(address, port)`), so every attempt runs the same code: from the
operator's machine it is a socket, from a node or from a neighbour in the subnet it is a channel of that machine's SSH
connection (what it reaches is what that machine reaches).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.checks.sso.contents import Contents, contents_of
from runbook_lib.errors import RunbookError
from runbook_lib.spec.front_doors import Door, open_doors
from runbook_lib.ssh import PORT_SECONDS, through
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.transport import Connect

if TYPE_CHECKING:
    from runbook_lib.session import Session
    from runbook_lib.spec.model import Spec

# Without a handler of its own its errors go to the reader's screen; here a refused connection is a finding.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

OUTSIDE, NODE, NEIGHBOUR = "outside", "node", "neighbour"
EVIL = "evil.example"  # reserved for examples: nobody's
CONFIGURATIONS = {"greg-single": "single", "greg-original": "original"}


@dataclass(frozen=True)
class Login:
    """A user's name and password; None of it is ever shown."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class ProductNode:
    """A node of the product: `address` as its neighbours see it, `connect` opens connections from this very machine."""

    name: str
    address: str
    connect: Connect
    port: int = 9443

    @property
    def origin(self) -> str:
        return f"https://{self.address}:{self.port}"


@dataclass(frozen=True)
class Scene:
    """Everything the proof may know.

    `configuration`: bare, single, original, hosts, allow-list, app-removed or full (see `attempts.yaml`). `fronts`: address
    (or address:port) of the Nginx behind each public host, seen from outside; `inner_fronts` from inside the subnet.
    `nodes`: the machines behind each host. `outside_nodes`: their addresses from outside. `neighbour`: another machine
    of the subnet, with its name. `ask_first`: the user store is not ours alone: test users only after a yes. `doors`: by
    host, what Nginx has to let through. `pack`: what lies in the product's pack; attempts are made from both.
    """

    configuration: str
    expect: str
    hosts: Mapping[str, str]
    fronts: Mapping[str, str]
    nodes: Mapping[str, tuple[ProductNode, ...]]
    admin: Login
    ca: str | Path | None = None
    outside: Connect | None = None
    outside_nodes: Mapping[str, str] = field(default_factory=dict)
    neighbour: tuple[str, Connect] | None = None
    inner_fronts: Mapping[str, str] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    ask_first: bool = False
    doors: Mapping[str, tuple[Door, ...]] = field(default_factory=dict)
    pack: Contents | None = None

    @property
    def machines(self) -> tuple[ProductNode, ...]:
        """Every node of the product, once."""
        return tuple({machine.name: machine for tier in self.nodes.values() for machine in tier}.values())

    def words(self, user: str = "") -> dict[str, str]:
        """What the placeholders of `attempts.yaml` stand for."""
        return {**self.hosts, "evil": EVIL, "user": user or "nobody-at-all"}

    def visitor(self, place: str = OUTSIDE, at: ProductNode | None = None, verify: bool = True) -> Client:
        """A fresh browser at `place`. At a node only that node is within its reach, and its certificate is not
        verified: SSH has already proven who the machine is, and the connection does not leave it."""
        if place == NODE and at is not None:
            return Client({at.address: f"{at.address}:{at.port}"}, None, at.connect)
        if place == NEIGHBOUR:
            _name, connect = self.neighbour or _no_neighbour()
            return Client(self._named(self.inner_fronts), self.ca if verify else None, connect)
        return Client(self._named(self.fronts), self.ca if verify else None, self.outside)

    def visitor_of(self, node: ProductNode) -> Client:
        """A fresh browser for which every public host is this very node, reached from the node itself as in `visitor`:
        names, redirects and sign-on stay the public ones, and Nginx is not asked."""
        return Client(dict.fromkeys(self.hosts.values(), f"{node.address}:{node.port}"), None, node.connect)

    def _named(self, fronts: Mapping[str, str]) -> dict[str, str]:
        return {self.hosts[key]: address for key, address in fronts.items()}


def _no_neighbour() -> tuple[str, Connect]:
    raise RunbookError("no other machine of the subnet to try from", next_step="set cloud.probe: true and run chapter 01")


def scene_of(deployment: Session) -> Scene:
    """The scene of a deployment that stands. Raises `RunbookError` where machines or secrets are missing."""
    spec, topology, fleet = deployment.spec, deployment.topology, deployment.fleet()
    addresses = deployment.public_addresses()

    def machines(names: Iterable) -> tuple[ProductNode, ...]:
        return tuple(ProductNode(node.name, node.address, through(fleet[node.name])) for node in names)

    neighbour = next((name for name in fleet.hosts if name.startswith("probe")), topology.db.name)
    doors = {key: open_doors(spec, key) for key in spec.hosts}
    return Scene(
        configuration=CONFIGURATIONS.get(spec.pattern, spec.hardening),
        expect=spec.expect or "separated",
        hosts=dict(spec.hosts),
        fronts={key: addresses[topology.lb_for(key).name] for key in spec.hosts},
        inner_fronts={key: topology.lb_for(key).address for key in spec.hosts},
        nodes={key: machines(topology.upstream(key)) for key in spec.hosts},
        admin=Login("admin", deployment.vault.get("carbon-admin-password")),
        ca=deployment.vault.get("ca.pem"),
        outside_nodes={node.name: addresses[node.name] for node in topology.wso2_nodes},
        neighbour=(neighbour, through(fleet[neighbour], PORT_SECONDS)),
        traits=traits_of(spec, len(topology.lbs)),
        ask_first=spec.cloud.aws_config is None,
        doors=doors,
        pack=contents_of(deployment.pack.members(), deployment.pack.member) if deployment.pack.members and deployment.pack.member else None,
    )


def traits_of(spec: Spec, fronts: int) -> frozenset[str]:
    """What an attempt may need (`needs` in `attempts.yaml`): how many Nginx there are, whether the Publisher is for some only, which forms are open."""
    guarded = spec.hardening == "full"
    return frozenset(
        [
            "one-front" if fronts == 1 else "two-fronts",
            "everybody" if "0.0.0.0/0" in spec.publisher_allow_cidr else "allow-list",
            "no-registration" if guarded and not spec.self_registration else "registration",
            "no-recovery" if guarded and not spec.account_recovery else "recovery",
        ]
    )
