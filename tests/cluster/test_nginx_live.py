"""Nginx of a real deployment: what runs is what was planned, drift is seen, a bad configuration never runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib.checks.nginx import verify_nginx
from runbook_lib.converge import engine
from runbook_lib.converge.config_tree import TreeFile
from runbook_lib.converge.engine import Stage
from runbook_lib.errors import HostError
from runbook_lib.roles import nginx
from tests.support.deployments import on


def test_every_check_of_the_chapter_passes(as_deployment):
    assert [str(check) for check in verify_nginx(as_deployment).failed()] == []


def test_nothing_of_the_distributions_site_listens(as_deployment):
    assert "sites-enabled" not in on(as_deployment, "lb-1", "nginx -T -q")
    assert on(as_deployment, "lb-1", "readlink /etc/nginx/nginx.conf").startswith("/etc/nginx/runbook/")


def test_a_line_added_by_hand_is_planned_and_undone(as_deployment):
    on(as_deployment, "lb-1", 'echo "# by hand" >> "$(readlink -f /etc/nginx/nginx.conf)"')
    plan = as_deployment.nginx.plan()
    assert [p.change.verb for p in plan.pending] == ["restore"] and "-# by hand" in plan.pending[0].change.diff
    as_deployment.nginx.apply(plan)
    assert not as_deployment.nginx.plan()


def test_a_configuration_that_fails_its_test_leaves_the_running_one(as_deployment):
    lb, context = as_deployment.topology.lbs[0], as_deployment.context()
    good = nginx.tree(lb, context)
    first, *rest = good.files
    bad = replace(good, files=(TreeFile(first.name, b"nonsense on;\n" + first.content), *rest))
    wish = {"lb-1": (Stage("configuration", (bad,)),)}
    with pytest.raises(HostError, match="the old one stays"):
        engine.apply(as_deployment.fleet(), engine.plan(as_deployment.fleet(), wish))
    assert not as_deployment.nginx.plan()


def test_the_kernel_gives_up_silent_neighbours_soon(as_deployment):
    found = dict(line.split(" = ") for line in on(as_deployment, "lb-1", f"sysctl {' '.join(nginx.KERNEL)}").splitlines())
    assert {name: int(value) for name, value in found.items()} == nginx.KERNEL
