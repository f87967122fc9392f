"""What of a product's home outlives its pack: the table's places, what the runbook writes, and what is known about migrating."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib.converge.archive import Archive
from runbook_lib.roles import appserver, greg, home
from runbook_lib.roles.context import Download
from tests.fakes import context_with_keys


def home_on(pattern: str, booted: bool) -> home.Home:
    """The home of the pattern's first node of the product."""
    ctx = replace(context_with_keys(pattern), pack=Download("cd" * 32, listing=dict))
    node = ctx.topology.wso2_nodes[0]
    ctx = replace(ctx, booted=frozenset([node.name] if booted else []))
    stages = (appserver if pattern == "as-cluster" else greg).desired(node, ctx)
    found = next(one.home for stage in stages for one in stage.resources if isinstance(one, Archive))
    assert found
    return found


def test_a_first_boot_that_is_not_recorded_leaves_nothing_to_the_next_home() -> None:
    assert "repository/database" in home_on("as-cluster", booted=True).whole and home_on("as-cluster", booted=True).proves
    assert home_on("as-cluster", booted=False).whole == () and not home_on("as-cluster", booted=False).proves


def test_what_the_runbook_writes_is_not_taken_for_the_operators() -> None:
    ours = home_on("greg-separated", booted=True).ours
    assert {
        "repository/conf/user-mgt.xml",
        "repository/components/lib/mariadb-java-client.jar",
        "repository/resources/security/wso2carbon.jks",
        "repository/deployment/server/jaggeryapps/publisher",  # the other tier's, which the hardening removes
    } <= set(ours)
    assert not any("webapps" in path for path in home_on("as-cluster", booted=True).ours)  # a folder of ours holds what is the operator's


@pytest.mark.parametrize(
    ("product", "old", "new", "says"),
    [
        ("as", "WSO2 Application Server v5.2.1", "WSO2 Application Server v5.3.0", "data services"),
        ("as", "WSO2 Application Server v5.3.0", "WSO2 Application Server v5.2.1", ""),
        ("greg", "WSO2 Governance Registry v5.1.0", "WSO2 Governance Registry v5.2.0", ""),
        ("as", "", "WSO2 Application Server v5.3.0", ""),
    ],
)
def test_what_is_known_about_migrating_goes_by_product_and_both_versions(product: str, old: str, new: str, says: str) -> None:
    note = home.note(product, old, new)
    assert says in note if says else not note
