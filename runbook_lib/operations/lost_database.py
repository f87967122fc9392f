"""The guard against a silent second beginning: nodes were booted, and the databases that they wrote to are empty or gone.

A database machine that is lost is launched again by chapter 01, with nothing on it. Chapter 02 would load empty tables and the nodes would
go on with them, every check green. So the plans, the applies and the checks of 02 and of the nodes ask here first. The package of the other
kind of server would take the data away as silently: apt removes the server that runs, and the new one begins with nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.converge.engine import ask
from runbook_lib.errors import DataLost, RunbookError
from runbook_lib.files import ROOT
from runbook_lib.roles.context import Context
from runbook_lib.roles.mysql import runs_mysql
from runbook_lib.topology.databases import REGISTRY, USER

if TYPE_CHECKING:
    from runbook_lib.session import Session

# Tables that a first boot writes to: a schema that was only loaded has no user and no resource.
TELLTALE = {USER.name: "UM_USER", REGISTRY.name: "REG_RESOURCE"}
UNUSED, RESTORING = "unused", "restoring"
DUMPS = "dumps on "  # so begins the record of a restore of dumps that lie on the database's machine; any other is the folder of a backup


def refuse_lost_data(deployment: Session, context: Context) -> None:
    """Raise DataLost when the deployment was in use and its databases are unused; the error names the newest backup and the commands.

    Raises RunbookError when its database server is of another kind than `database.package`.
    """
    if context.restoring:
        raise _cut_short(deployment, context.restoring)
    if not context.in_use:
        return
    fact = _asked(deployment)
    if states := _lost(deployment, fact):
        raise _error(deployment, context, states)
    _refuse_other_kind(deployment, fact)


def lost(deployment: Session) -> dict[str, str]:
    """Return by name each database that holds nothing (UNUSED) or whose restore was cut short (RESTORING); {} when all hold something.

    Also {} while it cannot be told: the machine is stopped or out of reach.
    """
    return _lost(deployment, _asked(deployment))


def _asked(deployment: Session) -> Mapping[str, Any] | None:
    """Return the fact of the database's machine; None where it is gone, stopped or out of reach."""
    host = deployment.running().hosts.get(deployment.topology.db.name)
    question = {"kind": "mysql", "key": "used", "what": "used", "tables": TELLTALE}
    return deployment.answer("used", lambda: ask(host, "probe", [question], timeout=60)["facts"][0]) if host else None


def _refuse_other_kind(deployment: Session, fact: Mapping[str, Any] | None) -> None:
    spec, node = deployment.spec, deployment.topology.db.name
    package = spec.database.package
    unknown = package == "default-mysql-server" and spec.cloud.image.startswith("ami-")  # MariaDB or MySQL: only its distribution could tell
    if fact is None or fact["server"] is None or unknown or fact["mariadb"] != runs_mysql(spec):
        return
    there, wanted = ("MariaDB", "MySQL") if fact["mariadb"] else ("MySQL", "MariaDB")
    raise RunbookError(
        f"the database server is {there} {fact['server']}, and database.package {package} is {wanted}, which cannot take over its data: "
        f"apt would remove {there} and begin with empty databases. Nothing was changed",
        node,
        "set database.package back; for the other kind, another deployment: it begins with nothing, and a backup is restored by its own kind only",
    )


def _lost(deployment: Session, fact: Mapping[str, Any] | None) -> dict[str, str]:
    if fact is None:
        return {} if deployment.topology.db.name in deployment.instances() else dict.fromkeys(TELLTALE, UNUSED)
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
    restore = f"./runbook restore {_params(deployment)}"
    step = f"{restore} begins anew with the same backup, with --at another one"
    if what.startswith(DUMPS) or "/" not in what:  # no folder of a backup: dumps, or databases by name, of which nothing but their state is known
        step = f"deployment.mysql.restore(…, confirm=…) with all these dumps again; or {restore}, which replaces every database by the newest backup"
    return DataLost(f"a restore of {what} was cut short: not all of it is there", deployment.topology.db.name, step)


def _newest(deployment: Session) -> str:
    """Return in words which backup is the newest; why that cannot be told, where S3 refuses."""
    store = BackupStore(deployment.cloud.aws, deployment.spec.deployment)
    try:
        found = store.newest()
    except RunbookError as error:
        return f"Whether there is a backup could not be asked: {error.what}"
    return f"The newest backup is of {found.time} in {store.place}" if found else f"There is no backup in {store.place}"
