"""Queries of the shared registry and user database: used or unused, duplicates, one resource, the initialisation lock."""

from __future__ import annotations

from runbook_lib.errors import HostError
from runbook_lib.roles import carbon
from runbook_lib.ssh import Host
from runbook_lib.topology.databases import REGISTRY, USER

FREE = f"UPDATE {REGISTRY.name}.REG_CLUSTER_LOCK SET REG_LOCK_STATUS = 'UNLOCKED' WHERE REG_LOCK_NAME = 'INITIALIZE';"
# As root over the server's socket, statements on stdin; MariaDB's client has a name of its own.
CLIENT = "exec sudo -n sh -c 'exec $(command -v mariadb || command -v mysql) --no-defaults --user=root --protocol=socket --batch --skip-column-names'"


def ask(database: Host, statement: str) -> list[list[str]]:
    """Run one statement as root and return its rows. Raises HostError with the server's message."""
    done = database.run(CLIENT, statement.encode(), timeout=60)
    if done.rc:
        raise HostError(
            f"the database server refused a question: {done.stderr.strip()}",
            database.name,
            "run chapter 02, then this one again",
        )
    return [line.split("\t") for line in done.stdout.splitlines()]


def is_used(database: Host) -> bool:
    """Return whether a node has ever written into the databases.

    A schema that was only loaded has no user and no resource; the first boot adds both.
    """
    rows = ask(
        database,
        f"SELECT (SELECT COUNT(*) FROM {USER.name}.UM_USER) + (SELECT COUNT(*) FROM {REGISTRY.name}.REG_RESOURCE);",
    )
    return rows[0][0] != "0"


def duplicates(database: Host) -> list[str]:
    """Return the registry paths that exist more than once, an empty list when there are none.

    Duplicates are the trace of two first boots at the same time (golden run 7).
    """
    rows = ask(
        database,
        f"""SELECT CONCAT(p.REG_PATH_VALUE, '/', IFNULL(r.REG_NAME, '')), COUNT(*)
FROM {REGISTRY.name}.REG_RESOURCE r
JOIN {REGISTRY.name}.REG_PATH p ON p.REG_PATH_ID = r.REG_PATH_ID AND p.REG_TENANT_ID = r.REG_TENANT_ID
GROUP BY r.REG_TENANT_ID, r.REG_PATH_ID, r.REG_NAME, p.REG_PATH_VALUE HAVING COUNT(*) > 1;""",
    )
    return [row[0] for row in rows]


def content(database: Host, path: str) -> bytes | None:
    """Return the content of a registry resource, or None when there is no such resource."""
    folder, _, name = path.rpartition("/")
    rows = ask(
        database,
        f"""SELECT HEX(c.REG_CONTENT_DATA)
FROM {REGISTRY.name}.REG_RESOURCE r
JOIN {REGISTRY.name}.REG_PATH p ON p.REG_PATH_ID = r.REG_PATH_ID AND p.REG_TENANT_ID = r.REG_TENANT_ID
JOIN {REGISTRY.name}.REG_CONTENT c ON c.REG_CONTENT_ID = r.REG_CONTENT_ID AND c.REG_TENANT_ID = r.REG_TENANT_ID
WHERE p.REG_PATH_VALUE = '{folder}' AND r.REG_NAME = '{name}';""",
    )
    return bytes.fromhex(rows[0][0]) if rows else None


def is_locked(database: Host) -> bool:
    """Return whether a node holds the initialisation lock; every other node waits for it without limit and without a log line (facts 2.4)."""
    rows = ask(database, f"SELECT REG_LOCK_STATUS FROM {REGISTRY.name}.REG_CLUSTER_LOCK WHERE REG_LOCK_NAME = 'INITIALIZE';")
    return ["LOCKED"] in rows


def free_lock(database: Host) -> None:
    """Release the initialisation lock that a dead node left. Call it only while no node is starting."""
    ask(database, FREE)


def how_to_free(database: str) -> str:
    """Return what a person does about a lock that is left, in words: only he knows that no node is starting."""
    return (
        f"when no node is starting (`sudo systemctl stop {carbon.UNIT}` on one that hangs), send on {database} in `sudo mysql` or `sudo mariadb`: "
        f"{FREE} Then run this chapter again"
    )
