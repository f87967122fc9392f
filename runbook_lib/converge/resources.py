"""What a host should have, as frozen values: packages, files, edited files, users, units, archives, keystores.

A resource knows three things: what the host's agent needs to probe it (`question`), what the difference between a fact and the wish is
(`change`), and what the agent needs to bring it about (`order`). It does no I/O.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from runbook_lib.changes import Change
from runbook_lib.converge import edits
from runbook_lib.tables import counted

Fact = Mapping[str, Any]
Wire = dict[str, Any]


def pack(data: bytes) -> str:
    """Bytes as the agent reads them: compressed, base64."""
    return base64.b64encode(zlib.compress(data, 1)).decode()


def unpack(text: str) -> bytes:
    """The inverse of `pack`."""
    return zlib.decompress(base64.b64decode(text))


@lru_cache(maxsize=512)
def sha256(data: bytes) -> str:
    """Hex digest; remembered, because the same wish is compared on every host and at every run."""
    return hashlib.sha256(data).hexdigest()


def unified(old: bytes | None, new: bytes | None, path: str) -> str:
    """Unified diff of two contents; binary content is named, not shown."""
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
    """The base of all kinds. `key` names it in plans and journals."""

    kind: ClassVar[str]

    @property
    def key(self) -> str:
        raise TypeError(f"{type(self).__name__} has no key")

    def question(self) -> Wire:
        """What the agent needs to probe this."""
        return {"kind": self.kind, "key": self.key}

    def change(self, fact: Fact) -> Change | None:
        """The difference between the fact and the wish; None when there is none."""
        raise TypeError(f"{type(self).__name__} cannot be compared")

    def order(self, fact: Fact) -> Wire:
        """What the agent needs to bring the wish about."""
        return self.question()


def attributes(fact: Fact, mode: int | None, owner: str | None) -> list[str]:
    """Differences of mode and owner, in words."""
    found = []
    if mode is not None and fact.get("mode") != mode:
        found.append(f"mode {fact.get('mode', 0):04o} -> {mode:04o}")
    if owner is not None and fact.get("owner") != owner:
        found.append(f"owner {fact.get('owner')} -> {owner}")
    return found


@dataclass(frozen=True)
class Package(Resource):
    """A package of the distribution, installed at whatever version its mirror has."""

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
    """A file with exactly this content. `secret`: the content never leaves the host and is never shown."""

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
    """A file that somebody else brings (a product's configuration), with named settings edited and all else kept byte for byte.

    `base` is the file as the product ships it: used to show the difference before the product is on the host.
    `mode` and `owner` None: as the product has them.
    """

    kind = "edited"
    path: str
    edits: tuple[edits.Edit, ...]
    base: bytes | None = field(default=None, repr=False)
    mode: int | None = None
    owner: str | None = None

    @property
    def key(self) -> str:
        return f"settings in {self.path}"

    @cached_property
    def _settled(self) -> str | None:
        """Digest of the shipped file with the edits made: a host that has it needs no content sent back."""
        return sha256(edits.apply(self.base, self.edits, self.path)) if self.base is not None else None

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
        new = edits.apply(old, self.edits, self.path)
        return Change(self.key, "edit", "settings differ", self._diff(old)) if new != old else self._change_of_attributes(fact)

    def _change_of_attributes(self, fact: Fact) -> Change | None:
        wrong = attributes(fact, self.mode, self.owner)
        return Change(self.key, "change", ", ".join(wrong)) if wrong else None

    def _diff(self, old: bytes) -> str:
        return unified(old, edits.apply(old, self.edits, self.path), self.path)

    def order(self, fact: Fact) -> Wire:
        """With the new content, made from the content that the fact has; without one when only mode or owner differ.

        A file that is still absent when its stage comes was removed by hand: it is made from what the product ships.
        """
        attributes = {**self.question(), "edited_from": fact.get("sha256"), "mode": self.mode, "owner": self.owner}
        old = unpack(fact["content"]) if "content" in fact else self.base if fact["type"] == "absent" else None
        return attributes if old is None else {**attributes, "content": pack(edits.apply(old, self.edits, self.path))}


@dataclass(frozen=True)
class Directory(Resource):
    """A directory; its content is nobody's business here."""

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
    """A path that must not exist; a directory goes with everything in it."""

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
    """A systemd unit. `running` None: as it is. `watches`: files whose change makes a restart (or `reload`) due, however they changed
    and whoever was interrupted in between: the newest change is compared with the time at which the process started."""

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


@dataclass(frozen=True)
class Archive(Resource):
    """A zip or tar unpacked at `path`, without its single top folder; fetched by `url` and refused unless it has this sha256."""

    kind = "archive"
    path: str
    sha256: str
    url: str = field(repr=False, compare=False)
    owner: str = "root:root"

    @property
    def key(self) -> str:
        return f"archive {self.path}"

    def question(self) -> Wire:
        return {**super().question(), "path": self.path, "sha256": self.sha256}

    def change(self, fact: Fact) -> Change | None:
        if fact["sha256"] == self.sha256:
            return None
        if fact["sha256"]:
            return Change(self.key, "replace", f"holds archive {fact['sha256'][:12]}…, wanted {self.sha256[:12]}…")
        return Change(self.key, "unpack", f"archive {self.sha256[:12]}…")

    def order(self, fact: Fact) -> Wire:
        return {**self.question(), "url": self.url, "owner": self.owner}


@dataclass(frozen=True)
class Exec(Resource):
    """The last resort: a guard and a command for sh. `unless` exits 0 when nothing is to be done."""

    kind = "exec"
    name: str
    unless: str
    run: str
    stdin: str = field(default="", repr=False)

    @property
    def key(self) -> str:
        return self.name

    def question(self) -> Wire:
        return {**super().question(), "unless": self.unless}

    def change(self, fact: Fact) -> Change | None:
        return None if fact["done"] else Change(self.key, "run", textwrap.shorten(self.run.strip().splitlines()[0], 160, placeholder=" …"))

    def order(self, fact: Fact) -> Wire:
        return {**self.question(), "run": self.run, "stdin": self.stdin}
