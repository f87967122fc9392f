"""The object that the notebooks work with: one deployment, with an object per chapter.

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
from runbook_lib.chapters.base import banner
from runbook_lib.chapters.second_day import backups, disaster, patch
from runbook_lib.chapters.second_day import rotate as rotations
from runbook_lib.evidence import report
from runbook_lib.evidence.journal import Journal
from runbook_lib.notebook import display
from runbook_lib.session import Session
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.model import Spec
from runbook_lib.tables import Table
from runbook_lib.topology import tables
from runbook_lib.topology.cost import MonthlyCost, monthly_cost
from runbook_lib.topology.diagram import image
from runbook_lib.topology.model import Topology


class Deployment(Session):
    """One deployment. Each chapter is an attribute with the verbs plan, apply and verify."""

    def __init__(self, spec: Spec, journal: Journal):
        super().__init__(spec, journal)
        self.launch = launch.Launch(self)
        self.mysql = mysql.Mysql(self)
        self.appserver = product_nodes.Appserver(self)
        self.greg = product_nodes.Greg(self)
        self.nginx = nginx.Nginx(self)
        self.cluster = cluster.Cluster(self)
        self.sso = sso.Sso(self)
        self.backups = backups.Backups(self)
        self.disaster = disaster.DisasterDrill(self)
        self.patch = patch.Patch(self)

    @property
    def product(self) -> product_nodes.ProductNodes:
        """The chapter of the product's nodes: 03 or 04."""
        return self.greg if self.spec.design.product == "greg" else self.appserver

    def cost(self) -> MonthlyCost:
        """Return the cost of the machines per month on AWS. They need not be launched."""
        return monthly_cost(self.topology)

    def rules(self) -> Table:
        """Return every rule of every security group, with its reason."""
        return tables.rules(self.topology)

    def databases(self) -> Table:
        """Return the databases, their accounts, and the schema that each is loaded with."""
        return tables.databases(self.spec)

    def status(self) -> Any:
        """Return the status board, read from the cloud: machines, the state of each chapter, and the next chapter."""
        return status_board.status_board(self)

    def destroy(self, confirm: str = "", backups: bool = False) -> Any:
        """Remove everything that carries the deployment's tag and return the checks that nothing is left. `confirm`: the deployment's name.

        Its backups in S3 stay, and are named; with `backups` they are deleted too.
        """
        return teardown.destroy(self, confirm, backups)

    def rotate(self, *what: str) -> rotations.Rotated:
        """Replace passwords, keys or certificates while the cluster serves; return what was changed and proven, shown as a table.

        `what`: administrator, databases, ssh-key, tier-keys, host-certificates, ca, or all. Raises RunbookError for another name and where the
        deployment is not as its parameters say: nothing was touched then. ChecksFailed where an old value is not refused.
        """
        return rotations.rotate(self, what)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return whose deployment this is, the topology picture and the status board for a notebook, as HTML and as text."""
        top, below = banner(self), status_board.overview(self)
        return {"text/html": top.markup + below["text/html"], "text/plain": f"{top.text}\n{below['text/plain']}"}

    def __str__(self) -> str:
        return str(self.status())


def open_deployment(params_file: str | Path | Spec, overrides: Mapping[str, Any] | None = None) -> Deployment:
    """Return the deployment of a params file or of parameters already read. Nothing in the cloud is changed.

    Raises ParamsError when a key is wrong, CloudError when the endpoint or the credentials do not work.
    """
    display.install({Topology: image})
    spec = params_file if isinstance(params_file, Spec) else load_spec(params_file, overrides)
    deployment = Deployment(spec, Journal.begin(spec, ended=report.finish))
    deployment.cloud.refuse_other_pattern()
    return deployment
