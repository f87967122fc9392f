"""A bare practice node answers, row by row, as the measured G-Reg did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from runbook_lab.practice.conformance import Target, differences, load, main
from runbook_lib.checks.scene import Login
from tests.conftest import SHARED
from tests.practice.practice_nodes import Node, Nodes

ROWS = load()


@pytest.fixture(scope="module")
def bare_greg(nodes: Nodes) -> Node:
    """One G-Reg on its embedded database, both applications, no proxy: configuration a of the golden table."""
    node = nodes.make("greg")
    node.edit("repository/conf/carbon.xml", "<!--HostName>www.wso2.org</HostName-->", "<HostName>localhost</HostName>")
    node.start("-Dsetup")
    return node


@pytest.fixture(scope="module")
def target(bare_greg: Node) -> Target:
    return Target(bare_greg.url, Login("admin", "admin"))


@pytest.fixture(scope="module")
def logins(target: Target) -> Iterator[dict[str, Login]]:
    with target.users() as users:
        yield users


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_the_node_answers_as_the_measured_one(row: dict, target: Target, logins: dict[str, Login]):
    assert differences(target, row, logins) == []


def test_every_row_of_the_golden_table_measured_on_a_bare_node_is_here_and_says_the_same():
    golden = SHARED / "golden-table.yaml"
    if not golden.exists():
        pytest.skip(f"no golden table at {golden}; set RUNBOOK_SHARED")
    measured = {row["id"]: row["a"] for row in yaml.safe_load(golden.read_text())["rows"] if row["a"] is not None}
    ours = {row["golden"]: row["says"] for row in ROWS if "golden" in row}
    assert ours == measured


def test_the_command_prints_no_difference_and_leaves_no_user(bare_greg: Node, tmp_path, capsys):
    secret = tmp_path / "password"
    secret.write_text("admin\n")
    code = main([bare_greg.url, "--admin-user", "admin", "--admin-password-file", str(secret), "--insecure"])
    assert (code, f"{len(ROWS)} rows, 0 differ" in capsys.readouterr().out) == (0, True)


def test_a_server_that_answers_otherwise_is_reported(target: Target):
    row = {"id": "x", "do": [{"get": "/store"}], "status": 200, "location": "/elsewhere"}
    assert [(d.what, d.observed) for d in differences(target, row, {})] == [("status", 302), ("location", "/store/")]
