"""The database server of a real deployment: closed to strangers, drift repaired, nothing readable on the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib.checks.database import verify_database
from runbook_lib.database_repair import recreate_database
from runbook_lib.steps import mysql

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def deployment(as_cluster):
    found = as_cluster.open()
    yield found
    found.close()


def on_db(deployment, command: str) -> str:
    done = deployment.fleet()["db-1"].run(f"sudo -n {command}")
    assert done.succeeded, done.stderr
    return done.stdout


def test_every_check_of_the_chapter_passes(deployment):
    assert [str(check) for check in verify_database(deployment).failed()] == []


def test_only_the_private_address_and_loopback_are_bound(deployment):
    address = deployment.topology.db.address
    listening = {line.split()[3] for line in on_db(deployment, "ss -Hltn").splitlines() if ":3306" in line}
    assert listening == {"127.0.0.1:3306", f"{address}:3306"}


@pytest.mark.parametrize(
    "statement",
    [
        "SET PASSWORD FOR 'wso2_user'@'{network}' = PASSWORD('x')",
        "CREATE USER ''@'%'",
        "GRANT ALL ON *.* TO 'wso2_user'@'{network}'",
    ],
)
def test_what_was_changed_by_hand_is_planned_and_repaired(deployment, statement):
    network = mysql.network_of(deployment.spec)
    on_db(deployment, f'mariadb -e "{statement.format(network=network)}"')
    plan = deployment.mysql.plan()
    assert len(plan.pending) == 1
    deployment.mysql.apply(plan)
    assert not deployment.mysql.plan()


def test_passwords_are_in_no_file_that_others_can_read(deployment):
    secret = deployment.vault.get("db/wso2_user")
    places = "/etc /root /home /tmp /var/log /var/lib/mysql"
    found = on_db(deployment, f"sh -c 'grep -rlF {secret} {places} 2>/dev/null; true'")
    assert found == ""


def test_a_database_is_made_anew_with_its_dump_kept_for_root(deployment):
    """A database of the test's own, so that the cluster's stay as they are."""
    context = deployment.context()
    schema = mysql.schema_of("WSO2_USER_DB", context)
    own = replace(schema, database=replace(schema.database, name="WSO2_TEST_DB"))
    host = deployment.fleet()["db-1"]
    try:
        assert recreate_database(host, own).dump is None
        kept = recreate_database(host, own).dump
        assert kept and on_db(deployment, f"stat -c '%U %a' {kept}").split() == ["root", "600"]
    finally:
        on_db(deployment, "mariadb -e 'DROP DATABASE IF EXISTS WSO2_TEST_DB'")
