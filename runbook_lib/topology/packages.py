"""The distribution's packages that user data installs at launch, or downloads only; a machine's chapter installs what is missing. No I/O."""

from __future__ import annotations

from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Node

NGINX = "nginx"


def packages_of(node: Node, spec: Spec) -> tuple[str, ...]:
    """Return the names of a node's packages: Java and the JDBC driver where they are packages, and rsync on an AS node.

    Empty for a machine of another role: what listens is installed by its chapter, together with its settings.
    """
    if not node.tier:
        return ()
    java, driver = spec.java, spec.database.driver
    names = (None if java.archive else java.package, None if driver.url else driver.package, "rsync" if node.tier == "as" else None)
    return tuple(name for name in names if name)


def downloaded_of(node: Node, spec: Spec) -> tuple[str, ...]:
    """Return the names of the packages that are only downloaded at launch: servers, which would start with the distribution's settings."""
    if node.role == "db":
        return (spec.database.package,)
    return (NGINX,) if node.role.startswith("lb") else ()
