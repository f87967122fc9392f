"""The patterns that the runbook builds, as data: hosts, node counts, load balancers, defaults, databases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PatternName = Literal["as-cluster", "greg-single", "greg-original", "greg-separated"]
Hardening = Literal["hosts", "allow-list", "app-removed", "full"]


STORIES = {
    "as-cluster": "a manager and its workers, balanced and failing over",
    "greg-single": "one node serves Store and Publisher; a sign-in at one opens the other",
    "greg-original": "three nodes serve both, behind two load balancers; the same leak, spread over more machines",
    "greg-separated": "Store nodes and Publisher nodes, nothing shared but the database; must be proven separate",
}


@dataclass(frozen=True)
class Pattern:
    """What a pattern fixes: public hosts, node counts as (least, most, default), Nginx roles, defaults of its own."""

    product: Literal["as", "greg"]
    hosts: tuple[str, ...]
    nodes: dict[str, tuple[int, int, int]]
    lbs: tuple[str, ...]
    expect: Literal["leak", "separated"] | None
    hardening: Hardening


PATTERNS: dict[str, Pattern] = {
    "as-cluster": Pattern("as", ("as", "mgt"), {"manager": (1, 1, 1), "worker": (1, 8, 2)}, ("lb",), None, "full"),
    "greg-single": Pattern("greg", ("store", "publisher"), {"greg": (1, 1, 1)}, ("lb",), "leak", "hosts"),
    "greg-original": Pattern("greg", ("store", "publisher"), {"greg": (2, 8, 3)}, ("lb-store", "lb-publisher"), "leak", "hosts"),
    "greg-separated": Pattern("greg", ("store", "publisher"), {"store": (1, 8, 2), "publisher": (1, 8, 2)}, ("lb",), "separated", "full"),
}
# nodes key -> role (the value of the tag runbook:role)
ROLE_OF_COUNT = {
    "manager": "as-manager",
    "worker": "as-worker",
    "greg": "greg",
    "store": "store",
    "publisher": "publisher",
}
DEFAULT_TYPES = {
    "lb": "t3.micro", "lb-store": "t3.micro", "lb-publisher": "t3.micro", "probe": "t3.micro", "db": "t3.small",
    "as-manager": "t3.small", "as-worker": "t3.small",
    "greg": "t3.medium", "store": "t3.medium", "publisher": "t3.medium",  # G-Reg wants 2 GB or more (facts 7)
    "scheduler": "t3.small", "worker": "t3.medium",  # of a sweep's workers
}  # fmt: skip
