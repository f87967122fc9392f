"""The chapters' verbs: plan, apply and verify of one step, under the deployment's lock and with every attempt in the journal.

The steps say what a node should be, `converge` brings it about, the checks ask the running system. Here they are only put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import boot, converge, rolling, teardown, ui
from .board import leave_word
from .checks import CheckTable
from .checks.network import verify_ssh
from .converge import Pending, Plan, Result
from .database_repair import Recreated, as_table, database_of, dump_database, recreate_databases, restore_database
from .databases import databases_of
from .errors import ChecksFailed, RunbookError
from .resources import Change
from .steps import Context, Node, mysql, nginx
from .tables import Table

if TYPE_CHECKING:
    from .deployment import Deployment


class Verbs:
    """What all chapters share: a deployment, a name, and checks that are shown, kept and raised when one fails."""

    name = ""

    def __init__(self, deployment: Deployment):
        self.deployment = deployment

    def verify(self) -> CheckTable:
        """Ask the running system. ChecksFailed, after the table was shown, when one answer is wrong."""
        with self.deployment.journal.attempt(self.name, "verify"):
            checks = CheckTable([*self.checks()])
            self.deployment.journal.checked(self.name, checks)
            leave_word(self.deployment, self.name, checks.ok)
            if not checks.ok:
                ui.show(checks)
            return checks.raise_if_failed()

    def checks(self) -> CheckTable:
        raise TypeError(f"{type(self).__name__} has no checks")


class Launch(Verbs):
    """Chapter 01: network, groups, key pair, machines, secrets."""

    name = "01_launch_ec2"

    def plan(self) -> Any:
        """What the cloud lacks; changes nothing."""
        with self.deployment.journal.attempt(self.name, "plan"):
            return self.deployment.cloud.plan()

    def apply(self, plan: Any) -> Any:
        """Make it so, then wait until every machine accepts our key."""
        d = self.deployment
        with d.writing(), d.journal.attempt(self.name, "apply"), ui.progress("Launch", [n.name for n in d.topology.nodes]) as progress:
            done = d.cloud.apply(plan, progress, self._drain)
            d.journal.changed(self.name, done)
            d.fleet().wait_for_ssh([n.name for n in d.topology.nodes], d.spec.timeouts.ssh)
        return done

    def _drain(self) -> None:
        """Before surplus machines end: Nginx sends to the nodes of the parameters only."""
        d = self.deployment
        d.fleet().wait_for_ssh([lb.name for lb in d.topology.lbs], d.spec.timeouts.ssh)
        if any(node.name in d.context().booted for node in d.topology.wso2_nodes):
            d.journal.changed(self.name, rolling.take_out(d, ()))

    def checks(self) -> CheckTable:
        return CheckTable([*self.deployment.cloud.verify(), *verify_ssh(self.deployment)])


class Converging(Verbs):
    """A chapter whose work is the desired state of some nodes."""

    title = ""

    def nodes(self) -> tuple[Node, ...]:
        raise TypeError(f"{type(self).__name__} has no nodes")

    def desired(self, node: Node, context: Context) -> Sequence[converge.Stage]:
        raise TypeError(f"{type(self).__name__} desires nothing")

    def wish(self) -> converge.Wish:
        """The desired state by node name."""
        context = self.deployment.context()
        return {node.name: tuple(self.desired(node, context)) for node in self.nodes()}

    def plan(self) -> Plan:
        """The difference between the hosts and the wish; changes nothing. Before the launch everything is still to be made."""
        with self.deployment.journal.attempt(self.name, "plan"):
            wish = self.wish()
            if not self.deployment.launched():
                return Plan(self.title, wish, tuple(_unmade(name, stage, r.key) for name in wish for stage in wish[name] for r in stage.resources))
            return converge.plan(self.deployment.fleet(), wish, self.title)

    def apply(self, plan: Plan) -> Result:
        """Bring the plan about. PlanOvertaken when the hosts changed since; LockHeld when somebody else is at work."""
        d = self.deployment
        with d.writing(), d.journal.attempt(self.name, "apply"), ui.progress(self.title, list(plan.wish)) as progress:
            try:
                result = self.work(plan, progress)
            except RunbookError as error:
                d.journal.changed(self.name, error)
                raise
            d.journal.changed(self.name, result)
        return result

    def work(self, plan: Plan, progress: Any) -> Result:
        return converge.apply(self.deployment.fleet(), plan, progress, progress.stop)


def _unmade(name: str, stage: converge.Stage, key: str) -> Pending:
    return Pending(name, stage.name, Change(key, "create", "the machine is not launched"))


class Mysql(Converging):
    """Chapter 02: the database server, the databases, the accounts."""

    name, title = "02_install_mysql", "MySQL"

    def nodes(self) -> tuple[Node, ...]:
        return (self.deployment.topology.db,)

    def desired(self, node: Node, context: Context) -> Sequence[converge.Stage]:
        return mysql.desired(node, context)

    def checks(self) -> CheckTable:
        from .checks.database import verify_database  # its client is only loaded when asked for

        return verify_database(self.deployment)

    def recreate(self, *names: str, confirm: str = "") -> tuple[Recreated, ...]:
        """Drop databases (all of them when none is named) and make them anew, each dumped first. The product's nodes are stopped for it.

        `confirm` must be the deployment's name. After it the nodes have their first boots again: run their chapter.
        """
        d = self.deployment
        if confirm != d.spec.deployment:
            raise RunbookError(f"databases of {d.spec.deployment} are to be dropped", "confirm", f'say so: confirm="{d.spec.deployment}"')
        with d.writing(), d.journal.attempt(self.name, "recreate"):
            context, hosts = d.context(), d.fleet()
            boot.forget_first_boots(hosts, context)
            for node in d.topology.wso2_nodes:
                d.cloud.untag(node.name, "runbook:first-boot")
            schemas = [mysql.schema_of(name, context) for name in names] or mysql.schemas_of(context)
            return recreate_databases(hosts[d.topology.db.name], schemas)

    def dump(self, *names: str) -> Table:
        """A dump of databases (all of them when none is named), kept on their host where only root reads it. Nothing is stopped."""
        d = self.deployment
        with d.writing(), d.journal.attempt(self.name, "dump"):
            host = d.fleet()[d.topology.db.name]
            chosen = [mysql.schema_of(name, d.context()).database.name for name in names] or [db.name for db in databases_of(d.spec.pattern)]
            made = [dump_database(host, name) for name in chosen]
            for each in made:
                d.journal.write(self.name, "dump", host=host.name, key=each.database, change=f"dumped to {each.path}")
            return as_table(made, host.name)

    def restore(self, *dumps: str, confirm: str = "") -> Table:
        """Put dumps in the place of what the databases hold, which is dumped first. The product's nodes are stopped for it.

        `confirm` must be the deployment's name. Restore dumps of one moment together. Then run the nodes' chapter: it starts them.
        """
        d = self.deployment
        if confirm != d.spec.deployment:
            raise RunbookError(f"databases of {d.spec.deployment} are to be replaced", "confirm", f'say so: confirm="{d.spec.deployment}"')
        if not dumps:
            raise RunbookError("no dump is named: nothing was stopped or replaced", "restore", "give the paths that deployment.mysql.dump() told")
        with d.writing(), d.journal.attempt(self.name, "restore"):
            context, host = d.context(), d.fleet()[d.topology.db.name]
            for dump in dumps:
                mysql.schema_of(database_of(dump), context)  # before anything is stopped: is it one of ours
            boot.stop_all(d.fleet(), context)
            made = [restore_database(host, dump) for dump in dumps]
            for each in made:
                d.journal.write(self.name, "restore", host=host.name, key=each.database, change=f"holds {each.dump} again")
            return as_table(made, host.name)


class Nginx(Converging):
    """Chapter 05: the load balancers."""

    name, title = "05_configure_nginx", "Nginx"

    def nodes(self) -> tuple[Node, ...]:
        return self.deployment.topology.lbs

    def desired(self, node: Node, context: Context) -> Sequence[converge.Stage]:
        return nginx.desired(node, context)

    def checks(self) -> CheckTable:
        from .checks.nginx import verify_nginx

        return verify_nginx(self.deployment)


def destroy(deployment: Deployment, confirm: str) -> Any:
    """Remove everything that is tagged with the deployment, and prove that nothing is left. LockHeld while somebody else is at work,
    ChecksFailed when something is left."""
    if confirm != deployment.spec.deployment:
        raise RunbookError(f"everything of {deployment.spec.deployment} is to be removed", "confirm", f'say so: confirm = "{deployment.spec.deployment}"')
    with deployment.writing(), deployment.journal.attempt("99_tear_down", "destroy"), ui.progress("Tear down", []) as progress:
        deployment.close()
        gone = teardown.destroy(deployment.cloud, progress)
        deployment.journal.checked("99_tear_down", gone)
        if left := gone.failed():
            ui.show(gone)
            words = "; ".join(f"{check.title}: {check.observed}" for check in left)
            raise ChecksFailed(f"something of {deployment.spec.deployment} is left: {words}", left[0].where, "run this again; remove by hand what stays")
        return gone
