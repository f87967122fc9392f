"""The guard: when it stops, what it says, and when it must not cry wolf."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.errors import CloudError, DataLost, RunbookError
from runbook_lib.operations import lost_database
from runbook_lib.operations.lost_database import TELLTALE, refuse_lost_data
from runbook_lib.roles.context import Context
from runbook_lib.ssh import Fleet
from tests.conftest import ROOT
from tests.fakes import context_with_keys
from tests.support.local_host import LocalHost

USED = dict.fromkeys(TELLTALE, True)
EMPTY = dict.fromkeys(TELLTALE, False)
LOADED = dict.fromkeys(TELLTALE, "loaded")
SERVER = {"server": "10.11-MariaDB", "mariadb": True, "states": LOADED}
DOWN = {"server": None, "why": "no answer"}

# the machine's state (None: gone), whether all machines are there, what the agent says; the words of the error, None: it must not stop anybody
CASES: dict[str, tuple[str | None, bool, dict[str, Any], str | None]] = {
    "used": ("running", True, {**SERVER, "used": USED}, None),
    "gone": (None, False, {}, "the machine db-1 is gone, and with it WSO2_USER_DB and WSO2_REGISTRY_DB"),
    "made anew": ("running", True, {**SERVER, "used": EMPTY}, "the machine db-1 holds nothing of WSO2_USER_DB and WSO2_REGISTRY_DB"),
    "one of them": ("running", True, {**SERVER, "used": {**USED, "WSO2_REGISTRY_DB": False}}, "holds nothing of WSO2_REGISTRY_DB, but"),
    "without a server yet": ("running", True, {**DOWN, "folders": []}, "holds nothing of"),
    "a server that does not run": ("running", True, {**DOWN, "folders": ["WSO2_REGISTRY_DB", "WSO2_USER_DB", "mysql"]}, None),
    "a machine that is stopped": ("stopped", True, {}, None),
    "a machine that is out of reach": ("running", False, {}, None),
    "a restore of one dump cut short": ("running", True, {**SERVER, "used": EMPTY, "states": {**LOADED, "WSO2_USER_DB": "restoring"}}, "was cut short"),
}


class Deployed:
    """A deployment of one node, whose database's machine is in a state and whose agent gives one answer."""

    def __init__(self, state: str | None, whole: bool, fact: dict[str, Any], ctx: Context, monkeypatch: pytest.MonkeyPatch):
        self.spec, self.topology = ctx.spec, ctx.topology
        self.cloud = SimpleNamespace(aws=None)
        self.instances = lambda: {"db-1": SimpleNamespace(state=state)} if state else {}
        self.running = lambda: Fleet({"db-1": LocalHost("db-1", {})} if state == "running" and whole else {})
        self.answer = lambda question, ask: ask()
        monkeypatch.setattr(lost_database, "ask", lambda *_, **__: {"facts": [fact]})


def store(newest: Any) -> Any:
    return lambda *_: SimpleNamespace(newest=newest, place="s3://backups/shop/")


@pytest.fixture
def ctx(monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(lost_database, "BackupStore", store(lambda: SimpleNamespace(time="2026-11-26T15:00:00Z")))
    plain = context_with_keys("greg-single")
    return Context(plain.spec, plain.topology, plain.secrets, booted=frozenset({"greg-1"}), in_use=True)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_stops_when_something_is_lost_and_never_otherwise(
    monkeypatch: pytest.MonkeyPatch, ctx: Context, case: tuple[str | None, bool, dict[str, Any], str | None]
) -> None:
    state, whole, fact, words = case
    deployment: Any = Deployed(state, whole, fact, ctx, monkeypatch)
    if words is None:
        refuse_lost_data(deployment, ctx)
        return
    with pytest.raises(DataLost, match=words) as stopped:
        refuse_lost_data(deployment, ctx)
    assert "./runbook restore PARAMS" in str(stopped.value)
    if "cut short" not in words:
        assert "2026-11-26T15:00:00Z" in stopped.value.what and "(greg-1)" in stopped.value.what and "--empty" in str(stopped.value.next_step)


def test_a_deployment_that_was_never_in_use_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = context_with_keys("greg-single")
    asked: list[Any] = []
    monkeypatch.setattr(lost_database, "ask", lambda *_, **__: asked.append(1))
    refuse_lost_data(SimpleNamespace(), fresh)  # type: ignore[arg-type]
    assert asked == []


DUMPS = "dumps on db-1: /var/backups/A.sql.gz, /var/backups/B.sql.gz"


@pytest.mark.parametrize(
    ("begun", "way"),
    [
        ("shop/20261126T150000Z-abcd", "./runbook restore PARAMS begins anew with the same backup, with --at another one"),
        (DUMPS, "deployment.mysql.restore(…, confirm=…) with all these dumps again; or ./runbook restore PARAMS, which replaces every database"),
    ],
)
def test_a_restore_that_has_not_ended_stops_whatever_the_telltales_say(monkeypatch: pytest.MonkeyPatch, ctx: Context, begun: str, way: str) -> None:
    half = Context(ctx.spec, ctx.topology, ctx.secrets, in_use=True, restoring=begun)
    deployment: Any = Deployed("running", True, {**SERVER, "used": USED}, ctx, monkeypatch)
    with pytest.raises(DataLost, match=f"a restore of {begun} was cut short: not all of it is there") as stopped:
        refuse_lost_data(deployment, half)
    assert str(stopped.value.next_step).startswith(way)


@pytest.mark.parametrize(
    ("newest", "words"),
    [(lambda: None, "There is no backup in s3://backups/shop/"), (lambda: (_ for _ in ()).throw(CloudError("denied")), "could not be asked: denied")],
)
def test_it_stops_also_without_a_backup_and_without_a_right_to_s3(monkeypatch: pytest.MonkeyPatch, ctx: Context, newest: Any, words: str) -> None:
    deployment: Any = Deployed(None, False, {}, ctx, monkeypatch)
    monkeypatch.setattr(lost_database, "BackupStore", store(newest))
    with pytest.raises(DataLost, match=words):
        refuse_lost_data(deployment, ctx)


@pytest.mark.parametrize(
    ("image", "package", "mariadb", "refused"),
    [
        ("debian-12", "default-mysql-server", True, ""),
        ("debian-12", "mariadb-server", True, ""),
        ("ubuntu-22.04", "mysql-server", False, ""),
        ("debian-sid", "mysql-server", True, "is MariaDB 10.11-MariaDB, and database.package mysql-server is MySQL"),
        ("debian-sid", "mariadb-server", False, "is MySQL 9.7, and database.package mariadb-server is MariaDB"),
        ("ubuntu-22.04", "default-mysql-server", True, "is MariaDB 10.11-MariaDB, and database.package default-mysql-server is MySQL"),
        ("ami-0123456789abcdef0", "default-mysql-server", True, ""),  # of which distribution?
    ],
)
def test_the_package_of_the_other_kind_of_server_is_refused(
    monkeypatch: pytest.MonkeyPatch, ctx: Context, image: str, package: str, mariadb: bool, refused: str
) -> None:
    wanted = context_with_keys("greg-single", cloud={"image": image, "login_user": "me"}, database={"package": package})
    fact = {**SERVER, "server": "10.11-MariaDB" if mariadb else "9.7", "mariadb": mariadb, "used": USED}
    deployment: Any = Deployed("running", True, fact, wanted, monkeypatch)
    if not refused:
        refuse_lost_data(deployment, ctx)
        return
    with pytest.raises(RunbookError, match=refused) as stopped:
        refuse_lost_data(deployment, ctx)
    assert "set database.package back" in str(stopped.value.next_step)


def test_the_command_is_the_one_for_the_workspace_wherever_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    deployment: Any = SimpleNamespace(spec=SimpleNamespace(source=ROOT / "params/greg-single.lab.yaml"))
    assert lost_database._params(deployment) == "params/greg-single.lab.yaml"
