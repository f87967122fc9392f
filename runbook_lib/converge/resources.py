"""The resources of a host as frozen values: packages, users, files, edited files, directories, units, commands.

A resource has three methods: `question` returns what the host's agent needs to probe it, `change` returns the difference
between the fact that the agent reports and the desired state, and `order` returns what the agent needs to apply it. None does I/O.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import textwrap
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from runbook_lib.changes import Change
from runbook_lib.tables import counted

if TYPE_CHECKING:
    from runbook_lib.converge.edits import Edit

Fact = Mapping[str, Any]
Wire = dict[str, Any]


def pack(data: bytes) -> str:
    """Return the bytes as the agent reads them: compressed with zlib, then base64."""
    return base64.b64encode(zlib.compress(data, 1)).decode()


def unpack(text: str) -> bytes:
    """Return the bytes that `pack` encoded."""
    return zlib.decompress(base64.b64decode(text))


@lru_cache(maxsize=512)
def sha256(data: bytes) -> str:
    """Return the SHA-256 digest in hex. It is cached, because the same content is compared on every host and at every run."""
    return hashlib.sha256(data).hexdigest()


def unified(old: bytes | None, new: bytes | None, path: str) -> str:
    """Return a unified diff of two contents, None meaning an absent file; for binary content only a note that it differs."""
    try:
        before, after = ((data or b"").decode() for data in (old, new))
    except UnicodeDecodeError:
        try:
            before, after = ((data or b"").decode("latin-1") for data in (old, new))
        except UnicodeDecodeError:
            return "(binary content differs)"
    if "\0" in before or "\0" in after:
        return "(binary content differs)"
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"{path} (now)" if old is not None else "/dev/null", path, lineterm="", n=2)
    return "\n".join(lines)


@dataclass(frozen=True)
class Resource:
    """The base class of all resources. `key` names the resource in plans and journals; `kind` selects the agent's code for it."""

    kind: ClassVar[str]

    @property
    def key(self) -> str:
        raise TypeError(f"{type(self).__name__} has no key")

    def question(self) -> Wire:
        """Return what the agent needs to probe this resource."""
        return {"kind": self.kind, "key": self.key}

    def change(self, fact: Fact) -> Change | None:
        """Return the difference between the fact and the desired state; None when there is none."""
        raise TypeError(f"{type(self).__name__} cannot be compared")

    def order(self, fact: Fact) -> Wire:
        """Return what the agent needs to apply this resource."""
        return self.question()

    def foreseen(self, fact: Fact, fresh: FreshTree) -> Fact:
        """Return what a probe will find once the fresh tree is in place; the fact itself where that does not concern this resource."""
        path = getattr(self, "path", "")
        if not path or not fresh.covers(path):
            return fact
        return {name: value for name, value in fresh.fact(path).items() if name != "content" or not getattr(self, "secret", False)}


class FreshTree(Protocol):
    """A directory tree that an archive is about to put in the place of another."""

    def covers(self, path: str) -> bool:
        """Return whether the path is the tree's own or lies below it."""

    def fact(self, path: str) -> Fact:
        """Return what a probe of any kind of resource will find at the path."""


def attributes(fact: Fact, mode: int | None, owner: str | None) -> list[str]:
    """Return the differences of mode and owner in words; None for either means that it is not compared."""
    found = []
    if mode is not None and fact.get("mode") != mode:
        found.append(f"mode {fact.get('mode', 0):04o} -> {mode:04o}")
    if owner is not None and fact.get("owner") != owner:
        found.append(f"owner {fact.get('owner')} -> {owner}")
    return found


@dataclass(frozen=True)
class Package(Resource):
    """A package of the distribution, installed in the version that its mirror offers; an installed one is not upgraded."""

    kind = "package"
    name: str

    @property
    def key(self) -> str:
        return f"package {self.name}"

    def question(self) -> Wire:
        return {**super().question(), "name": self.name}

    def change(self, fact: Fact) -> Change | None:
        return None if fact["version"] else Change(self.key, "install", f"{self.name} is not installed")


@dataclass(frozen=True)
class User(Resource):
    """A system user with a group of the same name."""

    kind = "user"
    name: str
    home: str
    shell: str = "/usr/sbin/nologin"

    @property
    def key(self) -> str:
        return f"user {self.name}"

    def question(self) -> Wire:
        return {**super().question(), "name": self.name, "home": self.home, "shell": self.shell}

    def change(self, fact: Fact) -> Change | None:
        if not fact["exists"]:
            return Change(self.key, "create", f"no user {self.name}")
        wrong = [f"{what} {fact[what]} -> {want}" for what, want in (("home", self.home), ("shell", self.shell)) if fact[what] != want]
        return Change(self.key, "change", ", ".join(wrong)) if wrong else None


@dataclass(frozen=True)
class File(Resource):
    """A file with exactly this content. With `secret`, the agent never returns the content and plans never show it."""

    kind = "file"
    path: str
    content: bytes = field(repr=False)
    mode: int = 0o644
    owner: str = "root:root"
    secret: bool = False

    @property
    def key(self) -> str:
        return f"file {self.path}"

    def question(self) -> Wire:
        return {**super().question(), "path": self.path, "sha256": sha256(self.content), "secret": self.secret}

    def change(self, fact: Fact) -> Change | None:
        if fact["type"] == "absent":
            return Change(self.key, "create", f"{len(self.content)} bytes", "" if self.secret else unified(None, self.content, self.path))
        if fact["type"] == "file" and fact["sha256"] != sha256(self.content):
            old = unpack(fact["content"]) if "content" in fact else None
            shown = unified(old, self.content, self.path) if old is not None else "(content differs and is not shown)"
            return Change(self.key, "change", "content differs", shown)
        if fact["type"] != "file":
            return Change(self.key, "change", f"is a {fact['type']}")
        wrong = attributes(fact, self.mode, self.owner)
        return Change(self.key, "change", ", ".join(wrong)) if wrong else None

    def order(self, fact: Fact) -> Wire:
        return {**self.question(), "content": pack(self.content), "mode": self.mode, "owner": self.owner}


@dataclass(frozen=True)
class Edited(Resource):
    """A file that the product's pack contains, with named settings edited and all other bytes kept.

    `base` is the file as the product ships it; with it a plan can show the difference before the product is on the host.
    `mode` or `owner` None means as the product has it.
    """

    kind = "edited"
    path: str
    edits: tuple[Edit, ...]
    base: bytes | None = field(default=None, repr=False)
    mode: int | None = None
    owner: str | None = None

    @property
    def key(self) -> str:
        return f"settings in {self.path}"

    def _edited(self, data: bytes) -> bytes:
        from runbook_lib.converge import edits  # with its XML parser, which hosts without edited files do without

        return edits.apply(data, self.edits, self.path)

    @cached_property
    def _settled(self) -> str | None:
        """The digest of the shipped file with the edits made; a host whose file has it need not return the content."""
        return sha256(self._edited(self.base)) if self.base is not None else None

    def question(self) -> Wire:
        return {**super().question(), "path": self.path, "sha256": self._settled}

    def change(self, fact: Fact) -> Change | None:
        if fact["type"] == "file" and fact["sha256"] == self._settled:
            return self._change_of_attributes(fact)
        if fact["type"] == "absent":
            if self.base is None:
                return Change(self.key, "edit", f"{counted(len(self.edits), 'setting')}, once the file is there", "\n".join(e.describe() for e in self.edits))
            return Change(self.key, "edit", f"{counted(len(self.edits), 'setting')}, once the file is there", self._diff(self.base))
        if "content" not in fact:
            return Change(self.key, "edit", f"is a {fact['type']} that cannot be read as text")
        old = unpack(fact["content"])
        new = self._edited(old)
        return Change(self.key, "edit", "settings differ", self._diff(old)) if new != old else self._change_of_attributes(fact)

    def _change_of_attributes(self, fact: Fact) -> Change | None:
        wrong = attributes(fact, self.mode, self.owner)
        return Change(self.key, "change", ", ".join(wrong)) if wrong else None

    def _diff(self, old: bytes) -> str:
        return unified(old, self._edited(old), self.path)

    def order(self, fact: Fact) -> Wire:
        """Return the order with the new content, made from the content in the fact; without content when only mode or owner differ.

        A file that is absent when its stage is applied was removed by hand: it is made from the file that the product ships.
        """
        attributes = {**self.question(), "edited_from": fact.get("sha256"), "mode": self.mode, "owner": self.owner}
        old = unpack(fact["content"]) if "content" in fact else self.base if fact["type"] == "absent" else None
        return attributes if old is None else {**attributes, "content": pack(self._edited(old))}


@dataclass(frozen=True)
class Directory(Resource):
    """A directory with this mode and owner. Its content is not looked at."""

    kind = "directory"
    path: str
    mode: int = 0o755
    owner: str = "root:root"

    @property
    def key(self) -> str:
        return f"directory {self.path}"

    def question(self) -> Wire:
        return {**super().question(), "path": self.path, "mode": self.mode, "owner": self.owner}

    def change(self, fact: Fact) -> Change | None:
        if fact["type"] != "directory":
            return Change(self.key, "create", f"is {fact['type']}")
        wrong = attributes(fact, self.mode, self.owner)
        return Change(self.key, "change", ", ".join(wrong)) if wrong else None


@dataclass(frozen=True)
class Absent(Resource):
    """A path that must not exist. A directory is removed with its content."""

    kind = "absent"
    path: str

    @property
    def key(self) -> str:
        return f"no {self.path}"

    def question(self) -> Wire:
        return {**super().question(), "path": self.path}

    def change(self, fact: Fact) -> Change | None:
        return None if fact["type"] == "absent" else Change(self.key, "remove", f"a {fact['type']} that must not be there")


@dataclass(frozen=True)
class Unit(Resource):
    """A systemd unit. `running` None means that it is neither started nor stopped.

    `watches` are files whose change requires a restart, or a reload with `reload`. The time of the newest change is compared
    with the start time of the process, so a change is noticed whoever made it, and also after an interrupted run.
    """

    kind = "unit"
    name: str
    enabled: bool = True
    running: bool | None = True
    watches: tuple[str, ...] = ()
    reload: bool = False

    @property
    def key(self) -> str:
        return f"unit {self.name}"

    def question(self) -> Wire:
        wish = {"name": self.name, "enabled": self.enabled, "running": self.running, "reload": self.reload}
        return {**super().question(), **wish, "watches": list(self.watches)}

    def change(self, fact: Fact) -> Change | None:
        due = []
        if fact["enabled"] != self.enabled:
            due.append("enable" if self.enabled else "disable")
        if self.running and not fact["active"]:
            due.append("start")
        elif self.running and fact["stale"]:
            due.append("reload" if self.reload else "restart")
        elif self.running is False and fact["active"]:
            due.append("stop")
        return Change(self.key, " and ".join(due), f"is {fact['state']}") if due else None

    def restarts_for(self, path: str) -> bool:
        """Return whether a change of what lies at the path requires a restart."""
        return any(PurePosixPath(path).is_relative_to(watched) for watched in self.watches)

    def after(self, fact: Fact, changed: Iterable[str]) -> Fact:
        """Return what a probe will find once what lies at these paths is changed."""
        return {**fact, "stale": True} if fact["active"] and any(map(self.restarts_for, changed)) else fact

    def foreseen(self, fact: Fact, fresh: FreshTree) -> Fact:
        """A unit whose files are replaced is stopped and disabled meanwhile."""
        return {**fact, "active": False, "enabled": False, "stale": False, "state": "inactive/dead"} if any(map(fresh.covers, self.watches)) else fact


@dataclass(frozen=True)
class Exec(Resource):
    """A command for sh, for what no other resource covers. It is run unless the command `unless` exits with 0. `path`: the file that it makes, if any."""

    kind = "exec"
    name: str
    unless: str
    run: str
    stdin: str = field(default="", repr=False)
    path: str = ""

    @property
    def key(self) -> str:
        return self.name

    def question(self) -> Wire:
        return {**super().question(), "unless": self.unless}

    def change(self, fact: Fact) -> Change | None:
        return None if fact["done"] else Change(self.key, "run", textwrap.shorten(self.run.strip().splitlines()[0], 160, placeholder=" …"))

    def order(self, fact: Fact) -> Wire:
        return {**self.question(), "run": self.run, "stdin": self.stdin}
