"""Nginx of a real deployment: what runs is what was planned, drift is seen, a bad configuration never runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib import converge
from runbook_lib.checks.nginx import verify_nginx
from runbook_lib.converge import Stage
from runbook_lib.errors import HostError
from runbook_lib.steps import nginx
from runbook_lib.trees import TreeFile

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def deployment(as_cluster):
    found = as_cluster.open()
    yield found
    found.close()


def on_lb(deployment, command: str) -> str:
    done = deployment.fleet()["lb-1"].run(f"sudo -n {command}")
    assert done.succeeded, done.stderr
    return done.stdout


def test_every_check_of_the_chapter_passes(deployment):
    assert [str(check) for check in verify_nginx(deployment).failed()] == []


def test_nothing_of_the_distributions_site_listens(deployment):
    assert "sites-enabled" not in on_lb(deployment, "nginx -T -q")
    assert on_lb(deployment, "readlink /etc/nginx/nginx.conf").startswith("/etc/nginx/runbook/")


def test_a_line_added_by_hand_is_planned_and_undone(deployment):
    on_lb(deployment, "sh -c 'echo \"# by hand\" >> $(readlink -f /etc/nginx/nginx.conf)'")
    plan = deployment.nginx.plan()
    assert [p.change.verb for p in plan.pending] == ["restore"] and "-# by hand" in plan.pending[0].change.diff
    deployment.nginx.apply(plan)
    assert not deployment.nginx.plan()


def test_a_configuration_that_fails_its_test_leaves_the_running_one(deployment):
    lb, context = deployment.topology.lbs[0], deployment.context()
    good = nginx.tree(lb, context)
    first, *rest = good.files
    bad = replace(good, files=(TreeFile(first.name, b"nonsense on;\n" + first.content), *rest))
    wish = {"lb-1": (Stage("configuration", (bad,)),)}
    with pytest.raises(HostError, match="the old one stays"):
        converge.apply(deployment.fleet(), converge.plan(deployment.fleet(), wish))
    assert not deployment.nginx.plan()


def test_the_kernel_gives_up_silent_neighbours_soon(deployment):
    found = dict(line.split(" = ") for line in on_lb(deployment, f"sysctl {' '.join(nginx.KERNEL)}").splitlines())
    assert {name: int(value) for name, value in found.items()} == nginx.KERNEL
