"""What a worker holds comes to a manager that has none of it: archives and folders, without what Tomcat unpacked; what the manager has stays."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.errors import HostError
from runbook_lib.operations import deploy_archive
from runbook_lib.roles import appserver, carbon
from runbook_lib.ssh import Completed, Fleet
from tests.fakes import context_with_keys


class Node:
    """A host whose product's home is a folder here."""

    def __init__(self, name: str, folder: Path):
        self.name, self.base = name, folder / name
        for each in appserver.ARTIFACTS:
            (self.base / each).mkdir(parents=True)

    def put(self, path: str, text: str) -> None:
        (self.base / path).parent.mkdir(parents=True, exist_ok=True)
        (self.base / path).write_text(text)

    def files(self) -> dict[str, str]:
        return {str(path.relative_to(self.base)): path.read_text() for path in self.base.rglob("*") if path.is_file()}

    def run(self, command: str, stdin: bytes = b"", timeout: float = 0) -> Completed:
        here = [text.replace(BASE, str(self.base)).replace("/run/", f"{self.base.parent}/") for text in (command.removeprefix("sudo -n "), stdin.decode())]
        done = subprocess.run(["bash", "-c", here[0]], input=here[1].encode(), capture_output=True)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


CTX = replace(context_with_keys("as-cluster"), booted=frozenset(("as-worker-1", "as-worker-2")), in_use=True)
BASE = f"{carbon.home_of(CTX.spec)}/{appserver.DEPLOYMENT}"


@pytest.fixture
def hosts(tmp_path: Path) -> Any:
    found = Fleet({name: Node(name, tmp_path) for name in ("as-manager-1", "as-worker-1", "as-worker-2")})  # type: ignore[misc]
    for path in ("webapps/own.war", "webapps/own/index.html", "webapps/exploded/index.html", "carbonapps/mine.car", "jaggeryapps/shop/app.jag"):
        found["as-worker-1"].put(path, f"{path} of the worker")
    found["as-worker-1"].put("webapps/shipped/index.html", "of the worker")
    found["as-manager-1"].put("webapps/shipped/index.html", "of the pack")
    return found


def test_a_manager_gets_what_is_deployed_and_keeps_what_it_has(hosts: Any) -> None:
    assert deploy_archive.bring_back(hosts, CTX, "as-manager-1") == "as-worker-1"
    deployed = {
        f"{path}": f"{path} of the worker" for path in ("webapps/own.war", "webapps/exploded/index.html", "carbonapps/mine.car", "jaggeryapps/shop/app.jag")
    }
    assert hosts["as-manager-1"].files() == deployed | {"webapps/shipped/index.html": "of the pack"}
    assert deploy_archive.bring_back(hosts, CTX, "as-manager-1") == "as-worker-1", "killed after it, it is done again"


def test_what_tomcat_unpacked_from_a_carbon_application_is_no_application_of_its_own(hosts: Any) -> None:
    worker = hosts["as-worker-1"]
    with zipfile.ZipFile(worker.base / "carbonapps/orders.car", "w") as car:
        car.writestr("Web_1.0.0/orders-web.war", "")
    worker.put("webapps/orders-web/index.html", "unpacked")
    deploy_archive.bring_back(hosts, CTX, "as-manager-1")
    assert (hosts["as-manager-1"].base / "carbonapps/orders.car").exists()
    assert not (hosts["as-manager-1"].base / "webapps/orders-web").exists()


@pytest.mark.parametrize("booted", [(), ("as-worker-1",)])
def test_where_nothing_was_ever_deployed_nothing_is_brought(hosts: Any, booted: tuple[str, ...]) -> None:
    assert deploy_archive.bring_back(hosts, replace(CTX, booted=frozenset(booted), in_use=False), "as-manager-1") == ""
    assert len(hosts["as-manager-1"].files()) == 1


def test_in_a_restore_no_worker_serves_and_a_manager_gets_what_any_of_them_still_holds(hosts: Any) -> None:
    """Else the workers would remove theirs as soon as they ask the manager: nothing newer than the backup would be left of it."""
    hosts["as-worker-2"].put("carbonapps/other.car", "of the other worker")
    nobody = replace(CTX, booted=frozenset())
    assert deploy_archive.bring_back(hosts, nobody, "as-manager-1") == "as-worker-1, as-worker-2"
    held = hosts["as-manager-1"].files()
    assert held["webapps/own.war"] == "webapps/own.war of the worker" and held["carbonapps/other.car"] == "of the other worker"
    assert held["webapps/shipped/index.html"] == "of the pack"
    assert deploy_archive.bring_back(hosts, nobody, "as-manager-1") == "as-worker-1", "what Tomcat unpacked there only; nothing comes of it"
    assert hosts["as-manager-1"].files() == held


def test_a_worker_without_a_home_has_nothing_to_bring(hosts: Any) -> None:
    shutil.rmtree(hosts["as-worker-1"].base)
    assert deploy_archive.bring_back(hosts, replace(CTX, booted=frozenset()), "as-manager-1") == ""


def test_a_worker_that_cannot_be_read_is_an_error(hosts: Any) -> None:
    hosts["as-worker-1"].base = hosts["as-worker-1"].base / "gone"
    with pytest.raises(HostError, match="does not tell what is deployed"):
        deploy_archive.bring_back(hosts, CTX, "as-manager-1")
