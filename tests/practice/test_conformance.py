"""A bare practice node answers, row by row, as the measured G-Reg did."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import wso2_practice
import yaml
from wso2_practice.conformance import SCRIPTS, ServerUnderTest, differences, load, main, script_rows

from runbook_lib.checks.sso.environment import Login
from tests.conftest import DATA
from tests.support.practice_nodes import Node, Nodes

ROWS = load()
DIRECT = script_rows()
TYPES = {"application/json": " json", "text/html": "", "": " empty"}
APPS = Path(wso2_practice.__file__).parent / "pack/greg/repository/deployment/server/jaggeryapps"


@pytest.fixture(scope="module")
def bare_greg(nodes: Nodes) -> Node:
    """One G-Reg on its embedded database, both applications, no proxy: configuration a of the golden table."""
    node = nodes.make("greg")
    node.edit("repository/conf/carbon.xml", "<!--HostName>www.wso2.org</HostName-->", "<HostName>localhost</HostName>")
    node.start("-Dsetup")
    return node


@pytest.fixture(scope="module")
def target(bare_greg: Node) -> ServerUnderTest:
    return ServerUnderTest(bare_greg.url, Login("admin", "admin"))


@pytest.fixture(scope="module")
def logins(target: ServerUnderTest) -> Iterator[dict[str, Login]]:
    with target.users() as users:
        yield users


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_the_node_answers_as_the_measured_one(row: dict, target: ServerUnderTest, logins: dict[str, Login]):
    assert differences(target, row, logins) == []


def test_every_script_answers_under_its_own_path_as_the_table_says(target: ServerUnderTest):
    assert [difference for row in DIRECT for difference in differences(target, row, {})] == []


def test_the_pack_has_the_scripts_of_the_table_and_no_others():
    table = yaml.safe_load(SCRIPTS.read_text())
    there = {f"/{path.relative_to(APPS)}" for path in APPS.rglob("*.jag")}
    assert there == set(table["measured"] | table["derived"])


def test_the_statuses_are_as_many_as_were_counted_on_the_real_product():
    table, counted = yaml.safe_load(SCRIPTS.read_text()), {}
    for path, words in (table["measured"] | table["derived"]).items():
        word = str(words["get"] if isinstance(words, dict) else words)
        counted.setdefault(path.split("/")[1], Counter())[int(word.split()[0])] += 1
    assert counted == table["statuses"]


def test_the_measured_scripts_say_what_was_recorded():
    expected = {}
    for row in json.loads((DATA / "direct-scripts.json").read_text()):
        words = [_word(row["get"]), _word(row["post_empty"])]
        expected[row["path"]] = words[0] if words[0] == words[1] else dict(zip(("get", "post"), words, strict=True))
    ours = yaml.safe_load(SCRIPTS.read_text())["measured"]
    assert {path: words if isinstance(words, dict) else str(words) for path, words in ours.items()} == expected


def _word(answer: dict) -> str:
    return f"302 {answer['location']}" if answer["status"] == 302 else f"{answer['status']}{TYPES[answer['type']]}"


def test_every_row_of_the_golden_table_measured_on_a_bare_node_is_here_and_says_the_same():
    golden = yaml.safe_load((DATA / "golden-table.yaml").read_text())["rows"]
    measured = {row["id"]: row["a"] for row in golden if row["a"] is not None}
    ours = {row["golden"]: row["says"] for row in ROWS if "golden" in row}
    assert ours == measured


def test_the_command_prints_no_difference_and_leaves_no_user(bare_greg: Node, tmp_path, capsys):
    secret = tmp_path / "password"
    secret.write_text("admin\n")
    code = main([bare_greg.url, "--admin-user", "admin", "--admin-password-file", str(secret), "--insecure"])
    assert (code, f"{len(ROWS) + len(DIRECT)} rows, 0 differ" in capsys.readouterr().out) == (0, True)


def test_a_server_that_answers_otherwise_is_reported(target: ServerUnderTest):
    row = {"id": "x", "do": [{"get": "/store"}], "status": 200, "location": "/elsewhere"}
    assert [(d.what, d.observed) for d in differences(target, row, {})] == [("status", 302), ("location", "/store/")]
