"""The front doors of the public G-Reg hosts: the requests that a browser needs, as one table. No I/O.

    doors = open_doors(spec, "publisher")
    find(doors, "GET", "/publisher/assets/wsdl/list")       # the Door, or None: Nginx answers 404

Nginx gets the table as maps (roles/nginx.py), the proof looks requests up here: the regular expressions are the same texts, in
a dialect that PCRE and Python read alike. None of them backtracks: quantifiers that could are possessive.

A path is looked up as it was sent, and only if it is plainly written: no encoded letter, slash, dot or semicolon, no
empty segment, none that starts with a dot, no path parameter but a session's at the end. The application server
parses such a path as Nginx does; it parses others differently (facts 5.3, 12.1), and no browser needs another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from runbook_lib.files import read_table
from runbook_lib.spec.sections import Parameters

TABLE = files(__package__) / "front_doors.yaml"
# Encoded: anything but letters, digits, -._~ (nobody needs these encoded), / \ ; % and control characters
_ENCODED = "%(?:2[0-46-9A-Ca-c]|3[AaC-Fc-f]|40|5[BDEbde]|60|7[B-Db-d]|[89ABab][0-9A-Fa-f]|[Cc][2-9A-Fa-f]|[DEde][0-9A-Fa-f]|[Ff][0-4])"
_PLAIN = "[A-Za-z0-9_~!&'()*+,=:@-]"
_SEGMENT = f"(?:{_PLAIN}|{_ENCODED})(?:{_PLAIN}|[.]|{_ENCODED})*+"
# The path of a request target without a session's parameter and without the query; nothing where it is not plainly written
CLEAN = rf"^(?<clean>(?:/{_SEGMENT})*+/?+)(?:;jsessionid=[0-9A-Za-z.-]++)?+(?:\?|$)"
_CLEAN = re.compile(CLEAN.replace("(?<clean>", "(?P<clean>"))
_WRITTEN = re.compile(f"(?:[/.(|)]|{_PLAIN}|{_ENCODED})*+")
_TOKEN = re.compile(r"\{(\w+)\}|([(|)])")
METHODS = ("GET", "POST", "PUT", "DELETE")
OPENED = ("store", "publisher", "as")  # hosts that `also_allow` adds rows to
# A segment of a path may have parameters (";x"), which Tomcat takes away
_CLOSED = "^/(?:t(?:;[^/]*)?/[^/]+/)?({names})(?=;|/|$)"


@dataclass(frozen=True)
class Door:
    """One row of the table. `needs`: the parameter that must be true; `leads`: empty (passed on) or `home`."""

    hosts: tuple[str, ...]
    methods: tuple[str, ...]
    path: str
    why: str
    needs: str = ""
    leads: str = ""

    @property
    def pattern(self) -> str:
        """The regular expression that `METHOD clean-path` must match: for Nginx and for Python."""
        methods = "|".join(method for one in self.methods for method in ((one, "HEAD") if one == "GET" else (one,)))
        return f"^(?:{methods}) {_expression(self.path)}$"

    def admits(self, method: str, path: str) -> bool:
        """Return whether a request with this clean path is let through."""
        return _compiled(self).search(f"{method} {path}") is not None


@dataclass(frozen=True)
class ShutPlace:
    """What a host of the Application Server keeps to itself: the first segment of a path. `never`: no parameter opens it."""

    hosts: tuple[str, ...]
    name: str
    why: str
    never: bool = False


def closed(host: str) -> tuple[ShutPlace, ...]:
    """Return what `host` ("as", "mgt") keeps to itself."""
    return tuple(row for row in _closed() if host in row.hosts)


def closed_paths(host: str) -> str:
    """Return the regular expression of these paths, for a path as Nginx normalises it and for letters of either case; its group is the name."""
    return _CLOSED.format(names="|".join(re.escape(row.name).replace(r"\-", "-") for row in closed(host)))


@cache
def _closed() -> tuple[ShutPlace, ...]:
    return tuple(ShutPlace(**{**row, "hosts": tuple(row["hosts"])}) for row in _table()["closed"])


@cache
def _compiled(door: Door) -> re.Pattern[str]:
    return re.compile(door.pattern)


def _expression(template: str) -> str:
    """Return the path of a row as a regular expression: literal except for words in braces and alternatives. Raises ValueError for an unknown word."""
    found, end = "", 0
    for token in _TOKEN.finditer(template):
        word, mark = token.groups()
        if word and word not in words():
            raise ValueError(f"no such word: {{{word}}}; there is {', '.join(words())}")
        found += re.escape(template[end : token.start()]).replace(r"\-", "-") + (words()[word] if word else mark.replace("(", "(?:"))
        end = token.end()
    return found + re.escape(template[end:]).replace(r"\-", "-")


@cache
def _table() -> dict[str, Any]:
    return read_table(TABLE)


def words() -> dict[str, str]:
    """Return the words that a path may have in braces, each with its regular expression."""
    return _table()["words"]


@cache
def doors() -> tuple[Door, ...]:
    """Return every row of the table."""
    return tuple(
        Door(tuple(row["hosts"]), tuple(row["methods"]), row["path"], row["why"], row.get("for", ""), row.get("leads", "")) for row in _table()["doors"]
    )


def open_doors(spec: Parameters, host: str) -> tuple[Door, ...]:
    """Return the rows for `host` ("store", "publisher"; "as" has none but) with these parameters, and the operator's own (`also_allow`)."""
    own = tuple(parse(host, text) for text in spec.also_allow.get(host, ()))
    return tuple(door for door in doors() if host in door.hosts and (not door.needs or getattr(spec, door.needs))) + own


def parse(host: str, text: str) -> Door:
    """Return the row of an operator's text, "GET,POST /path". Raises ValueError with what is wrong with it."""
    given, _, path = text.strip().partition(" ")
    methods = tuple(given.split(","))
    if not path.startswith("/") or not set(methods) <= set(METHODS):
        raise ValueError(f"not of the form METHOD[,METHOD] /path with methods out of {', '.join(METHODS)}")
    door = Door((host,), methods, path.strip(), "also_allow: the operator's own")
    try:
        _compiled(door)
    except re.error:
        raise ValueError("its brackets do not match") from None
    written = outer = re.sub(r"\{\w+\}", "x", door.path)
    while "(" in outer:
        outer = re.sub(r"\([^()]*\)", "x", outer)
    if "*" in written or clean(outer) != outer or not _WRITTEN.fullmatch(written):
        raise ValueError("a path is literal but for words in braces and (a|b), and plainly written: a star stands for nothing else, a query is not looked at")
    if host == "as":
        _refuse_in_appserver(door)
        return door
    side = next((shut for shut in side_doors() if any(door.admits(method, shut) for method in METHODS)), None)
    if side or ".jag" in path.lower():
        raise ValueError(f"it would open {side or 'a script by its own path'}, which leads past the sign-on")
    return door


def _refuse_in_appserver(door: Door) -> None:
    """Raise ValueError for a row that opens nothing on the Application Server's host, or what no row may open there."""
    for path in examples(door):
        found = re.match(closed_paths("as"), path, re.IGNORECASE)
        if not found:
            raise ValueError(f"Nginx passes {path} on without it: closed are {', '.join(row.name for row in closed('as'))}")
        place = next(row for row in closed("as") if row.name == found[1].lower())
        behind = re.sub("^/[^./]*", "", path[found.end() :])  # behind a service's name: its endpoint, its operation
        shut = [f"{path[: found.end()]}/{name}{behind}" for name in _table()["administration"]] if place.name == "services" else []
        opened = next((one for one in shut if any(door.admits(method, one) for method in METHODS)), None)
        if opened or place.never:
            raise ValueError(f"it would open {opened or path}: {'it administers the product' if opened else place.why}")


def examples(door: Door) -> tuple[str, ...]:
    """Return paths that a row lets through, one for each alternative in it."""
    samples = {"type": "restservice", "id": "00000000-0000-0000-0000-000000000000", "word": "x", "more": "", "media": "css"}
    samples |= {"upload": "x.png", "file": "x.css", "template": "x.hbs"}
    found = [re.sub(r"\{(\w+)\}", lambda word: samples[word[1]], door.path)]
    while any("(" in path for path in found):
        found = [path for one in found for path in _chosen(one)]
    return tuple(found)


def _chosen(path: str) -> list[str]:
    """Return the paths that a path with alternatives stands for, with the innermost alternatives replaced."""
    choice = re.search(r"\(([^()]*)\)", path)
    return [path[: choice.start()] + one + path[choice.end() :] for one in choice[1].split("|")] if choice else [path]


@cache
def side_doors() -> tuple[str, ...]:
    """Return paths that no row may open: sign-in that skips the application's permission, passwords in clear text, the console."""
    per_app = ("apis/authenticate", "pages/basic-authenticator", "pages/basic-auth-login", "config/x.json", "modules/x.js", "test", "test/x", "test2")
    return (
        *(f"/{app}/{path}" for app in ("store", "publisher") for path in per_app),
        "/carbon",
        "/carbon/x",
        "/services",
        "/services/x",
        "/registry",
        "/registry/x",
    )


def clean(target: str) -> str:
    """Return the path by which a request target is looked up; empty where it is not plainly written."""
    found = _CLEAN.search(target)
    return found["clean"] if found else ""


def find(among: Iterable[Door], method: str, target: str) -> Door | None:
    """Return the row that lets a request through, as Nginx decides it, or None."""
    path = clean(target)
    return next((door for door in among if path and door.admits(method, path)), None)
