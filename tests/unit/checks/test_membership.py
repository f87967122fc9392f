"""Membership from the log: a case of `cluster_logs.yaml` is what the nodes of a tier wrote, and the rows to fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from runbook_lib.checks.membership import read, rows

TABLE = yaml.safe_load(Path(__file__).with_name("cluster_logs.yaml").read_text())
ADDRESSES = {"store-1": "10.0.0.61", "store-2": "10.0.0.62", "store-3": "10.0.0.63"}


def log(events: list[str]) -> str:
    """Short words of the table as the product's lines."""
    lines = []
    for number, event in enumerate(events):
        what, _, rest = event.partition(" ")
        when = rest if what == "ready" else f"00:00:{number:02}"
        lines.append(f"TID: [-1234] [] [2026-01-01 {when},000]  INFO {{agent}} - " + TABLE["lines"][what].format(rest))
    return "\n".join(lines)


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_the_log_tells_what_is_wrong_with_a_cluster(case: dict) -> None:
    logs = {name: log(events) for name, events in case["logs"].items()}
    addresses = {name: ADDRESSES[name] for name in logs}
    table = rows("store", "store.domain", addresses, logs, "07")
    assert [row.id.removeprefix("cluster-").removesuffix("-store") for row in table if not row.ok] == case["red"]


def test_a_node_that_came_back_is_counted_once() -> None:
    text = log(["domain store.domain", "ready 00:00:01", "joined 10.0.0.62", "left 10.0.0.62", "joined 10.0.0.62"])
    assert read(text).others == {"10.0.0.62"}


def test_an_empty_log_is_nothing() -> None:
    assert read("").since == ""


def test_a_node_whose_power_was_cut_is_back_before_its_former_self_has_left() -> None:
    lines = ["joined [aaa]: /10.0.0.62:4000", "joined [bbb]: /10.0.0.62:4000", "left [aaa]: /10.0.0.62:4000"]
    assert read("\n".join(f"Member {line}" for line in lines)).others == {"10.0.0.62"}
    assert read("\n".join(f"Member {line}" for line in [*lines, "left [bbb]: /10.0.0.62:4000"])).others == set()


def test_two_nodes_that_start_in_the_same_second_may_be_ready_in_the_other_order_than_they_joined() -> None:
    first = ["domain store.domain", "elected now", "ready 00:00:02", "joined 10.0.0.62"]
    logs = {"store-1": log(first), "store-2": log(["domain store.domain", "ready 00:00:01"])}
    assert all(row.ok for row in rows("store", "store.domain", {name: ADDRESSES[name] for name in logs}, logs, "07"))


@pytest.mark.parametrize("kept, status", [("", "undecided"), ("Starting WSO2 Carbon...", "fail")])
def test_a_node_whose_start_is_in_no_log_any_more_tells_nothing_of_its_cluster(kept: str, status: str) -> None:
    logs = {"store-1": log(["domain store.domain", "elected now", "ready 00:00:02", "joined 10.0.0.62"]), "store-2": kept}
    [row] = rows("store", "store.domain", {name: ADDRESSES[name] for name in logs}, logs, "07")
    assert (row.id, row.status, row.where) == ("cluster-members-store", status, "store-2")
