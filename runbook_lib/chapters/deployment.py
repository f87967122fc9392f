"""What the notebooks hold in their hands: one deployment, with an object per chapter.

deployment = open_deployment("params/greg-separated.lab.yaml")
plan = deployment.mysql.plan()
deployment.mysql.apply(plan)
deployment.mysql.verify()
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook_lib.chapters import cluster, launch, mysql, nginx, product_nodes, sso, status_board, teardown
from runbook_lib.evidence import report
from runbook_lib.evidence.journal import Journal
from runbook_lib.notebook import display
from runbook_lib.session import Session
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.model import Spec
from runbook_lib.tables import Table
from runbook_lib.topology import tables
from runbook_lib.topology.cost import MonthlyCost, monthly_cost
from runbook_lib.topology.diagram import draw
from runbook_lib.topology.model import Topology


class Deployment(Session):
    """One deployment. Each chapter's verbs hang on an attribute of its own: plan, apply, verify."""

    def __init__(self, spec: Spec, journal: Journal):
        super().__init__(spec, journal)
        self.launch = launch.Launch(self)
        self.mysql = mysql.Mysql(self)
        self.appserver = product_nodes.Appserver(self)
        self.greg = product_nodes.Greg(self)
        self.nginx = nginx.Nginx(self)
        self.cluster = cluster.Cluster(self)
        self.sso = sso.Sso(self)

    def cost(self) -> MonthlyCost:
        """What the machines cost per month on AWS, before they are launched."""
        return monthly_cost(self.topology)

    def rules(self) -> Table:
        """Every rule of every security group, with its reason."""
        return tables.rules(self.topology)

    def databases(self) -> Table:
        """The databases, their accounts, and the schema that each is loaded with."""
        return tables.databases(self.spec)

    def status(self) -> Any:
        """The board at the top of every chapter: machines, chapters that hold, what comes next; read from the cloud."""
        return status_board.status_board(self)

    def destroy(self, confirm: str = "") -> Any:
        """Remove everything that carries the deployment's tag, then prove that nothing is left. `confirm` is the deployment's name."""
        return teardown.destroy(self, confirm)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """For a notebook: picture and board from one look at the cloud, as HTML and as text."""
        return status_board.overview(self)

    def __str__(self) -> str:
        return str(self.status())


def open_deployment(params_file: str | Path | Spec, overrides: Mapping[str, Any] | None = None) -> Deployment:
    """Read the parameters, unless they are read already, and look at the cloud; changes nothing.

    ParamsError names a wrong key, CloudError an endpoint or credentials that do not work.
    """
    display.install({Topology: draw})
    spec = params_file if isinstance(params_file, Spec) else load_spec(params_file, overrides)
    deployment = Deployment(spec, Journal.begin(spec, ended=report.finish))
    deployment.cloud.refuse_other_pattern()
    return deployment
