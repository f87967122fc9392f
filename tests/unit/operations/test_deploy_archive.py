"""An archive counts as deployed by what the product logs at the end, not by its name in the log; and behind midnight too. The script runs for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.errors import HostError
from runbook_lib.operations import deploy_archive
from runbook_lib.roles import carbon
from runbook_lib.ssh import Completed
from tests.fakes import context

CTX = context("as-cluster")
HOME = carbon.home_of(CTX.spec)
DEPLOYER = "INFO {org.wso2.carbon.application.deployer.internal.ApplicationManager} -  "
AXIS2 = "{org.apache.axis2.deployment.ServiceDeployer} -  "
STUBS = {"sudo": 'shift; exec "$@"', "chown": "", "systemctl": ""}
YESTERDAY = "[2026-11-20 23:59:01,000]  INFO {x} -  app.car and app.aar and app.war were here\n" * 9


class Node:
    """A folder that plays a node of the cluster; its product logs `says` as soon as an archive comes, after `before` has happened to its log."""

    def __init__(self, name: str, root: Path, says: list[str], before: Callable[[Path], object]):
        self.name, self.root, self.says, self.before = name, root, says, before
        self.manager = root.parent / "as-manager-1"
        self.log = root / carbon.LOG
        for folder in (*deploy_archive.FOLDERS.values(), "../../logs"):
            (root / "repository/deployment/server" / folder).mkdir(parents=True, exist_ok=True)
        self.log.write_text(YESTERDAY)
        for stub, text in STUBS.items():
            (root / stub).write_text(f"#!/bin/sh\n{text}\n")
            (root / stub).chmod(0o755)

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        environment = os.environ | {"PATH": f"{self.root}:{os.environ['PATH']}"}
        local = str(self.root)
        done = subprocess.run(
            ["sh", "-c", command.replace(HOME, local)], input=stdin.replace(HOME.encode(), local.encode()), capture_output=True, env=environment
        )
        if "mv " in command or "--no-block" in command:
            if self.root != self.manager:
                shutil.copytree(self.manager / "repository/deployment", self.root / "repository/deployment", dirs_exist_ok=True)
            self.before(self.log)
            with self.log.open("a") as log:
                log.writelines(f"[2026-11-21 00:00:02,000] {line.replace(HOME, local)}\n" for line in self.says)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


class Hosts(dict):
    def each(self, work, names):
        return {name: work(self[name]) for name in names}


def deploy(tmp_path: Path, name: str, says: list[str], before: Callable[[Path], object] = lambda log: None) -> deploy_archive.Deployed:
    archive = tmp_path / name
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("one", name)
    hosts = Hosts({node.name: Node(node.name, tmp_path / node.name, says, before) for node in CTX.topology.wso2_nodes})
    return deploy_archive.deploy(hosts, CTX, archive, seconds=0.5)  # type: ignore[arg-type]


SERVER = f"{HOME}/repository/deployment/server"
BEGINS = f"{DEPLOYER}Deploying Carbon Application : app.car..."
WAR = f"INFO {{x}} -  Deployed webapp: StandardEngine[Catalina].StandardHost[localhost].StandardContext[/app].File[{SERVER}/webapps/app.war]"
AAR = f"INFO {{org.apache.axis2.deployment.DeploymentEngine}} -  Deploying Web service: app.aar - file:{SERVER}/axis2services/app.aar"
SUCCESS = f"{DEPLOYER}Successfully Deployed Carbon Application : Orders_1.0.0 {{super-tenant}}"
NOTHING = "WARN {x} -  No artifacts found to be deployed in this server. Ignoring Carbon Application : app.car"
ERROR = "ERROR {org.wso2.carbon.application.deployer.CappAxis2Deployer} -  Error while deploying carbon application "

DEPLOYED = {
    "a web application": ("app.war", [WAR]),
    "a Carbon application, by its own name": ("app.car", [BEGINS, SUCCESS]),
    "a Carbon application at its second try": ("app.car", [BEGINS, f"{ERROR}{SERVER}/carbonapps/app.car", BEGINS, SUCCESS]),
    "a Carbon application that replaces the one before": (
        "app.car",
        ["WARN {x} -  Carbon Application : app.car has been updated.", f"{DEPLOYER}Undeploying Carbon Application : Orders_1.0.0...", BEGINS, SUCCESS],
    ),
    "a service": ("app.aar", ["INFO {x.DeploymentInterceptor} -  Deploying Axis2 service: Orders {super-tenant}", AAR]),
}
FAILED = {
    "a web application": ("app.war", [f"ERROR {{x}} -  Error while deploying webapp: {SERVER}/webapps/app.war"]),
    "a Carbon application that is being deployed": ("app.car", [BEGINS]),
    "a Carbon application": ("app.car", [BEGINS, f"{ERROR}{SERVER}/carbonapps/app.car"]),
    "one without anything for this server": ("app.car", [BEGINS, NOTHING]),
    "the one before was taken away, no more": ("app.car", [BEGINS, f"{DEPLOYER}Successfully Undeployed Carbon Application : Orders_1.0.0 {{super-tenant}}"]),
    "another one is deployed": ("app.car", [BEGINS, f"{ERROR}{SERVER}/carbonapps/app.car", f"{DEPLOYER}Deploying Carbon Application : my-app.car...", SUCCESS]),
    "a service": ("app.aar", [f"ERROR {AXIS2}The app.aar service, which is not valid, caused org.apache.axis2.deployment.DeploymentException"]),
    "another service is deployed": ("app.aar", [AAR.replace("app.aar", "my-app.aar")]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "says"), DEPLOYED.values(), ids=DEPLOYED)
def test_deployed_is_what_the_product_says_it_has_deployed(tmp_path: Path, name: str, says: list[str]) -> None:
    assert set(deploy(tmp_path, name, says).seconds) == {"as-manager-1", "as-worker-1", "as-worker-2"}


@pytest.mark.parametrize(("name", "says"), FAILED.values(), ids=FAILED)
def test_what_the_product_did_not_deploy_is_an_error_with_its_lines(tmp_path: Path, name: str, says: list[str]) -> None:
    with pytest.raises(HostError, match=rf"as-manager-1 has {name} but did not log its deployment") as error:
        deploy(tmp_path, name, says)
    assert says[-1].replace(HOME, str(tmp_path / "as-manager-1")) in str(error.value) or name not in says[-1]
    assert "were here" not in str(error.value), "that was before"


def renamed(log: Path, today: str = "") -> None:
    log.rename(f"{log}.2026-11-20")
    log.write_text(today)


def behind(log: Path, today: str = "") -> None:
    with log.open("a") as yesterday:
        yesterday.write(f"{WAR.replace(HOME, str(log.parents[2]))}\n")
    renamed(log, today)


MIDNIGHTS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "renamed before the line": (renamed, True),
    "renamed, and today's is longer by now": (lambda log: renamed(log, YESTERDAY * 9), True),
    "renamed behind the line": (behind, False),
    "renamed behind the line, and today's is longer by now": (lambda log: behind(log, YESTERDAY * 9), False),
}


@pytest.mark.parametrize(("midnight", "afterwards"), MIDNIGHTS.values(), ids=MIDNIGHTS)
def test_a_deployment_is_seen_over_midnight(tmp_path: Path, midnight: Callable[[Path], object], afterwards: bool) -> None:
    assert deploy(tmp_path, "app.war", [WAR] if afterwards else [], midnight).changed
