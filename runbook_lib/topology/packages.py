"""The distribution's packages that a WSO2 node is made with: user data installs them at launch, and its chapter where they are missing. No I/O."""

from __future__ import annotations

from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Node


def packages_of(node: Node, spec: Spec) -> tuple[str, ...]:
    """Return the names of a node's packages: Java and the JDBC driver where they are packages, and rsync on an AS node.

    Empty for a machine of another role: what listens is installed by its chapter, together with its settings.
    """
    if not node.tier:
        return ()
    java, driver = spec.java, spec.database.driver
    names = (None if java.archive else java.package, None if driver.url else driver.package, "rsync" if node.tier == "as" else None)
    return tuple(name for name in names if name)
