"""Reads from a product's pack the files of its applications, their URL mappings, and its web archives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

APPS = "repository/deployment/server/jaggeryapps/"
WEBAPPS = "repository/deployment/server/webapps/"


@dataclass(frozen=True)
class Contents:
    """Contents of a pack: paths of its applications' files ("/store/acs.jag"), their URL mappings, the context paths of its web archives."""

    files: tuple[str, ...]
    mappings: tuple[str, ...]
    roots: tuple[str, ...] = ()


def contents_of(members: Iterable[str], read: Callable[[str], bytes]) -> Contents:
    """Return the contents of a pack; `members` are its file names, `read` returns the bytes of one (Pack.members, Pack.member)."""
    names = sorted(members)
    paths = [name.removeprefix(APPS) for name in names if name.startswith(APPS) and "/" in name.removeprefix(APPS)]
    configurations = {path.split("/")[0]: read(APPS + path).decode("utf-8", "replace") for path in paths if re.fullmatch(r"[^/]+/jaggery\.conf", path)}
    mappings = [f"/{app}{url}" for app, text in configurations.items() for url in re.findall(r'"url"\s*:\s*"(/[^"]*)"', text)]
    archives = {name.removeprefix(WEBAPPS).split("/")[0].removesuffix(".war") for name in names if name.startswith(WEBAPPS)}
    return Contents(tuple("/" + path for path in paths), tuple(dict.fromkeys(mappings)), tuple(f"/{one}/" for one in sorted(archives) if one))
