"""Chapter 06, and the drill of chapter 07: membership, load balancing, and the requests lost in a failover."""

from __future__ import annotations

from typing import Any

from runbook_lib.chapters.base import Verbs
from runbook_lib.chapters.sso import Sso
from runbook_lib.check import CheckTable
from runbook_lib.errors import ChecksFailed
from runbook_lib.notebook import display


class Cluster(Verbs):
    """Chapter 06, and the drill of chapter 07: membership, load balancing, and the requests lost in a failover."""

    name = "06_verify_as_cluster"

    def checks(self, quiet: bool = False) -> CheckTable:
        from runbook_lib.checks.cluster import verify_cluster

        return verify_cluster(self.deployment, quiet)

    def failover(self, **options: Any) -> Any:
        """Run a failover drill and return its result. By default a node's power is cut under a steady stream of requests and then restored.

        `options`: those of `checks.drill.failover.drill`. Raises ChecksFailed when a check failed, as when a GET was lost.
        """
        from runbook_lib.checks.drill.failover import drill

        d = self.deployment
        chapter = self.name if d.spec.design.product == "as" else Sso.name
        with d.writing(), d.journal.attempt(chapter, "failover"):
            found = drill(d, **options)
            d.journal.checked(chapter, found.checks)
            if failed := [f"{check.title}: {check.observed}" for check in found.checks if check.status == "fail"]:
                display.show(found)
                step = "chapter 05 says which timeouts and retries of Nginx carry a drill; look at the chart for the second in which it happened"
                raise ChecksFailed("; ".join(failed), f"{d.spec.deployment}, drill {found.kind}", step)
        return found

    def drill(self, kind: str = "power-cut", path: str = "") -> Any:
        """Return the result of `failover` when the parameters enable drills and one can show something, else a text that says what to do for it.

        `path`: a page of an application of yours, such as "/shop/"; by default the demonstration application's, or the Store's.
        """
        from runbook_lib.checks.drill.failover import nothing_to_show

        if not self.deployment.spec.drill:
            return "no drill asked for: `drill: true` or `drill: {rate: 20}` in the params file, or overrides = {'drill': True} above"
        return nothing_to_show(self.deployment, kind, path) or self.failover(kind=kind, path=path)
