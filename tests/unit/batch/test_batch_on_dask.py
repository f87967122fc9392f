"""A batch on Dask: a scheduler and two workers, each a process of its own with TLS on loopback, and a workspace of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from runbook_lib import __version__, pki
from runbook_lib.aws.client import Aws
from runbook_lib.spec.sections import CloudSpec
from runbook_lib.waiting import wait_until
from tests.conftest import ROOT
from tests.support.batch_workspace import Workspace

pytest_plugins = ["tests.support.aws_endpoint"]
pytestmark = pytest.mark.slow


class Cluster:
    """A scheduler and the workers that are started; all end with `close`."""

    def __init__(self, folder: Path):
        self.folder = folder
        authority = pki.make_ca("dask of a test")
        certificate, key = pki.issue(authority, ["127.0.0.1"], peer=True)
        for name, text in (("ca.pem", authority.cert_pem), ("cert.pem", certificate), ("key.pem", key)):
            (folder / name).write_text(text)
        role = {"key": str(folder / "key.pem"), "cert": str(folder / "cert.pem")}
        tls = {"ca-file": str(folder / "ca.pem"), **{name: role for name in ("scheduler", "worker", "client")}}
        settings = {"distributed": {"comm": {"require-encryption": True, "tls": tls}, "scheduler": {"dashboard": {"status": {"job-stream-length": 10}}}}}
        (folder / "dask.yaml").write_text(yaml.safe_dump(settings))
        self.environment = {**os.environ, "DASK_CONFIG": str(folder), "PYTHONPATH": str(ROOT)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Start the scheduler, and wait until it says where it is."""
        place = self.folder / "scheduler.json"
        self._start(self.folder, "scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place))
        said = wait_until(lambda: place.exists() and place.read_text(), 60, pause=0.2, enough=lambda text: str(text).rstrip().endswith("}"))
        assert said, "the scheduler writes its file, from its brace to its brace"
        self.address = str(yaml.safe_load(str(said))["address"])

    def worker(self, name: str, nanny: bool = False, **more: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a worker, in a workspace like that of the batch; return it with its folder once the scheduler knows it."""
        folder = self.folder / name
        folder.mkdir()
        for shared in ("notebooks", "params"):
            shutil.copytree(self.folder / shared, folder / shared)
        kind = "--nanny" if nanny else "--no-nanny"
        process = self._start(folder, "worker", self.address, kind, "--nthreads", "1", "--name", name, "--no-dashboard", **more)
        assert wait_until(lambda: "Registered to:" in (folder / "worker.log").read_text(), 60, pause=0.1), "the worker has joined"
        return process, folder

    def _start(self, folder: Path, *words: str, **more: str) -> subprocess.Popen[bytes]:
        # what a chapter of the test notes is shared; runs and params are each worker's own
        environment = {**self.environment, "RUNBOOK_HOME": str(folder), "RUNBOOK_RUNS": str(folder / "runs"), "NOTES": str(self.folder), **more}
        with open(folder / f"{words[0]}.log", "wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "dask", *words], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@pytest.fixture
def here(tmp_path: Path, aws_config: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path))
    return Workspace(tmp_path, aws_config)


@pytest.fixture
def cluster(here: Workspace) -> Iterator[Cluster]:
    made = Cluster(here.folder)
    try:
        made.begin()
        yield made
    finally:
        made.close()


def states(here: Workspace) -> dict[str, tuple[str, str]]:
    return {word: (row["state"], row["words"]) for word, row in here.found().items()}


def test_workers_do_what_this_machine_does_and_the_evidence_comes_back(here: Workspace, cluster: Cluster) -> None:
    here.sweep(["well", "unreachable-once", "refused"])
    local, _ = here.run("batch", "sweep.yaml", "--jobs", "2")
    expected = states(here)
    for file in here.folder.glob("*.tries"):
        file.unlink()
    folders = [cluster.worker(name)[1] for name in ("one", "two")]
    status, said = here.run("batch", "sweep.yaml", "--scheduler", cluster.address)
    assert status == local == 1, said
    assert states(here) == expected
    assert "2 at once (2 workers at tls://" in said
    reports = [here.folder / row["report"] for row in here.found().values()]
    assert all(report.is_file() and report.parent.parent.parent == here.folder / "runs" for report in reports)
    assert any((folder / "runs").exists() for folder in folders), "it was done there"


def test_a_worker_that_is_killed_loses_nothing_and_nothing_is_done_twice(here: Workspace, cluster: Cluster) -> None:
    here.sweep(["waits-once", "well", "other", "third"], retries=0)
    first, _ = cluster.worker("one")
    cluster.worker("two")
    batch = here.begin("batch", "sweep.yaml", "--scheduler", cluster.address)
    try:
        assert wait_until(lambda: here.tries("waits-once"), 200, pause=0.2), "the run that waits"
        at_work = next(name for name in ("one", "two") if (here.folder / name / "runs/s-waitsonce").exists())
        victim = first if at_work == "one" else cluster._processes[-1]
        os.killpg(victim.pid, signal.SIGKILL)
        said, _ = batch.communicate(timeout=240)
    finally:
        batch.kill()
    assert batch.returncode == 0, said
    assert here.tries("waits-once") == ["begun", "begun", "ended"]
    assert [here.tries(word) for word in ("well", "other", "third")] == [["begun", "ended"]] * 3


def test_an_interrupt_reaches_the_workers(here: Workspace, cluster: Cluster) -> None:
    here.sweep(["waits-once"])
    cluster.worker("one")
    batch = here.begin("batch", "sweep.yaml", "--scheduler", cluster.address)
    try:
        assert wait_until(lambda: here.tries("waits-once"), 200, pause=0.2), "the run that waits"
        batch.send_signal(signal.SIGINT)
        said, _ = batch.communicate(timeout=120)
    finally:
        batch.kill()
    assert states(here)["waits-once"] == ("stopped", "the batch was stopped"), said


def test_evidence_goes_to_a_bucket_and_a_bucket_that_refuses_is_one_error(here: Workspace, cluster: Cluster, aws_config: Path) -> None:
    s3 = Aws(CloudSpec(aws_config=str(aws_config))).client("s3")
    s3.create_bucket(Bucket="sweeps")
    here.sweep(["well"])
    cluster.worker("one")
    status, said = here.run("batch", "sweep.yaml", "--scheduler", cluster.address, "--evidence", "s3://sweeps/of/today")
    assert status == 0, said
    report = here.found()["well"]["report"]
    assert report.startswith("s3://sweeps/of/today/s-well/") and report.endswith("/report.html")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="sweeps")["Contents"]]
    assert {key.rpartition("/")[2] for key in keys} >= {"journal.jsonl", "result.json", "report.html", "02_install_mysql.ipynb"}
    before = here.tries("well")
    status, said = here.run("batch", "sweep.yaml", "--scheduler", cluster.address, "--evidence", "s3://absent/x")
    assert status == 1 and "evidence does not get into s3://absent" in said
    assert here.tries("well") == before, "refused before anything was begun"


REFUSED: dict[str, tuple[list[str], str]] = {
    "a scheduler that is not there": (["--scheduler", "tls://127.0.0.1:9"], "no Dask scheduler answers"),
    "an address that is none": (["--scheduler", "nowhere"], "no Dask scheduler answers"),
    "evidence that goes nowhere": (["--evidence", "/tmp/x"], "no address in S3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_reached_is_one_error_before_anything_is_begun(here: Workspace, cluster: Cluster, case: str) -> None:
    words, says = REFUSED[case]
    here.sweep(["well"])
    status, said = here.run("batch", "sweep.yaml", *words)
    assert status == 1 and says in said and "Traceback" not in said
    assert not (here.folder / "runs").exists()


def refused(here: Workspace, cluster: Cluster, words: str) -> str:
    """What the batch says once it is refused with these words: a worker takes a moment to register."""
    said: list[str] = []

    def tried() -> bool:
        status, text = here.run("batch", "sweep.yaml", "--scheduler", cluster.address)
        said.append(text)
        return status == 1 and words in text

    assert wait_until(tried, 60, pause=1), said
    assert not (here.folder / "runs").exists()
    return said[-1]


def test_a_scheduler_without_workers_is_refused(here: Workspace, cluster: Cluster) -> None:
    here.sweep(["well"])
    assert "dask worker ADDRESS --no-nanny" in refused(here, cluster, "has no workers")


def test_a_worker_of_another_version_is_refused(here: Workspace, cluster: Cluster, tmp_path: Path) -> None:
    here.sweep(["well"])
    older = tmp_path / "older"
    older.mkdir()
    (older / "sitecustomize.py").write_text("import runbook_lib\nrunbook_lib.__version__ = '0.1.9'\n")
    cluster.worker("old", PYTHONPATH=f"{older}:{ROOT}")
    assert f"has 0.1.9, this is {__version__}" in refused(here, cluster, "another version")


def test_a_worker_that_may_not_begin_processes_is_refused(here: Workspace, cluster: Cluster) -> None:
    here.sweep(["well"])
    cluster.worker("nursed", nanny=True)
    assert "--no-nanny" in refused(here, cluster, "may not begin processes")
