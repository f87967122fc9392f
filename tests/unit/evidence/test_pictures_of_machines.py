"""The timeline of the first boots and the way of a request follow what journal, logs and machines told."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.pictures import boots, request_way
from runbook_lib.evidence.pictures.hardening import of_run
from runbook_lib.evidence.pictures.recorded import recorded
from runbook_lib.evidence.pictures.sign_on import sign_on
from runbook_lib.evidence.report import render
from runbook_lib.evidence.runs import read, summarise
from tests.support import recorded_proof
from tests.support.recorded_proof import picture_values

Values = dict[str, Any]
HEAD = {"deployment": "demo", "pattern": "greg-separated", "hardening": "full", "expect": "separated"}


def test_the_boots_stand_one_after_the_other_with_what_their_logs_say_meanwhile() -> None:
    figure = boots.draw(picture_values()["boots"])
    (panel,) = figure.panels
    bars = [(float(x), float(wide)) for x, wide in re.findall(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)" height="18"', panel.svg)]
    assert len(bars) == 4 and all(x + wide <= after for (x, wide), (after, _) in pairwise(bars))
    assert [step.split(":")[0] for step in panel.steps[:4]] == ["store-1", "store-2", "publisher-1", "publisher-2"]
    told = " ".join(panel.steps[4:])
    assert told.index("store-1 is elected coordinator") < told.index("store-1 sees store-2 join") < told.index("publisher-1 is elected coordinator")
    assert "publisher-2 has joined the cluster domain wso2.greg.publisher.domain" in told
    assert figure.caption[0].startswith("Look at the bars: no boot begins before the one above has ended")


def earlier(values: Values) -> None:
    values["nodes"][1]["first"]["began"] = values["nodes"][0]["first"]["began"]


def restarted(values: Values) -> None:
    for event in values["nodes"][0]["events"]:
        event["at"] = "2027-01-01T00:00:00.000+00:00"


def not_elected(values: Values) -> None:
    values["nodes"][0]["events"] = [event for event in values["nodes"][0]["events"] if event["what"] != "elected"]


def elsewhere(values: Values) -> None:
    for node in values["nodes"]:
        node["first"] = None


def no_log(values: Values) -> None:
    elsewhere(values)
    for node in values["nodes"]:
        node["events"] = []


BOOTS: list[tuple[Callable[[Values], None], str, str]] = [
    (earlier, "the boots of store-1 and store-2 overlap", "no boot begins"),
    (restarted, "Started again since, so that the log no longer tells of the first boot: store-1", "store-1 is elected coordinator"),
    (not_elected, "Elected coordinator: publisher-1.", "store-1 is elected coordinator"),
    (elsewhere, "present starts of 4 nodes", "until it answered"),
    (no_log, "No node's log tells of a start", "store-1: from"),
]


@pytest.mark.parametrize(("change", "appears", "disappears"), BOOTS, ids=[change.__name__ for change, *_ in BOOTS])
def test_the_timeline_changes_with_the_data(change: Callable[[Values], None], appears: str, disappears: str) -> None:
    values = picture_values()["boots"]
    before = str(boots.draw(copy.deepcopy(values)))
    change(values)
    after = str(boots.draw(values))
    assert appears in after and appears not in before and disappears in before and disappears not in after


def test_first_boots_are_those_of_this_run_or_an_earlier_one_since_the_last_teardown(tmp_path: Path) -> None:
    began, parent = datetime(2026, 1, 1, tzinfo=UTC), tmp_path / "demo"

    def run(name: str, node: str, seconds: int) -> Journal:
        journal = Journal(parent / name, HEAD)
        journal.booted("04_configure_greg_nodes", node, "WSO2 Carbon started in 4 sec", began, began + timedelta(seconds=seconds))
        return journal

    run("20260101T000000Z", "gone-1", 1).write("", "destroy")
    run("20260102T000000Z", "store-1", 5)
    last = run("20260103T000000Z", "store-2", 7)
    found = boots.first_boots(last.folder)
    assert {node: boot["ended"][17:19] for node, boot in found.items()} == {"store-1": "05", "store-2": "07"}
    assert found["store-1"]["run"] == "20260102T000000Z"


def test_a_refused_request_ends_at_nginx_and_one_that_was_passed_on_at_its_node() -> None:
    figure = request_way.draw(picture_values()["way"])
    (panel,) = figure.panels
    first, second, third = (" ".join(panel.steps).split(f"Request {number}: ")[1].split("Request")[0] for number in (1, 2, 3))
    assert "front door (/store|/store/|/store/login|/store/logout): first page" in first and "Nginx (lb-1) to Node (store-2)" in first
    assert "Node (store-2) to Database (db-1): 1 connection" in first and "sets runbook_route" in first
    assert "with runbook_route" in second and "Nginx (lb-1) to Node (store-2)" in second
    assert "Node (" not in third and "no front door leads there: 404. ✔ refused here" in third
    assert "the next one brought the cookie and met the same node" in figure.caption[0] and "/publisher/ ends" in figure.caption[1]


def other_node(values: Values) -> None:
    values["made"][1].update(node="store-1", asked=["store-1"])


def passed_on(values: Values) -> None:
    values["guarded"] = False
    values["made"][2].update(node="store-2", asked=["store-2"], door={}, database=1)
    values["made"][2]["exchange"].update(by_nginx=False, status=302)


def not_logged(values: Values) -> None:
    values["made"][0].update(logged=None, asked=[])


def tried_twice(values: Values) -> None:
    values["made"][0]["asked"] = ["store-1", "store-2"]


def refused_by_a_rule(values: Values) -> None:
    values["made"][2]["door"] = {}


WAYS: list[tuple[Callable[[Values], None], str, str]] = [
    (other_node, "met another node", "met the same node"),
    (passed_on, "no list here: every path is passed on", "✔ refused here"),
    (not_logged, "there is no line in Nginx's access log", "with nothing"),
    (refused_by_a_rule, "a rule of this host refuses the path", "no front door leads there"),
    (tried_twice, "Nginx (lb-1) to Node (store-1): asks this node", "with nothing"),
]


@pytest.mark.parametrize(("change", "appears", "disappears"), WAYS, ids=[change.__name__ for change, *_ in WAYS])
def test_the_way_changes_with_the_data(change: Callable[[Values], None], appears: str, disappears: str) -> None:
    values = picture_values()["way"]
    before = str(request_way.draw(copy.deepcopy(values)))
    change(values)
    after = str(request_way.draw(values))
    assert appears in after and appears not in before and disappears not in after
    assert disappears in before or disappears == "with nothing"


def test_the_report_draws_the_newest_picture_of_each_kind_out_of_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", HEAD)
    journal.write("04_configure_greg_nodes", "verify")
    values = picture_values()
    older = copy.deepcopy(values["boots"])
    older["deployment"] = "older"
    for kind, drawn_from in (("way", values["way"]), ("boots", older), ("boots", values["boots"])):
        journal.pictured("05_configure_nginx", kind, drawn_from)
    assert [figure.id for figure in recorded(read(journal.folder))] == ["boots", "way"]
    page = render(journal.folder)
    assert "older" not in page and page.count('class="rb-figure"') == 2 and page.count("data:image/svg+xml;base64,") == 2
    assert str(boots.draw(values["boots"]).caption[0]) in page, "as the chapter drew it"


def test_all_pictures_of_two_runs_beside_each_other_take_less_than_100_kb_of_a_report(tmp_path: Path) -> None:
    recorded_proof.recorded(tmp_path, "original", "leak")
    _, run = recorded_proof.recorded(tmp_path, "full", "separated")
    entries = read(run)
    drawn = [*recorded(entries), sign_on(run, tmp_path), of_run(entries)]
    assert len(drawn) == 4 and all(drawn)
    assert sum(len(one._repr_html_().encode()) for one in drawn if one) < 100_000


def test_a_picture_begins_no_run_and_makes_no_chapter_of_it(tmp_path: Path) -> None:
    alone = Journal(tmp_path / "alone", HEAD)
    alone.pictured("05_configure_nginx", "way", picture_values()["way"])
    assert not alone.folder.exists()
    verified = Journal(tmp_path / "run", HEAD)
    verified.write("04_configure_greg_nodes", "verify")
    verified.pictured("05_configure_nginx", "way", picture_values()["way"])
    assert [chapter["name"] for chapter in summarise(read(verified.folder))["chapters"]] == ["04_configure_greg_nodes"]
