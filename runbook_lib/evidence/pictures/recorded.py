"""The pictures of a run, drawn from its journal: the report shows the same as the chapters did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runbook_lib.evidence import runs
from runbook_lib.evidence.pictures import boots, outage, request_way
from runbook_lib.evidence.pictures.figure import Figure

KINDS: dict[str, Callable[[Mapping[str, Any]], Figure]] = {"boots": boots.draw, "way": request_way.draw, "outage": outage.draw}


def drawn(kind: str, values: Mapping[str, Any]) -> Figure:
    """Return the picture of a kind. `values`: as the journal keeps them."""
    return KINDS[kind](values)


def recorded(entries: list[runs.Entry]) -> list[Figure]:
    """Return the pictures that a journal has values of, the newest of each kind, in the order of the chapters."""
    newest = {entry["key"]: entry["values"] for entry in entries if entry["verb"] == runs.PICTURE}
    return [drawn(kind, newest[kind]) for kind in KINDS if kind in newest]
