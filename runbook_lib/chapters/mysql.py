"""Chapter 02: the database server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runbook_lib.changes import Plan, Result
from runbook_lib.chapters.base import Converging
from runbook_lib.chapters.second_day import backups
from runbook_lib.check import CheckTable
from runbook_lib.converge import engine
from runbook_lib.converge.mysql import MysqlSchema
from runbook_lib.errors import RunbookError
from runbook_lib.operations import startup
from runbook_lib.operations.backup import Recreated, as_table, database_of, dump_database, recreate_databases, restore_database, try_dump
from runbook_lib.operations.lost_database import DUMPS, TELLTALE, lost, refuse_lost_data
from runbook_lib.roles import machine, mysql
from runbook_lib.roles.context import Context
from runbook_lib.tables import Table
from runbook_lib.topology.databases import REGISTRY, databases_of
from runbook_lib.topology.model import Node

BEFORE_ANEW = "before the databases were made anew"


class Mysql(Converging):
    """Chapter 02: the database server, the databases, the accounts."""

    name, title = "02_install_mysql", "MySQL"

    def nodes(self) -> tuple[Node, ...]:
        return (self.deployment.topology.db,)

    def desired(self, node: Node, context: Context) -> Sequence[engine.Stage]:
        return mysql.desired(node, context)

    def refuse(self, context: Context) -> None:
        refuse_lost_data(self.deployment, context)

    def work(self, plan: Plan, progress: Any) -> Result:
        self.refuse(self.deployment.context())
        return super().work(plan, progress)

    def own_checks(self, quiet: bool = False) -> CheckTable:
        self.refuse(self.deployment.context())
        from runbook_lib.checks.database import verify_database  # imported here so that the database client is loaded only when needed

        return verify_database(self.deployment, quiet)

    def recreate(self, *names: str, confirm: str = "") -> tuple[Recreated, ...]:
        """Drop databases and create them again, each dumped first; return what was recreated. `names`: all databases when empty.

        What the databases hold goes to S3 first, as a backup, and the product's nodes are stopped. First boots write to the user database and
        the registry, which go together: with them the first boots are due again, run the nodes' chapter; should one of those be cut short, all
        databases are made anew. Without them the nodes that had booted are started again, and go on with what the others hold. Where the machine
        that held all databases is gone, only the first boots are forgotten.

        Raises RunbookError unless `confirm` is the deployment's name, for an unknown database, and for one of the two while the other is used;
        DataLost where databases are named and one of the two is lost; CloudError where S3 refuses. Nothing was stopped then. Raises HostError
        for a node that does not start again.
        """
        d = self.deployment
        if confirm != d.spec.deployment:
            raise RunbookError(f"databases of {d.spec.deployment} are to be dropped", "confirm", f'say so: confirm="{d.spec.deployment}"')
        with d.writing(), d.journal.attempt(self.name, "recreate"):
            context = d.context()
            if not names and (context.restoring or (context.in_use and lost(d))):
                return self._begin_anew(context)
            schemas = [mysql.schema_of(name, context) for name in names] or mysql.schemas_of(context)
            chosen = {schema.database.name for schema in schemas}
            if names:
                self._refuse_half(chosen, context)
            hosts = d.fleet()
            if context.in_use:
                d.record_in_use()  # forgotten last: killed before, nodes boot as new ones on what is there, or the guard names the ways on
                backups.keep_first(d, context, BEFORE_ANEW)
            if anew := bool(chosen & TELLTALE.keys()):
                d.forget_first_boots()
                startup.forget_first_boots(hosts, context)
            else:
                startup.stop_all(hosts, context)
            made = recreate_databases(hosts[d.topology.db.name], schemas)
            for each in made:
                d.journal.write(self.name, "recreate", host=d.topology.db.name, key=each.database, change=str(each))
            if anew:
                d.forget_use()
            else:
                hosts.each(lambda host: startup.start(hosts, context, host.name), sorted(context.booted))
            return made

    def _refuse_half(self, chosen: set[str], context: Context) -> None:
        """Raise DataLost when a database that first boots write to is lost, RunbookError when one is chosen and the other is used."""
        self.refuse(context)
        both = TELLTALE.keys()
        if chosen & both and (used := both - chosen - lost(self.deployment).keys()):
            [one], [other] = chosen & both, used
            raise RunbookError(
                f"{one} and {other} go together, and {other} is used: what one holds refers to the other, and a first boot writes to both. Nothing was touched",
                one,
                f"deployment.mysql.recreate({one!r}, {other!r}, confirm=…) makes both anew, for first boots of all nodes; "
                f"deployment.mysql.restore(dump, confirm=…) or ./runbook restore PARAMS brings back what {one} held",
            )

    def _begin_anew(self, context: Context) -> tuple[Recreated, ...]:
        """Put the nodes back to before their first boot; chapter 02 then makes databases as for a new deployment. Return none."""
        d = self.deployment
        startup.forget_first_boots(d.fleet(), context)
        d.forget_first_boots()
        d.forget_use()
        return ()

    def make_server(self) -> Result:
        """Make the database server so, with its databases and accounts but no tables, which a restore brings; return what was changed."""
        d, node = self.deployment, self.deployment.topology.db
        stages = (*machine.desired(), *self.desired(node, d.context()))
        wish = {node.name: tuple(replace(stage, resources=tuple(r for r in stage.resources if not isinstance(r, MysqlSchema))) for stage in stages)}
        done = engine.apply(d.fleet(), engine.plan(d.fleet(), wish, self.title))
        d.journal.changed(self.name, done)
        return done

    def dump(self, *names: str) -> Table:
        """Dump databases (`names`; all of them when empty) to files on their host that only root can read; return a table of them. Nothing is stopped."""
        d = self.deployment
        with d.writing(), d.journal.attempt(self.name, "dump"):
            host = d.fleet()[d.topology.db.name]
            chosen = [mysql.schema_of(name, d.context()).database.name for name in names] or [db.name for db in databases_of(d.spec.pattern)]
            made = [dump_database(host, name) for name in chosen]
            for each in made:
                d.journal.write(self.name, "dump", host=host.name, key=each.database, change=f"dumped to {each.path}")
            return as_table(made, host.name)

    def restore(self, *dumps: str, confirm: str = "") -> Table:
        """Replace the content of databases by `dumps` (paths on their host); return a table of them. The present content is dumped first.

        The product's nodes are stopped; run their chapter afterwards to start them. With the registry's database they boot as new nodes on used
        databases: their search indexes and local databases are of another time. Restore dumps of the same time together.
        Raises RunbookError unless `confirm` is the deployment's name, or when no dump is named; HostError for one that does not load. Nothing was
        stopped then. Cut short between two databases, it lets nobody go on before it, or a restore of a backup, has ended well.
        """
        d = self.deployment
        if confirm != d.spec.deployment:
            raise RunbookError(f"databases of {d.spec.deployment} are to be replaced", "confirm", f'say so: confirm="{d.spec.deployment}"')
        if not dumps:
            raise RunbookError("no dump is named: nothing was stopped or replaced", "restore", "give the paths that deployment.mysql.dump() told")
        with d.writing(), d.journal.attempt(self.name, "restore"):
            context, host = d.context(), d.fleet()[d.topology.db.name]
            names = [mysql.schema_of(database_of(dump), context).database.name for dump in dumps]  # raises for an unknown one, before anything is stopped
            _refuse_less(context.restoring, names)
            for dump in dumps:
                try_dump(host, dump)
            d.record_in_use()  # what comes back is nothing that the next first boot may make anew
            if REGISTRY.name in names:
                d.forget_first_boots()  # first: killed here, nodes that still have their mark go on with the databases that are still there
                startup.forget_first_boots(d.fleet(), context)
            else:
                startup.stop_all(d.fleet(), context)
            with d.restoring(f"{DUMPS}{host.name}: {', '.join(dumps)}"):
                made = [restore_database(host, dump, tried=True) for dump in dumps]
            for each in made:
                d.journal.write(self.name, "restore", host=host.name, key=each.database, change=f"holds {each.dump} again")
            return as_table(made, host.name)


def _refuse_less(begun: str, names: Sequence[str]) -> None:
    """Raise RunbookError when a restore was cut short, and dumps of these databases would not bring back all of it."""
    if begun and not begun.startswith(DUMPS):
        step = "./runbook restore PARAMS again, with --at another backup; --empty gives the data up, and then dumps can be restored"
        raise RunbookError(f"a restore of the backup {begun} was cut short, which dumps do not end: nothing was stopped or replaced", "restore", step)
    due = {database_of(path) for path in begun.partition(": ")[2].split(", ") if path}
    if missing := sorted(due.difference(names)):
        what = f"a restore of {begun} was cut short, and no dump of {' and '.join(missing)} is named: nothing was stopped or replaced"
        raise RunbookError(what, "restore", "name dumps of all of these databases, of the same time; or ./runbook restore PARAMS")
