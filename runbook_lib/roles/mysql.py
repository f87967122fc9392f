"""Desired state of the database server: MariaDB or MySQL from the distribution's packages, for the cluster alone.

Facts 2 and golden run 1 say which database comes from which script, and which settings the product survives.
"""

from __future__ import annotations

from runbook_lib.converge.engine import Stage
from runbook_lib.converge.mysql import MysqlAccount, MysqlDatabase, MysqlSchema, OnlyAccounts
from runbook_lib.converge.resources import Exec, File, Package, Unit
from runbook_lib.errors import RunbookError
from runbook_lib.pki import split
from runbook_lib.roles.context import Context
from runbook_lib.spec.model import Spec
from runbook_lib.topology.databases import databases_of
from runbook_lib.topology.model import Node

# Ours is read after the distribution's own files in these folders, of which a server reads one.
DROP_INS = ("/etc/mysql/mariadb.conf.d/99-runbook.cnf", "/etc/mysql/mysql.conf.d/zz-runbook.cnf")
CONNECTIONS = 1000  # for sixteen nodes of G-Reg with five datasources each as well
RESERVED = 50  # for whoever signs in besides the product: checks from each node, a dump, administrators
EACH = 80  # of a datasource, at most: as many as the product ships for its own
SETTINGS = """\
# Made by the runbook (chapter 02); changes made here by hand are shown by its plan and undone by its run.
[mysqld]
# The cluster's nodes, nothing else; this machine itself signs in by the socket. One address: MariaDB before 10.11 does not start with a list.
bind-address = {address}
# Accounts are bound to addresses: no name server is asked, so none can delay or forge a login.
skip-name-resolve
# What all datasources of all nodes may open together (maxActive of *-datasources.xml), and some for checks, dumps and administrators.
max_connections = {connections}
# A document in the registry is one value; Nginx takes up to 100 MB. A dump writes it in hex, twice as long.
max_allowed_packet = 256M
# Where MariaDB has it and MySQL has not: its time says when the server was started (TLS_IN_USE).
pid-file = /run/mysqld/mysqld.pid
# MariaDB only, where it is on since 11.6.2: a transaction that reads a row, and changes it after another has, would end in error 1020. The product does that,
# was made for servers that let it, and was measured on 10.11.
loose_innodb_snapshot_isolation = OFF
# MySQL only, ignored elsewhere: no second protocol on port 33060; on 8.4 the plugin that Connector/J 5.1 needs.
loose_mysqlx = OFF
loose_mysql_native_password = ON
# Passwords and data travel inside TLS only; the nodes know this server by a certificate of the deployment's authority.
require_secure_transport = ON
tls_version = TLSv1.2,TLSv1.3
ssl_ca = {tls}/ca.pem
ssl_cert = {tls}/server.pem
ssl_key = {tls}/server.key
# MySQL has a binary log unless told otherwise, MariaDB has none: nothing here reads one, and it fills the disk (decision 20).
skip-log-bin
"""
TLS = "/etc/mysql/runbook-tls"  # below /etc/mysql, which AppArmor's profile of the server may read; no folder of its settings
TLS_LOADED = "/run/runbook/mysql-tls"  # its time is that of the last reload
# The server reads them at its start, of which its pid file tells the time, and when it is told to: nobody's connection ends by that.
TLS_IN_USE = f'at=$(ls -t /run/mysqld/*.pid {TLS_LOADED} 2>/dev/null | head -1); [ -n "$at" ] && [ -z "$(find {TLS} -type f -newer "$at")" ]'
RELOAD_TLS = f"""\
# the server reads its certificate again
client=$(command -v mariadb || command -v mysql)
case "$($client --version)" in *MariaDB*) words="FLUSH SSL";; *) words="ALTER INSTANCE RELOAD TLS";; esac
mkdir -p {TLS_LOADED.rpartition("/")[0]}
touch {TLS_LOADED}.next
$client --no-defaults --user=root --protocol=socket -e "$words"
mv {TLS_LOADED}.next {TLS_LOADED}
"""
# The private address comes by DHCP: a server started before it is there cannot bind to it and would stay down.
WAIT_FOR_ADDRESS = """\
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Restart=on-failure
RestartSec=2
"""


def desired(node: Node, ctx: Context) -> tuple[Stage, ...]:
    """Return the stages of `node`, the db machine: server, service, databases with their schemas, accounts."""
    unit = unit_of(ctx.spec)
    override = File(f"/etc/systemd/system/{unit}.d/runbook.conf", WAIT_FOR_ADDRESS.encode())
    settings = [File(path, SETTINGS.format(address=node.address, tls=TLS, connections=CONNECTIONS).encode()) for path in DROP_INS]
    identity, schemas = certificate(node, ctx), schemas_of(ctx)
    reload = Exec("the server uses its certificate", TLS_IN_USE, RELOAD_TLS)
    return (
        Stage("database server", (Package(ctx.spec.database.package), override, *identity, *settings)),
        Stage("database service", (Unit(unit, watches=DROP_INS), reload)),
        Stage("databases", (*(schema.database for schema in schemas), *schemas)),
        Stage("accounts", (*accounts(ctx), OnlyAccounts(ctx.topology.db_accounts, hosts_of(ctx)))),
    )


def certificate(node: Node, ctx: Context) -> tuple[File, ...]:
    """Return the files of the server's certificate, its key, which only the server reads, and the authority that signed it.

    While an authority is replaced they stay what they were until every node trusts the new one: the end of the rotation brings the new ones.
    """
    name = f"tls/{node.name}"
    values = ctx.former if {name, "ca.pem"} <= ctx.former.keys() else ctx.secrets
    own, key = split(values[name])
    return (
        File(f"{TLS}/ca.pem", values["ca.pem"].encode()),
        File(f"{TLS}/server.pem", own),
        File(f"{TLS}/server.key", key, 0o400, "mysql:mysql", secret=True),
    )


def runs_mysql(spec: Spec) -> bool:
    """Return whether the server is MySQL, not MariaDB. The package default-mysql-server is MariaDB in Debian and MySQL in Ubuntu."""
    package = spec.database.package
    debian = spec.cloud.image.startswith("debian") or spec.cloud.login_user == "admin"
    return not ("mariadb" in package or (package == "default-mysql-server" and debian))


def unit_of(spec: Spec) -> str:
    """Return the name of the server's systemd unit."""
    return "mysql.service" if runs_mysql(spec) else "mariadb.service"


def schemas_of(ctx: Context) -> tuple[MysqlSchema, ...]:
    """Return the schemas of the pattern's databases, with the text of their scripts where there is a pack."""
    return tuple(
        MysqlSchema(MysqlDatabase(db.name, ctx.spec.database.charset), db.script, db.tables, ctx.base(db.script)) for db in databases_of(ctx.spec.pattern)
    )


def schema_of(name: str, ctx: Context) -> MysqlSchema:
    """Return the schema of one database. Raises RunbookError, listing the databases of the pattern."""
    for schema in schemas_of(ctx):
        if schema.database.name == name:
            return schema
    names = ", ".join(schema.database.name for schema in schemas_of(ctx))
    raise RunbookError(f"{ctx.spec.pattern} has no database {name}", ctx.spec.deployment, f"there is: {names}")


def hosts_of(ctx: Context) -> tuple[str, ...]:
    """Return the addresses that the product's accounts may sign in from: those of its nodes, each of which has every datasource of its product."""
    return tuple(node.address for node in ctx.topology.wso2_nodes)


def connections_each(ctx: Context) -> int:
    """Return how many connections a datasource of a node may open (maxActive): the server takes those of all nodes together.

    One more waits for a free one (maxWait) in its node; the server would refuse it ("Too many connections").
    """
    return min(EACH, (CONNECTIONS - RESERVED) // (len(ctx.topology.wso2_nodes) * len(databases_of(ctx.spec.pattern))))


def accounts(ctx: Context) -> tuple[MysqlAccount, ...]:
    """Return the account of each database, once for each node: an account is a name at an address.

    One whose password is being rotated is left out while its node serves: it gets the new one when it is that node's turn.
    """
    return tuple(
        account
        for node in ctx.topology.wso2_nodes
        for account in accounts_of(node, ctx)
        if node.name not in ctx.booted or f"db/{account.user}" not in ctx.former
    )


def accounts_of(node: Node, ctx: Context) -> tuple[MysqlAccount, ...]:
    """Return the accounts by which one node signs in."""
    return tuple(MysqlAccount(database.account, node.address, database.name, ctx.secrets[database.secret]) for database in databases_of(ctx.spec.pattern))
