"""The way back when nobody has the deployment's SSH key any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.errors import CloudError, RunbookError
from tests.support.deployments import in_lab, made, on

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def single(lab: Any) -> Iterator[Deployment]:
    """Machines and databases; the product is not needed to sign in to them."""
    with made(in_lab(lab, "greg-single", "test-lost-key", 46), "--to", "02") as deployed:
        deployment = deployed.open()
        yield deployment
        deployment.close()


def test_a_lost_key_is_told_and_a_new_one_lets_the_operator_in_with_everything_where_it_was(single: Deployment) -> None:
    machines = {name: (machine.id, machine.address) for name, machine in single.instances().items()}
    on(single, "db-1", "mariadb -e 'CREATE DATABASE kept'")
    single.vault.delete("ssh-private-key")
    with pytest.raises(CloudError, match="would refuse any other") as told:
        single.launch.plan()
    assert "new_ssh_key" in (told.value.next_step or "")
    with pytest.raises(RunbookError, match="are to be restarted"):
        single.launch.new_ssh_key()
    single.launch.new_ssh_key(confirm=single.spec.deployment)
    assert not single.launch.plan() and single.launch.verify().ok
    assert {name: (machine.id, machine.address) for name, machine in single.instances().items()} == machines
    assert on(single, "db-1", "systemctl is-active --wait default.target >/dev/null; mariadb -N -e \"SHOW DATABASES LIKE 'kept'\"; hostname") == "kept\ndb-1\n"
    assert not single.mysql.plan() and single.mysql.verify().ok
