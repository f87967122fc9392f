"""The object that the notebooks work with: one deployment, with an object per chapter.

deployment = open_deployment("params/greg-separated.lab.yaml")
plan = deployment.mysql.plan()
deployment.mysql.apply(plan)
deployment.mysql.verify()
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.evidence.journal import Journal
from runbook_lib.notebook import display
from runbook_lib.session import Session
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Topology

if TYPE_CHECKING:
    from runbook_lib.chapters import cluster, launch, mysql, nginx, product_nodes, sso
    from runbook_lib.chapters.second_day import backups, disaster, patch
    from runbook_lib.chapters.second_day import rotate as rotations
    from runbook_lib.tables import Table
    from runbook_lib.topology.cost import MonthlyCost


class Deployment(Session):
    """One deployment. Each chapter is an attribute with the verbs plan, apply and verify.

    A chapter is imported when it is first used: a kernel works with one of them, a command with a few, and each has its own imports.
    """

    @cached_property
    def launch(self) -> launch.Launch:
        """Chapter 01."""
        from runbook_lib.chapters.launch import Launch

        return Launch(self)

    @cached_property
    def mysql(self) -> mysql.Mysql:
        """Chapter 02."""
        from runbook_lib.chapters.mysql import Mysql

        return Mysql(self)

    @cached_property
    def appserver(self) -> product_nodes.Appserver:
        """Chapter 03."""
        from runbook_lib.chapters.product_nodes import Appserver

        return Appserver(self)

    @cached_property
    def greg(self) -> product_nodes.Greg:
        """Chapter 04."""
        from runbook_lib.chapters.product_nodes import Greg

        return Greg(self)

    @cached_property
    def nginx(self) -> nginx.Nginx:
        """Chapter 05."""
        from runbook_lib.chapters.nginx import Nginx

        return Nginx(self)

    @cached_property
    def cluster(self) -> cluster.Cluster:
        """Chapter 06."""
        from runbook_lib.chapters.cluster import Cluster

        return Cluster(self)

    @cached_property
    def sso(self) -> sso.Sso:
        """Chapter 07."""
        from runbook_lib.chapters.sso import Sso

        return Sso(self)

    @cached_property
    def disaster(self) -> disaster.DisasterDrill:
        """Chapter 08."""
        from runbook_lib.chapters.second_day.disaster import DisasterDrill

        return DisasterDrill(self)

    @cached_property
    def backups(self) -> backups.Backups:
        """The copies of the databases."""
        from runbook_lib.chapters.second_day.backups import Backups

        return Backups(self)

    @cached_property
    def patch(self) -> patch.Patch:
        """Security updates, one machine at a time."""
        from runbook_lib.chapters.second_day.patch import Patch

        return Patch(self)

    @property
    def product(self) -> product_nodes.ProductNodes:
        """The chapter of the product's nodes: 03 or 04."""
        return self.greg if self.spec.design.product == "greg" else self.appserver

    def cost(self) -> MonthlyCost:
        """Return the cost of the machines per month on AWS. They need not be launched."""
        from runbook_lib.topology.cost import monthly_cost

        return monthly_cost(self.topology)

    def rules(self) -> Table:
        """Return every rule of every security group, with its reason."""
        from runbook_lib.topology import tables

        return tables.rules(self.topology)

    def databases(self) -> Table:
        """Return the databases, their accounts, and the schema that each is loaded with."""
        from runbook_lib.topology import tables

        return tables.databases(self.spec)

    def status(self) -> Any:
        """Return the status board, read from the cloud: machines, the state of each chapter, and the next chapter."""
        from runbook_lib.chapters.status_board import status_board

        return status_board(self)

    def destroy(self, confirm: str = "", backups: bool = False) -> Any:
        """Remove everything that carries the deployment's tag and return the checks that nothing is left. `confirm`: the deployment's name.

        Its backups in S3 stay, and are named; with `backups` they are deleted too.
        """
        from runbook_lib.chapters.teardown import destroy

        return destroy(self, confirm, backups)

    def rotate(self, *what: str) -> rotations.Rotated:
        """Replace passwords, keys or certificates while the cluster serves; return what was changed and proven, shown as a table.

        `what`: administrator, databases, ssh-key, tier-keys, host-certificates, ca, or all. Raises RunbookError for another name and where the
        deployment is not as its parameters say: nothing was touched then. ChecksFailed where an old value is not refused.
        """
        from runbook_lib.chapters.second_day.rotate import rotate

        return rotate(self, what)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return whose deployment this is, the topology picture and the status board for a notebook, as HTML and as text."""
        from runbook_lib.chapters.base import banner
        from runbook_lib.chapters.status_board import overview

        top, below = banner(self), overview(self)
        return {"text/html": top.markup + below["text/html"], "text/plain": f"{top.text}\n{below['text/plain']}"}

    def __str__(self) -> str:
        return str(self.status())


def open_deployment(params_file: str | Path | Spec, overrides: Mapping[str, Any] | None = None) -> Deployment:
    """Return the deployment of a params file or of parameters already read. Nothing in the cloud is changed.

    Raises ParamsError when a key is wrong, CloudError when the endpoint or the credentials do not work.
    """
    display.install({Topology: _diagram})
    spec = params_file if isinstance(params_file, Spec) else load_spec(params_file, overrides)
    deployment = Deployment(spec, Journal.begin(spec, ended=_reported))
    deployment.cloud.refuse_other_pattern()
    return deployment


def _diagram(topology: Topology) -> Any:
    from runbook_lib.topology.diagram import image

    return image(topology)


def _reported(journal: Journal) -> dict[str, Any]:
    from runbook_lib.evidence.report import finish

    return finish(journal)
