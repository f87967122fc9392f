"""Checks that the nodes of a tier form one cluster, from the log of each node's present start (facts 3.5).

The oldest node must have logged that all others joined, and exactly one node that it was elected coordinator. Two
coordinators mean that the cluster is split. The module reads text and opens no connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runbook_lib.check import Check, answered

DOMAIN = re.compile(r"Cluster domain: (\S+)")
JOINED = re.compile(r"Member joined \[([^]]*)\]: /?([\d.]+):\d+")
LEFT = re.compile(r"Member left \[([^]]*)\]")
ELECTED = re.compile(r"Elected this member \[[^]]*\] as the Coordinator")
READY = re.compile(r"Cluster initialization completed")
WHEN = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})\]")
# grep pattern that reduces a log on its node before it is transferred
INTERESTING = "Cluster domain|Member joined|Member left|Elected this member|Cluster initialization|Clustering has been"
STARTING, STARTED = re.compile(r"Starting WSO2 Carbon\.\.\."), re.compile(r"(WSO2 Carbon started in \d+ sec)")
START = "Starting WSO2 Carbon|WSO2 Carbon started in"


@dataclass(frozen=True)
class Membership:
    """One node's cluster as its log tells it: time it was ready (as logged), domain, addresses of the other members, whether it is coordinator."""

    since: str = ""
    domain: str = ""
    others: frozenset[str] = frozenset()
    coordinator: bool = False


def read(log: str) -> Membership:
    """Return the membership from the log lines of one start; a node that left counts again only after it has joined again.

    Each start of a node has a member id of its own. After a power cut the new member may join before the old one is
    given up, so "left" may follow "joined" for the same address. Members are therefore counted by id.
    """
    others: dict[str, str] = {}
    since = domain = ""
    coordinator = False
    for line in log.splitlines():
        if found := DOMAIN.search(line):
            domain = found[1].strip("{}")
        elif READY.search(line) and (when := WHEN.search(line)):
            since = when[1]
        elif found := JOINED.search(line):
            others[found[1]] = found[2]
        elif found := LEFT.search(line):
            others.pop(found[1], None)
        coordinator = coordinator or bool(ELECTED.search(line))
    return Membership(since, domain, frozenset(others.values()), coordinator)


def happened(log: str) -> list[tuple[str, str, str]]:
    """Return (time as logged, what, who or what more) of a start and of its cluster, in the log's order.

    What: starting, domain (its name), elected, joined (the cluster is complete for this node), met (address of a member that came later),
    left (a member's id), ready (the words of the log).
    """
    kinds = {"starting": STARTING, "domain": DOMAIN, "elected": ELECTED, "joined": READY, "met": JOINED, "left": LEFT, "ready": STARTED}
    found = []
    for line in log.splitlines():
        if when := WHEN.search(line):
            found += [(when[1], kind, (said.groups() or ("",))[-1].strip("{}")) for kind, pattern in kinds.items() if (said := pattern.search(line))]
    return found


def rows(tier: str, domain: str, addresses: Mapping[str, str], logs: Mapping[str, str], chapter: str) -> list[Check]:
    """Return the checks of members, coordinator and domain of one tier; only a failed one when a node logged no cluster.

    It is undecided when the log of a node's start is no longer kept. `addresses` and `logs` are by node name.
    """
    said = {name: read(log) for name, log in logs.items()}
    silent = [name for name, membership in said.items() if not membership.since]
    if silent:
        if forgotten := [name for name in silent if not (STARTING.search(logs[name]) or STARTED.search(logs[name]))]:
            words = f"the log of its start is no longer kept: {', '.join(forgotten)}"
            return [Check(f"cluster-members-{tier}", f"{tier}: The nodes form one cluster", "undecided", "one cluster", words, forgotten[0], chapter)]
        text = f"no cluster in the log of the present start: {', '.join(silent)}"
        return [_row(tier, "members", "The nodes form one cluster", False, "one cluster", text, silent[0], chapter)]
    # The oldest node is the one that saw most others join, and of several the one that was ready first. The time alone is not
    # enough: two nodes that start in the same second may be ready in another order than they joined. If no node saw all others,
    # the cluster is split or incomplete, and the check fails whichever node is chosen.
    oldest = min(said, key=lambda name: (-len(said[name].others), said[name].since))
    wanted = {address for name, address in addresses.items() if name != oldest}
    seen = said[oldest].others
    names = {address: name for name, address in addresses.items()}
    observed = ", ".join(sorted(names.get(address, f"stranger {address}") for address in seen)) or "nobody"
    leaders = [name for name, membership in said.items() if membership.coordinator]
    domains = {name: membership.domain for name, membership in said.items()}
    strangers = {a for membership in said.values() for a in membership.others} - set(addresses.values())
    everyone, led = ", ".join(said), len(leaders) == 1
    leader = ", ".join(leaders) or "none"
    apart = set(domains.values()) == {domain} and not strangers
    found = ", ".join(sorted(set(domains.values()) | {f"stranger {address}" for address in strangers}))
    others = ", ".join(sorted(names[address] for address in wanted))
    title = f"The oldest node saw the other {len(wanted)} join"
    return [
        _row(tier, "members", title, seen == wanted, others, observed, oldest, chapter),
        _row(tier, "coordinator", "Exactly one node leads", led, "one", leader, everyone, chapter),
        _row(tier, "domain", "Every node is in the tier's own domain", apart, domain, found, everyone, chapter),
    ]


def _row(tier: str, what: str, title: str, ok: bool, expected: str, observed: str, where: str, chapter: str) -> Check:
    return answered(f"cluster-{what}-{tier}", f"{tier}: {title}", ok, expected, observed, where, chapter)
