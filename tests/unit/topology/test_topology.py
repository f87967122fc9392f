"""Machines, addresses, rules and the picture that follow from the parameters."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib import pki
from runbook_lib.errors import RunbookError
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.topology import prices
from runbook_lib.topology.cost import monthly_cost
from runbook_lib.topology.diagram import draw
from runbook_lib.topology.model import Topology, probe_only, topology_of
from tests.conftest import ROOT

RULES = yaml.safe_load((Path(__file__).parent / "topology_rules.yaml").read_text())
SVG = "{http://www.w3.org/2000/svg}"
EC2_TEXT = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}")  # of a rule's description: EC2's API model


def build(pattern: str, **overrides: Any) -> Topology:
    """The topology of a lab params file; `cloud__probe=True` stands for the override `cloud.probe`."""
    return topology_of(load_spec(f"params/{pattern}.lab.yaml", {key.replace("__", "."): v for key, v in overrides.items()}))


def doors(topology: Topology) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for rule in topology.rules:
        assert rule.protocol == "tcp" and rule.from_port == rule.to_port
        found[rule.group][rule.source].append(rule.from_port)
    return {group: {source: sorted(ports) for source, ports in sources.items()} for group, sources in found.items()}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_exactly_the_designed_doors_are_open(pattern: str) -> None:
    assert doors(build(pattern)) == RULES[pattern]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_rule_says_why_and_names_a_group_that_exists(pattern: str) -> None:
    topology = build(pattern)
    for rule in topology.rules:
        assert EC2_TEXT.fullmatch(rule.why), "EC2 refuses a description with other characters"
        assert rule.group in topology.groups
        assert rule.source == "operator" or rule.source in topology.groups or ipaddress.ip_network(rule.source)


@pytest.mark.parametrize(
    ("pattern", "machines"),
    [
        ("as-cluster", ["lb-1", "db-1", "as-manager-1", "as-worker-1", "as-worker-2"]),
        ("greg-single", ["lb-1", "db-1", "greg-1"]),
        ("greg-original", ["lb-store-1", "lb-publisher-1", "db-1", "greg-1", "greg-2", "greg-3"]),
        ("greg-separated", ["lb-1", "db-1", "store-1", "store-2", "publisher-1", "publisher-2"]),
    ],
)
def test_each_pattern_has_its_machines(pattern: str, machines: list[str]) -> None:
    assert [node.name for node in build(pattern).nodes] == machines


def test_addresses_are_fixed_per_node_and_do_not_move_when_nodes_are_added() -> None:
    small, large = build("greg-separated"), build("greg-separated", nodes__store=8, nodes__publisher=8)
    addresses = {node.name: node.address for node in large.nodes}
    assert {node.name: node.address for node in small.nodes}.items() <= addresses.items()
    assert addresses["lb-1"] == "10.213.1.138" and addresses["store-8"] == "10.213.1.68"


@settings(deadline=None)
@given(
    pattern=st.sampled_from(sorted(PATTERNS)),
    count=st.integers(1, 8),
    prefix=st.integers(16, 24),
    start=st.integers(0, 2**24 - 1),
)
def test_every_allowed_size_fits_its_network_without_two_machines_at_one_address(pattern: str, count: int, prefix: int, start: int) -> None:
    network = ipaddress.ip_network((0x0A000000 + start, prefix), strict=False)
    counts = {f"nodes.{name}": min(max(count, least), most) for name, (least, most, _) in PATTERNS[pattern].nodes.items()}
    zones = {"cloud.availability_zone": "us-east-1a", "cloud.second_zone": "us-east-1b"} if prefix < 24 else {}
    topology = topology_of(load_spec(f"params/{pattern}.lab.yaml", counts | zones | {"cloud.network": str(network), "cloud.probe": True}))
    assert len({node.address for node in topology.nodes}) == len(topology.nodes)
    subnets = {subnet.name: subnet.network for subnet in topology.subnets}
    assert all(subnet.subnet_of(network) for subnet in subnets.values())
    assert not any(one.overlaps(other) for one in subnets.values() for other in subnets.values() if one != other)
    for node in topology.nodes:
        address, subnet = ipaddress.IPv4Address(node.address), subnets[node.subnet]
        assert address in subnet and 3 < int(address) - int(subnet[0]) < subnet.num_addresses - 1, "EC2 keeps the first four and the last"


def test_in_two_zones_the_nodes_of_a_tier_are_spread_and_the_rest_stays_in_the_first() -> None:
    zones = {"cloud__network": "10.213.2.0/23", "cloud__availability_zone": "us-east-1a", "cloud__second_zone": "us-east-1b"}
    topology = build("greg-separated", **zones, nodes__store=3)
    zone = {subnet.name: subnet.zone for subnet in topology.subnets}
    assert {node.name: zone[node.subnet] for node in topology.nodes} == {
        "lb-1": 0, "db-1": 0, "store-1": 0, "store-2": 1, "store-3": 0, "publisher-1": 0, "publisher-2": 1,
    }  # fmt: skip


def test_over_the_internet_ssh_comes_to_nginx_and_from_there_to_the_others() -> None:
    for pattern, way_in in (("greg-separated", "lb"), ("greg-original", "lb-store")):
        topology = build(pattern, cloud__connect_via="public", cloud__probe=True)
        ssh = {(rule.group, rule.source) for rule in topology.rules if rule.from_port == 22}
        fronts = {node.role for node in topology.lbs}
        assert ssh == {(role, "operator" if role in fronts else way_in) for role in topology.groups}
        assert topology.jump_host and topology.jump_host.role == way_in
        assert topology.public_nodes == topology.lbs


@pytest.mark.parametrize("connect_via", ["private", "bastion"])
def test_otherwise_ssh_comes_to_every_machine(connect_via: str) -> None:
    bastion = {
        "cloud__bastion": "ops@jump.example.com",
        "cloud__bastion_host_keys": [pki.ssh_public_key(pki.make_ssh_key())],
        "cloud__operator_cidr": "10.0.0.0/24",
    }
    topology = build("greg-separated", cloud__connect_via=connect_via, **(bastion if connect_via == "bastion" else {}))
    assert {rule.source for rule in topology.rules if rule.from_port == 22} == {"operator"}
    assert topology.jump_host is None and bool(topology.public_nodes) == (connect_via == "bastion")


def test_hosts_lead_to_their_nginx_and_the_nodes_behind_it() -> None:
    separated, original, cluster = build("greg-separated"), build("greg-original"), build("as-cluster")
    assert separated.lb_for("store").name == separated.lb_for("publisher.lab.test").name == "lb-1"
    assert [node.name for node in separated.upstream("publisher")] == ["publisher-1", "publisher-2"]
    assert original.lb_for("publisher").name == "lb-publisher-1"
    assert original.upstream("store") == original.upstream("publisher") == original.of("greg")
    assert [node.name for node in cluster.upstream("mgt")] == ["as-manager-1"]
    assert [node.name for node in cluster.upstream("as")] == ["as-worker-1", "as-worker-2"]


def test_an_unknown_node_or_host_is_told_with_the_names_there_are() -> None:
    topology = build("greg-single")
    with pytest.raises(RunbookError, match="no node store-1") as caught:
        topology.node("store-1")
    assert "greg-1" in (caught.value.next_step or "")
    with pytest.raises(RunbookError, match="no public host"):
        topology.lb_for("elsewhere.example.com")


def test_the_publishers_range_holds_at_its_own_nginx_too() -> None:
    topology = build("greg-original", publisher_allow_cidr=["10.1.0.0/16", "10.2.0.0/16"])
    opened = doors(topology)
    assert opened["lb-publisher"] == {"operator": [22], "10.1.0.0/16": [80, 443], "10.2.0.0/16": [80, 443]}
    assert opened["lb-store"]["0.0.0.0/0"] == [80, 443]


def test_without_clustering_no_cluster_port_is_open() -> None:
    for pattern in PATTERNS:
        assert not [rule for rule in build(pattern, clustering=False).rules if rule.from_port == 4000]


def test_the_probe_stands_in_a_group_that_nothing_trusts() -> None:
    topology = build("greg-separated", cloud__probe=True)
    assert topology.node("probe-1").address == "10.213.1.90"
    assert not [rule for rule in topology.rules if rule.source == "probe"]
    alone = probe_only(build("greg-separated"))
    assert [node.name for node in alone.nodes] == ["probe-1"]
    assert doors(alone) == {"probe": {"operator": [22]}}


def test_each_tier_has_a_cluster_and_with_full_hardening_a_key_of_its_own() -> None:
    full, hosts = build("greg-separated"), build("greg-separated", hardening="hosts")
    assert full.domain("store") != full.domain("publisher")
    assert full.tier_keys == ("store", "publisher")
    assert hosts.tier_keys == ("greg",) and hosts.key_of("store") == hosts.key_of("publisher") == "greg"
    assert build("greg-single").tier_keys == ("greg",)
    assert build("as-cluster").tier_keys == ("as",)


def test_nodes_that_serve_both_applications_believe_to_be_the_store() -> None:
    assert build("greg-original").public_name("greg") == "store.lab.test"
    assert build("greg-separated").public_name("publisher") == "publisher.lab.test"


@pytest.mark.parametrize(
    ("type_", "heap", "expected"),
    [
        ("t2.micro", "auto", "512m"),
        ("t3.micro", "auto", "512m"),
        ("t3.small", "auto", None),
        ("x9.unknown", "auto", None),
        ("t2.micro", "product", None),
        ("t3.large", "2g", "2g"),
    ],
)
def test_a_small_machine_gets_a_small_heap(type_: str, heap: str, expected: str | None) -> None:
    topology = build("as-cluster", cloud__instance_type={"as-worker": type_}, memory__heap=heap)
    assert topology.node("as-worker-1").heap == expected
    assert topology.db.heap is None


def test_chapters_follow_the_pattern() -> None:
    assert tuple(chapter.name for chapter in chapters_of("as-cluster"))[2:] == ("03_configure_as_nodes", "05_configure_nginx", "06_verify_as_cluster")
    assert tuple(chapter.name for chapter in chapters_of("greg-single"))[-1] == "07_verify_sso_separation"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_picture_shows_every_machine_and_needs_nothing_from_elsewhere(pattern: str) -> None:
    topology = build(pattern, nodes={name: most for name, (_, most, _) in PATTERNS[pattern].nodes.items()})
    picture = ElementTree.fromstring(draw(topology))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    for node in topology.nodes:
        assert node.name in texts
    for host in topology.spec.hosts.values():
        assert host in texts
    words = picture.findtext(f"{SVG}desc") or ""
    assert all(node.address in words for node in topology.nodes)
    assert "http" not in draw(topology).replace("http://www.w3.org/2000/svg", "") and "<script" not in draw(topology)


def test_the_picture_writes_each_state_and_draws_what_runs_differently() -> None:
    states = {"lb-1": "● running", "db-1": "○ stopped", "greg-1": "○ not launched"}
    picture = ElementTree.fromstring(draw(build("greg-single"), states))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    looks = {}  # of a machine's box: the rectangle before its name
    for before, element in itertools.pairwise(picture):
        if element.text in states:
            looks[element.text] = (before.get("fill"), before.get("stroke-dasharray"))
    assert set(states.values()) <= set(texts)
    assert looks["lb-1"] not in (looks["db-1"], looks["greg-1"]) and looks["db-1"] == looks["greg-1"]
    assert "db-1 at 10.213.2.20 (stopped)" in (picture.findtext(f"{SVG}desc") or "")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_picture_has_its_own_paper_and_ink(pattern: str) -> None:
    """A colour of the page or the system is black on black in a program that knows none, and on a dark page."""
    picture = draw(build(pattern))
    assert not re.search(r"currentColor|Canvas|var\(", picture)
    first = next(element for element in ElementTree.fromstring(picture) if element.tag == f"{SVG}rect")
    assert first.get("fill") == "#ffffff" and f'viewBox="0 0 {first.get("width")} {first.get("height")}"' in picture


def test_the_picture_of_the_readme_is_drawn_anew_when_the_drawing_changes() -> None:
    drawn = draw(topology_of(load_spec("params/greg-separated.lab.yaml")))
    assert (ROOT / "docs" / "greg-separated.svg").read_text() == drawn + "\n", "write the new one to docs/greg-separated.svg"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_boxes_of_the_picture_do_not_overlap_and_lie_inside(pattern: str) -> None:
    picture = ElementTree.fromstring(draw(build(pattern)))
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    outer = [rect for rect in picture.iter(f"{SVG}rect") if rect.get("fill-opacity")]
    frames = [tuple(float(rect.attrib[side]) for side in ("x", "y", "width", "height")) for rect in outer]
    for number, (x, y, w, h) in enumerate(frames):
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        for other_x, other_y, other_w, other_h in frames[number + 1 :]:
            assert x + w <= other_x or other_x + other_w <= x or y + h <= other_y or other_y + other_h <= y


def test_the_cost_is_machines_disks_and_public_addresses() -> None:
    cost = monthly_cost(build("greg-single", cloud__instance_type={"default": "t3.micro"}))
    assert cost.total == round(3 * 0.0104 * 730 + 3 * 20 * 0.08 + (0.045 + 0.005) * 730, 2)
    public = monthly_cost(build("greg-single", cloud__instance_type={"default": "t3.micro"}, cloud__connect_via="public"))
    assert public.total == round(cost.total + 0.005 * 730, 2), "Nginx's and no other machine's"
    existing = {"cloud__vpc": "vpc-12345678", "cloud__subnets": {"subnet-12345678": "10.213.2.0/24"}}
    assert monthly_cost(build("greg-single", cloud__instance_type={"default": "t3.micro"}, **existing)).total == round(3 * 0.0104 * 730 + 3 * 20 * 0.08, 2)
    assert "us-east-1" in cost.note and "Not included" in cost.note


def test_prices_that_are_old_or_of_another_region_are_called_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "rough guess: no prices of eu-west-3" in monthly_cost(build("greg-single", cloud__region="eu-west-3")).note
    recent = {"as_of": datetime.datetime.now(datetime.UTC).date().isoformat()}
    monkeypatch.setitem(prices.book()["regions"], "us-east-1", prices.book()["regions"]["us-east-1"] | recent)
    assert "rough guess" not in monthly_cost(build("greg-single")).note


def test_a_type_without_a_known_price_is_named_and_the_total_says_at_least() -> None:
    cost = monthly_cost(build("greg-single", cloud__instance_type={"greg": "x9.huge"}))
    assert cost.unknown == ("x9.huge",)
    assert "at least" in str(cost.rows[-1]) and "at least" in cost.words and "x9.huge" in cost._repr_html_()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_by_session_manager_nobody_may_reach_port_22(pattern: str) -> None:
    agent = {"url": "https://agents.example.com/agent.deb", "sha256": "ab" * 32}
    topology = build(pattern, cloud__connect_via="session-manager", cloud__ssm_agent=agent, cloud__probe=True)
    assert not [rule for rule in topology.rules if rule.from_port <= 22 <= rule.to_port or rule.source == "operator"]
    assert not [rule for rule in probe_only(topology).rules]
    without = {group: {source: ports for source, ports in sources.items() if source != "operator"} for group, sources in RULES[pattern].items()}
    assert doors(topology) == {group: sources for group, sources in without.items() if sources}
