"""Tables and pictures that explain a deployment before anything is done; each is a value that a notebook shows."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cost import MonthlyCost, monthly_cost
from .databases import databases_of
from .patterns import PATTERNS
from .spec import Spec
from .tables import Table, text_table
from .topology import Topology, topology_of

if TYPE_CHECKING:
    from .checks.sso import Proof

STORIES = {
    "as-cluster": "a manager and its workers, balanced and failing over",
    "greg-single": "one node serves Store and Publisher; a sign-in at one opens the other",
    "greg-original": "three nodes serve both, behind two load balancers; the same leak, spread over more machines",
    "greg-separated": "Store nodes and Publisher nodes, nothing shared but the database; must be proven separate",
}


def cost(topology: Topology) -> MonthlyCost:
    """What the machines cost per month on AWS, before they are launched."""
    return monthly_cost(topology)


def rules(topology: Topology) -> Table:
    """Every rule of every security group, with its reason."""
    rows = [(rule.group, rule.ports, rule.source, rule.why) for rule in topology.rules]
    note = "Nothing else may connect. Outgoing connections are not limited."
    return Table(("Group", "Port", "From", "Why"), rows, "Security groups: who may connect", note)


def databases(spec: Spec) -> Table:
    """The databases, their accounts, and the schema that each is loaded with."""
    rows = [(db.name, db.account, db.script, db.tables, db.why) for db in databases_of(spec.pattern)]
    return Table(("Database", "Account", "Schema in the pack", "Tables", "For"), rows, f"Databases of {spec.pattern}")


@dataclass(frozen=True)
class Gallery:
    """The patterns side by side: name, picture, story."""

    topologies: tuple[Topology, ...]

    def _repr_html_(self) -> str:
        figures = "".join(
            f'<figure class="rb-pattern">{topology.svg()}<figcaption><strong>{topology.spec.pattern}</strong>: '
            f"{html.escape(STORIES[topology.spec.pattern])}</figcaption></figure>"
            for topology in self.topologies
        )
        return f'<div class="rb-gallery">{figures}</div>'

    def __str__(self) -> str:
        rows = [(t.spec.pattern, len(t.nodes), STORIES[t.spec.pattern]) for t in self.topologies]
        return text_table(("Pattern", "Machines", "Story"), rows)

    __repr__ = __str__


def patterns() -> Gallery:
    """The four systems that the runbook builds."""
    return Gallery(tuple(topology_of(sample(name)) for name in PATTERNS))


def sample(pattern: str) -> Spec:
    """The smallest parameters of a pattern: for a picture, or to begin a form with."""
    design = PATTERNS[pattern]
    hosts = {name: f"{name}.lab.test" for name in design.hosts}
    pack = "s3://runbook-packs/wso2as-5.3.0.zip" if design.product == "as" else "s3://runbook-packs/wso2greg-5.1.0.zip"
    return Spec.model_validate({"deployment": pattern, "pattern": pattern, "hosts": hosts, "product": {"pack": pack}})


LINE = re.compile(r"(?P<request>\S+ \S+) -> (?P<answer>.*?)(?P<notes>(\s+\[(with|sets) [^]]*\])*)$")
NOTE = re.compile(r"\[(with|sets) ([^]]*)\]")


@dataclass(frozen=True)
class Exchanges:
    """What browser and cluster said to each other, attempt by attempt: one table each."""

    tables: tuple[Table, ...]

    def _repr_html_(self) -> str:
        return f'<div class="rb-exchanges">{"".join(table._repr_html_() for table in self.tables)}</div>'

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables))

    __repr__ = __str__


def exchanges(proof: Proof) -> Exchanges:
    """The exchanges of the product's three holes in this run, cookies by name."""
    return as_tables(proof.exchanges)


def as_tables(exchanges: Mapping[str, Sequence[str]]) -> Exchanges:
    """Exchanges by title, a line each as `checks.flows.told` writes it."""
    columns = ("", "Request", "Answer", "Cookies sent", "Cookies set")
    return Exchanges(tuple(Table(columns, [(number, *_told(line)) for number, line in enumerate(lines, 1)], title) for title, lines in exchanges.items()))


def _told(line: str) -> tuple[str, str, str, str]:
    """One line of an exchange in its four parts; a line of another shape stays whole."""
    if not (found := LINE.match(line)):
        return line, "", "", ""
    notes = dict(NOTE.findall(found["notes"]))
    return found["request"], found["answer"], notes.get("with", ""), notes.get("sets", "")
