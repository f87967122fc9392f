"""The scene of an attempt: the public hosts, the nodes, the users, and the places from which it can be made.

A place is a callable that opens a connection (`connect(address, port)`), so that every attempt runs the same code. From the
operator's machine the connection is a socket. From a node or another host in the subnet it is a channel of the SSH connection
with that host, so it reaches what that host reaches.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.checks.sso.contents import Contents, contents_of
from runbook_lib.errors import RunbookError
from runbook_lib.spec.front_doors import Door, open_doors
from runbook_lib.ssh import PORT_SECONDS, through
from runbook_lib.topology.model import probe_only
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.cookies import Cookie
from runbook_lib.webclient.transport import Connect

if TYPE_CHECKING:
    from runbook_lib.session import Session
    from runbook_lib.spec.model import Spec

# Without a handler, paramiko prints its errors on the screen; here a refused connection is an expected result.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

OUTSIDE, NODE, NEIGHBOUR = "outside", "node", "neighbour"
EVIL = "evil.example"  # a name reserved for examples, which nobody can own
ROUTE, PROBE = "runbook_route", {"X-Runbook-Probe": "1"}  # the cookie by whose hash Nginx chooses the node; asked so, it names the one that answered
TRIES = 30  # route cookies for each node behind a host: that none of 60 leads to one of two nodes happens to nobody
AGREE = "say agreed=True in the cell, or add --yes on the command line (./runbook run PARAMS --resume --yes goes on)"
CONFIGURATIONS = {"greg-single": "single", "greg-original": "original"}


@dataclass(frozen=True)
class Login:
    """A user's name and password; the password is left out of the representation."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class ProductNode:
    """A node of the product: `address` is its private address, `connect` opens connections from the node itself."""

    name: str
    address: str
    connect: Connect
    port: int = 9443

    @property
    def origin(self) -> str:
        """Scheme, address and port of the node's URLs."""
        return f"https://{self.address}:{self.port}"


@dataclass(frozen=True)
class Pin:
    """The node that has to answer for a public host, those of its tier, and the route cookie that leads to it; "" when none was found."""

    node: str
    tier: frozenset[str]
    route: str


Pins = Mapping[str, Pin]  # by name of the public host; without any, Nginx chooses


@dataclass(frozen=True)
class Scene:
    """The deployment as the proof sees it.

    `configuration`: bare, single, original, hosts, allow-list, app-removed or full (see `attempts.yaml`). `expect`: the
    expected verdict, `separated` or `leak`. `hosts`: names of the public hosts by key. `fronts`: address (or address:port) of
    the Nginx of each public host, from outside; `inner_fronts`: the same from inside the subnet. `nodes`: the nodes behind each
    public host. `outside_nodes`: their addresses from outside, by name. `neighbour`: name and connection of another host in the
    subnet; `leave_neighbour` is called once no attempt is left that is made from there. `traits`: see `traits_of`. `ask_first`:
    the user store may belong to others, so test users need agreement. `doors`: by host key, the requests that Nginx has to let
    through. `pack`: contents of the product's pack. Attempts are generated from the last two.
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
    leave_neighbour: Callable[[], None] = lambda: None
    inner_fronts: Mapping[str, str] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    ask_first: bool = False
    doors: Mapping[str, tuple[Door, ...]] = field(default_factory=dict)
    pack: Contents | None = None

    @property
    def machines(self) -> tuple[ProductNode, ...]:
        """Every node of the product, each once."""
        return tuple({machine.name: machine for tier in self.nodes.values() for machine in tier}.values())

    def words(self, user: str = "") -> dict[str, str]:
        """Return the values of the placeholders of `attempts.yaml`."""
        return {**self.hosts, "evil": EVIL, "user": user or "nobody-at-all"}

    def rounds(self) -> tuple[Pins, ...]:
        """Return the nodes to be met from outside, round by round, so that each node behind a public host is met at least once.

        One round without pins where no host has several nodes. Round n meets the n-th node of each tier; a shorter tier begins again.
        """
        tiers = {key: [node.name for node in tier] for key, tier in self.nodes.items() if tier}
        most = max(map(len, tiers.values()), default=0)
        if most < 2:
            return ({},)
        routes = {key: self._routes(key, names) for key, names in tiers.items()}
        turns = ({key: names[turn % len(names)] for key, names in tiers.items()} for turn in range(most))
        return tuple({self.hosts[key]: Pin(name, frozenset(tiers[key]), routes[key].get(name, "")) for key, name in turn.items()} for turn in turns)

    def _routes(self, key: str, names: list[str]) -> dict[str, str]:
        """Return a route cookie for each node behind a host, by its name; a node that answers nobody has none."""
        found: dict[str, str] = {}
        for _ in range(TRIES * len(names)):
            if found.keys() >= set(names):
                break
            route = secrets.token_hex(16)
            try:
                answer = self.visitor().get(f"https://{self.hosts[key]}/samlsso", headers={**PROBE, "Cookie": f"{ROUTE}={route}"})
            except OSError:
                continue
            if not answer.by_nginx:
                found.setdefault(answer.header("x-served-by"), route)
        return found

    def visitor(self, place: str = OUTSIDE, at: ProductNode | None = None, verify: bool = True, pins: Pins | None = None) -> Client:
        """Return a client without cookies that connects from `place`. Raises `RunbookError` when there is no neighbour to connect from.

        At a node it reaches that node only, and the certificate is not verified: SSH has verified the host, and the connection
        does not leave it. `pins`: the nodes that answer it from outside; its exchanges name who did.
        """
        if place == NODE and at is not None:
            return Client({at.address: f"{at.address}:{at.port}"}, None, at.connect)
        if place == NEIGHBOUR:
            _name, connect = self.neighbour or _no_neighbour()
            return Client(self._named(self.inner_fronts), self.ca if verify else None, connect)
        visitor = Client(self._named(self.fronts), self.ca if verify else None, self.outside, headers=PROBE if pins else {})
        for host, pin in (pins or {}).items():
            if pin.route:
                visitor.jar.keep(Cookie(ROUTE, pin.route, host, secure=True))
        return visitor

    def visitor_of(self, node: ProductNode) -> Client:
        """Return a client without cookies for which every public host is this node, reached from the node itself.

        Host names, redirects and sign-on are the public ones, but the requests do not pass Nginx.
        """
        return Client(dict.fromkeys(self.hosts.values(), f"{node.address}:{node.port}"), None, node.connect)

    def _named(self, fronts: Mapping[str, str]) -> dict[str, str]:
        return {self.hosts[key]: address for key, address in fronts.items()}


def refuse_unagreed(ask_first: bool, agreed: bool) -> None:
    """Raise `RunbookError` where test users need agreement (`Scene.ask_first`) and nobody agreed. Nothing is changed before."""
    if ask_first and not agreed:
        what = "chapter 07 makes test users in this deployment's user store and removes them again; nobody agreed yet"
        raise RunbookError(what, "user store", AGREE)


def _no_neighbour() -> tuple[str, Connect]:
    raise RunbookError("no other machine of the subnet to try from", next_step="set cloud.probe: true and run chapter 01")


def scene_of(deployment: Session) -> Scene:
    """Return the scene of a running deployment. Raises `RunbookError` when hosts or secrets are missing."""
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
        traits=traits_of(spec, len(topology.lbs), next(iter(probe_only(topology).nodes)).address),
        ask_first=deployment.on_aws,
        doors=doors,
        pack=contents_of(deployment.pack.members(), deployment.pack.member) if deployment.pack.members and deployment.pack.member else None,
    )


def traits_of(spec: Spec, fronts: int, neighbour: str) -> frozenset[str]:
    """Return the traits of a deployment that attempts may need (`needs` in `attempts.yaml`).

    They tell whether there is one Nginx or more (`fronts` is their number), whether the Publisher is limited to addresses that leave out the
    neighbour's (`neighbour`), and whether the forms for registration and account recovery are open.
    """
    let_in = any(ipaddress.ip_address(neighbour) in ipaddress.ip_network(cidr, strict=False) for cidr in spec.publisher_allow_cidr)
    guarded = spec.hardening == "full"
    return frozenset(
        [
            "one-front" if fronts == 1 else "two-fronts",
            "neighbour-let-in" if let_in else "neighbour-left-out",
            "no-registration" if guarded and not spec.self_registration else "registration",
            "no-recovery" if guarded and not spec.account_recovery else "recovery",
        ]
    )
