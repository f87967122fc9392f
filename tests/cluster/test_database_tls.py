"""A node and its database server: inside TLS only, each with what the other needs, and the reason when it has not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runbook_lib import pki
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.checks.database import verify_database
from runbook_lib.errors import HostError
from runbook_lib.operations import startup
from runbook_lib.roles.carbon import UNIT
from tests.support.deployments import in_lab, made, on

pytestmark = pytest.mark.full
STORE = "/opt/wso2/greg/repository/resources/security/database-truststore.jks"
SERVER = "/etc/mysql/runbook-tls"
RESTART = "systemctl restart mysql || systemctl restart mariadb"


@pytest.fixture(scope="module")
def single(lab: Any) -> Iterator[Deployment]:
    with made(in_lab(lab, "greg-single", "test-tls", 45)) as deployed:
        deployment = deployed.open()
        yield deployment
        deployment.close()


def failed(deployment: Deployment) -> set[str]:
    return {check.id for check in verify_database(deployment).failed()}


def test_every_check_of_the_database_passes(single: Deployment) -> None:
    assert [str(check) for check in verify_database(single).failed()] == []


def test_a_node_that_trusts_another_authority_does_not_start_and_its_chapter_mends_it(single: Deployment) -> None:
    other = pki.make_ca("another").cert_pem
    on(single, "greg-1", f"rm {STORE}; keytool -importcert -noprompt -alias runbook -keystore {STORE} -storepass wso2carbon <<< '{other}'")
    with pytest.raises(HostError, match="shows a certificate that the node does not trust") as error:
        startup.start(single.fleet(), single.context(), "greg-1", "restart")
    assert "run chapter 02" in (error.value.next_step or "")
    plan = single.greg.plan()
    assert any(pending.change.key == f"truststore {STORE}" for pending in plan.pending), str(plan)
    single.greg.apply(plan)
    assert single.greg.verify().ok


BREAKS = {
    "a certificate of another authority": ("mysql-certificate", "mysql-tls-only"),
    "logins in clear text": ("mysql-tls-only",),
    "a binary log": ("mysql-binary-log",),
}


@pytest.mark.parametrize("name", list(BREAKS))
def test_what_was_changed_at_the_server_is_red_planned_and_undone(single: Deployment, name: str) -> None:
    certificate, key = pki.issue(pki.make_ca("another"), ["db-1", single.topology.db.address])
    settings = "/etc/mysql/mariadb.conf.d/99-runbook.cnf"
    do = {
        "a certificate of another authority": f"cat > {SERVER}/server.pem <<< '{certificate}'; cat > {SERVER}/server.key <<< '{key}'",
        "logins in clear text": f"sed -i 's/^require_secure_transport = ON/require_secure_transport = OFF/' {settings}",
        "a binary log": f"sed -i 's/^skip-log-bin/log-bin/' {settings}",
    }[name]
    on(single, "db-1", f"{do}\n{RESTART}")
    red = failed(single)
    assert set(BREAKS[name]) <= red and (red == set(BREAKS[name]) or name == "a certificate of another authority"), red
    plan = single.mysql.plan()
    assert {pending.host for pending in plan.pending} == {"db-1"} and "BEGIN PRIVATE KEY" not in str(plan)
    single.mysql.apply(plan)
    assert failed(single) == set() and not single.mysql.plan()
    on(single, "greg-1", f"systemctl restart {UNIT}")
    assert startup.start(single.fleet(), single.context(), "greg-1", "watch").line
