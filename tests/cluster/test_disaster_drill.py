"""The disaster drill on real machines: the database lost, everything lost, killed half way, and a restore that forgets a database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.second_day import backups
from runbook_lib.errors import ChecksFailed, RunbookError
from runbook_lib.operations.backup import recreate_database
from runbook_lib.roles import mysql
from runbook_lib.topology.databases import REGISTRY
from tests.conftest import ROOT
from tests.support.deployments import Deployed, in_lab, on
from tests.support.drift_tools import Running

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]
ROWS = ("guard", "back", "rpo", "kept", "whole", "writes", "visitors", "verified", "again", "removed")
SQL = "$(command -v mariadb || command -v mysql) -BN -e"


@pytest.fixture(scope="module")
def single(lab: Any) -> Iterator[Deployed]:
    deployed = in_lab(lab, "greg-single", "drill-single", 82)
    yield deployed
    deployed.cli("destroy", "--yes", "--backups")


@pytest.fixture(scope="module")
def apart(lab: Any) -> Iterator[Deployed]:
    deployed = in_lab(lab, "greg-separated", "drill-apart", 83, nodes__store=1, nodes__publisher=1)
    yield deployed
    deployed.cli("destroy", "--yes", "--backups")


@pytest.fixture(scope="module")
def workers(lab: Any) -> Iterator[Deployed]:
    deployed = in_lab(lab, "as-cluster", "drill-as", 84, nodes__worker=1, drill=False)
    yield deployed
    deployed.cli("destroy", "--yes", "--backups")


def ran(deployed: Deployed, verb: str, *more: str, status: tuple[int, ...] = (0,)) -> str:
    done = deployed.cli(verb, *more, seconds=1500)
    assert done.returncode in status, done.stdout[-7000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def drilled(deployed: Deployed, lose: str) -> dict[str, Any]:
    """Make a drill by the command and return its result. On a busy machine rows may be undecided, and the exit status tells it; none may fail."""
    done = deployed.cli("drill disaster", "--lose", lose, "--yes", "--json", seconds=1500)
    assert done.returncode in (0, 1) and '"recovery": {' in done.stdout, done.stdout[-4000:] + done.stderr[-6000:]
    found = json.loads(done.stdout)
    rows = {check["id"].removeprefix("drill-disaster-"): check["status"] for check in found["checks"] if check["id"].startswith("drill-disaster-")}
    assert set(rows) == set(ROWS) and "fail" not in rows.values(), found["checks"]
    assert {rows[name] for name in ROWS if name not in ("back", "visitors")} == {"pass"}, "how busy this machine is changes nothing of these"
    assert done.returncode == (0 if {*rows.values()} == {"pass"} else 1)
    recovery = found["recovery"]
    assert recovery["lose"] == lose and recovery["written"] == recovery["survived"] + recovery["lost"] and recovery["lost"] >= 5
    assert 0 < recovery["rpo_seconds"] < recovery["rto_seconds"]
    return found


def left_of_drills(deployment: Deployment) -> str:
    """The paths of what the registry still holds of drills. Folders in which something was are no assets: the product leaves them."""
    of = f"{REGISTRY.name}.REG_RESOURCE r JOIN {REGISTRY.name}.REG_PATH p ON p.REG_PATH_ID = r.REG_PATH_ID"
    where = "p.REG_PATH_VALUE LIKE '%/drill-%' AND r.REG_NAME IS NOT NULL"
    return on(deployment, "db-1", f'{SQL} "SELECT p.REG_PATH_VALUE FROM {of} WHERE {where}"').strip()


class TestOfOneNode:
    """One small deployment that leaks: Store and Publisher on one node. The tests are told in their order."""

    @pytest.fixture
    def opened(self, single: Deployed) -> Iterator[Deployment]:
        deployment = single.open()
        yield deployment
        deployment.close()

    def test_the_database_is_lost_and_comes_back_with_what_the_backup_had(self, single: Deployed, opened: Deployment) -> None:
        ran(single, "run", "--to", "05")
        machine = opened.cloud.instance("db-1").id
        found = drilled(single, "database")
        assert opened.cloud.instance("db-1").id != machine and found["recovery"]["what"] == "assets"
        report = (Path(found["run"]) / "report.html").read_text()
        assert "RPO " in report and "users sign in and read again" in report and "the restore begins" in report
        ran(single, "plan")

    def test_killed_after_the_loss_it_is_a_real_loss_and_the_restore_goes_on(self, single: Deployed, opened: Deployment) -> None:
        running = Running(single, "drill disaster", "--yes")
        running.until(lambda: "db-1" not in opened.instances(), "the machine is gone", 600)
        running.kill()
        for verb in ("drill disaster", "run"):
            more = ("--yes",) if verb == "drill disaster" else ()
            said = ran(single, verb, *more, status=(1,))
            assert "./runbook restore" in said and "the machine db-1" in said, said
        ran(single, "restore", "--yes")
        ran(single, "run", "--to", "05")

    def test_killed_before_the_loss_the_same_command_begins_anew_and_clears_up(self, single: Deployed, opened: Deployment) -> None:
        before = len(opened.backups.made())
        running = Running(single, "drill disaster", "--yes")
        running.until(lambda: len(opened.backups.made()) > before, "the drill's backup is made", 600)
        running.kill()
        machine = opened.cloud.instance("db-1").id
        drilled(single, "database")
        assert opened.cloud.instance("db-1").id != machine
        anew = single.open()
        assert left_of_drills(anew) == "", "nor of the one that was killed"
        anew.close()

    def test_an_error_after_the_loss_names_the_way_on(self, opened: Deployment, single: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(opened.backups), "restore", lambda *_, **__: _fail())
        with pytest.raises(RunbookError, match="the drill ended after the loss: S3 is away") as ended:
            opened.disaster.drill("database", confirm=single.name)
        assert "./runbook restore PARAMS goes on" in str(ended.value)
        ran(single, "restore", "--yes")
        ran(single, "plan")

    def test_a_restore_that_forgets_a_database_fails_the_drill(self, opened: Deployment, single: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
        """The registry comes back empty: the nodes are not booted on it."""
        whole = backups.dumps.restore_database

        def forgetful(host: Any, dump: str, **more: Any) -> Any:
            if REGISTRY.name in dump:
                recreate_database(host, mysql.schema_of(REGISTRY.name, opened.context()))
                return backups.dumps.Restored(REGISTRY.name, dump, "0" * 64, None)
            return whole(host, dump, **more)

        monkeypatch.setattr(backups.dumps, "restore_database", forgetful)
        with pytest.raises(RunbookError, match=f"the drill ended after the loss: the machine db-1 holds nothing of {REGISTRY.name}"):
            opened.disaster.drill("database", confirm=single.name)
        ran(single, "restore", "--yes")

    def test_a_registry_of_an_older_backup_fails_the_drill(self, opened: Deployment, single: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
        """Everything boots and answers: only what was written tells."""
        whole, older = backups.dumps.restore_database, opened.backups.made()[-1]
        part = next(part for part in older.databases if part.name == REGISTRY.name)

        def mistaken(host: Any, dump: str, **more: Any) -> Any:
            if REGISTRY.name in dump:
                way = opened.backups.store.way_out(older.folder, part.file).wire()
                dump = backups.dumps.fetch_dump(host, part.name, way, part.sha256, part.rows)
            return whole(host, dump, **more)

        monkeypatch.setattr(backups.dumps, "restore_database", mistaken)
        with pytest.raises(ChecksFailed, match="All assets written before the backup are there"):
            opened.disaster.drill("database", confirm=single.name)
        ran(single, "plan")


def _fail() -> None:
    raise RunbookError("S3 is away", "s3", "wait")


def test_everything_is_lost_of_two_tiers_and_both_are_back_and_chapter_08_loses_the_database(apart: Deployed, tmp_path: Path) -> None:
    ran(apart, "run", "--to", "05")
    deployment = apart.open()
    before = {name: machine.id for name, machine in deployment.instances().items()}
    drilled(apart, "everything")
    after = {name: machine.id for name, machine in deployment.instances().items()}
    deployment.close()
    assert before.keys() == after.keys() and not {*before.values()} & {*after.values()}, "every machine is another one"
    asked = {"params_file": apart.params, "overrides": dict(apart.overrides), "lose": "database", "confirm": apart.name}
    command = [sys.executable, "-m", "papermill", "notebooks/08_second_day.ipynb", str(tmp_path / "out.ipynb"), "-y", json.dumps(asked)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "RUNBOOK_RUNS": str(tmp_path / "runs"), "RUNBOOK_HEADLESS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json")]  # other parameters begin a run of their own
    assert [result["recovery"]["lose"] for result in results if result["recovery"]] == ["database"]


def test_accounts_and_the_application_of_an_as_cluster_come_back(workers: Deployed) -> None:
    ran(workers, "run")
    assert drilled(workers, "everything")["recovery"]["what"] == "accounts"
