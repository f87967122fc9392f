"""What a role needs to know to compute the desired state of a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Topology


@dataclass(frozen=True)
class Download:
    """An archive that machines can fetch. `url` works from inside the VPC (presigned where necessary); `sha256` is verified there.

    `member(path)` returns one file of it (path below the archive's single top folder), for previews and scripts;
    `members()` returns all names, `listing()` size, CRC-32 and mode by name, with those of folders, which end in a slash.
    """

    sha256: str
    url: str = field(repr=False, default="")
    member: Callable[[str], bytes] | None = field(repr=False, default=None, compare=False)
    members: Callable[[], tuple[str, ...]] | None = field(repr=False, default=None, compare=False)
    listing: Callable[[], Mapping[str, tuple[int, int, int]]] | None = field(repr=False, default=None, compare=False)


@dataclass(frozen=True)
class Context:
    """The input of every role: the parameters, the topology, the secrets' values by vault name, the pack, and the JDK archive if any."""

    spec: Spec
    topology: Topology
    secrets: Mapping[str, str] = field(repr=False)
    pack: Download | None = None
    jdk: Download | None = None
    driver: Download | None = None  # the JDBC driver's jar, where it comes by URL
    operator_cidr: str | None = None  # the range that the operator works from; None before the cloud was asked
    booted: frozenset[str] = frozenset()  # nodes whose first boot is recorded complete: only these are started and restarted by systemd
    in_use: bool = False  # a first boot of this deployment was once complete, perhaps on a machine that is gone: its databases hold what users put there
    restoring: str = ""  # the backup whose restore was begun and has not ended, unless it is asked within that restore
    former: Mapping[str, str] = field(default_factory=dict, repr=False)  # the old values of secrets that are being rotated, by vault name

    def base(self, path: str) -> bytes | None:
        """Return a file as the pack ships it, or None when there is no pack or the pack has no such file."""
        if self.pack is None or self.pack.member is None:
            return None
        try:
            return self.pack.member(path)
        except KeyError:
            return None
