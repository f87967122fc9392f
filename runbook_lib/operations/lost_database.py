"""The guard against a silent second beginning: nodes were booted, and the databases that they wrote to are empty or gone.

A database machine that is lost is launched again by chapter 01, with nothing on it. Chapter 02 would load empty tables and the nodes would
go on with them, every check green. So the plans, the applies and the checks of 02 and of the nodes ask here first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.converge.engine import ask
from runbook_lib.errors import DataLost, RunbookError
from runbook_lib.files import ROOT
from runbook_lib.roles.context import Context
from runbook_lib.topology.databases import REGISTRY, USER

if TYPE_CHECKING:
    from runbook_lib.session import Session

# Tables that a first boot writes to: a schema that was only loaded has no user and no resource.
TELLTALE = {USER.name: "UM_USER", REGISTRY.name: "REG_RESOURCE"}
UNUSED, RESTORING = "unused", "restoring"


def refuse_lost_data(deployment: Session, context: Context) -> None:
    """Raise DataLost when the deployment was in use and its databases are unused; the error names the newest backup and the commands."""
    if context.restoring:
        raise _cut_short(deployment, context.restoring)
    if context.in_use and (states := lost(deployment)):
        raise _error(deployment, context, states)


def lost(deployment: Session) -> dict[str, str]:
    """Return by name each database that holds nothing (UNUSED) or whose restore was cut short (RESTORING); {} when all hold something.

    Also {} while it cannot be told: the machine is stopped or out of reach.
    """
    node = deployment.topology.db
    found = deployment.instances().get(node.name)
    if found is None:
        return dict.fromkeys(TELLTALE, UNUSED)
    out_of_reach = deployment.out_of_reach()
    if found.state != "running" or node.name in out_of_reach:
        return {}
    question = {"kind": "mysql", "key": "used", "what": "used", "tables": TELLTALE}
    [fact] = ask(deployment.fleet(without=out_of_reach)[node.name], "probe", [question], timeout=60)["facts"]
    if fact["server"] is None:  # a server that only does not run has its databases' folders
        return {name: UNUSED for name in TELLTALE if name not in fact["folders"]}
    states = {name: state for name, state in fact["states"].items() if state == RESTORING}
    return {name: UNUSED for name, used in fact["used"].items() if not used} | states


def _error(deployment: Session, context: Context, states: dict[str, str]) -> DataLost:
    node, names = deployment.topology.db.name, " and ".join(states)
    who = f" ({', '.join(sorted(context.booted))})" if context.booted else ""
    params = _params(deployment)
    if RESTORING in states.values():
        return _cut_short(deployment, names)
    there = node in deployment.instances()
    machine = f"the machine {node} holds nothing of {names}" if there else f"the machine {node} is gone, and with it {names}"
    return DataLost(
        f"{machine}, but nodes of {deployment.spec.deployment} were booted on them{who}. Nothing was changed there. {_newest(deployment)}",
        node,
        f"./runbook restore {params} brings the newest backup back (./runbook backups {params} lists all); "
        f"if the data is meant to be gone: ./runbook restore {params} --empty, then ./runbook run {params} begins anew",
    )


def _params(deployment: Session) -> str:
    """Return the params file as `./runbook` takes it, which lies in the workspace: a chapter's kernel works in another folder."""
    return os.path.relpath(deployment.spec.source, ROOT) if deployment.spec.source else "PARAMS"


def _cut_short(deployment: Session, what: str) -> DataLost:
    step = f"./runbook restore {_params(deployment)} again: it begins anew (after deployment.mysql.restore, that again)"
    return DataLost(f"a restore of {what} was cut short: the databases hold some of it", deployment.topology.db.name, step)


def _newest(deployment: Session) -> str:
    """Return in words which backup is the newest; why that cannot be told, where S3 refuses."""
    store = BackupStore(deployment.cloud.aws, deployment.spec.deployment)
    try:
        found = store.newest()
    except RunbookError as error:
        return f"Whether there is a backup could not be asked: {error.what}"
    return f"The newest backup is of {found.time} in {store.place}" if found else f"There is no backup in {store.place}"
