"""An archive that is unpacked on a host, and what becomes of the tree there when another archive takes its place.

The home of a running program holds more than its archive brought: what its operator put there, and what the program itself wrote. `Home`
says which of it goes on living in the new tree. The host's agent compares (`agent/homes.py`); what it found is decided by one function, here
for the plan and on the host again when the program is stopped.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from runbook_lib.changes import Change
from runbook_lib.converge.agent import homes
from runbook_lib.converge.resources import Fact, Resource, Wire, pack, sha256
from runbook_lib.tables import counted

Listing = Mapping[str, tuple[int, int, int]]  # size, CRC-32 and mode by path; folders end in a slash
NO_FILE = {"type": "absent", "exists": False, "made_of": None, "intact": False, "done": False}  # what a probe of any kind says of a path that is not there
NOTES = "read the vendor's notes on migrating before: nothing is known here about {old} -> {new}"


@dataclass(frozen=True)
class Home:
    """What of a program's home outlives its archive. All paths are below it.

    `unit`: the systemd unit that runs from it. `places`: folders whose files are the operator's (`a/*`: each folder in `a`). `whole`: folders and
    files that are carried as they are, whatever the archive brings, those in `linked` by hard links. `made`: patterns of what the program makes by
    itself. `unpacked`: suffixes of archives that the program unpacks beside them. `ours`: what other resources write. `listing` and `member`: the
    new archive's content. `version`: the file in which the program says its version; `known`: what is known about migrating from one such text to another.
    `proves`: the program serves, so that the old home must stay until the new one was seen to.
    """

    unit: str
    places: tuple[str, ...]
    whole: tuple[str, ...]
    linked: tuple[str, ...]
    made: tuple[str, ...]
    unpacked: tuple[str, ...]
    version: str
    ours: Collection[str] = ()
    listing: Listing = field(default_factory=dict)
    member: Callable[[str], bytes] | None = None
    known: Callable[[str, str], str] = lambda old, new: ""
    proves: bool = True

    def rules(self) -> Wire:
        """Return what the agent needs for the comparison."""
        lists = {name: list(getattr(self, name)) for name in ("places", "whole", "linked", "made", "unpacked", "ours")}
        return {**lists, "version": self.version}

    @cached_property
    def _version(self) -> str:
        return " ".join(self.member(self.version).decode(errors="replace").split()) if self.member and self.version in self.listing else ""

    def migration(self, before: str) -> str:
        """Return what to know before the program of version `before` is replaced; empty where the version stays."""
        if before == self._version:
            return ""
        return self.known(before, self._version) or NOTES.format(old=before or "an unknown version", new=self._version or "an unknown version")


@dataclass(frozen=True)
class Archive(Resource):
    """A zip or tar archive unpacked at `path` without its single top folder. It is fetched from `url` and refused unless it has this sha256.

    With `home` it must be a zip, and one that replaces another takes over what `home` names. Otherwise the old tree is put aside as it is.
    """

    kind = "archive"
    path: str
    sha256: str
    url: str = field(repr=False, compare=False)
    owner: str = "root:root"
    home: Home | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> str:
        return f"archive {self.path}"

    def question(self) -> Wire:
        rules = {"rules": self.home.rules()} if self.home else {}
        return {**super().question(), "path": self.path, "sha256": self.sha256, **rules}

    def change(self, fact: Fact) -> Change | None:
        if fact["sha256"] == self.sha256:
            return None
        if not fact["sha256"]:
            return Change(self.key, "unpack", f"archive {self.sha256[:12]}…")
        summary = f"holds archive {fact['sha256'][:12]}…, wanted {self.sha256[:12]}…"
        if not self.home:
            return Change(self.key, "replace", summary)
        decided = self._decided(fact)
        carried, left = len(decided["carry"]) + len(decided["remove"]), len(decided["left"])
        leaves = f"leaves {left or 'none'}" if fact.get("known") else "leaves what cannot be told from the old pack's"
        return Change(self.key, "replace", f"{summary}; carries {counted(carried, 'file')} over, {leaves}", self._told(decided, fact))

    def replaces(self, fact: Fact) -> bool:
        """Return whether this archive takes the place of another one."""
        return bool(fact.get("sha256")) and fact["sha256"] != self.sha256

    def order(self, fact: Fact) -> Wire:
        order = {**self.question(), "url": self.url, "owner": self.owner}
        if not self.home:
            return order
        decided = self._decided(fact)
        return {**order, "unit": self.home.unit, "proves": self.home.proves, "carry": decided["carry"], "remove": decided["remove"]}

    def _decided(self, fact: Fact) -> dict[str, Any]:
        if not self.home or "known" not in fact:
            return {"carry": [], "remove": [], "left": [], "anew": 0}
        return homes.decide(fact, self.home.listing, self.home.rules())

    def _told(self, decided: Mapping[str, Any], fact: Fact) -> str:
        """Return, for people, what to know before, what the new tree takes over and what it does not. A plus begins what is kept, a minus what is not."""
        home = self.home
        assert home is not None
        migration = home.migration(fact.get("version", ""))
        lines = [f"@ {migration}"] if migration else []
        if not fact.get("known"):
            lines.append("@ nobody noted what the old archive brought, so what was changed in its files is not known and not carried over:")
            lines.append("@ carried is what stands where the operator's things are and the new archive has nothing")
        lines += [f"+ carried over: {path}" for path in decided["carry"]]
        lines += [f"+ stays removed: {path}" for path in decided["remove"]]
        lines += [f"+ carried over as it is: {', '.join(home.whole)}"] if home.whole else []
        lines += [f"- not carried over: {path} ({why})" for path, why in decided["left"]]
        if home.ours:
            lines.append("- written anew: the files that this plan names; what was changed in them by hand is not carried over")
        lines.append(f"  the old home stays in {self.path}{homes.PREVIOUS} until the chapter is verified")
        return "\n".join(lines)

    def fresh(self, fact: Fact) -> Fresh | None:
        """Return the tree that this archive is about to put in the place of another one, None when it does not."""
        return Fresh(self, frozenset(self._decided(fact)["carry"])) if self.home and self.replaces(fact) else None


@dataclass(frozen=True)
class Fresh:
    """The tree right after the archive was unpacked over another: its own files, and what was carried over."""

    archive: Archive
    carried: frozenset[str]

    def covers(self, path: str) -> bool:
        return path == self.archive.path or path.startswith(f"{self.archive.path}/")

    def fact(self, path: str) -> Fact:
        home = self.archive.home
        assert home is not None
        name = posixpath.relpath(path, self.archive.path)
        status = {"owner": self.archive.owner, "exists": True, "made_of": None, "intact": False, "done": False}
        if name in home.listing:
            data = home.member(name) if home.member else b""
            return {**status, "type": "file", "mode": home.listing[name][2] or 0o644, "sha256": sha256(data), "content": pack(data)}
        if name == "." or name in self._folders:
            return {**status, "type": "directory", "mode": home.listing.get(f"{name}/", (0, 0, 0))[2] or 0o755}
        return NO_FILE

    @cached_property
    def _folders(self) -> frozenset[str]:
        home = self.archive.home
        assert home is not None
        found: set[str] = set()
        for path in (*home.listing, *self.carried, *(f"{folder}/" for folder in home.whole)):
            parts = path.split("/")[:-1]
            found.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
        return frozenset(found)
