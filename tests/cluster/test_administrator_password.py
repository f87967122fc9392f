"""An administrator's password that only the files know: the product goes by its user store, and so does the check."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.product_nodes import ProductNodes
from runbook_lib.checks.secrets import user_store
from runbook_lib.errors import ChecksFailed
from runbook_lib.launch.secrets import ADMIN_PASSWORD
from runbook_lib.ssh import through
from runbook_lib.webclient.client import Client
from tests.support.deployments import Deployed, on

OTHER = "Another-Password-1"


def in_the_product(deployment: Deployment, node: str, now: str, new: str) -> None:
    """Change it where the product has it, as its console does."""
    host, address = deployment.fleet()[node], deployment.topology.node(node).address
    client = Client({address: address}, None, through(host))
    service = user_store.SERVICES[deployment.spec.design.product]
    assert user_store.change_password(service, client, f"https://{address}:9443", "admin", now, new) == 0


def refused(chapter: ProductNodes) -> dict[str, str]:
    """The rows that are red, with what was seen."""
    with pytest.raises(ChecksFailed) as told:
        chapter.verify()
    return {row.id: row.observed for row in told.value.table.failed()}


@pytest.fixture
def store(separated: Deployed) -> Iterator[Deployment]:
    deployment = separated.open()
    yield deployment
    deployment.close()


def test_another_password_in_parameter_store_is_red_until_the_product_has_it_too(store: Deployment) -> None:
    shipped = store.vault.get(ADMIN_PASSWORD)
    store.greg.verify()
    store.vault.put(ADMIN_PASSWORD, OTHER)
    try:
        seen = refused(store.greg)
        assert set(seen) == {"administrator-store", "administrator-publisher"}
        assert all("refuses it" in words and "Users and Roles" in words and "put the old value back" in words for words in seen.values())
        in_the_product(store, "store-1", shipped, OTHER)
        try:
            store.greg.verify()
        finally:
            in_the_product(store, "store-1", OTHER, shipped)
    finally:
        store.vault.put(ADMIN_PASSWORD, shipped)
    store.greg.verify()


@pytest.mark.full
def test_applied_to_every_node_it_is_still_not_the_products(as_deployment: Deployment) -> None:
    chapter, shipped = as_deployment.appserver, as_deployment.vault.get(ADMIN_PASSWORD)
    as_deployment.vault.put(ADMIN_PASSWORD, OTHER)
    try:
        chapter.apply(chapter.plan())
        assert OTHER in on(as_deployment, "as-manager-1", "cat /opt/wso2/as/repository/conf/user-mgt.xml")
        assert set(refused(chapter)) == {"administrator-as"}
    finally:
        as_deployment.vault.put(ADMIN_PASSWORD, shipped)
        chapter.apply(chapter.plan())
    chapter.verify()
