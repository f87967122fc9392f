"""What `classroom up` was asked for, checked before anything is changed: each mistake is one error that says what is allowed."""

from __future__ import annotations

import grp
import pwd
import re
import socket
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from runbook_cli.classroom.room import DEFAULT_RANGE, INSTRUCTOR, LAB_PREFIX, MOST
from runbook_lib.errors import RunbookError

LEARNER_MB = 1500  # what one learner takes with greg-single running (docs/performance.md)
RESERVE_MB = 1500  # for the hub, and for what else this machine does
MOST_MB = 6000  # a learner's limit where there is more: greg-separated with JupyterLab fits
PROCESSES = 3000  # threads count: three machines and a notebook have about 400
ALLOWED = "1 to 32 of a-z, 0-9 and hyphens, beginning with a letter and ending with a letter or digit"


def names(learners: int | None, given: str | None, taken: Callable[[str], str] | None = None) -> list[str]:
    """Return the learners' names: those given, or learner1 and so on. Raises RunbookError for a name or number that cannot be.

    `taken`: returns what on this machine already has a name, "" for nothing (default: its users and groups).
    """
    found = [name.strip() for name in given.split(",")] if given is not None else [f"learner{number}" for number in range(1, (learners or 0) + 1)]
    if learners is not None and not 1 <= learners <= MOST:
        raise RunbookError(f"a classroom has 1 to {MOST} learners, not {learners}", "--learners", f"this machine has memory for {fitting()}")
    if learners is not None and len(found) != learners:
        raise RunbookError(f"{len(found)} names were given for {learners} learners", "--learners, --names", "leave --learners out: the names say how many")
    if len(found) > MOST:
        raise RunbookError(f"a classroom has at most {MOST} learners, not {len(found)}", "--names", "make two classrooms on two machines")
    for name in found:
        _check(name, found, taken or on_this_machine)
    return found


def _check(name: str, all_names: Sequence[str], taken: Callable[[str], str]) -> None:
    shown = "".join(letter if letter.isprintable() and not unicodedata.combining(letter) else "?" for letter in name[:40])
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise RunbookError(f"{shown!r} cannot be a learner's name", "--names", ALLOWED)
    if name == INSTRUCTOR:
        raise RunbookError(f"{name!r} cannot be a learner's name: it is the instructor's login", "--names", "choose another name")
    if all_names.count(name) > 1:
        raise RunbookError(f"{name!r} is there {all_names.count(name)} times", "--names", "each learner has a name of his own")
    if what := taken(name):
        raise RunbookError(f"{name!r} cannot be a learner's name: this machine has a {what} of that name", "--names", "choose another name")


def on_this_machine(name: str) -> str:
    """Return whether a user or a group of this machine has the name, in words."""
    for what, look in (("user", pwd.getpwnam), ("group", grp.getgrnam)):
        with suppress(KeyError):
            look(name)
            return what
    return ""


def network(text: str | None, learners: int) -> IPv4Network:
    """Return the range of all labs. Raises RunbookError when it is none, or too small for so many learners."""
    try:
        found = IPv4Network(text or DEFAULT_RANGE)
    except ValueError as problem:
        raise RunbookError(f"{text!r} is not an address range: {problem}", "--range", f"for example --range {DEFAULT_RANGE}") from None
    room_for = 2 ** (LAB_PREFIX - found.prefixlen) if found.prefixlen <= LAB_PREFIX else 0
    if not found.is_private or room_for < learners:
        what = f"{found} has room for {room_for} learners, not {learners}" if found.is_private else f"{found} is not a private range"
        raise RunbookError(what, "--range", f"each learner takes a /{LAB_PREFIX}: for example --range {DEFAULT_RANGE}")
    return found


def hosts(given: Sequence[str]) -> Sequence[str]:
    """Return the names that browsers use for this machine. Raises RunbookError for one that a certificate cannot have."""
    for name in given:
        if len(name) > 253 or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*", name):
            raise RunbookError(f"{name[:60]!r} cannot be this machine's name", "--host", "a host name in ASCII or an IPv4 address, such as class.example.org")
    return given


def port(number: int) -> int:
    """Return the port when it can be listened on. Raises RunbookError."""
    if not 1 <= number <= 65535:
        raise RunbookError(f"there is no port {number}", "--port", "a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", number))
        except OSError as problem:
            raise RunbookError(f"port {number} cannot be used: {problem.strerror}", "--port", "end what listens there, or choose another one") from None
    return number


def memory(learners: int, wanted: int | None = None, total: int | None = None, available: int | None = None) -> int:
    """Return the limit of each learner's memory in MB: `wanted`, or an equal share. Raises RunbookError when this machine has too little.

    `total` and `available`: this machine's memory in MB, by default as /proc/meminfo says.
    """
    total, available = total or meminfo("MemTotal"), available or meminfo("MemAvailable")
    if learners > fitting(available):
        what = f"{learners} learners need {learners * LEARNER_MB + RESERVE_MB} MB, and {available} MB are available"
        raise RunbookError(what, "--learners", f"this machine has memory for {fitting(available)} now: {LEARNER_MB} MB each")
    if wanted is not None and wanted < LEARNER_MB:
        raise RunbookError(f"{wanted} MB are too little for a learner", "--memory", f"greg-single and JupyterLab take up to {LEARNER_MB} MB")
    return wanted or max(LEARNER_MB, min(MOST_MB, (total - RESERVE_MB) // learners))


def fitting(available: int | None = None) -> int:
    """Return how many learners have room in the memory that is available."""
    return min(MOST, max(0, ((available or meminfo("MemAvailable")) - RESERVE_MB) // LEARNER_MB))


def meminfo(name: str) -> int:
    """Return a line of /proc/meminfo in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines[name].split()[0]) // 1024
