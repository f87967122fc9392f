"""The price file: by region, instance types with their hourly price and memory, disks, public addresses and NAT gateways."""

from __future__ import annotations

import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from runbook_lib.files import read_table

FILE = "prices.yaml"
DEFAULT = "us-east-1"  # whose prices stand in for those of a region that the file does not have
OLD = datetime.timedelta(days=180)


@cache
def book() -> dict[str, Any]:
    """Return the content of the price file."""
    found: dict[str, Any] = read_table(files(__package__) / FILE)
    return found


def path() -> Path:
    """Return where the price file lies, for the program that makes it anew."""
    return Path(str(files(__package__) / FILE))


def prices(region: str = DEFAULT) -> dict[str, Any]:
    """Return the prices of a region, or those of `DEFAULT` where there are none; `region` says which."""
    known = region if region in book()["regions"] else DEFAULT
    return {**book(), **book()["regions"][known], "region": known}


def memory_gib(instance_type: str) -> float | None:
    """Return the memory of an instance type in GiB, or None when the price file does not have the type."""
    entry = prices()["instances"].get(instance_type)
    return float(entry[1]) if entry else None


def stale(region: str, today: datetime.date | None = None) -> str:
    """Return why the prices should not be relied on for a region (none of its own, or older than 180 days), or ""."""
    known = prices(region)
    if region != known["region"]:
        return f"no prices of {region} are known, those of {known['region']} stand in for them"
    days = (today or datetime.datetime.now(datetime.UTC).date()) - datetime.date.fromisoformat(known["as_of"])
    return f"the prices of {region} are of {known['as_of']}, {days.days} days old" if days > OLD else ""
