"""The Java runtime of the WSO2 nodes: a package of the distribution, or an archive by URL.

The real packs need JDK 7 or 8 (facts 7); Debian 12 has no package of these, so for them an archive is given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runbook_lib.converge.archive import Archive
from runbook_lib.converge.resources import Resource
from runbook_lib.roles.context import Context

ARCHIVES = "/opt/java"
OPENJDK = re.compile(r"openjdk-(\d+)-")
ARCHITECTURE = "amd64"  # part of the folder's name in Debian and Ubuntu


@dataclass(frozen=True)
class Java:
    """The Java runtime of a node: `home` is JAVA_HOME, `resources` install an archive; a package is one of the node's packages."""

    home: str
    resources: tuple[Resource, ...] = ()

    @property
    def keytool(self) -> str:
        """Path of the keytool program."""
        return f"{self.home}/bin/keytool"


def java(ctx: Context) -> Java:
    """Return the runtime that the parameters name: an archive by its checksum, else a package of the distribution."""
    wanted = ctx.spec.java
    if wanted.archive:
        digest = (wanted.sha256 or "").lower()
        home = f"{ARCHIVES}/{digest[:12]}"
        return Java(home, (Archive(home, digest, ctx.jdk.url if ctx.jdk else ""),))
    version = OPENJDK.match(wanted.package or "")
    home = f"/usr/lib/jvm/java-{version[1]}-openjdk-{ARCHITECTURE}" if version else "/usr/lib/jvm/default-java"
    return Java(home)
