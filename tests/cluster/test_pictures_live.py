"""The pictures of a real deployment: chapters and report draw what journal, logs and machines told, and both draw the same."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from runbook_lib.evidence import runs
from runbook_lib.evidence.pictures import hardening
from runbook_lib.evidence.pictures.recorded import recorded
from runbook_lib.evidence.pictures.sign_on import decision_of, walk_of
from tests.support.deployments import Deployed

pytestmark = pytest.mark.lab
CALLS = {
    "04_configure_greg_nodes": ["deployment.greg.boot_timeline()"],
    "05_configure_nginx": ["deployment.nginx.way_of_a_request()"],
    "07_verify_sso_separation": ["deployment.sso.sign_on(proof)", "deployment.sso.hardening_matrix(proof)"],
}


def shown(run: Path, chapter: str, call: str) -> tuple[str, str]:
    """HTML and text of what a chapter's cell showed."""
    cells = json.loads((run / f"{chapter}.ipynb").read_text())["cells"]
    (cell,) = (cell for cell in cells if "".join(cell["source"]) == call)
    (output,) = cell["outputs"]
    return "".join(output["data"]["text/html"]), "".join(output["data"]["text/plain"])


def test_chapters_and_report_draw_the_same(separated: Deployed) -> None:
    run = separated.building_run
    report = (run / "report.html").read_text()
    for chapter, calls in CALLS.items():
        for call in calls:
            page, words = shown(run, chapter, call)
            assert page in report and words.splitlines()[0] in page, call


def test_what_a_run_recorded_is_drawn_as_its_chapters_drew_it(separated: Deployed) -> None:
    """The sign-on is not among them: it is drawn beside the newest run of the other kind, and that may be another one by now."""
    run = separated.building_run
    entries = runs.read(run)
    drawn = [figure for figure in (*recorded(entries), hardening.of_run(entries)) if figure]
    shown_there = [shown(run, chapter, call) for chapter, calls in CALLS.items() for call in calls if "sign_on" not in call]
    assert [(figure._repr_html_(), str(figure)) for figure in drawn] == shown_there


def test_the_first_boots_of_the_run_take_turns_and_each_tier_has_its_leader(separated: Deployed) -> None:
    values = {entry["key"]: entry["values"] for entry in runs.read(separated.building_run) if entry["verb"] == runs.PICTURE}
    nodes = sorted(values["boots"]["nodes"], key=lambda node: node["first"]["began"])
    assert [node["name"] for node in nodes] == ["store-1", "store-2", "publisher-1", "publisher-2"]
    assert all(one["first"]["ended"] <= other["first"]["began"] for one, other in pairwise(nodes))
    assert [node["name"] for node in nodes if any(event["what"] == "elected" for event in node["events"])] == ["store-1", "publisher-1"]
    for node in nodes:
        inside = [event for event in node["events"] if event["what"] in ("starting", "ready")]
        assert len(inside) == 2 and all(node["first"]["began"] <= event["at"] <= node["first"]["ended"] for event in inside)


def test_a_requests_way_is_the_one_that_nginx_logged(separated: Deployed) -> None:
    values = {entry["key"]: entry["values"] for entry in runs.read(separated.building_run) if entry["verb"] == runs.PICTURE}
    first, again, refused = values["way"]["made"]
    assert first["asked"] == again["asked"] == [first["node"]] and first["node"] in ("store-1", "store-2")
    assert first["database"] > 0 and "runbook_route" in first["exchange"]["set"] and "runbook_route" in again["exchange"]["sent"]
    assert first["door"]["path"] and not refused["door"]["path"] and refused["exchange"]["by_nginx"]
    assert refused["logged"]["upstream"] == "-" and refused["asked"] == [] and refused["node"] == ""


def test_the_way_to_the_other_host_can_be_asked_for(separated: Deployed) -> None:
    deployment = separated.open()
    try:
        words = str(deployment.nginx.way_of_a_request("publisher"))
    finally:
        deployment.close()
    assert "Node (publisher-" in words and "Node (store-" not in words and "Nginx refuses" not in words and "✔ refused here" in words


def test_the_sign_on_is_the_walk_of_the_proof(separated: Deployed) -> None:
    walk = walk_of(separated.building_run)
    assert walk and walk.kind == "separated"
    decided = decision_of(walk.exchanges)
    assert decided and decided.mark == "held" and "commonAuthId" not in walk.exchanges[decided.cause or 0].sent
    assert all(one.at for one in walk.exchanges) and [one.at for one in walk.exchanges] == sorted(one.at for one in walk.exchanges)
