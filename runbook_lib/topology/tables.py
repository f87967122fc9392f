"""Tables and diagrams that explain a deployment before anything is done; each is a value that a notebook shows."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook_lib.spec.model import Spec
from runbook_lib.spec.patterns import STORIES
from runbook_lib.tables import Table, text_table
from runbook_lib.topology.cost import MonthlyCost, monthly_cost
from runbook_lib.topology.databases import databases_of
from runbook_lib.topology.diagram import image
from runbook_lib.topology.model import Topology

if TYPE_CHECKING:
    pass


def cost(topology: Topology) -> MonthlyCost:
    """Return what the machines cost per month on AWS, before they are launched."""
    return monthly_cost(topology)


def rules(topology: Topology) -> Table:
    """Return every rule of every security group, with its reason."""
    rows = [(rule.group, rule.ports, rule.source, rule.why) for rule in topology.rules]
    note = "Nothing else may connect. Outgoing connections are not limited."
    return Table(("Group", "Port", "From", "Why"), rows, "Security groups: who may connect", note)


def databases(spec: Spec) -> Table:
    """Return the databases, their accounts, and the schema that each is loaded with."""
    rows = [(db.name, db.account, db.script, db.tables, db.why) for db in databases_of(spec.pattern)]
    return Table(("Database", "Account", "Schema in the pack", "Tables", "For"), rows, f"Databases of {spec.pattern}")


@dataclass(frozen=True)
class Gallery:
    """The patterns side by side: name, diagram, description."""

    topologies: tuple[Topology, ...]

    def _repr_html_(self) -> str:
        figures = "".join(
            f'<figure class="rb-pattern">{image(topology)}<figcaption><strong>{topology.spec.pattern}</strong>: '
            f"{html.escape(STORIES[topology.spec.pattern])}</figcaption></figure>"
            for topology in self.topologies
        )
        return f'<div class="rb-gallery">{figures}</div>'

    def __str__(self) -> str:
        rows = [(t.spec.pattern, len(t.nodes), STORIES[t.spec.pattern]) for t in self.topologies]
        return text_table(("Pattern", "Machines", "Story"), rows)

    __repr__ = __str__
