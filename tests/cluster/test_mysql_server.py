"""The database server of a real deployment: closed to strangers, drift repaired, nothing readable on the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.chapters.mysql import BEFORE_ANEW
from runbook_lib.checks.database import verify_database
from runbook_lib.errors import RunbookError
from runbook_lib.operations import startup
from runbook_lib.operations.backup import recreate_database
from runbook_lib.roles import carbon, mysql
from tests.support.deployments import on

PLACES = "/etc /root /home /tmp /var/log /var/lib/mysql"


def test_every_check_of_the_chapter_passes(as_deployment):
    assert [str(check) for check in verify_database(as_deployment).failed()] == []


def test_only_the_private_address_is_bound(as_deployment):
    address = as_deployment.topology.db.address
    listening = {line.split()[3] for line in on(as_deployment, "db-1", "ss -Hltn").splitlines() if ":3306" in line}
    assert listening == {f"{address}:3306"}


@pytest.mark.parametrize(
    "statement",
    [
        "SET PASSWORD FOR 'wso2_user'@'{host}' = PASSWORD('x')",
        "CREATE USER ''@'%'",
        "CREATE USER 'wso2_user'@'10.%' IDENTIFIED BY 'x'",
        "GRANT ALL ON *.* TO 'wso2_user'@'{host}'",
    ],
)
def test_what_was_changed_by_hand_is_planned_and_repaired(as_deployment, statement):
    host = as_deployment.topology.wso2_nodes[0].address
    on(as_deployment, "db-1", f'mariadb -e "{statement.format(host=host)}"')
    plan = as_deployment.mysql.plan()
    assert len(plan.pending) == 1
    as_deployment.mysql.apply(plan)
    assert not as_deployment.mysql.plan()


def test_the_accounts_of_a_node_that_goes_go_with_it(as_cluster):
    smaller = as_cluster.open(nodes__worker=1)
    try:
        [gone] = smaller.mysql.plan().pending
        address = smaller.topology.of("as-worker")[0].address.rpartition(".")[0] + ".42"
        assert {check.id for check in verify_database(smaller).failed()} == {"mysql-accounts"}
        assert gone.change.verb == "remove" and gone.change.summary == f"'wso2_registry'@'{address}', 'wso2_user'@'{address}'"
    finally:
        smaller.close()


def test_passwords_are_in_no_file_that_others_can_read(as_deployment):
    secret = as_deployment.vault.get("db/wso2_user")
    look = f"grep -rlFf - {PLACES} 2>/dev/null <<< {secret} || true"
    on(as_deployment, "db-1", f"umask 077; echo {secret} > /root/control")
    assert on(as_deployment, "db-1", look) == "/root/control\n", "the search finds what is there to be found"
    on(as_deployment, "db-1", "rm /root/control")
    assert on(as_deployment, "db-1", look) == ""


def test_a_database_is_made_anew_with_its_dump_kept_for_root(as_deployment):
    """A database of the test's own, so that the cluster's stay as they are."""
    schema = mysql.schema_of("WSO2_USER_DB", as_deployment.context())
    own = replace(schema, database=replace(schema.database, name="WSO2_TEST_DB"))
    host = as_deployment.fleet()["db-1"]
    try:
        assert recreate_database(host, own).dump is None
        kept = recreate_database(host, own).dump
        assert kept and on(as_deployment, "db-1", f"stat -c '%U %a' {kept}").split() == ["root", "600"]
    finally:
        on(as_deployment, "db-1", "mariadb -e 'DROP DATABASE IF EXISTS WSO2_TEST_DB'")


def test_dumps_bring_the_databases_back_and_the_nodes_chapter_starts_the_nodes(as_deployment):
    d = as_deployment
    made = {row[0]: row[-1] for row in d.mysql.dump().rows}
    assert set(made) == {"WSO2_USER_DB", "WSO2_REGISTRY_DB"}
    on(d, "db-1", "mariadb WSO2_USER_DB -e 'DELETE FROM UM_USER_ROLE'")
    with pytest.raises(RunbookError, match="to be replaced"):
        d.mysql.restore(*made.values())
    d.mysql.restore(*made.values(), confirm=d.spec.deployment)
    assert int(on(d, "db-1", "mariadb -N WSO2_USER_DB -e 'SELECT COUNT(*) FROM UM_USER_ROLE'")) > 0
    plan = d.appserver.plan()
    assert {pending.host for pending in plan.pending} == {node.name for node in d.topology.wso2_nodes}, str(plan)
    d.appserver.apply(plan)
    assert d.appserver.verify().ok
    assert not d.mysql.plan()


MADE = "SELECT table_schema, MIN(create_time) FROM information_schema.tables WHERE table_schema LIKE 'WSO2%' GROUP BY 1"


def test_a_database_beside_is_made_anew_alone_and_the_node_serves_again_on_the_others(watched):
    d = watched.deployed.open()

    def look() -> dict[str, str]:
        return dict(row.split("\t") for row in on(d, "db-1", f'mariadb -BN -e "{MADE}"').splitlines())

    try:
        before, booted, since = look(), d.context().booted, on(d, "greg-1", f"systemctl show -p ActiveEnterTimestamp {carbon.UNIT}")
        with pytest.raises(RunbookError, match="WSO2_USER_DB and WSO2_REGISTRY_DB go together"):
            d.mysql.recreate("WSO2_USER_DB", confirm=d.spec.deployment)
        assert look() == before and on(d, "greg-1", f"systemctl show -p ActiveEnterTimestamp {carbon.UNIT}") == since
        assert on(d, "db-1", f"systemctl stop {carbon.UNIT} || echo $?").strip() == str(startup.NOT_INSTALLED), "as a node before its chapter"

        on(d, "db-1", "mariadb WSO2_SOCIAL_DB -e 'SET foreign_key_checks = 0; DROP TABLE SOCIAL_COMMENTS'")  # half loaded
        [made] = d.mysql.recreate("WSO2_SOCIAL_DB", confirm=d.spec.deployment)
        assert made.dump and {name for name, time in look().items() if time != before[name]} == {"WSO2_SOCIAL_DB"}
        assert d.context().booted == booted and not d.mysql.plan() and not d.greg.plan() and d.greg.verify().ok
        assert {backup.why for backup in d.backups.made()} == {BEFORE_ANEW}
    finally:
        BackupStore(d.cloud.aws, d.spec.deployment).delete_all()
        d.close()
