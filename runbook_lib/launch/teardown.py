"""Take a deployment down, in the order in which nothing is still needed, and prove that nothing of it is left.

Repeatable: it works on what it finds by tag, so a run that was cut short is finished by the next. The account's staging bucket goes with
the last deployment that used it; SSM goes last, so that until then a colleague can still sign in to a machine.
"""

from __future__ import annotations

from dataclasses import replace

from runbook_lib.aws import staging
from runbook_lib.changes import Progress, Reporter
from runbook_lib.check import Check, CheckTable
from runbook_lib.launch import elastic_ips, groups, instance_profile, key_pair, machines, network, routes, secrets
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.inventory import Inventory

CHAPTER = "99_tear_down"


def unstage(inventory: Inventory) -> None:
    """Packs that were put up for the machines, which are gone by now."""
    if removed := staging.unstage(inventory.aws, inventory.deployment):
        inventory.say("S3", f"removed {removed}")


STEPS = (
    *(routes.remove, machines.remove, elastic_ips.remove, groups.remove, instance_profile.remove),
    *(key_pair.remove, network.remove, unstage, secrets.remove),
)
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
    questions = QUESTIONS + (instance_profile.GONE if instance_profile.concerned(inventory) else ())
    left = [(id_, title, ", ".join(find(inventory))) for id_, title, find in questions]
    return CheckTable(Check(id_, title, "fail" if there else "pass", "nothing", there or "nothing", "EC2 and SSM API", CHAPTER) for id_, title, there in left)
