"""The price file: instance types with their hourly price and memory."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def prices() -> dict[str, Any]:
    """Return the content of the price file."""
    found: dict[str, Any] = yaml.safe_load((files(__package__) / "prices.yaml").read_text(encoding="utf-8"))
    return found


def memory_gib(instance_type: str) -> float | None:
    """Return the memory of an instance type in GiB, or None when the price file does not have the type."""
    entry = prices()["instances"].get(instance_type)
    return float(entry[1]) if entry else None
