"""Take a deployment down, in the order in which nothing is still needed, and prove that nothing of it is left.

Repeatable: it works on what it finds by tag, so a run that was cut short is finished by the next. The packs in the account's staging bucket
go with the last deployment that used them; SSM goes last, so that until then a colleague can still sign in to a machine. Backups in S3 outlive
their deployment unless they are to go too: the proof says how many there are and where.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from runbook_lib.aws.client import DENIED
from runbook_lib.aws.s3 import staging
from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.changes import Progress, Reporter
from runbook_lib.check import Check, CheckTable
from runbook_lib.errors import CloudError
from runbook_lib.launch import elastic_ips, groups, instance_profile, key_pair, machines, network, routes, secrets
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.inventory import FIRST_PAUSE, LONGEST_PAUSE, SHOWN, Inventory
from runbook_lib.tables import counted
from runbook_lib.waiting import wait_until

CHAPTER = "99_tear_down"
KEPT = ("kept-backups", "Backups in S3")


def unstage(inventory: Inventory) -> None:
    """Packs that were put up for the machines, which are gone by now."""
    if removed := staging.unstage(inventory.aws, inventory.deployment):
        inventory.say("S3", f"removed {removed}")


STEPS = (
    *(routes.remove, machines.remove, elastic_ips.remove, groups.remove, instance_profile.remove),
    *(key_pair.remove, network.remove, unstage, secrets.remove),
)
QUESTIONS = (*machines.GONE, *groups.GONE, *key_pair.GONE, *elastic_ips.GONE, *routes.GONE, *network.GONE, *secrets.GONE)


def destroy(cloud: Cloud, progress: Progress | None = None, backups: bool = False) -> CheckTable:
    """Remove machines, groups, key pair, network and secrets. The checks say of each kind that nothing is left. `backups`: remove those too.

    Raises `CloudError` when something does not go; what went stays gone, and the next run goes on.
    """
    inventory = replace(cloud.inventory(), say=Reporter(progress, "tear down", 1))
    for step in STEPS:
        step(inventory)
    if backups and (gone := BackupStore(cloud.aws, cloud.spec.deployment).delete_all()):
        inventory.say("S3", f"{counted(len(gone), 'backup')} deleted")
    return prove_gone(cloud, backups, SHOWN)


def prove_gone(cloud: Cloud, backups: bool = False, seconds: float = 0) -> CheckTable:
    """One row per kind of thing: what still carries the deployment's tag, or lies below its SSM path; and its backups, which may stay unless `backups`.

    What is found is asked for again for `seconds`: EC2 and IAM may show for some that what was just deleted is there.
    """
    inventory = cloud.inventory()
    questions = QUESTIONS + (instance_profile.GONE if instance_profile.concerned(inventory) else ())
    until = time.monotonic() + seconds

    def left_of(find: Callable[[Inventory], Iterable[str]]) -> str:
        rest = max(0.0, until - time.monotonic())
        return wait_until(lambda: ", ".join(find(inventory)), rest, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda found: not found)

    left = [(id_, title, left_of(find)) for id_, title, find in questions]
    rows = [Check(id_, title, "fail" if there else "pass", "nothing", there or "nothing", "EC2 and SSM API", CHAPTER) for id_, title, there in left]
    return CheckTable([*rows, *_of_backups(cloud, backups)])


def _of_backups(cloud: Cloud, gone: bool) -> Iterator[Check]:
    """Yield the row of the backups: what is in S3 is said, and is a failure only where it was to be `gone`.

    Without a right to the bucket there is no row, for these credentials never made a backup; but a failure where they were to delete some.
    """
    store = BackupStore(cloud.aws, cloud.spec.deployment)
    try:
        found = store.backups()
    except CloudError as error:
        if error.code not in DENIED:
            raise
        if gone:
            yield Check(*KEPT, "fail", "nothing", f"cannot be asked: {error.what}", store.place, CHAPTER)
        return
    left = [*(backup.folder for backup in found), *store.unreadable]
    since = f", the newest of {found[0].time}" if found else ""
    words = f"{counted(len(left), 'backup')} left{since}; ./runbook destroy PARAMS --backups deletes them" if left else "nothing"
    yield Check(*KEPT, "fail" if left and gone else "pass", "nothing" if gone else "kept, unless --backups", words, store.place, CHAPTER)
