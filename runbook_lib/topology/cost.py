"""What a deployment costs per month, before anything is launched. Prices: `prices.yaml`, dated, in the repository.

The lab has no price API, and a plan on AWS would have to wait for one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runbook_lib.tables import Table
from runbook_lib.topology.prices import prices, stale

if TYPE_CHECKING:
    from runbook_lib.topology.model import Topology


class MonthlyCost(Table):
    """The table. `total`: US dollars per month; types without a known price count zero and are in `unknown`. `words`: the total in one line."""

    total: float
    unknown: tuple[str, ...]
    words: str

    def __init__(self, rows: list[tuple[str, ...]], total: float, unknown: tuple[str, ...], region: str):
        book = prices(region)
        least = "at least " if unknown else ""
        note = f"Prices of {book['as_of']} for {book['region']} on demand ({book['source']}). "
        note += f"Not included: {book['not_included']}."
        if why := stale(region):
            note += f" Take them as a rough guess: {why} (python -m runbook_cli.refresh_prices makes them anew)."
        if unknown:
            note += f" No price known for {', '.join(unknown)}."
        rows = [*rows, ("Total", "", "", f"{least}{total:,.2f}")]
        super().__init__(("What", "How many", "Each, per month", "US$ per month"), rows, "Monthly cost if it runs all month", note)
        object.__setattr__(self, "total", round(total, 2))
        object.__setattr__(self, "unknown", unknown)
        object.__setattr__(
            self, "words", f"on AWS {least or 'about '}US$ {total:,.2f} per month while it runs, by prices of {book['as_of']} for {book['region']}"
        )


def nat_gateway_month(region: str) -> float:
    """Return the cost of a NAT gateway for one month, in US dollars, without its public address and its traffic."""
    book = prices(region)
    return float(book["nat_gateway_hour"] * book["hours_per_month"])


def monthly_cost(topology: Topology) -> MonthlyCost:
    """Return the cost of machines, disks, NAT gateway and public addresses for one month (730 hours)."""
    cloud = topology.spec.cloud
    book = prices(cloud.region)
    rows: list[tuple[str, ...]] = []
    total, unknown = 0.0, []
    for type_, count in Counter(node.instance_type for node in topology.nodes).items():
        if type_ not in book["instances"]:
            unknown.append(type_)
            rows.append((f"{type_} machine", str(count), "unknown", "unknown"))
            continue
        each = book["instances"][type_][0] * book["hours_per_month"]
        total += each * count
        rows.append((f"{type_} machine", str(count), f"{each:,.2f}", f"{each * count:,.2f}"))
    gateways = 0 if cloud.vpc else 1  # an existing VPC has a way out of its own
    extras = [
        (f"gp3 disk, {cloud.disk_gb} GiB, encrypted", len(topology.nodes), book["gp3_gib_month"] * cloud.disk_gb),
        ("NAT gateway, without what passes through it", gateways, nat_gateway_month(cloud.region)),
        ("public IPv4 address (Elastic IP)", gateways + len(topology.public_nodes), book["public_ipv4_hour"] * book["hours_per_month"]),
    ]
    for name, count, each in extras:
        if not count:
            continue
        total += each * count
        rows.append((name, str(count), f"{each:,.2f}", f"{each * count:,.2f}"))
    return MonthlyCost(rows, total, tuple(unknown), cloud.region)
