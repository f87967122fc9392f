"""An archive is taken away as often as one likes: from wherever it still is, also after a kill; that no node has it is said and is no error."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from runbook_lib.errors import HostError
from runbook_lib.operations import deploy_archive
from runbook_lib.roles import appserver, carbon
from runbook_lib.ssh import Completed
from tests.fakes import context

CTX = context("as-cluster")
BASE = f"{carbon.home_of(CTX.spec)}/{appserver.DEPLOYMENT}"
UNPACKED = {"webapps/own.war": "webapps/own", "carbonapps/orders.car": "webapps/orders-web"}
NODES = ("as-manager-1", "as-worker-1", "as-worker-2")
WHOLE = dict.fromkeys(NODES, ("webapps/own.war", "webapps/own/index.html"))


class Node:
    """A host whose applications lie in a folder here; what is not deployed any more, its product takes away at once."""

    def __init__(self, name: str, base: Path, files: tuple[str, ...]):
        self.name, self.base, self.undeploys = name, base, True
        for file in files:
            (base / file).parent.mkdir(parents=True, exist_ok=True)
            (base / file).touch()

    def run(self, command: str, stdin: bytes = b"", timeout: float = 0) -> Completed:
        for archive, unpacked in UNPACKED.items():
            if "systemctl" in command:  # the pull: what the manager has not is deleted
                (self.base / archive).unlink(missing_ok=True)
            if "left=" in stdin.decode() and not (self.base / archive).exists() and self.undeploys:
                subprocess.run(["rm", "-rf", self.base / unpacked], check=True)
        done = subprocess.run(["sh"], input=stdin.replace(BASE.encode(), str(self.base).encode()), capture_output=True)
        return Completed(done.returncode, done.stdout.decode().replace(str(self.base), BASE), done.stderr.decode())


class Hosts(dict):
    def each(self, work, names):
        return {name: work(self[name]) for name in names}


def cluster(folder: Path, files: dict[str, tuple[str, ...]]) -> Hosts:
    return Hosts({name: Node(name, folder / name, files.get(name, ())) for name in NODES})


@pytest.mark.parametrize(
    ("there", "changed"),
    [
        (WHOLE, True),
        (WHOLE | {"as-manager-1": ("webapps/own/index.html",)}, True),
        (WHOLE | {"as-manager-1": ()}, True),
        ({"as-worker-2": ("webapps/own/index.html",)}, True),
        ({}, False),
        (dict.fromkeys(NODES, ("webapps/other.war",)), False),
    ],
    ids=["deployed", "killed after the manager", "killed at the workers", "left on one", "gone already", "another name"],
)
def test_in_the_end_no_node_has_it(tmp_path: Path, there: dict[str, tuple[str, ...]], changed: bool) -> None:
    hosts = cluster(tmp_path, there)
    done = deploy_archive.undeploy(hosts, CTX, "own.war", seconds=1)  # type: ignore[arg-type]
    assert done.changed == changed and set(done.seconds) == set(NODES)
    assert not any((node.base / name).exists() for node in hosts.values() for name in ("webapps/own.war", "webapps/own"))
    assert ("nothing to take away: no node has own.war" in str(done)) == (not changed)
    assert not deploy_archive.undeploy(hosts, CTX, "own.war", seconds=1).changed, "and again"  # type: ignore[arg-type]


def test_a_folder_that_stays_is_named_with_its_node(tmp_path: Path) -> None:
    hosts = cluster(tmp_path, WHOLE)
    hosts["as-worker-1"].run = lambda command, stdin=b"", timeout=0: Completed(3 if b"left=" in stdin else 0, "", "")
    with pytest.raises(HostError, match=r"as-worker-1 still has own\.war"):
        deploy_archive.undeploy(hosts, CTX, "own.war", seconds=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("undeploys", [True, False], ids=["it goes", "it stays"])
def test_of_a_carbon_application_what_the_product_unpacked_from_it_must_be_gone_as_well(tmp_path: Path, undeploys: bool) -> None:
    hosts = cluster(tmp_path, dict.fromkeys(NODES, ("webapps/orders-web/index.html", "carbonapps/other.car")))
    for node in hosts.values():
        with zipfile.ZipFile(node.base / "carbonapps/orders.car", "w") as car:
            car.writestr("Web_1.0.0/orders-web.war", "")
    hosts["as-worker-1"].undeploys = undeploys
    if undeploys:
        assert deploy_archive.undeploy(hosts, CTX, "orders.car", seconds=1).changed  # type: ignore[arg-type]
        assert not any((node.base / name).exists() for node in hosts.values() for name in UNPACKED.values())
    else:
        with pytest.raises(HostError, match=r"as-worker-1 still has orders\.car, or what was unpacked from it"):
            deploy_archive.undeploy(hosts, CTX, "orders.car", seconds=1)  # type: ignore[arg-type]
