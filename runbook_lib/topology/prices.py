"""The price file: instance types with their hourly price and memory."""

from __future__ import annotations

import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

OLD = datetime.timedelta(days=180)


@cache
def prices() -> dict[str, Any]:
    """Return the content of the price file."""
    found: dict[str, Any] = yaml.safe_load((files(__package__) / "prices.yaml").read_text(encoding="utf-8"))
    return found


def memory_gib(instance_type: str) -> float | None:
    """Return the memory of an instance type in GiB, or None when the price file does not have the type."""
    entry = prices()["instances"].get(instance_type)
    return float(entry[1]) if entry else None


def stale(region: str, today: datetime.date | None = None) -> str:
    """Return why the prices should not be relied on for a region (older than 180 days, or of another region), or ""."""
    book = prices()
    as_of = datetime.date.fromisoformat(f"{book['as_of']}-01")
    if region != book["region"]:
        return f"no prices of {region} are known, those of {book['region']} are taken"
    days = (today or datetime.datetime.now(datetime.UTC).date()) - as_of
    return f"the prices are of {book['as_of']}, {days.days} days old" if days > OLD else ""
