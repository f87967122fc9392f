"""Members find each other by well-known addresses, say so in the real lines, and share what a domain shares."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.practice_nodes import Database, Node, Nodes, free_port, sign_in, wire_databases

AXIS = "repository/conf/axis2/axis2.xml"
PAIR = ("127.0.0.2", "127.0.0.3")  # loopback, but not 127.0.0.1: each member has an address of its own


def cluster(node: Node, address: str, port: int, members: list[tuple[str, int]], **more: str) -> None:
    text = (node.home / AXIS).read_bytes().decode()
    for old, new in (
        (" " * 16 + 'enable="false">', " " * 16 + 'enable="true">'),
        ('<parameter name="membershipScheme">multicast<', '<parameter name="membershipScheme">wka<'),
        ('<parameter name="localMemberHost">127.0.0.1<', f'<parameter name="localMemberHost">{address}<'),
        ('<parameter name="localMemberPort">4000<', f'<parameter name="localMemberPort">{port}<'),
    ):
        text = replace(text, old, new)
    for name, value in more.items():
        text = replace(text, "<members>", f'<parameter name="{name}">{value}</parameter><members>')
    start, end = text.index("<members>"), text.index("</members>")
    listed = "".join(f"<member><hostName>{h}</hostName><port>{p}</port></member>" for h, p in members)
    (node.home / AXIS).write_bytes((text[:start] + "<members>" + listed + text[end:]).encode())


def replace(text: str, old: str, new: str) -> str:
    """Replace once, whatever the line ends of the file."""
    old, new = (part.replace("\n", "\r\n") if "\r\n" in text else part for part in (old, new))
    assert text.count(old) == 1, (text.count(old), old)
    return text.replace(old, new)


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def pair(nodes: Nodes, database: Database, driver: Path) -> Iterator[list[Node]]:
    """Two nodes of one cluster on one pair of databases, not started."""
    made = [nodes.make(), nodes.make()]
    members = [(address, free_port()) for address in PAIR]
    database.fresh(made[0].home)
    for node, (address, port) in zip(made, members, strict=True):
        shutil.copy(driver, node.home / "repository/components/lib/mariadb-java-client.jar")
        wire_databases(node, database.url)
        cluster(node, address, port, members)
    yield made
    for node in made:
        node.stop()


def test_two_members_join_in_the_real_lines_with_one_coordinator(pair: list[Node]) -> None:
    first, second = pair
    order = ["Cluster domain: wso2.carbon.domain", "Using wka based membership management scheme"]
    order += ["Added member: Host:127.0.0.2", "Hazelcast initialized in", "Local member: ["]
    order += ["as the Coordinator node", "Cluster initialization completed", "WSO2 Carbon started in"]
    log = first.start("-Dsetup")
    assert [log.index(text) for text in order] == sorted(log.index(text) for text in order)
    log = second.start("-Dsetup")
    assert "Coordinator" not in log and "Member joined" not in log
    first.wait_for("Member joined [")
    second.kill()
    first.wait_for("Member left [")
    first.wait_for("left cluster.")
    second.start()
    until(lambda: first.log().count("Member joined [") >= 2)


def test_a_silent_member_has_left_after_the_time_in_hazelcast_properties(pair: list[Node]) -> None:
    """Silent as a machine without power is: no connection ends. Without the file it would take ten minutes (facts 3.4)."""
    first, second = pair
    for node in pair:
        (node.home / "repository/conf/hazelcast.properties").write_text("hazelcast.max.no.heartbeat.seconds=15\n")
    first.start("-Dsetup")
    second.start("-Dsetup")
    first.wait_for("Member joined [")
    joined = time.monotonic()
    until(lambda: time.monotonic() - joined > 17)
    assert "Member left" not in first.log() + second.log(), "two that do nothing are not silent"
    os.kill(second.pid, signal.SIGSTOP)
    try:
        first.wait_for("Member left [")
    finally:
        os.kill(second.pid, signal.SIGCONT)


def test_the_next_oldest_becomes_coordinator(pair: list[Node]) -> None:
    for node in pair:
        node.start("-Dsetup")
    assert "as the Coordinator node" not in pair[1].log()
    pair[0].stop()
    assert pair[1].wait_for("as the Coordinator node")


def test_one_domain_shares_sessions_of_the_identity_provider(pair: list[Node]) -> None:
    for node in pair:
        node.start("-Dsetup")
    pair[0].wait_for("Member joined")
    with pair[0].client() as client, pair[1].client() as other:
        sign_in(client, "store", "admin", "admin")
        other.cookies.set("commonAuthId", client.cookies["commonAuthId"])
        answer, _, asked = sign_in(other, "store", "admin", "admin")
        assert answer.url.path == "/store/pages/top-assets" and not asked
        client.get("/store/logout")


@pytest.mark.parametrize("difference", [{"domain": "another.domain"}, {"groupPassword": "another"}])
def test_another_domain_or_password_is_another_cluster(pair: list[Node], difference: dict[str, str]) -> None:
    if "domain" in difference:
        text = (pair[1].home / AXIS).read_bytes().decode()
        (pair[1].home / AXIS).write_bytes(replace(text, ">wso2.carbon.domain<", ">another.domain<").encode())
    else:
        text = (pair[1].home / AXIS).read_bytes().decode()
        password = '<parameter name="groupPassword">another</parameter><members>'
        (pair[1].home / AXIS).write_bytes(replace(text, "<members>", password).encode())
    for node in pair:
        log = node.start("-Dsetup")
        assert log.count("as the Coordinator node") == 1
    with pair[0].client() as client, pair[1].client() as other:
        sign_in(client, "store", "admin", "admin")
        other.cookies.set("commonAuthId", client.cookies["commonAuthId"])
        assert sign_in(other, "store", "admin", "admin")[2], "the password was not asked"
    assert "Member joined" not in pair[0].log()


def test_loopback_as_member_address_is_warned_about(pair: list[Node]) -> None:
    text = (pair[0].home / AXIS).read_bytes().decode()
    here = '<parameter name="localMemberHost">127.0.0.'
    (pair[0].home / AXIS).write_bytes(replace(text, f"{here}2<", f"{here}1<").encode())
    assert "localMemberHost is configured to use the loopback address" in pair[0].start("-Dsetup")


@pytest.mark.parametrize("same_id", [True, False])
def test_a_cached_asset_goes_stale_only_where_cache_ids_differ(nodes: Nodes, database: Database, driver: Path, same_id: bool) -> None:
    publisher, store = nodes.make(), nodes.make()
    members = [(address, free_port()) for address in PAIR]
    database.fresh(publisher.home)
    for node, (address, port) in zip((publisher, store), members, strict=True):
        shutil.copy(driver, node.home / "repository/components/lib/mariadb-java-client.jar")
        wire_databases(node, database.url, cache=True)
        cluster(node, address, port, members)
        node.edit("repository/conf/registry.xml", ">35</startingDelayInSeconds>", ">1</startingDelayInSeconds>")
        node.edit("repository/conf/registry.xml", ">3</indexingFrequencyInSeconds>", ">1</indexingFrequencyInSeconds>")
    if not same_id:
        store.edit("repository/conf/registry.xml", "<cacheId>wso2@registry<", "<cacheId>other@registry<")
    for node in (publisher, store):
        node.start("-Dsetup")
    with publisher.client() as writer, store.client() as reader:
        sign_in(writer, "publisher", "admin", "admin")
        sign_in(reader, "store", "admin", "admin")  # a stranger sees no asset
        made = writer.post("/publisher/apis/assets?type=gadget", data={"overview_name": "a", "overview_note": "old"})
        assert made.status_code == 201
        asset = f"/publisher/apis/asset/{made.json()['id']}"
        for state in ("In-Review", "Published"):
            change = f"{asset}/change-state?type=gadget&lifecycle=SampleLifeCycle2"
            moved = writer.post(change, data={"nextState": state})
            assert moved.status_code == 200
        until(lambda: reader.get("/store/apis/assets?type=gadget").json()["count"] == 1)
        page = f"/store/assets/gadget/details/{made.json()['id']}"
        assert "old" in reader.get(page).text
        writer.post(f"/publisher/apis/assets/{made.json()['id']}?type=gadget", data={"overview_note": "new"})
        if same_id:
            until(lambda: "new" in reader.get(page).text)
        else:
            assert "old" in reader.get(page).text
    for node in (publisher, store):
        node.stop()
