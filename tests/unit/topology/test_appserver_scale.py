"""The AS cluster with 1 to 8 workers: who knows whom, who may what, and where requests go."""

from __future__ import annotations

import re
from dataclasses import replace

import crossplane
import pytest

from runbook_lib.operations import startup
from runbook_lib.roles import appserver, carbon_settings, nginx
from runbook_lib.roles.context import Context
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology.model import topology_of
from tests.fakes import Placeholders

WORKERS = range(1, 9)


def context(workers: int) -> Context:
    spec = load_spec("params/as-cluster.lab.yaml", {"nodes.worker": workers})
    return Context(spec, topology_of(spec), Placeholders())


def addresses(workers: int) -> list[str]:
    return [f"10.213.4.{41 + number}" for number in range(workers)]


@pytest.mark.parametrize("workers", WORKERS)
def test_every_node_lists_every_node(workers):
    ctx = context(workers)
    for node in ctx.topology.wso2_nodes:
        [members] = [edit for edit in carbon_settings.clustering(node, ctx, "any") if getattr(edit, "into", None)]
        assert re.findall(r"<hostName>(.*)</hostName>", members.xml) == ["10.213.4.31", *addresses(workers)]


@pytest.mark.parametrize("workers", WORKERS)
def test_nginx_sends_applications_to_every_worker_and_the_console_to_the_manager(workers, tmp_path):
    ctx = context(workers)
    (tmp_path / "nginx.conf").write_text(nginx.configuration(ctx.topology.lbs[0], ctx))
    [http] = [one for one in crossplane.parse(str(tmp_path / "nginx.conf"))["config"][0]["parsed"] if one["directive"] == "http"]
    upstreams = {one["args"][0]: one["block"] for one in http["block"] if one["directive"] == "upstream"}
    servers = {name: [line["args"][0] for line in block if line["directive"] == "server"] for name, block in upstreams.items()}
    assert servers == {"workers": [f"{address}:9443" for address in addresses(workers)], "manager": ["10.213.4.31:9443"]}


@pytest.mark.parametrize("workers", WORKERS)
def test_every_worker_and_nobody_else_may_fetch_artifacts_from_the_manager(workers):
    ctx = context(workers)
    stages = appserver.serving(ctx.topology.node("as-manager-1"), ctx)
    daemon = next(one for stage in stages for one in stage.resources if one.key == f"file {appserver.DAEMON_FILE}")
    [allowed] = re.findall(r"^hosts allow = (.*)$", daemon.content.decode(), re.MULTILINE)
    assert allowed.split() == addresses(workers)


@pytest.mark.parametrize("workers", WORKERS)
def test_workers_are_restarted_one_at_a_time(workers):
    ctx = context(workers)
    found = startup.batches(replace(ctx, booted=frozenset(node.name for node in ctx.topology.wso2_nodes)))
    assert sorted(name for batch in found for name in batch) == ["as-manager-1", *(f"as-worker-{n + 1}" for n in range(workers))]
    assert all(sum("worker" in name for name in batch) <= 1 for batch in found)
