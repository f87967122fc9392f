"""Deployments to prove things on. Ways to break one are the library's own, those of the exercises (`actions.changed`): each break is undone exactly."""

from __future__ import annotations

from typing import Any

from runbook_lib.chapters.deployment import Deployment, open_deployment
from tests.conftest import ROOT

CHAPTERS = ("launch", "mysql", "greg", "nginx")


def subnet(lab: Any, number: int) -> str:
    """The lab's /24 of that number."""
    return str(list(lab.lab.network.subnets(new_prefix=24))[number])


def deployed(lab: Any, number: int, pattern: str = "greg-separated", **overrides: Any) -> Deployment:
    """A deployment in a subnet of the lab, built through chapter 05; what is there already is left as it is."""
    given = {"cloud.aws_config": str(lab.aws_config), "cloud.network": subnet(lab, number), **overrides}
    deployment = open_deployment(ROOT / "params" / f"{pattern}.lab.yaml", given)
    for name in CHAPTERS:
        chapter = getattr(deployment, name)
        chapter.apply(chapter.plan())
    return deployment
