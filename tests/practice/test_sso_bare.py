"""The matrix against one bare node (golden table, column a): both applications, no Nginx."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml

from runbook_lib.checks.sso import crawl, screenshots
from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.environment import Login, ProductNode, Scene
from runbook_lib.checks.sso.proof import Proof, prove, try_out
from runbook_lib.checks.sso.proof_users import UserStore, test_users
from runbook_lib.waiting import wait_until
from tests.conftest import DATA, need
from tests.support.golden import golden_rows
from tests.support.practice_nodes import Nodes
from tests.support.quiet_network import apart

ADMIN = Login("admin", "admin")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """The node and the browser are in a network in which no interface comes or goes."""
    with apart():
        yield


@pytest.fixture(scope="module")
def scene(nodes: Nodes) -> Scene:
    return bare(nodes)


@pytest.fixture(scope="module")
def switched(nodes: Nodes) -> Scene:
    """A node whose applications take a signature over any part of the message, and resolve no entities."""
    return bare(nodes, '"practiceLooseSignature": "true", "practiceSafeParser": "true", ')


def bare(nodes: Nodes, attribute: str = "") -> Scene:
    node = nodes.make("greg")
    node.edit("repository/conf/carbon.xml", "<!--HostName>www.wso2.org</HostName-->", "<HostName>localhost</HostName>")
    for app in ("store", "publisher"):
        node.edit(f"repository/deployment/server/jaggeryapps/{app}/config/{app}.json", '"identityAlias"', f'{attribute}"identityAlias"')
    node.start("-Dsetup")
    port = 9443 + node.offset
    machine = ProductNode("greg-1", "127.0.0.1", lambda a, p: socket.create_connection((a, p), 20), port)
    both = {"store": "localhost", "publisher": "localhost"}
    doors = dict.fromkeys(both, f"127.0.0.1:{port}")
    return Scene("bare", "leak", both, doors, dict.fromkeys(both, (machine,)), ADMIN)


@pytest.fixture(scope="module")
def proof(scene: Scene) -> Iterator[Proof]:
    yield prove(scene)


def test_a_bare_node_leaks_as_it_was_measured(proof: Proof):
    found, differ = golden_rows(proof), {}
    for row in yaml.safe_load((DATA / "golden-table.yaml").read_text())["rows"]:
        if row["a"] is not None and row["id"] != "basic-api-writes-role" and str(row["a"]) != found[row["id"]]:
            differ[row["id"]] = (row["a"], found[row["id"]])
    assert differ == {}


def test_a_user_who_has_been_at_the_publisher_is_given_no_role_at_the_store(scene: Scene):
    """The measured cell: that user had its private role already (golden run 4). A fresh one gets the Store's role."""
    attempt = next(row for row in matrix()[0] if row.id == "basic-api-writes-role")
    before = ({"sign-in": "publisher"}, {"forget": "all"})
    with test_users(scene) as logins:
        assert try_out(replace(attempt, steps=(*before, *attempt.steps)), scene, logins).state == "held"
    with test_users(scene) as logins:
        assert try_out(attempt, scene, logins).state == "leak"


def test_every_attempt_comes_out_as_expected_and_none_is_undecided(proof: Proof):
    assert [(row.id, row.status, row.observed) for row in proof.checks if not row.ok] == []
    assert proof.as_expected and proof.verdict.startswith("leaks (")


def test_a_forged_assertion_gets_in_where_a_signature_over_any_part_is_taken(switched: Scene, proof: Proof):
    rows = [row for row in matrix()[0] if any("alter" in step for step in row.steps)]
    with test_users(switched) as logins:
        found = {row.id: try_out(row, switched, logins) for row in rows}
    assert {id_: one.state for id_, one in found.items()} == {row.id: "leak" if "wrapped" in row.id else "held" for row in rows}
    assert {seen.page for id_ in ("assertion-wrapped", "assertion-wrapped-publisher") for seen in found[id_].seen} == {"my-items", "publisher-landing"}
    assert {one.state for one in proof.outcomes if one.attempt in rows} == {"held"}, "the same forgeries where it has to cover the whole"


def test_a_message_makes_a_node_open_a_file_unless_its_parser_takes_no_entities(switched: Scene, proof: Proof):
    (found,) = (one for one in proof.outcomes if one.attempt.id == "message-names-file")
    assert (found.state, [seen.page for seen in found.seen]) == ("leak", ["entities-resolved", "entities-ignored", "entities-resolved"]), found.observed
    shut = try_out(found.attempt, switched, {})
    assert (shut.state, {seen.page for seen in shut.seen}) == ("held", {"entities-ignored"}), shut.observed


def test_the_three_holes_are_told_without_a_cookie_value_or_a_password(proof: Proof):
    told = "\n".join(str(one) for _, met in proof.exchanges for one in met)
    assert len(proof.exchanges) == 3 and "commonAuthId" in told and "/publisher/acs" in told
    assert "commonAuthId=" not in told and "Pw1-" not in told


def test_the_proof_leaves_no_user_and_no_role_behind(scene: Scene, proof: Proof):
    store = UserStore(scene, scene.machines[0])
    assert [user for user in store.users() if user.startswith("proof-")] == []
    assert [role for role in store.roles() if "proof-" in role] == []


def test_the_next_proof_removes_what_a_killed_one_left_and_nothing_else(scene: Scene):
    store = UserStore(scene, scene.machines[0])
    store.add(Login("proof-store-0a1b2c", "Pw1-left-behind"), ("Internal/store",))
    store.add(Login("proof-reader", "Pw1-somebody-else"), ())
    try:
        with test_users(scene):
            assert "proof-store-0a1b2c" not in store.users()
            assert "proof-reader" in store.users()
    finally:
        store.remove("proof-reader")


PICTURED = ["publisher-landing", "api-session", "store-signed-in", "acs-401", "store-signed-in", "publisher-landing"]


def test_a_person_with_a_browser_walks_from_the_store_into_the_publisher(scene: Scene):
    """The Store user is in by the side door, and by the session refused without having been asked; the administrator is in by the session."""
    need(not screenshots.missing(), screenshots.missing())
    shots = screenshots.prove_in_browser(scene)
    assert [shot.page for shot in shots] == PICTURED, str(shots.checks)
    assert all(shot.png.startswith(b"\x89PNG") for shot in shots) and shots.checks.ok


@pytest.mark.parametrize(("lost", "pages", "states"), [(2, PICTURED, ["leak"] * 3), (9, [], ["undecided"] * 3)])
def test_a_walk_that_the_browser_lost_is_made_again_and_never_counts_as_a_refusal(scene: Scene, monkeypatch: pytest.MonkeyPatch, lost, pages, states):
    """An interface of this machine that comes or goes ends the browser's connections, at any of a walk's steps."""
    need(not screenshots.missing(), screenshots.missing())
    opened, left = screenshots.go, iter(range(lost))

    def lose(page, url, timeout=None):
        opened(page, url, timeout)
        if next(left, None) is not None:
            raise TimeoutError("Page.fill: Timeout 10000ms exceeded.")

    monkeypatch.setattr(screenshots, "go", lose)
    shots = screenshots.prove_in_browser(scene)
    assert [shot.page for shot in shots] == pages
    rows = {row.id: row for row in shots.checks}
    assert [rows[f"sso.{id_}"].state for id_, _kind, _who in screenshots.WALKS] == states
    assert all(("failed 3 times" in row.observed) == (not pages) for row in shots.checks if row.id.startswith("sso.browser"))


def test_the_applications_work_for_everybody_and_no_asset_is_left(scene: Scene):
    need(not screenshots.missing(), screenshots.missing())
    found = crawl.crawl(scene)
    assert [(row.id, row.status, row.observed) for row in found if not row.ok] == []
    author = scene.visitor()
    author.sign_in_at(scene.hosts["publisher"], "publisher", ADMIN.user, ADMIN.password)
    assets = f"https://{scene.hosts['publisher']}/publisher/apis/assets?type=restservice"
    listed = wait_until(lambda: author.get(assets).text, 120.0, pause=0.2, enough=lambda text: "proof-asset-" not in text)
    assert "proof-asset-" not in listed, "the product lists from its index, which follows a removal within 3 s"


def test_without_a_browser_the_rows_say_why_they_are_skipped(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(screenshots, "program", lambda: None)
    shots = screenshots.prove_in_browser(scene)
    assert list(shots) == [] and {row.status for row in shots.checks} == {"skipped"}
    assert all("no browser is installed" in row.observed for row in shots.checks)
