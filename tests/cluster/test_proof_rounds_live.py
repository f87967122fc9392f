"""The proof meets every node: of two Publisher nodes one alone is broken, and Nginx leads every second visitor to the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.exercises.actions import changed
from runbook_lib.checks.sso.environment import scene_of
from runbook_lib.checks.sso.proof import prove
from tests.support.sso_deployments import deployed

NUMBER = 49  # of its subnet in the lab's range
BREAKS = {  # of publisher-2 alone: what is done to it, and the attempt that gets through
    "it has the Store's key": (
        [
            {"file": {"node": "publisher-2", "path": "resources/security/wso2carbon.jks", "of": "store-1"}},
            {"file": {"node": "publisher-2", "path": "resources/security/client-truststore.jks", "of": "store-1"}},
            {"nginx": {"cut": "proxy_ssl_verify on", "put": "proxy_ssl_verify off"}},
        ],
        {"assertion-replay-across-tiers"},
    ),
    "its identity provider knows the Store": (
        [
            {
                "file": {
                    "node": "publisher-2",
                    "path": "conf/identity/sso-idp-config.xml",
                    "cut": "</ServiceProviders>",
                    "put": "<ServiceProvider><Issuer>store</Issuer><AssertionConsumerService>https://<store>/store/acs</AssertionConsumerService></ServiceProvider>"
                    "</ServiceProviders>",
                }
            }
        ],
        {"other-issuer-mirror", "other-provider-by-name-mirror"},
    ),
}


@pytest.fixture(scope="module")
def cluster(lab) -> Iterator[Deployment]:
    deployment = deployed(lab, NUMBER, deployment="rounds", **{"nodes.store": 2, "nodes.publisher": 2})
    yield deployment
    deployment.close()


@pytest.mark.full
def test_a_cluster_of_two_and_two_nodes_is_separated_and_every_node_was_met(cluster: Deployment) -> None:
    proof = prove(scene_of(cluster))
    assert (proof.verdict, proof.checks.failed()) == ("separated", [])
    places = {outcome.attempt.id: outcome.where for outcome in proof.outcomes}
    assert places["assertion-replay-across-tiers"] == "from outside, answered by publisher-1, publisher-2, store-1, store-2"
    assert places["generated-product"] == places["unknown-host"] == "from outside"  # Nginx refuses these by itself, at once


@pytest.mark.full
@pytest.mark.parametrize(("break_", "ways"), BREAKS.values(), ids=BREAKS)
def test_what_is_wrong_at_one_of_two_nodes_is_found_and_the_node_is_named(cluster: Deployment, break_: list[dict], ways: set[str]) -> None:
    with changed(cluster, break_):
        proof = prove(scene_of(cluster))
    leaks = {outcome.attempt.id: outcome.observed for outcome in proof.outcomes if outcome.state == "leak" and outcome.attempt.kind == "attempt"}
    assert (set(leaks), proof.statement.ways) == (ways, len(ways))
    assert all("by publisher-2" in observed for observed in leaks.values()), leaks
