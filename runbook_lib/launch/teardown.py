"""Take a deployment down, in the order in which nothing is still needed, and prove that nothing of it is left.

Repeatable: it works on what it finds by tag, so a run that was cut short is finished by the next. The account's staging
bucket stays, other deployments use it; SSM goes last, so that until then a colleague can still sign in to a machine.
"""

from __future__ import annotations

from dataclasses import replace

from runbook_lib.changes import Progress, Reporter
from runbook_lib.check import Check, CheckTable
from runbook_lib.launch import elastic_ips, groups, key_pair, machines, network, routes, secrets
from runbook_lib.launch.cloud import Cloud

CHAPTER = "99_tear_down"
STEPS = (routes.remove, machines.remove, elastic_ips.remove, groups.remove, key_pair.remove, network.remove, secrets.remove)
QUESTIONS = (*machines.GONE, *groups.GONE, *key_pair.GONE, *elastic_ips.GONE, *routes.GONE, *network.GONE, *secrets.GONE)


def destroy(cloud: Cloud, progress: Progress | None = None) -> CheckTable:
    """Remove machines, groups, key pair, network and secrets. The checks say of each kind that nothing is left.

    Raises `CloudError` when something does not go; what went stays gone, and the next run goes on.
    """
    inventory = replace(cloud.inventory(), say=Reporter(progress, "tear down", 1))
    for step in STEPS:
        step(inventory)
    return prove_gone(cloud)


def prove_gone(cloud: Cloud) -> CheckTable:
    """One row per kind of thing: what still carries the deployment's tag, or lies below its SSM path."""
    inventory = cloud.inventory()
    left = [(id_, title, ", ".join(find(inventory))) for id_, title, find in QUESTIONS]
    return CheckTable(Check(id_, title, "fail" if there else "pass", "nothing", there or "nothing", "EC2 and SSM API", CHAPTER) for id_, title, there in left)
