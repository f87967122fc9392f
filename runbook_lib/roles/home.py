"""What of a product's home outlives its pack, and what is known about migrating from one version to another (`home.yaml`). No I/O."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from runbook_lib.converge.archive import Home
from runbook_lib.converge.resources import Resource
from runbook_lib.files import read_table
from runbook_lib.roles.carbon_settings import home_of
from runbook_lib.roles.context import Context
from runbook_lib.topology.model import Node

VERSION = re.compile(r"\bv?(\d+(?:\.\d+)+)")


@cache
def _table() -> dict[str, Any]:
    return read_table(files(__package__) / "home.yaml")


def outliving(node: Node, ctx: Context, unit: str, resources: Iterable[Resource]) -> Home | None:
    """Return what of the home outlives the pack; None without a pack. `resources`: what the runbook itself writes there.

    What a first boot wrote that is not recorded complete does not outlive it.
    """
    if ctx.pack is None or ctx.pack.listing is None:
        return None
    home, table, booted = home_of(ctx.spec), _table(), node.name in ctx.booted
    paths = {path for one in resources if (path := getattr(one, "path", "")).startswith(f"{home}/") and one.kind != "directory"}
    lists = {name: tuple(table[name]) for name in ("places", "linked", "made", "unpacked")}
    return Home(
        unit,
        whole=tuple(table["whole"]) if booted else (),
        version=table["version"],
        ours=tuple(sorted(posixpath.relpath(path, home) for path in paths)),
        listing=ctx.pack.listing(),
        member=ctx.pack.member,
        known=lambda old, new: note(ctx.spec.design.product, old, new),
        proves=booted,
        **lists,
    )


def note(product: str, old: str, new: str) -> str:
    """Return what is known about migrating between the versions that two texts name, "" where nothing is."""
    found = [VERSION.search(text) for text in (old, new)]
    pair = tuple(each[1] for each in found if each)
    return next((row["say"] for row in _table()["notes"].get(product, ()) if (str(row["from"]), str(row["to"])) == pair), "")
