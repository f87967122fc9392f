"""A service's configuration as one tree of files: written beside the running one, tested, activated in one step, rolled back on failure.

The files are written to `<root>/<version>/`, where the version is a digest of them. `link`, the path that the service
reads, is a symbolic link to `<root>/<version>/<entry>`. A configuration that fails its test is never activated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from runbook_lib.changes import Change
from runbook_lib.converge.resources import Fact, Resource, Wire, pack, sha256, unified, unpack

HERE = "@TREE@"  # in a file's content: replaced by the folder of the tree's version


@dataclass(frozen=True)
class TreeFile:
    """A file of the tree; `name` is its path below the version's folder. With `secret`, the content is never returned by the agent and never shown."""

    name: str
    content: bytes
    mode: int = 0o644
    secret: bool = False

    def __repr__(self) -> str:
        return f"TreeFile({self.name}, {len(self.content)} bytes)"


@dataclass(frozen=True)
class ConfigTree(Resource):
    """The configuration of one service. The commands are argument lists, run without a shell.

    `test` checks a configuration: `{entry}` in it is replaced by the entry's path. `active` exits with 0 while the service runs.
    `reload` makes the service read `link` again. `status` is the "address:port" where the running service answers every HTTP request
    with the version that it runs, so that a reload without effect is noticed.
    """

    kind = "config_tree"
    root: str
    link: str
    entry: str
    files: tuple[TreeFile, ...]
    test: tuple[str, ...]
    active: tuple[str, ...]
    reload: tuple[str, ...]
    status: str

    @property
    def key(self) -> str:
        return f"configuration {self.link}"

    @cached_property
    def version(self) -> str:
        """The first 12 hex digits of a digest of all names, modes and contents."""
        digest = hashlib.sha256()
        for file in sorted(self.files, key=lambda file: file.name):
            digest.update(f"{file.name}\0{file.mode:o}\0{sha256(file.content)}\0".encode())
        return digest.hexdigest()[:12]

    @property
    def folder(self) -> str:
        return f"{self.root}/{self.version}"

    def _written(self, file: TreeFile) -> bytes:
        """Return the content as it is on the host, with the placeholders for folder and version replaced."""
        content = file.content.replace(HERE.encode(), self.folder.encode())
        return content.replace(b"@VERSION@", self.version.encode())

    def question(self) -> Wire:
        files = {file.name: {"sha256": sha256(self._written(file)), "mode": file.mode, "secret": file.secret} for file in self.files}
        settings = {"root": self.root, "link": self.link, "entry": self.entry, "version": self.version, "active": list(self.active)}
        return {**super().question(), **settings, "files": files, "status": self.status}

    def change(self, fact: Fact) -> Change | None:
        if fact["linked"] == self.version:
            wrong = self._differing(fact)
            if wrong:
                return Change(self.key, "restore", f"changed by hand: {', '.join(wrong)}", self._diff(fact))
            if fact["active"] and fact["running"] != self.version:  # None: it serves what the package brought; the link was switched and never loaded
                return Change(self.key, "reload", f"the service runs {fact['running'] or 'what was there before'}, not {self.version}")
            return None
        if fact["linked"] is None:
            return Change(self.key, "create", f"{len(self.files)} files, tested before they are used", self._diff(fact))
        wrong = self._differing(fact) or ["its place"]
        return Change(self.key, "replace", f"{', '.join(wrong)}; tested before it is used", self._diff(fact))

    def _differing(self, fact: Fact) -> list[str]:
        """Return the names of files that differ, are missing or are not wanted. Paths are compared without the version in them."""
        found: Mapping[str, Wire] = fact["files"]
        ours = {file.name: file for file in self.files}
        differing = [name for name, file in ours.items() if not self._same(file, found.get(name), fact["linked"])]
        return sorted([*differing, *(set(found) - set(ours))])

    def _same(self, file: TreeFile, found: Wire | None, linked: str | None) -> bool:
        if found is None or found["mode"] != file.mode:
            return False
        if found["sha256"] == sha256(self._written(file)):
            return True
        return "content" in found and linked is not None and self._generic(found, linked) == file.content

    def _generic(self, found: Wire, linked: str) -> bytes:
        """Return a file's content from the host with the placeholders put back, so that it can be compared across versions."""
        content = unpack(found["content"]).replace(f"{self.root}/{linked}".encode(), HERE.encode())
        return content.replace(linked.encode(), b"@VERSION@")

    def _diff(self, fact: Fact) -> str:
        """Return the diffs of all differing files that are not secret, with placeholders instead of the version's paths."""
        parts = []
        for file in self.files:
            found = fact["files"].get(file.name)
            if file.secret or self._same(file, found, fact["linked"]):
                continue
            old = self._generic(found, fact["linked"]) if found and "content" in found else None
            parts.append(unified(old, file.content, file.name))
        return "\n".join(part for part in parts if part)

    def order(self, fact: Fact) -> Wire:
        contents = {file.name: pack(self._written(file)) for file in self.files}
        commands = {"test": list(self.test), "reload": list(self.reload)}
        return {**self.question(), **commands, "contents": contents}
