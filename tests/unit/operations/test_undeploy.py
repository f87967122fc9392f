"""An archive is taken away as often as one likes: from wherever it still is, also after a kill; that no node has it is said and is no error."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runbook_lib.errors import HostError
from runbook_lib.operations import deploy_archive
from runbook_lib.roles import appserver, carbon
from runbook_lib.ssh import Completed
from tests.fakes import context

CTX = context("as-cluster")
BASE = f"{carbon.home_of(CTX.spec)}/{appserver.DEPLOYMENT}/webapps"
NODES = ("as-manager-1", "as-worker-1", "as-worker-2")
WHOLE = dict.fromkeys(NODES, ("own.war", "own/index.html"))


class Node:
    """A host whose applications lie in a folder here; what is not deployed any more, its product takes away at once."""

    def __init__(self, name: str, base: Path, files: tuple[str, ...]):
        self.name, self.base = name, base
        for file in files:
            (base / file).parent.mkdir(parents=True, exist_ok=True)
            (base / file).touch()

    def run(self, command: str, stdin: bytes = b"", timeout: float = 0) -> Completed:
        if "systemctl" in command:  # the pull: what the manager has not is deleted
            (self.base / "own.war").unlink(missing_ok=True)
        if "left=" in stdin.decode() and not (self.base / "own.war").exists():
            subprocess.run(["rm", "-rf", self.base / "own"], check=True)
        done = subprocess.run(["sh"], input=stdin.replace(BASE.encode(), str(self.base).encode()), capture_output=True)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


class Hosts(dict):
    def each(self, work, names):
        return {name: work(self[name]) for name in names}


def cluster(folder: Path, files: dict[str, tuple[str, ...]]) -> Hosts:
    return Hosts({name: Node(name, folder / name, files.get(name, ())) for name in NODES})


@pytest.mark.parametrize(
    ("there", "changed"),
    [
        (WHOLE, True),
        (WHOLE | {"as-manager-1": ("own/index.html",)}, True),
        (WHOLE | {"as-manager-1": ()}, True),
        ({"as-worker-2": ("own/index.html",)}, True),
        ({}, False),
        (dict.fromkeys(NODES, ("other.war",)), False),
    ],
    ids=["deployed", "killed after the manager", "killed at the workers", "left on one", "gone already", "another name"],
)
def test_in_the_end_no_node_has_it(tmp_path: Path, there: dict[str, tuple[str, ...]], changed: bool) -> None:
    hosts = cluster(tmp_path, there)
    done = deploy_archive.undeploy(hosts, CTX, "own.war", seconds=1)  # type: ignore[arg-type]
    assert done.changed == changed and set(done.seconds) == set(NODES)
    assert not any((node.base / name).exists() for node in hosts.values() for name in ("own.war", "own"))
    assert ("nothing to take away: no node has own.war" in str(done)) == (not changed)
    assert not deploy_archive.undeploy(hosts, CTX, "own.war", seconds=1).changed, "and again"  # type: ignore[arg-type]


def test_a_folder_that_stays_is_named_with_its_node(tmp_path: Path) -> None:
    hosts = cluster(tmp_path, WHOLE)
    hosts["as-worker-1"].run = lambda command, stdin=b"", timeout=0: Completed(3 if b"left=" in stdin else 0, "", "")
    with pytest.raises(HostError, match=r"as-worker-1 still has own\.war"):
        deploy_archive.undeploy(hosts, CTX, "own.war", seconds=1)  # type: ignore[arg-type]


HOME = carbon.home_of(CTX.spec)
APP = "INFO {org.wso2.carbon.application.deployer.internal.ApplicationManager} -  "
ENDED = f"{APP}Successfully Undeployed Carbon Application : Orders_1.0.0 {{super-tenant}}"
FAULTY = f"INFO {{x.CappAxis2Deployer}} -  Undeploying Faulty Carbon Application On : {HOME}/repository/deployment/server/carbonapps/own.car"
SERVICE = "INFO {org.apache.axis2.deployment.ServiceDeployer} -  Undeploying Web service: own"
LOGGED = {
    "a Carbon application": ("own.car", [f"{APP}Undeploying Carbon Application : Orders_1.0.0...", ENDED], True),
    "one that never started": ("own.car", [FAULTY], True),
    "a Carbon application that is being ended": ("own.car", [f"{APP}Undeploying Carbon Application : Orders_1.0.0..."], False),
    "another that never started": ("own.car", [FAULTY.replace("own.car", "its-own.car")], False),
    "a service": ("own.aar", [SERVICE], True),
    "another service": ("own.aar", [f"{SERVICE}er"], False),
    "nothing": ("own.aar", [], False),
}


class Serving:
    """A host whose product, when it looks, logs `says` of the archive that is not there any more. `there`: whether the archive is in the beginning."""

    def __init__(self, name: str, root: Path, archive: str, says: list[str], there: bool = True):
        self.name, self.root, self.says = name, root, says
        self.archive = root / appserver.DEPLOYMENT / deploy_archive.FOLDERS[Path(archive).suffix] / archive
        self.log = root / carbon.LOG
        for folder in (self.archive.parent, self.log.parent):
            folder.mkdir(parents=True)
        if there:
            self.archive.touch()
        self.log.write_text("".join(f"[2026-11-20 10:00:00,000] {line} {{x.y}}\n" for line in (ENDED, FAULTY, SERVICE)), "utf-8")

    def run(self, command: str, stdin: bytes = b"", timeout: float = 0) -> Completed:
        if "systemctl" in command:
            self.archive.unlink(missing_ok=True)
        if "left=" in stdin.decode() and not self.archive.exists():
            with self.log.open("a", encoding="utf-8") as log:
                log.writelines(f"[2026-11-21 10:00:00,000] {line} {{x.y}}\n" for line in self.says)
        done = subprocess.run(["sh"], input=stdin.replace(HOME.encode(), str(self.root).encode()), capture_output=True)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(("archive", "says", "ended"), LOGGED.values(), ids=LOGGED)
def test_what_is_no_web_application_is_gone_when_the_product_says_that_it_ended(tmp_path: Path, archive: str, says: list[str], ended: bool) -> None:
    hosts = Hosts({name: Serving(name, tmp_path / name, archive, says) for name in NODES})
    if ended:
        assert set(deploy_archive.undeploy(hosts, CTX, archive, seconds=1).seconds) == set(NODES)  # type: ignore[arg-type]
    else:
        with pytest.raises(HostError, match=rf"as-manager-1 has no {archive} any more, but did not log within 1 s that it stopped serving it"):
            deploy_archive.undeploy(hosts, CTX, archive, seconds=1)  # type: ignore[arg-type]


def test_a_node_that_had_no_such_archive_has_nothing_to_say_of_it(tmp_path: Path) -> None:
    hosts = Hosts({name: Serving(name, tmp_path / name, "own.aar", [SERVICE] if name == NODES[2] else [], name == NODES[2]) for name in NODES})
    assert deploy_archive.undeploy(hosts, CTX, "own.aar", seconds=1).changed  # type: ignore[arg-type]
