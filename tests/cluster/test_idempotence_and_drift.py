"""A cluster that is there: runs again, shows and repairs what hands did to it, lets one writer in at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from runbook_lib.aws.lock import MARK, Lock
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.evidence.runs import runs_folder
from runbook_lib.spec.chapters import chapters_of
from tests.conftest import ROOT
from tests.support.deployments import Deployed, in_lab
from tests.support.drift_tools import as_root, state_of, undo_rules
from tests.support.lab_fixtures import eventually

DRIFT = yaml.safe_load((Path(__file__).parent / "drift.yaml").read_text())
BUILDING = tuple(c for c in chapters_of("greg-separated") if c.converges)
FIELDS = {
    "schema",
    "deployment",
    "pattern",
    "hardening",
    "expect",
    "verdict",
    "started",
    "finished",
    "ok",
    "chapters",
    "checks",
    *("environment", "provenance", "statement", "counts", "complete", "covered", "standing", "recovery"),
}


@pytest.fixture(scope="module")
def opened(separated: Deployed) -> Iterator[Deployment]:
    deployment = separated.open()
    yield deployment
    deployment.close()


@pytest.fixture(scope="module")
def again(separated: Deployed, opened: Deployment) -> dict[str, Any]:
    """A second run of everything, with what the hosts and the cloud looked like before and after."""
    before = state_of(opened)
    done = separated.cli("run")
    return {
        "before": before,
        "after": state_of(opened),
        "done": done,
        "result": separated.result,
        "folder": separated.latest,
    }


def test_a_second_run_succeeds_and_changes_nothing_on_any_host(again: dict[str, Any]) -> None:
    assert again["done"].returncode == 0, again["done"].stdout[-4000:] + again["done"].stderr[-2000:]
    assert set(again["before"]) == set(again["after"])
    changed = {name: _differing(text, again["after"][name]) for name, text in again["before"].items() if text != again["after"][name]}
    assert changed == {}


def _differing(before: str, after: str) -> list[str]:
    return sorted(set(before.splitlines()) ^ set(after.splitlines()))[:6]


def test_a_second_run_says_per_chapter_that_nothing_changed(again: dict[str, Any]) -> None:
    assert {chapter["name"]: chapter["changed"] for chapter in again["result"]["chapters"]} == {chapter.name: 0 for chapter in chapters_of("greg-separated")}
    for chapter in chapters_of("greg-separated"):
        assert re.search(rf"^{chapter.name}  ✔ verified after [\d.]+ s, 0 resources changed$", again["done"].stdout, re.MULTILINE), chapter.name


def test_a_run_leaves_result_json_of_the_contract(again: dict[str, Any]) -> None:
    result = again["result"]
    assert set(result) == FIELDS
    assert (result["schema"], result["deployment"], result["pattern"], result["hardening"]) == (
        1,
        "test-separated",
        "greg-separated",
        "full",
    )
    assert (result["expect"], result["verdict"], result["ok"]) == ("separated", "separated", True)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", result[name]) for name in ("started", "finished"))
    assert all(set(chapter) == {"name", "ok", "seconds", "changed"} for chapter in result["chapters"])
    assert all(set(check) == {"id", "title", "status", "expected", "observed", "where", "chapter", "kind", "state"} for check in result["checks"])
    assert {check["status"] for check in result["checks"]} <= {"pass", "fail", "skipped", "undecided"}
    assert len({(check["id"], check["where"]) for check in result["checks"]}) == len(result["checks"]) > 50


def test_every_check_of_a_run_is_documented(again: dict[str, Any]) -> None:
    documented = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/checks.md").read_text(encoding="utf-8"), re.MULTILINE)
    known = [re.compile(re.sub(r"<[^>]+>", r"[\\w./;-]+", id_)) for id_ in documented]
    ids = {check["id"].removeprefix("sso.") for check in again["result"]["checks"]}
    assert {id_ for id_ in ids if not any(pattern.fullmatch(id_) for pattern in known)} == set()


def test_a_run_leaves_executed_notebooks_a_report_and_a_journal(again: dict[str, Any]) -> None:
    for chapter in chapters_of("greg-separated"):
        book = nbformat.read(again["folder"] / f"{chapter.name}.ipynb", as_version=4)
        code = [cell for cell in book.cells if cell.cell_type == "code"]
        assert code and all(cell.execution_count for cell in code), chapter.name
    report = (again["folder"] / "report.html").read_text()
    assert "test-separated" in report and "<script src" not in report
    assert (again["folder"] / "journal.jsonl").stat().st_size > 0


def test_plan_of_an_unchanged_cluster_exits_0_and_verify_exits_0(separated: Deployed, again: dict[str, Any]) -> None:
    plan = separated.cli("plan")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert plan.stdout.count("nothing to change") == len(BUILDING)
    verify = separated.cli("verify")
    assert verify.returncode == 0, verify.stdout[-4000:] + verify.stderr


@pytest.fixture(scope="module")
def drifted(separated: Deployed, opened: Deployment, again: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every drift of the table at once, the plan that shows it, the run that repairs it, and the plan after that."""
    for row in DRIFT:
        if "host" in row:
            as_root(opened.fleet()[row["host"]], row["do"])
    with undo_rules(opened, [row for row in DRIFT if "group" in row]):
        plan = separated.cli("plan")
        with ThreadPoolExecutor(1) as another:
            running = another.submit(separated.cli, "run", "--to", "05")
            eventually(lambda: running.done() or opened.vault.find("lock", fresh=True), "the run has the lock", 300)
            holder, second = opened.vault.find("lock", fresh=True), separated.cli("run", "--to", "05")
            repair = running.result()
        found = {"plan": plan, "repair": repair, "holder": holder, "second": second, "result": separated.result}
        yield found | {"after": separated.cli("plan")}


@pytest.mark.parametrize("row", DRIFT, ids=[row["drift"] for row in DRIFT])
def test_plan_shows_what_hands_changed(drifted: dict[str, Any], row: dict[str, Any]) -> None:
    assert drifted["plan"].returncode == 2, drifted["plan"].stderr
    missing = [pattern for pattern in row["shown"] if not re.search(pattern, drifted["plan"].stdout)]
    assert not missing, drifted["plan"].stdout


def test_one_run_repairs_all_drift(drifted: dict[str, Any]) -> None:
    assert drifted["repair"].returncode == 0, drifted["repair"].stdout[-4000:] + drifted["repair"].stderr
    changed = {chapter["name"][:2]: chapter["changed"] for chapter in drifted["result"]["chapters"]}
    assert changed["01"] == 2 and all(changed[number] for number in ("02", "04", "05"))
    assert drifted["after"].returncode == 0, drifted["after"].stdout


def test_of_two_runs_at_once_the_second_is_refused_and_the_first_finishes(drifted: dict[str, Any]) -> None:
    first = json.loads(drifted["holder"])
    assert drifted["second"].returncode == 1
    assert f"{first['owner'].partition(MARK)[0]} has been working on test-separated since {first['since']}" in drifted["second"].stderr
    assert "01_launch_ec2" not in drifted["second"].stdout, "it had begun"
    assert drifted["repair"].returncode == 0


def test_nodes_of_a_tier_are_repaired_one_after_the_other(drifted: dict[str, Any], opened: Deployment) -> None:
    """store-1 was to be restarted and store-2, which served nobody, to be started: the one that serves only after the other served too."""
    assert drifted["repair"].returncode == 0
    asked = "systemctl show -P ExecMainStartTimestampMonotonic wso2carbon.service"
    started = {name: int(as_root(opened.fleet()[name], asked)) for name in ("store-1", "store-2")}  # one kernel, one clock
    assert started["store-2"] < started["store-1"]


def test_resume_leaves_out_chapters_that_are_proven_and_hold(separated: Deployed, drifted: dict[str, Any]) -> None:
    done = separated.cli("run", "--resume", "--to", "05")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [chapter.name for chapter in BUILDING if f"{chapter.name}  ✔ left out: verified" in done.stdout] == [c.name for c in BUILDING]
    assert not list(separated.latest.glob("*.ipynb"))


def test_a_second_writer_is_refused_and_told_who_works_since_when(separated: Deployed, opened: Deployment) -> None:
    with Lock(opened.vault, "anna@elsewhere (process 4711)"):
        since = opened.vault.find("lock", fresh=True)
        done = separated.cli("run", "--from", "02", "--to", "02")
        assert done.returncode == 1
        assert since and re.search(r"anna@elsewhere \(process 4711\) has been working on test-separated since \d{4}-\d\d-\d\dT", done.stderr)
        assert "Traceback" not in done.stdout + done.stderr
        assert opened.vault.find("lock", fresh=True) == since
    assert separated.cli("run", "--from", "02", "--to", "02").returncode == 0


@pytest.mark.parametrize("key, value", [("hardening", "hosts"), ("cloud.network", "10.214.8.0/24")])
def test_what_a_live_deployment_was_made_for_is_not_changed(separated: Deployed, key: str, value: str) -> None:
    done = separated.cli("plan", "--set", f"{key}={value}")
    assert done.returncode == 1
    assert f"{key} of the live deployment test-separated is" in done.stderr and f"the parameters say {value}" in done.stderr
    assert "were made for the former" in done.stderr and "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_plan_before_the_launch_lists_everything_and_makes_nothing(lab: Any) -> None:
    planned = in_lab(lab, "greg-separated", "test-planned", 9)
    done = planned.cli("plan")
    assert done.returncode == 2, done.stdout + done.stderr
    nodes = [node.name for node in planned.open().topology.nodes]
    assert len(nodes) == 6 and all(re.search(rf"create +machine +{name}", done.stdout) for name in nodes)
    for words in (
        "create  *secret  *carbon-admin-password",
        "schema of WSO2_USER_DB",
        "store-2.*first boot",
        "lb-1 .*configuration /etc/nginx/nginx.conf",
    ):
        assert re.search(words, done.stdout), words
    mine = [{"Name": "tag:runbook:deployment", "Values": ["test-planned"]}]
    assert lab.ec2.describe_vpcs(Filters=mine)["Vpcs"] == []
    assert lab.ssm.get_parameters_by_path(Path="/runbook/test-planned/", Recursive=True)["Parameters"] == []
    assert not (runs_folder() / "test-planned").exists()
