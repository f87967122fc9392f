"""Chapter 05: the load balancers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runbook_lib.changes import Plan, Result
from runbook_lib.chapters.base import Converging
from runbook_lib.chapters.second_day import rotate
from runbook_lib.check import CheckTable
from runbook_lib.converge import engine
from runbook_lib.evidence.pictures.figure import Figure
from runbook_lib.roles import nginx
from runbook_lib.roles.context import Context
from runbook_lib.tables import Table
from runbook_lib.topology.model import Node


class Nginx(Converging):
    """Chapter 05: the load balancers."""

    name, title = "05_configure_nginx", "Nginx"
    services = ("nginx.service",)

    def nodes(self) -> tuple[Node, ...]:
        return self.deployment.topology.lbs

    def desired(self, node: Node, context: Context) -> Sequence[engine.Stage]:
        return nginx.desired(node, context)

    def plan(self) -> Plan:
        """Return the difference between the balancers and their desired state, and what is left of a rotation: no chapter after this one changes machines."""
        with self.deployment.one_look():
            found = super().plan()
            return replace(found, pending=(*found.pending, *rotate.due(self.deployment, self.deployment.vault.names())))

    def work(self, plan: Plan, progress: Any) -> Result:
        left = plan.of(rotate.STAGE)
        done = super().work(replace(plan, pending=tuple(p for p in plan.pending if p not in left)), progress)
        if not left:
            return done
        rotate.finish(self.deployment)
        return replace(done, changed=done.changed + left)

    def own_checks(self, quiet: bool = False) -> CheckTable:
        from runbook_lib.checks.nginx import verify_nginx

        return verify_nginx(self.deployment, quiet)

    def way_of_a_request(self, host: str = "") -> Figure:
        """Return a picture of three requests' way to a public host (its key; default: the first): through Nginx, by which rule, to which node.

        The requests are made now: without a cookie, with the route cookie, and for a path that belongs to another host.
        """
        from runbook_lib.checks.request_way import ways

        return self.pictured("way", ways(self.deployment, host))

    def try_faults(self, balancer: str) -> Table:
        """Return what `nginx -t` on the machine `balancer` reports for known faults and their repairs. Its running configuration is not changed."""
        from runbook_lib.checks.nginx_faults import try_faults

        return try_faults(self.deployment.fleet()[balancer])
