"""Security updates of the operating system on a cluster that visitors use: listed, installed machine by machine, killed half way, and done again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from runbook_lib.chapters.deployment import Deployment
from tests.support import small_package
from tests.support.deployments import Deployed, on
from tests.support.drift_tools import Running
from tests.support.watched import ended, under_load

pytestmark = pytest.mark.full
NODES = ("store-1", "store-2", "publisher-1", "publisher-2")
ALONE = ("lb-1", "db-1")
EVERY = (*NODES, *ALONE)


@pytest.fixture(scope="module")
def d(separated: Deployed) -> Iterator[Deployment]:
    """The cluster, on whose machines version 1 of a package runs. Afterwards they are without it."""
    deployment = separated.open()
    small_package.install(deployment, EVERY, "1")
    yield deployment
    small_package.remove(deployment, EVERY)
    deployment.close()


def versions(d: Deployment) -> dict[str, tuple[str, str]]:
    """By machine the version that is installed, and the one that runs."""
    return {name: (small_package.installed(d, name), small_package.running(d, name)) for name in EVERY}


def boots(d: Deployment) -> dict[str, str]:
    return {name: small_package.boot(d, name) for name in EVERY}


def noticed(d: Deployed, machine: str) -> str:
    """What the evidence of the newest run says that visitors noticed of a machine."""
    [table] = d.journal("table")
    [found] = [row[-1] for row in table["rows"] if row[0] == machine]
    return str(found)


def test_what_is_pending_is_listed_and_nothing_is_installed(separated: Deployed, d: Deployment) -> None:
    assert small_package.NAME not in ended(separated.cli("patch"))
    small_package.publish(d, ("store-1", "lb-1"), "2")
    said = ended(separated.cli("patch"), 2)
    line = next(line for line in said.splitlines() if f"package {small_package.NAME}" in line)
    assert "store-1, lb-1" in line and "1 → 2 (Debian-Security:12/stable-security)" in line, said
    assert "drain" in said and "interrupt" in said and "--yes" in said
    found = json.loads(ended(separated.cli("patch", "--json"), 2))
    assert found["changes"] == 4 and {row["host"] for row in found["pending"]} == {"store-1", "lb-1"}
    assert [update["name"] for update in found["machines"]["store-1"]["due"]] == [small_package.NAME]
    assert set(versions(d).values()) == {("1", "1")}


def test_under_load_no_get_fails_while_every_node_is_patched_and_one_reboots(separated: Deployed, d: Deployment) -> None:
    small_package.publish(d, EVERY, "1")
    small_package.publish(d, NODES, "2", asks_for_reboot=["store-1"])
    before = boots(d)
    meanwhile = under_load(separated, ("store", "publisher"), lambda: separated.cli("patch", "--yes", seconds=900))
    said = ended(meanwhile.done)
    meanwhile.was_served(said)
    assert (meanwhile.nodes("store"), meanwhile.nodes("publisher")) == ({"store-1", "store-2"}, {"publisher-1", "publisher-2"})
    assert versions(d) == dict.fromkeys(NODES, ("2", "2")) | dict.fromkeys(ALONE, ("1", "1"))
    assert {name for name, boot in boots(d).items() if boot != before[name]} == {"store-1"}
    assert all(noticed(separated, name).startswith("0 of ") for name in NODES), said
    assert small_package.NAME not in ended(separated.cli("patch"))
    assert separated.cli("plan").returncode == 0 and not d.nginx.plan()


def test_of_nginx_and_the_database_the_interruption_is_measured(separated: Deployed, d: Deployment) -> None:
    small_package.publish(d, ALONE, "3", asks_for_reboot=ALONE)
    before = boots(d)
    said = ended(separated.cli("patch", "--yes", seconds=900))
    assert {name for name, boot in boots(d).items() if boot != before[name]} == set(ALONE)
    assert {versions(d)[name] for name in ALONE} == {("3", "3")}
    for name in ALONE:
        seconds = re.search(r"interrupted for ([\d.]+) s", noticed(separated, name))
        assert seconds and 0 < float(seconds[1]) < 120, said
    assert separated.cli("plan").returncode == 0


@pytest.mark.parametrize("moment", ["out of Nginx", "half installed", "rebooting"])
def test_killed_half_way_the_same_command_goes_on(separated: Deployed, d: Deployment, moment: str) -> None:
    version = {"out of Nginx": "4", "half installed": "5", "rebooting": "6"}[moment]
    small_package.publish(d, ("store-1", "store-2"), version, asks_for_reboot=["store-1", "store-2"] if moment == "rebooting" else [])
    booted, running = small_package.boot(d, "store-1"), Running(separated, "patch", "--yes")
    if moment == "out of Nginx":
        running.until(lambda: d.nginx.plan(), "store-1 gets no requests")
    elif moment == "half installed":
        running.until(lambda: small_package.installed(d, "store-1") == version, "the package is new on store-1")
    else:
        running.until(lambda: small_package.boot(d, "store-1") != booted, "store-1 has rebooted")
    running.kill()
    if moment == "out of Nginx":
        assert "put back" in ended(separated.cli("patch"), 2), "the list names the node that is left out"
    if moment == "half installed":
        unpack = f"dpkg --unpack {small_package.ARCHIVE}/{small_package.NAME}.deb >/dev/null"  # as a power cut leaves it; the killed run's apt ends first
        on(d, "store-1", f"timeout 60 sh -c 'until {unpack}; do sleep 0.2; done'")
    ended(separated.cli("patch", "--yes", seconds=900))
    assert {versions(d)[name] for name in ("store-1", "store-2")} == {(version, version)}
    assert on(d, "store-1", "dpkg --audit") == "" and not d.nginx.plan()
    assert small_package.NAME not in ended(separated.cli("patch"))
    assert d.greg.verify().ok and d.nginx.verify().ok


def test_the_workers_of_an_as_cluster_are_patched_and_no_get_fails(as_cluster: Deployed, as_deployment: Deployment) -> None:
    workers = ("as-worker-1", "as-worker-2")
    small_package.install(as_deployment, workers, "1")
    small_package.publish(as_deployment, workers, "2", asks_for_reboot=workers)
    try:
        meanwhile = under_load(as_cluster, ("as",), lambda: as_cluster.cli("patch", "--yes", seconds=900))
        said = ended(meanwhile.done)
        meanwhile.was_served(said)
        assert meanwhile.nodes("as") == set(workers)
        assert all(noticed(as_cluster, name).startswith("0 of ") for name in workers), said
        assert {small_package.running(as_deployment, name) for name in workers} == {"2"}
        assert as_cluster.cli("plan").returncode == 0
    finally:
        small_package.remove(as_deployment, workers)
