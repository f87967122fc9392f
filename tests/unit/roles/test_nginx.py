"""The generated Nginx configuration of every pattern and hardening, read by a parser that knows Nginx's directives."""

from __future__ import annotations

from dataclasses import replace

import crossplane
import pytest
from crossplane.analyzer import DIRECTIVES

from runbook_lib import pki
from runbook_lib.roles import nginx
from runbook_lib.spec.patterns import PATTERNS
from tests.fakes import Placeholders, context

CASES = [(name, None) for name in PATTERNS if name != "greg-separated"]
CASES += [("greg-separated", hardening) for hardening in ("hosts", "allow-list", "app-removed", "full")]


def parsed(text: str, folder) -> list[dict]:
    path = folder / "nginx.conf"
    path.write_text(text)
    found = crossplane.parse(str(path), single=True)
    assert found["status"] == "ok", found["errors"]
    tree = found["config"][0]["parsed"]
    assert not [name for name in directives(tree) if name not in DIRECTIVES]
    return tree


def directives(tree: list[dict]) -> list[str]:
    """Every directive's name; what stands in a map is no directive (the parser's strict mode takes it for one)."""
    inner = [d["block"] for d in tree if d.get("block") and d["directive"] != "map"]
    return [d["directive"] for d in tree] + [name for block in inner for name in directives(block)]


def blocks(tree: list[dict], *names: str) -> list[list[dict]]:
    """The content of every block reached by these directive names."""
    if not names:
        return [tree]
    inner = (directive["block"] for directive in tree if directive["directive"] == names[0])
    return [found for block in inner for found in blocks(block, *names[1:])]


def values(block: list[dict], directive: str) -> list[list[str]]:
    return [found["args"] for found in block if found["directive"] == directive]


@pytest.mark.parametrize(("pattern", "hardening"), CASES)
def test_every_pattern_gives_a_file_that_parses_and_serves_its_hosts(pattern, hardening, tmp_path):
    ctx = context(pattern, hardening)
    served = set()
    for lb in ctx.topology.lbs:
        for server in blocks(parsed(nginx.configuration(lb, ctx), tmp_path), "http", "server"):
            if ["443", "ssl"] in values(server, "listen"):
                served |= {name for args in values(server, "server_name") for name in args}
                assert values(server, "ssl_certificate") and values(server, "add_header")[0][0] == "Strict-Transport-Security"
    assert served == set(ctx.spec.hosts.values())


@pytest.mark.parametrize(("pattern", "hardening"), CASES)
def test_every_node_of_a_host_is_in_its_upstream_once_and_no_other(pattern, hardening, tmp_path):
    ctx = context(pattern, hardening)
    for lb in ctx.topology.lbs:
        tree = parsed(nginx.configuration(lb, ctx), tmp_path)
        upstreams = {d["args"][0]: [args[0] for args in values(d["block"], "server")] for d in blocks(tree, "http")[0] if d["directive"] == "upstream"}
        for site in nginx.sites(lb, ctx):
            assert upstreams[site.upstream] == [f"{node.address}:9443" for node in ctx.topology.upstream(site.host)]


@pytest.mark.parametrize(("pattern", "hardening"), CASES)
def test_hosts_that_are_not_ours_get_no_answer_where_nginx_guards(pattern, hardening, tmp_path):
    ctx = context(pattern, hardening)
    closing = [
        server for server in blocks(parsed(nginx.configuration(ctx.topology.lbs[0], ctx), tmp_path), "http", "server")
        if any("default_server" in args for args in values(server, "listen"))
    ]  # fmt: skip
    assert [values(server, "return") for server in closing] == ([[["444"]], [["444"]]] if nginx.guarded(ctx) else [])


def test_the_configuration_is_the_same_every_time():
    ctx = context("greg-separated")
    assert nginx.configuration(ctx.topology.lbs[0], ctx) == nginx.configuration(ctx.topology.lbs[0], ctx)


def test_only_the_publishers_range_may_reach_the_publisher(tmp_path):
    ctx = context("greg-separated", publisher_allow_cidr=["10.1.0.0/16", "10.2.0.0/16"])
    servers = {
        tuple(values(server, "server_name")[0]): (values(server, "allow"), values(server, "deny"))
        for server in blocks(parsed(nginx.configuration(ctx.topology.lbs[0], ctx), tmp_path), "http", "server")
        if ["443", "ssl"] in values(server, "listen")
    }
    assert servers[("store.lab.test",)] == ([], [])
    assert servers[("publisher.lab.test",)] == ([["10.1.0.0/16"], ["10.2.0.0/16"]], [["all"]])


def test_the_console_of_as_is_for_the_operators_range_only():
    ctx = context("as-cluster", cloud={"operator_cidr": "10.9.0.0/16"})
    assert {site.host: site.allow for site in nginx.sites(ctx.topology.lbs[0], ctx)} == {
        "as.lab.test": (),
        "mgt.lab.test": ("10.9.0.0/16",),
    }


def test_a_drained_node_gets_nothing_new_and_its_neighbours_keep_their_place_the_last_of_them_for_good():
    ctx = context("greg-separated")
    lb = ctx.topology.lbs[0]
    before, after = nginx.configuration(lb, ctx).splitlines(), nginx.configuration(lb, ctx, {"store-2"}).splitlines()
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [
        ("        server 10.213.1.61:9443 max_fails=1 fail_timeout=10s;   # store-1",
         "        server 10.213.1.61:9443 max_fails=0 fail_timeout=10s;   # store-1"),
        ("        server 10.213.1.62:9443 max_fails=1 fail_timeout=10s;   # store-2",
         "        server 10.213.1.62:9443 max_fails=1 fail_timeout=10s down;   # store-2")
    ]  # fmt: skip


def test_keys_are_files_for_root_alone_whose_content_is_never_shown():
    ca = pki.make_ca("test")
    certificate, key = pki.issue(ca, ["store.lab.test"])
    bundle = {host: key + certificate for host in ("tls/store.lab.test", "tls/publisher.lab.test")}
    tier = pki.make_tier_key("store.lab.test", ["store.lab.test"])
    ctx = context("greg-separated", secrets={**bundle, "tier-key/store": tier, "tier-key/publisher": tier})
    tree = nginx.tree(ctx.topology.lbs[0], ctx)
    keys = [file for file in tree.files if b"PRIVATE KEY" in file.content]
    assert [(file.name, file.mode, file.secret) for file in keys] == [
        ("tls/store.lab.test.key", 0o600, True),
        ("tls/publisher.lab.test.key", 0o600, True),
    ]
    absent = {"linked": None, "running": None, "files": {}}
    change = tree.change(absent)
    assert change and "PRIVATE KEY" not in change.diff and "BEGIN CERTIFICATE" in change.diff


OLD, NEW, BOTH = ["old.test"], ["as.lab.test"], ["as.lab.test", "mgt.lab.test"]
CHECKED = {
    "as it was made": (BOTH, None, ["as.lab.test", "mgt.lab.test"]),
    "the host was renamed": (OLD, None, ["old.test", "old.test"]),
    "one of two hosts was renamed": (NEW, None, ["as.lab.test", "as.lab.test"]),
    "renamed, then the key is rotated": ([*BOTH, *OLD], OLD, ["old.test", "old.test"]),
    "the key is rotated": (BOTH, BOTH, ["as.lab.test", "mgt.lab.test"]),
}


@pytest.mark.parametrize(("names", "before", "checked"), CHECKED.values(), ids=CHECKED)
def test_nodes_are_checked_by_a_name_that_every_certificate_has_which_they_may_show(tmp_path, names, before, checked):
    key = lambda names: pki.make_tier_key(names[0], names)  # noqa: E731
    ctx = context("as-cluster", secrets=Placeholders({"tier-key/as": key(names)}))
    ctx = replace(ctx, former={"tier-key/as": key(before)} if before else {})
    servers = blocks(parsed(nginx.configuration(ctx.topology.lbs[0], ctx), tmp_path), "http", "server")
    assert [name for server in servers for [name] in values(server, "proxy_ssl_name")] == checked


def test_a_new_certificate_is_a_new_version_and_the_same_is_the_same():
    one, two = (
        context("greg-separated"),
        context("greg-separated", secrets=Placeholders({"tls/store.lab.test": "renewed"})),
    )
    lb = one.topology.lbs[0]
    assert nginx.tree(lb, one).version == nginx.tree(lb, context("greg-separated")).version != nginx.tree(lb, two).version
