"""Backups of a deployment in S3: made, listed, restored. What each holds and what it does not: docs/second-day.md.

A restore stops the product, replaces the databases, and boots the nodes one after the other on them as on a used database: their local
databases and search indexes are of another time, and are made anew. Everything that can be refused is refused before anything is dropped.
Killed anywhere, it is begun again by the same command; until then the guard of `operations/lost_database.py` lets nobody go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runbook_lib.aws.s3.backup_store import WANTED, Backup, BackupPart, BackupStore
from runbook_lib.chapters.base import announce, banner
from runbook_lib.chapters.status_board import store_applied
from runbook_lib.converge.engine import ask
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.operations import backup as dumps
from runbook_lib.operations import replacement, startup
from runbook_lib.operations.deploy_archive import FOLDERS
from runbook_lib.operations.lost_database import DUMPS, TELLTALE, lost, refuse_lost_data
from runbook_lib.roles import appserver, carbon, mysql
from runbook_lib.roles.context import Context
from runbook_lib.session import RESTORING, version_file
from runbook_lib.ssh import Fleet, Host
from runbook_lib.tables import Table
from runbook_lib.topology.databases import USER, databases_of

if TYPE_CHECKING:
    from runbook_lib.session import Session

CHAPTER = "02_install_mysql"  # whose work this is, in the journal
BEFORE_RESTORE = "before a restore"
ADMINISTRATOR = "admin"
HOLDS = "the same rows as in the backup"
HOLDS_BLIND = f"{HOLDS}'s file, known by its SHA-256: this old manifest has no checksum of rows that counts"


class Backups:
    """The backups in S3, as a notebook and the commands backup, backups and restore call them."""

    def __init__(self, deployment: Any):  # a Deployment, whose module imports this one
        self.deployment = deployment

    @property
    def store(self) -> BackupStore:
        return BackupStore(self.deployment.cloud.aws, self.deployment.spec.deployment)

    def made(self) -> list[Backup]:
        """Return the deployment's backups, the newest first. Needs no machine. Raises CloudError."""
        return self.store.backups()

    def listed(self) -> Table:
        """Return the deployment's backups as a table, the newest first. Raises as `made`."""
        return as_table(self.made(), self.store.place)

    def make(self, why: str = WANTED, wait: float = 0.0) -> Backup:
        """Put databases and deployed archives into S3 while the product runs; return the backup. `why`: its kind, of which so many are kept.

        `wait`: seconds for somebody else's work on the deployment; LockHeld after them. Raises RunbookError where there is nothing to keep, DataLost
        where it is lost, CloudError or HostError where S3 refuses: there is no new backup then, and the older ones stay.
        """
        d = self.deployment
        announce(banner(d))
        with d.writing(wait):
            context = d.context()
            refuse_lost_data(d, context)
            if not context.in_use:
                raise RunbookError(f"there is nothing to back up: no node of {d.spec.deployment} was booted", d.spec.deployment, "./runbook run PARAMS first")
            return _make(d, context, why)

    def restore(self, at: str = "", source: str = "", confirm: str = "") -> Table:
        """Replace the databases by the newest backup, or the newest of the time `at` or before; return what was restored, with the rows' checksums.

        Those that were made because something was about to be dropped are taken with `at` only. After a restore that was cut short the
        backup without `at` is the one that it began with.

        `source`: another deployment, of which this one becomes a copy. `confirm`: this deployment's name. Missing machines are launched
        first. Raises RunbookError for a backup of another deployment, product, version or kind of server, for one that is not whole, and for
        none; HostError for a damaged one. Nothing was dropped then.
        """
        d = self.deployment
        chosen = self.choose(at, source)
        if confirm != d.spec.deployment:
            raise RunbookError(f"databases of {d.spec.deployment} are to be replaced", "confirm", f'say so: confirm="{d.spec.deployment}"')
        announce(banner(d))
        with d.writing(), d.journal.attempt(CHAPTER, "restore"):
            _make_ready(d)
            return _restore(d, chosen, BackupStore(d.cloud.aws, chosen.deployment))

    def choose(self, at: str = "", source: str = "") -> Backup:
        """Return the backup that a restore would take. Raises RunbookError as `restore`, and changes nothing."""
        d = self.deployment
        begun = "" if at else d.vault.find(RESTORING, fresh=True) or ""
        begun_of = "" if begun.startswith(DUMPS) else begun.partition("/")[0]
        if begun_of and source in ("", begun_of):  # a newer one may hold the damage because of which somebody chose this one
            store = BackupStore(d.cloud.aws, begun_of)
            found: Backup | None = store.in_folder(begun)
        else:
            store = BackupStore(d.cloud.aws, source or d.spec.deployment)
            found = store.newest(_moment(at) if at else None)
        if found is None:
            raise _none(store, at)
        _refuse_foreign(d, found, store)
        store.refuse_incomplete(found)
        return found

    def begin_anew(self, confirm: str = "") -> None:
        """Forget what was lost: the first boots are due again, on empty databases. What the databases still hold goes to S3 first."""
        d = self.deployment
        if confirm != d.spec.deployment:
            raise RunbookError(f"{d.spec.deployment} is to begin anew, without its data", "confirm", f'say so: confirm="{d.spec.deployment}"')
        with d.writing():
            if plan := d.launch.plan():
                d.launch.apply(plan)
            d.mysql.recreate(confirm=confirm)


def as_table(backups: Sequence[Backup], place: str, unreadable: Iterable[str] = ()) -> Table:
    """Return backups as a table for a notebook and a terminal. `unreadable`: folders whose manifest cannot be read, named below it."""
    rows = [
        (b.time, b.why, f"{b.size / 1024:.0f} KiB", b.version or b.product, len(b.databases), len(b.archives.holds) if b.archives else 0, b.by) for b in backups
    ]
    notes = [*([] if rows else ["none"]), *(f"cannot be read: {folder}" for folder in unreadable)]
    return Table(("Made", "Why", "Size", "Product", "Databases", "Archives", "By"), rows, f"Backups in {place}", "; ".join(notes))


def keep_first(deployment: Session, context: Context, why: str) -> Backup | None:
    """Make a backup of what is going to be dropped; return it, or None where the databases hold nothing. Raises as `Backups.make`."""
    return None if lost(deployment) else _make(deployment, context, why)


def _make(d: Session, context: Context, why: str) -> Backup:
    store, fleet = BackupStore(d.cloud.aws, d.spec.deployment), d.running()  # what is down elsewhere keeps nobody's data from being kept
    host = fleet[d.topology.db.name]
    with d.journal.attempt(CHAPTER, "backup"):
        folder = store.new_folder()
        parts = []
        for database in databases_of(d.spec.pattern):
            file = f"{database.name}.sql.gz"
            parts.append(BackupPart(database.name, file, **dumps.send_dump(host, database.name, store.way_in(folder, file).wire())))
        version, sha256 = replacement.running(fleet, context) or (version_file(d.pack), d.pack.sha256)  # the parameters may name the next pack already
        backup = Backup(
            d.spec.deployment, d.spec.pattern, d.spec.design.product, version, sha256, _server(host), _now(), d.person, why,
            tuple(parts), _send_archives(d, context, fleet, store, folder), folder,
        )  # fmt: skip
        store.complete(backup)
        d.journal.write(CHAPTER, "backup", host=host.name, key=folder, change=f"{len(backup.parts)} files, {backup.size} bytes: {why}")
        for gone in store.prune(d.spec.database.keep_backups):
            d.journal.write(CHAPTER, "backup", key=gone, change=f"deleted: more than {d.spec.database.keep_backups} of its kind, or not whole")
    return backup


def _server(host: Host) -> str:
    """Return name and version of the database server."""
    question = {"kind": "mysql", "key": "used", "what": "used", "tables": TELLTALE}
    version = ask(host, "probe", [question], timeout=60)["facts"][0]["server"]
    return f"{'MariaDB' if 'MariaDB' in version else 'MySQL'} {version}"


def _send_archives(d: Session, context: Context, fleet: Fleet, store: BackupStore, folder: str) -> BackupPart | None:
    """Send what was deployed on the AS manager and is not of the pack; return it, or None where there is nothing, as on G-Reg.

    Raises HostError where no AS node answers: a backup without the archives would stand in the place of one that has them.
    """
    if not (managers := d.topology.of("as-manager")):
        return None
    holder = _holder(d, context, fleet)
    file = "archives.tar.gz"
    order = {
        "kind": "parcel", "key": "deployed archives", "what": "send", "base": carbon.home_of(d.spec), "endings": [*FOLDERS],
        "folders": [f"{appserver.DEPLOYMENT}/{each}" for each in FOLDERS.values()],
        "to": store.way_in(folder, file).wire(),
    }  # fmt: skip
    said: dict[str, Any] = {}
    ask(fleet[holder], "apply", [order], said.update)
    if holder != managers[0].name:
        d.journal.write(CHAPTER, "backup", host=holder, key=folder, change=f"the archives are those of this worker: {managers[0].name} does not serve")
    return BackupPart("archives", file, said["size"], said["sha256"], holds=tuple(said["holds"])) if said["holds"] else None


def _holder(d: Session, context: Context, fleet: Fleet) -> str:
    """Return the node that the archives are taken from: the AS manager, or the first worker that answers, which fetched them from it.

    A node that was not booted is asked last: a manager that is new has none yet. Raises HostError when none answers.
    """
    names = sorted((node.name for role in ("as-manager", "as-worker") for node in d.topology.of(role)), key=lambda name: name not in context.booted)
    for name in names:
        with suppress(HostError):
            if fleet[name].run("true", timeout=60).succeeded:
                return name
    what = "no AS node answers, so what was deployed cannot be kept, and a backup without it is none. The older backups stay"
    raise HostError(what, ", ".join(names), "run chapter 01: it launches and starts machines; then again")


def _make_ready(d: Any) -> None:
    """Launch what is missing, and make the database server so, without tables."""
    if plan := d.launch.plan():
        d.launch.apply(plan)
    d.mysql.make_server()


def _restore(d: Any, chosen: Backup, store: BackupStore) -> Table:
    context, host, made = d.context(), d.fleet()[d.topology.db.name], []
    with _tried(d, chosen, store, host) as paths:
        if context.in_use and not context.restoring:
            keep_first(d, context, BEFORE_RESTORE)
        with d.restoring(chosen.folder):
            store_applied(d, CHAPTER)
            startup.forget_first_boots(d.fleet(), context)
            d.forget_first_boots()
            for path in paths:
                made.append(dumps.restore_database(host, path, tried=True))
                d.journal.write(CHAPTER, "restore", host=host.name, key=made[-1].database, change=f"holds the rows of {chosen.folder}, {made[-1].rows[:12]}")
            dumps.set_administrator(host, USER.name, ADMINISTRATOR, context.secrets["carbon-admin-password"])
            d.product.apply(d.product.plan())
            put = _archives(d, chosen, store, "take")
    rows = [(each.database, each.rows[:12], HOLDS if part.rows else HOLDS_BLIND) for each, part in zip(made, chosen.databases, strict=True)]
    rows += [("archives", "", f"{len(put)} of {len(chosen.archives.holds)} put on the manager, the others were there")] if chosen.archives else []
    return Table(("What", "Rows", "Holds"), rows, f"Restored to {chosen.time} from {store.place}", "next: ./runbook run PARAMS, which verifies")


@contextmanager
def _tried(d: Session, chosen: Backup, store: BackupStore, host: Host) -> Iterator[list[str]]:
    """In the block the backup's dumps lie on the host, each of them loaded there once on trial; yield their paths.

    Raises RunbookError for one that is damaged or does not load, before anything was stopped for it.
    """
    fetched: list[str] = []
    try:
        for part in chosen.databases:
            fetched.append(dumps.fetch_dump(host, part.name, store.way_out(chosen.folder, part.file).wire(), part.sha256, part.rows))
        _archives(d, chosen, store, "check")
        for path in fetched:
            dumps.try_dump(host, path)
        yield fetched
    finally:
        with suppress(RunbookError):  # of a machine that is gone, which is told already
            dumps.forget_dumps(host, fetched)


def _archives(d: Session, chosen: Backup, store: BackupStore, what: str) -> list[str]:
    """Put the backup's archives on the manager (`take`), from which the workers fetch them; return those that were not there.

    With `check` they are only looked through, on the database's machine: the manager may be a machine without a home yet.
    """
    managers = d.topology.of("as-manager")
    if chosen.archives is None or not managers:
        return []
    order = {
        "kind": "parcel", "key": "deployed archives", "what": what, "base": carbon.home_of(d.spec), "owner": carbon.owner_of(d.spec),
        "from": store.way_out(chosen.folder, chosen.archives.file).wire(), "sha256": chosen.archives.sha256, "holds": list(chosen.archives.holds),
    }  # fmt: skip
    said: dict[str, Any] = {}
    ask(d.fleet()[(managers[0] if what == "take" else d.topology.db).name], "apply", [order], said.update)
    return list(said["put"])


def _refuse_foreign(d: Session, found: Backup, store: BackupStore) -> None:
    """Raise RunbookError when the backup is not of the deployment in whose folder it lies, or cannot serve this deployment."""
    names = {database.name for database in databases_of(d.spec.pattern)}
    version, family = version_file(d.pack), "MySQL" if mysql.runs_mysql(d.spec) else "MariaDB"
    wrong, fits = "", "the pack that it was made with"
    if found.deployment != store.deployment:
        wrong = f"is of the deployment {found.deployment}, not of {store.deployment}"
    elif found.product != d.spec.design.product or {part.name for part in found.databases} != names:
        wrong = f"is of the product {found.product} ({found.pattern}), and {d.spec.pattern} needs {', '.join(sorted(names))}"
    elif (found.version or found.pack_sha256) != (version or d.pack.sha256):
        wrong = f"is of {found.version or found.pack_sha256}, and product.pack is {version or d.pack.sha256}"
    elif found.server.partition(" ")[0] != family:  # the other kind stops at what it does not know, after the nodes were stopped
        wrong = f"is of the server {found.server}, and database.package {d.spec.database.package} is {family}"
        fits = "a server of that kind (database.package, on a new machine of the database)"
    if wrong:
        step = f"restore a backup that fits: --at for another time, --from for a copy of another deployment, or {fits}"
        raise RunbookError(f"the backup of {found.time} {wrong}. Nothing was dropped", f"s3://{store.own.name}/{found.folder}", step)


def _none(store: BackupStore, at: str) -> RunbookError:
    """Return the error for a time, or a deployment, without a backup."""
    every = store.backups()
    there = f"the oldest is of {every[-1].time}" if at else f"{len(every)} were made before something was dropped: --at chooses one"
    what = f"no backup of {store.deployment}{f' of {at} or before' if at else ''}: {there if every else 'there is none'}"
    return RunbookError(what, store.place, "./runbook backups PARAMS lists them")


def _moment(text: str) -> datetime:
    """Return a time; without an offset it is UTC. Raises RunbookError."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise RunbookError(f"{text!r} is no time", "--at", "such as 2026-11-26T15:00 (UTC), or with an offset: 2026-11-26T16:00+01:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
