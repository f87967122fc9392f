"""Questions to the shared registry and user database that only SQL answers: used or fresh, duplicates, a lock left
behind.
"""

from __future__ import annotations

from runbook_lib.errors import HostError
from runbook_lib.ssh import Host
from runbook_lib.topology.databases import REGISTRY, USER

# As root over the server's socket, statements on stdin; MariaDB's client has a name of its own.
CLIENT = "exec sudo -n sh -c 'exec $(command -v mariadb || command -v mysql) --no-defaults --user=root --protocol=socket --batch --skip-column-names'"


def ask(database: Host, statement: str) -> list[list[str]]:
    """Rows of one statement. HostError with the server's own words."""
    done = database.run(CLIENT, statement.encode(), timeout=60)
    if done.rc:
        raise HostError(
            f"the database server refused a question: {done.stderr.strip()}",
            database.name,
            "run chapter 02, then this one again",
        )
    return [line.split("\t") for line in done.stdout.splitlines()]


def is_used(database: Host) -> bool:
    """Whether a node ever wrote into the databases: a loaded schema has no user and no resource until the first
    boot.
    """
    rows = ask(
        database,
        f"SELECT (SELECT COUNT(*) FROM {USER.name}.UM_USER) + (SELECT COUNT(*) FROM {REGISTRY.name}.REG_RESOURCE);",
    )
    return rows[0][0] != "0"


def duplicates(database: Host) -> list[str]:
    """Registry paths that are there more than once: the mark of two first boots at once (golden run 7). None is
    right.
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
    """What a registry resource holds; None when there is no such resource."""
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
    """Whether a node holds the initialisation lock, for which every other node waits without limit or word (facts
    2.4).
    """
    rows = ask(database, f"SELECT REG_LOCK_STATUS FROM {REGISTRY.name}.REG_CLUSTER_LOCK WHERE REG_LOCK_NAME = 'INITIALIZE';")
    return ["LOCKED"] in rows


def free_lock(database: Host) -> None:
    """Take away a lock that a dead node left. Only while no node is starting."""
    ask(
        database,
        f"UPDATE {REGISTRY.name}.REG_CLUSTER_LOCK SET REG_LOCK_STATUS = 'UNLOCKED' WHERE REG_LOCK_NAME = 'INITIALIZE';",
    )
