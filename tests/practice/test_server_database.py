"""The practice G-Reg on a real MariaDB: what works, what fails, and how the failure looks (golden-run 1 and 7)."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib import pki
from runbook_lib.operations.startup import signatures
from runbook_lib.roles.carbon_settings import MARIADB
from tests.conftest import need
from tests.support.practice_nodes import REGISTRY_DB, USER_DB, Database, Node, Nodes, sign_in, wire_databases

HANGS = "Cannot start User Manager Core bundle"
DUPLICATES = "SELECT REG_PATH_ID, REG_NAME FROM REG_RESOURCE WHERE REG_NAME IS NOT NULL GROUP BY REG_PATH_ID, REG_NAME HAVING COUNT(*) > 1"


@pytest.fixture
def shared(nodes: Nodes, database: Database, driver: Path) -> Iterator[Node]:
    """A node wired to fresh shared databases, not started."""
    node = nodes.make()
    database.fresh(node.home)
    shutil.copy(driver, node.home / "repository/components/lib/mariadb-java-client.jar")
    wire_databases(node, database.url)
    yield node
    node.stop()


def test_boots_clean_and_says_so_in_the_measured_lines(shared: Node, database: Database) -> None:
    log = shared.start("-Dsetup")
    assert "ERROR" not in log and "FATAL" not in log
    assert log.count("Connected to mount at sharedregistry in ") == 2
    assert log.count("Database already exists. Not creating a new database.") >= 2
    order = ["Starting WSO2 Carbon...", "Configured Registry in", "A SSO Service Provider is registered for : store"]
    order += ["HTTPS port", "StandardContext[/store]", "NioSelectorPool", "WSO2 Carbon started in", "Mgt Console URL"]
    assert [log.index(text) for text in order] == sorted(log.index(text) for text in order)
    with shared.client() as client:
        assert sign_in(client, "store", "admin", "admin")[0].url.path == "/store/pages/top-assets"
    assert database.sql("SELECT UM_USER_NAME FROM UM_USER", USER_DB) == ["admin"]
    paths = database.sql("SELECT REG_PATH_VALUE FROM REG_PATH", REGISTRY_DB)
    assert "/_system/config/greg/store/configs" in paths and "/_system/config/greg/publisher/configs" in paths
    assert database.sql(DUPLICATES, REGISTRY_DB) == []
    assert database.sql("SELECT REG_LOCK_STATUS FROM REG_CLUSTER_LOCK", REGISTRY_DB) == ["UNLOCKED"]


def refuse(node: Node, text: str, *arguments: str) -> str:
    """Boot to the failure: the text in the log, a live process with a pid file, and no port."""
    node.launch(*arguments)
    log = node.wait_for(text)
    assert node.alive() and node.pid > 0 and not node.listens()
    assert "WSO2 Carbon started in" not in log
    return log


def test_driver_without_its_mysql_name_is_an_unsupported_database(shared: Node, database: Database) -> None:
    file = "repository/conf/datasources/master-datasources.xml"
    text = (shared.home / file).read_text()
    (shared.home / file).write_text(text.replace("?useMysqlMetadata=true", ""))
    log = refuse(shared, HANGS, "-Dsetup")
    assert "Unsupported database: MariaDB. Database will not be created automatically by the WSO2 Registry" in log
    assert "Admin role has not been created" in log
    assert database.sql("SELECT UM_USER_NAME FROM UM_USER", USER_DB) == ["admin"]  # a failed boot leaves rows


def test_latin1_cannot_hold_a_claim(shared: Node, database: Database) -> None:
    database.fresh(shared.home, charset="latin1")
    log = refuse(shared, HANGS, "-Dsetup")
    assert "Database Error - " in log and r"Incorrect string value: '\xE2\x80\x91" in log and "UM_DESCRIPTION" in log


def test_missing_driver(shared: Node) -> None:
    (shared.home / "repository/components/lib/mariadb-java-client.jar").unlink()
    assert "org.mariadb.jdbc.Driver" in refuse(shared, HANGS, "-Dsetup")


def test_absent_schema_without_setup(shared: Node, database: Database) -> None:
    database.fresh(shared.home, schema=False)
    assert "doesn't exist" in refuse(shared, HANGS)


def test_empty_local_registry_without_setup(shared: Node) -> None:
    log = refuse(shared, "Failed to add the root collection to the coreRegistry")
    assert "FATAL {org.wso2.carbon.registry.core.session.UserRegistry}" in log and 'Table "REG_' in log


def test_unreachable_database(shared: Node, database: Database) -> None:
    file = "repository/conf/datasources/master-datasources.xml"
    text = (shared.home / file).read_text()
    (shared.home / file).write_text(text.replace(f":{database.port}/", ":1/"))
    assert "onnect" in refuse(shared, HANGS, "-Dsetup")


def test_setup_makes_the_tables_of_an_empty_shared_database(shared: Node, database: Database) -> None:
    database.fresh(shared.home, schema=False)
    shared.start("-Dsetup")
    assert len(database.sql("SHOW TABLES", USER_DB)) == 39


def test_a_lock_left_by_a_dead_node_stops_every_boot_without_a_word(shared: Node, database: Database) -> None:
    database.sql("INSERT INTO REG_CLUSTER_LOCK VALUES ('INITIALIZE', 'LOCKED', NOW(), -1234)", REGISTRY_DB)
    shared.launch("-Dsetup")
    log = shared.wait_for("Configured Registry in")
    assert "ERROR" not in log
    assert shared.alive() and not shared.listens()
    database.sql("UPDATE REG_CLUSTER_LOCK SET REG_LOCK_STATUS = 'UNLOCKED'", REGISTRY_DB)
    shared.wait_for("WSO2 Carbon started in")


def two_first_boots_at_once(nodes: Nodes, database: Database, driver: Path) -> list[Node]:
    pair = [nodes.make(), nodes.make()]
    database.fresh(pair[0].home)
    for node in pair:
        shutil.copy(driver, node.home / "repository/components/lib/mariadb-java-client.jar")
        wire_databases(node, database.url)
    threads = [threading.Thread(target=node.start, args=("-Dsetup",)) for node in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("WSO2 Carbon started in" in node.log() for node in pair)
    return pair


def test_two_first_boots_at_once_write_everything_twice(nodes: Nodes, database: Database, driver: Path) -> None:
    for _ in range(5):  # a busy machine may start the second JVM only when the first one has written everything
        pair = two_first_boots_at_once(nodes, database, driver)
        if database.sql(DUPLICATES, REGISTRY_DB):
            break
        for node in pair:
            node.stop()
    assert database.sql(DUPLICATES, REGISTRY_DB) != []
    with pair[0].client() as client:
        assert sign_in(client, "store", "admin", "admin")[0].status_code == 200
    for node in pair:  # every boot from then on says so, and still starts
        node.stop()
        log = node.start()
        assert 'TypeError: Cannot read property "0.0" from undefined (<lifecycle>/scripts/core/core.js#61)' in log
        node.stop()


def test_two_first_boots_in_turn_are_clean(nodes: Nodes, database: Database, driver: Path) -> None:
    pair = [nodes.make(), nodes.make()]
    database.fresh(pair[0].home)
    for node in pair:
        shutil.copy(driver, node.home / "repository/components/lib/mariadb-java-client.jar")
        wire_databases(node, database.url)
        assert "ERROR" not in node.start("-Dsetup")
    assert database.sql(DUPLICATES, REGISTRY_DB) == []
    for node in pair:
        node.stop()


def test_tenant_file_is_frozen_at_the_first_boot(shared: Node, database: Database) -> None:
    shared.start("-Dsetup")
    shared.stop()
    file = "repository/deployment/server/jaggeryapps/store/config/store-tenant.json"
    shared.edit(file, "https://localhost:9443/social", "https://store.example/social")
    shared.start()
    with shared.client() as client:
        assert 'data-app="https://localhost:9443/social"' in client.get("/store/pages/top-assets").text
    where = "FROM REG_RESOURCE WHERE REG_NAME = 'store.json'"
    database.sql(f"DELETE {where}", REGISTRY_DB)
    shared.stop()
    shared.start()
    with shared.client() as client:
        assert 'data-app="https://store.example/social"' in client.get("/store/pages/top-assets").text


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A server that takes logins inside TLS only, with a certificate of the authority in `ca.pem` beside its data."""
    need(shutil.which("mariadbd") and shutil.which("mariadb-install-db"), "needs mariadb-server-core")
    folder, authority = tmp_path_factory.mktemp("encrypted"), pki.make_ca("the deployment's")
    certificate, key = pki.issue(authority, ["db-1", "127.0.0.1"])
    for name, text in (("ca.pem", authority.cert_pem), ("other.pem", pki.make_ca("another").cert_pem), ("server.pem", certificate), ("server.key", key)):
        (folder / name).write_text(text)
    tls = (f"--ssl-ca={folder}/ca.pem", f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key", "--tls-version=TLSv1.2,TLSv1.3")
    server = Database(folder / "data", *tls, "--require-secure-transport=ON")
    yield server
    server.stop()


def wired(node: Node, database: Database, options: str, authority: str, address: str = "127.0.0.1") -> None:
    """Point a node at the server with these options of the driver and a trust store that holds the authority in that file."""
    store = node.home / "repository/resources/security/database-truststore.jks"
    command = ["keytool", "-importcert", "-noprompt", "-alias", "runbook", "-keystore", str(store), "-storetype", "JKS", "-storepass", "wso2carbon"]
    subprocess.run(command, stdin=(database.folder.parent / authority).open(), check=True, capture_output=True)
    wire_databases(node, f"jdbc:mysql://{address}:{database.port}/DB?{options.format(trust=f'file://{store}', password='wso2carbon')}")


@pytest.fixture
def bare(nodes: Nodes, encrypted: Database, driver: Path) -> Iterator[Node]:
    node = nodes.make()
    encrypted.fresh(node.home)
    shutil.copy(driver, node.home / "repository/components/lib/mariadb-java-client.jar")
    yield node
    node.stop()


def explained(log: str) -> str:
    """What the runbook says of a start with this log: the first of its known failures that has a line in it."""
    return next(known.explanation for known in signatures() if any(re.search(known.pattern, line) for line in log.splitlines()))


def test_the_drivers_options_connect_inside_tls_to_a_server_of_the_authority(bare: Node, encrypted: Database) -> None:
    wired(bare, encrypted, MARIADB.options, "ca.pem")
    assert "ERROR" not in bare.start("-Dsetup")
    assert int(encrypted.sql("SHOW GLOBAL STATUS LIKE 'Ssl_finished_accepts'")[0].split()[1]) > 0


REFUSED = [
    (MARIADB.options, "other.pem", "127.0.0.1", "shows a certificate that the node does not trust"),
    (MARIADB.options, "ca.pem", "localhost", "or that is for another address"),
    ("useMysqlMetadata=true", "ca.pem", "127.0.0.1", "or a login in clear text"),
]


@pytest.mark.parametrize(("options", "authority", "address", "words"), REFUSED, ids=["another authority", "another address", "clear text"])
def test_a_server_that_cannot_be_trusted_ends_the_start_with_the_reason(
    bare: Node, encrypted: Database, options: str, authority: str, address: str, words: str
) -> None:
    wired(bare, encrypted, options, authority, address)
    log = refuse(bare, HANGS, "-Dsetup")
    assert words in explained(log), log
