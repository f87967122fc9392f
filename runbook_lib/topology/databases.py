"""The databases of each product: content, the script of the pack that creates them, the datasource that names them (facts 2.1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Database:
    """One database with an account that has rights on no other.

    `script` is a path in the pack; `tables` is the number that it declares (facts 2.2): fewer on the server means that it was
    loaded in part. `datasource` and `jndi` are the names in the product's *-datasources.xml, `file` is that file.
    """

    name: str
    account: str
    script: str
    tables: int
    datasource: str
    jndi: str
    file: str = "repository/conf/datasources/master-datasources.xml"
    why: str = ""

    @property
    def secret(self) -> str:
        """Name of the account's password in the vault."""
        return f"db/{self.account}"


USER = Database("WSO2_USER_DB", "wso2_user", "dbscripts/mysql.sql", 39, "WSO2_USER_DB", "jdbc/WSO2UMDB", why="users, roles and permissions of all nodes")
REGISTRY = Database(
    "WSO2_REGISTRY_DB", "wso2_registry", "dbscripts/mysql.sql", 39, "WSO2_REGISTRY_DB", "jdbc/WSO2RegistryDB",
    why="configuration and governance registry, mounted by all nodes",
)  # fmt: skip
SOCIAL = Database(
    "WSO2_SOCIAL_DB", "wso2_social", "dbscripts/social/mysql/resource.sql", 4, "WSO2_SOCIAL_DB", "jdbc/WSO2SocialDB",
    "repository/conf/datasources/social-datasources.xml", "comments and ratings of the Store",
)  # fmt: skip
STORAGE = Database("WSO2_STORAGE_DB", "wso2_storage", "dbscripts/storage/mysql/resource.sql", 1, "JAGH2", "jdbc/test", why="images uploaded with assets")
BPS = Database(
    "WSO2_BPS_DB", "wso2_bps", "dbscripts/bps/bpel/create/mysql.sql", 41, "BPS_DS", "bpsds",
    "repository/conf/datasources/bps-datasources.xml", "work list and human tasks",
)  # fmt: skip

GREG = (USER, REGISTRY, SOCIAL, STORAGE, BPS)
APPSERVER = (USER, REGISTRY)


def databases_of(pattern: str) -> tuple[Database, ...]:
    """Return the databases that a pattern's product needs."""
    return APPSERVER if pattern == "as-cluster" else GREG
