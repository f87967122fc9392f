"""Who on this machine may connect to what of a learner: one nftables table, by the number of the user that a connection comes from.

Without it every user of this machine reaches the API and the machines of every lab, because all of them come from the lab's first address.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ec2lab.errors import LabError
from ec2lab.shell import run

from runbook_cli.classroom.room import Learner

TABLE = "runbook_classroom"


def table(learners: Sequence[Learner], closed_ports: Sequence[int]) -> str:
    """Return the table as nft text. `closed_ports`: of 127.0.0.1, for root alone.

    A learner's own range and loopback address are for him and for root. Beside it he reaches the labs of nobody: neither another learner's nor those
    that are on this machine for other reasons (their bridges are called ec-…).
    """
    own = "\n".join(f"ip daddr {{ {each.network}, {each.address} }} meta skuid != {{ 0, {each.uid} }} counter reject" for each in learners)
    ranges = ", ".join(each.network for each in learners)
    uids = ", ".join(str(each.uid) for each in learners)
    ports = ", ".join(map(str, closed_ports))
    return f"""
add table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain output {{
    type filter hook output priority 0
    {own}
    meta skuid {{ {uids} }} oifname "ec-*" ip daddr != {{ {ranges} }} counter reject
    ip daddr 127.0.0.1 tcp dport {{ {ports} }} meta skuid != 0 counter reject
  }}
}}
"""


def build(learners: Sequence[Learner], closed_ports: Sequence[int]) -> None:
    run("nft", "-f", "-", stdin=table(learners, closed_ports))


def there() -> bool:
    """Return whether the table is loaded."""
    with suppress(LabError):
        return any(line.split()[-1:] == [TABLE] for line in run("nft", "list", "tables", "inet", check=False).splitlines())
    return False


def remove() -> None:
    if there():
        run("nft", "delete", "table", "inet", TABLE)
