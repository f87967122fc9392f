"""The public hosts of a cluster in use get other names: the nodes' keys were made for the old ones, and everybody is served."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from runbook_lib.checks.cluster import Front
from runbook_lib.operations import demo_app
from tests.support.deployments import Deployed

pytestmark = pytest.mark.full


def test_a_cluster_serves_under_new_names_and_under_the_old_ones_again(as_cluster: Deployed) -> None:
    renamed = replace(as_cluster, overrides={**as_cluster.overrides, "hosts.as": "apps.lab.test", "hosts.mgt": "console.lab.test"})
    for deployed, host in ((renamed, "apps.lab.test"), (as_cluster, "as.lab.test")):
        done = deployed.cli("run", seconds=900)
        assert done.returncode == 0 and deployed.result["ok"], done.stdout[-6000:]
        deployment = deployed.open()
        answer = Front(deployment).visitor().get(f"https://{host}{demo_app.PATH}")
        assert (answer.status, json.loads(answer.text)["counter"]) == (200, 1)
        deployment.close()
    assert as_cluster.cli("plan").returncode == 0, "nothing is left to change"
