"""The machines of a deployment, their names and addresses, and who may connect to whom. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from runbook_lib.errors import RunbookError
from runbook_lib.spec.model import Spec
from runbook_lib.spec.patterns import ROLE_OF_COUNT
from runbook_lib.topology.databases import databases_of
from runbook_lib.topology.prices import memory_gib
from runbook_lib.topology.subnets import NGINX, PlannedSubnet, subnets_of

# role -> the address of its first node, counted from the beginning of the subnet that it stands in
FIRST_ADDRESS = {
    "lb": 10, "lb-store": 11, "lb-publisher": 12, "db": 20, "as-manager": 31, "as-worker": 41,
    "greg": 51, "store": 61, "publisher": 71, "probe": 90, "scheduler": 95, "worker": 96,
}  # fmt: skip
TIER = {"as-manager": "as", "as-worker": "as", "greg": "greg", "store": "store", "publisher": "publisher"}
DOMAIN = {
    "as": "wso2.as.domain",
    "greg": "wso2.greg.domain",
    "store": "wso2.greg.store.domain",
    "publisher": "wso2.greg.publisher.domain",
}
OPERATOR = "operator"  # a rule's source: the range that SSH is allowed from, known when the cloud is asked


@dataclass(frozen=True)
class Node:
    """One machine. `tier`: the WSO2 nodes that can replace each other; `hosts`: public names served (Nginx roles).

    `heap`: -Xmx for a WSO2 node, None for the product's own default. `subnet`: name of the subnet that it stands in.
    """

    name: str
    role: str
    address: str
    instance_type: str
    tier: str | None = None
    hosts: tuple[str, ...] = ()
    heap: str | None = None
    subnet: str = ""

    @property
    def number(self) -> int:
        """Position among the nodes of its role, from 1."""
        return int(self.name.rpartition("-")[2])


@dataclass(frozen=True)
class Rule:
    """Who may connect to a group. `source`: a CIDR, the name of a group, or `OPERATOR`."""

    group: str
    protocol: str
    from_port: int
    to_port: int
    source: str
    why: str

    @property
    def ports(self) -> str:
        return str(self.from_port) if self.from_port == self.to_port else f"{self.from_port}-{self.to_port}"


@dataclass(frozen=True)
class Topology:
    """The nodes, groups and rules that `spec` describes, and which nodes serve which host."""

    spec: Spec
    nodes: tuple[Node, ...]
    rules: tuple[Rule, ...]

    def of(self, *roles: str) -> tuple[Node, ...]:
        """Return the nodes of these roles, in the order of the roles given, then of their numbers."""
        return tuple(node for role in roles for node in self.nodes if node.role == role)

    def node(self, name: str) -> Node:
        """Return the node called `name`. Raises RunbookError, listing the names of the deployment."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise RunbookError(f"no node {name}", self.spec.deployment, f"there is: {', '.join(n.name for n in self.nodes)}")

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node.role for node in self.nodes))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the security groups: one per role."""
        return self.roles

    @property
    def lbs(self) -> tuple[Node, ...]:
        """The Nginx machines."""
        return tuple(node for node in self.nodes if node.role.startswith("lb"))

    @property
    def db(self) -> Node:
        """The MySQL machine."""
        return self.of("db")[0]

    @property
    def wso2_nodes(self) -> tuple[Node, ...]:
        """The nodes that run the product, in the order of their first boots: the manager before its workers."""
        return tuple(node for node in self.nodes if node.tier)

    @property
    def tiers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node.tier for node in self.wso2_nodes if node.tier))

    def tier(self, name: str) -> tuple[Node, ...]:
        """Return the nodes of one tier."""
        return tuple(node for node in self.wso2_nodes if node.tier == name)

    def domain(self, tier: str) -> str:
        """Return the Hazelcast domain of a tier; sessions and caches are shared within it only (design, decision 11)."""
        return DOMAIN[tier]

    def key_of(self, tier: str) -> str:
        """Return the name of the signing key of a tier: its own only where hardening is full (facts 6.4 F)."""
        return tier if self.spec.design.product == "as" or self.spec.hardening == "full" else "greg"

    @property
    def tier_keys(self) -> tuple[str, ...]:
        """Names of the signing keys, each stored as `tier-key/<name>`."""
        return tuple(dict.fromkeys(self.key_of(tier) for tier in self.tiers))

    @property
    def db_accounts(self) -> tuple[str, ...]:
        """Accounts of the database server, one per database; each password is stored as `db/<account>`."""
        return tuple(database.account for database in databases_of(self.spec.pattern))

    def public_name(self, tier: str) -> str:
        """Return the host name in a tier's own configuration (HostName of carbon.xml; design, decision 13)."""
        return self.spec.hosts[{"as": "as", "greg": "store"}.get(tier, tier)]

    def host(self, key_or_name: str) -> str:
        """Return the public host name for `store`, `publisher`, `as`, `mgt`, or the name itself. Raises RunbookError for another."""
        hosts = self.spec.hosts
        if key_or_name in hosts:
            return hosts[key_or_name]
        if key_or_name.lower() in hosts.values():
            return key_or_name.lower()
        raise RunbookError(f"no public host {key_or_name}", self.spec.deployment, f"there is: {', '.join(hosts)}")

    def lb_for(self, key_or_name: str) -> Node:
        """Return the Nginx machine that serves a public host name."""
        host = self.host(key_or_name)
        return next(node for node in self.lbs if host in node.hosts)

    def upstream(self, key_or_name: str) -> tuple[Node, ...]:
        """Return the nodes behind a public host."""
        host = self.host(key_or_name)
        key = next(name for name, value in self.spec.hosts.items() if value == host)
        roles = {"as": "as-worker", "mgt": "as-manager"}
        return self.of(roles.get(key, key)) or self.of("greg")

    @cached_property
    def subnets(self) -> tuple[PlannedSubnet, ...]:
        """The subnets that the machines stand in, and that of the NAT gateway."""
        return subnets_of(self.spec)

    @property
    def public_nodes(self) -> tuple[Node, ...]:
        """The machines that have a public address: visitors come to Nginx. No other machine ever has one."""
        return self.lbs if self.spec.cloud.internet_facing else ()

    @property
    def jump_host(self) -> Node | None:
        """The Nginx machine through which SSH reaches those without a public address, where the operator comes from the internet."""
        return next(iter(self.lbs), None) if self.spec.cloud.connect_via == "public" else None

    def __str__(self) -> str:
        lines = [f"{node.name:16} {node.address:16} {node.instance_type:12} {' '.join(node.hosts)}".rstrip() for node in self.nodes]
        return "\n".join([f"{self.spec.deployment}: {self.spec.pattern}, {len(self.nodes)} machines", *lines])

    __repr__ = __str__


def topology_of(spec: Spec) -> Topology:
    """Return the machines of `spec`. The same spec always gives the same names and addresses."""
    nodes = tuple(_nodes(spec))
    return Topology(spec, nodes, tuple(_rules(spec, {node.role for node in nodes}, nodes)))


def with_leaving(topology: Topology, names: Collection[str]) -> Topology:
    """Return the same deployment with as many nodes as it has while some that its parameters name no more still serve. `names`: those that serve."""
    spec = topology.spec
    there = {name: sum(each.startswith(f"{ROLE_OF_COUNT[name]}-") for each in names) for name in spec.design.nodes}
    return topology_of(spec.model_copy(update={"nodes": {name: max(spec.nodes[name], count) for name, count in there.items()}}))


def probe_only(topology: Topology) -> Topology:
    """Return the same deployment reduced to its probe machine, whether its parameters ask for one or not."""
    spec = topology.spec
    whole = topology_of(spec.model_copy(update={"cloud": spec.cloud.model_copy(update={"probe": True})}))
    rules = tuple(rule for rule in whole.rules if rule.group == "probe")
    return Topology(spec, whole.of("probe"), rules)


def _nodes(spec: Spec) -> list[Node]:
    counts = {**dict.fromkeys(spec.design.lbs, 1), "db": 1}
    counts |= {ROLE_OF_COUNT[name]: spec.nodes[name] for name in spec.design.nodes}
    counts |= {"probe": 1} if spec.cloud.probe else {}
    subnets = {subnet.name: subnet for subnet in subnets_of(spec)}
    return [_node(spec, role, number, _subnet_for(role, number, subnets)) for role, count in counts.items() for number in range(1, count + 1)]


def _node(spec: Spec, role: str, number: int, subnet: PlannedSubnet) -> Node:
    return Node(
        name=f"{role}-{number}",
        role=role,
        address=str(subnet.network[FIRST_ADDRESS[role] + number - 1]),
        instance_type=spec.type_of(role),
        tier=TIER.get(role),
        hosts=_hosts_at(spec, role),
        heap=_heap(spec, role) if role in TIER else None,
        subnet=subnet.name,
    )


def _subnet_for(role: str, number: int, subnets: Mapping[str, PlannedSubnet]) -> PlannedSubnet:
    """Nodes of a tier take turns between the private subnets; whatever there is only one of stands in the first zone."""
    if role.startswith("lb") and NGINX in subnets:
        return subnets[NGINX]
    private = [subnet for name, subnet in subnets.items() if name.startswith("private")]
    return private[(number - 1) % len(private)] if role in TIER else private[0]


def _hosts_at(spec: Spec, role: str) -> tuple[str, ...]:
    if not role.startswith("lb"):
        return ()
    _, _, own = role.partition("-")
    return (spec.hosts[own],) if own else tuple(spec.hosts[name] for name in spec.design.hosts)


def _heap(spec: Spec, role: str) -> str | None:
    """Return -Xmx for a role: a machine with 1 GiB (the tutorial's t2.micro) cannot hold the product's own -Xmx1024m (facts 7)."""
    if spec.memory.heap != "auto":
        return None if spec.memory.heap == "product" else spec.memory.heap
    memory = memory_gib(spec.type_of(role))
    return "512m" if memory is not None and memory <= 1 else None


def _rules(spec: Spec, roles: set[str], nodes: tuple[Node, ...]) -> list[Rule]:
    """Return the rules with least privilege (facts 4). 9763 stays closed: Nginx connects with TLS to 9443 only, and the cookies are Secure."""
    product = [role for role in TIER if role in roles]
    lbs = [role for role in spec.design.lbs if role in roles]
    rules: list[Rule] = []

    def allow(group: str, port: int, source: str, why: str) -> None:
        rules.append(Rule(group, "tcp", port, port, source, why))

    for role in dict.fromkeys(node.role for node in nodes if spec.cloud.connect_via != "session-manager"):
        if spec.cloud.connect_via == "public" and role not in lbs:
            allow(role, 22, spec.design.lbs[0], "SSH of the operator, through Nginx")
        else:
            allow(role, 22, OPERATOR, "SSH of the operator")
    for role in lbs:
        _public_rules(spec, role, allow)
    for role in product:
        allow("db", 3306, role, "the shared databases")
        for lb in lbs:
            allow(role, 9443, lb, "Nginx to the product, TLS")
    if spec.clustering:
        for role in product:
            for peer in (peer for peer in product if TIER[peer] == TIER[role]):
                if len([node for node in nodes if node.tier == TIER[role]]) > 1:
                    allow(role, 4000, peer, f"Hazelcast inside the tier ({DOMAIN[TIER[role]]})")
    if "as-worker" in roles:
        allow("as-manager", 873, "as-worker", "workers pull deployed applications from the manager (rsync daemon)")
    return rules


def _public_rules(spec: Spec, lb: str, allow: Callable[[str, int, str, str], None]) -> None:
    """Add the rules for visitors. Where the Publisher has an Nginx machine of its own, its range is enforced here too."""
    ranges = spec.publisher_allow_cidr if lb == "lb-publisher" else ("0.0.0.0/0",)
    for source in dict.fromkeys(ranges):
        allow(lb, 443, source, "visitors" if lb != "lb-publisher" else "those who may reach the Publisher")
        allow(lb, 80, source, "sent on to 443")
