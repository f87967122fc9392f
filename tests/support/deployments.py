"""Deployments that several lab tests share: made once a session, by the command line a user types, in the lab `test`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import nbformat
import pytest

from runbook_lib.chapters.deployment import Deployment, open_deployment
from runbook_lib.chapters.exercises.actions import as_root
from runbook_lib.evidence import runs
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.loader import load_spec
from tests.conftest import ROOT
from tests.support.secret_scan import ProcessWatch

NOTEBOOKS = ROOT / "notebooks"


@dataclass(frozen=True)
class Deployed:
    """One deployment in the test lab: `cli` runs ./runbook's commands on it, `open` is what a notebook would hold."""

    params: str
    overrides: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.overrides["deployment"])

    @property
    def latest(self) -> Path:
        """Folder of the newest run."""
        return (runs.runs_folder() / self.name / "latest").resolve()

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.latest / "result.json").read_text())

    def journal(self, verb: str) -> list[dict[str, Any]]:
        """The newest run's lines of one verb."""
        return [entry for entry in runs.read(self.latest) if entry["verb"] == verb]

    @property
    def whole_run(self) -> Path:
        """Folder of the newest run that executed every chapter."""
        return next(self._whole_runs())

    @property
    def building_run(self) -> Path:
        """Folder of the newest run that executed every chapter and booted the nodes for the first time: what tests did afterwards is not in it."""
        return next(run for run in self._whole_runs() if any(entry["verb"] == runs.FIRST_BOOT for entry in runs.read(run)))

    def _whole_runs(self) -> Iterator[Path]:
        names = [chapter.name for chapter in chapters_of(load_spec(self.params, self.overrides).pattern)]
        newest_first = sorted((runs.runs_folder() / self.name).glob("2*Z*"), reverse=True)
        return (run for run in newest_first if all((run / f"{name}.ipynb").exists() for name in names))

    @property
    def settings(self) -> list[str]:
        """The overrides as words of a command."""
        return [word for key, value in self.overrides.items() for word in ("--set", f"{key}={json.dumps(value)}")]

    def command(self, verb: str, *more: str) -> list[str]:
        """The words of a command. `verb`: also two words, such as "drill disaster"."""
        return [sys.executable, "-m", "runbook_cli", *verb.split(), self.params, *self.settings, *more]

    def cli(self, verb: str, *more: str, seconds: float = 1800, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; output is kept."""
        environment = {**os.environ, **(env or {})}
        return subprocess.run(self.command(verb, *more), cwd=ROOT, capture_output=True, text=True, timeout=seconds, env=environment)

    def open(self, **overrides: Any) -> Deployment:
        return open_deployment(self.params, {**self.overrides, **{key.replace("__", "."): value for key, value in overrides.items()}})


def with_parameters(name: str, deployed: Deployed, folder: Path) -> Path:
    """A copy of a chapter whose parameters cell names this deployment: nbval cannot pass parameters."""
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = re.sub(r"params_file = .*", f"params_file = {deployed.params!r}", cell.source)
    cell.source = re.sub(r"overrides = .*", lambda _: f"overrides = {dict(deployed.overrides)!r}", cell.source)
    if "networks = " in cell.source:  # of a batch: in the lab's range too
        wide = IPv4Network(deployed.overrides["cloud.network"]).supernet(new_prefix=16)
        cell.source = re.sub(r"networks = .*", f"networks = '{wide.network_address + 64 * 256}/20'", cell.source)
    copy = folder / f"{name}.ipynb"
    nbformat.write(book, copy)
    return copy


def network(lab: Any, third: int) -> str:
    """The /24 of the lab's range with that third number: 4 is 10.213.4.0/24 in the usual lab."""
    return f"{lab.lab.network.network_address + 256 * third}/24"


def in_lab(lab: Any, pattern: str, name: str, third: int, **overrides: Any) -> Deployed:
    """A deployment that is not made yet, in the lab's network `third`. `overrides`: params keys with `__` for the dot (`nodes__store=1`)."""
    given = {"deployment": name, "cloud.aws_config": str(lab.aws_config), "cloud.network": network(lab, third)}
    return Deployed(f"params/{pattern}.lab.yaml", given | {key.replace("__", "."): value for key, value in overrides.items()})


@contextmanager
def made(deployed: Deployed, *options: str) -> Iterator[Deployed]:
    """Run its chapters; gone afterwards with everything it made."""
    try:
        done = deployed.cli("run", *options)
        assert done.returncode == 0, f"{deployed.name} was not made:\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
        yield deployed
    finally:
        deployed.cli("destroy", "--yes")


def verify_evidence(run: Path, deployed: Deployed | None = None) -> subprocess.CompletedProcess[str]:
    """`./runbook verify-evidence` on a run, with the deployment to ask, or without one."""
    asked = [deployed.params, *deployed.settings] if deployed else []
    return subprocess.run([sys.executable, "-m", "runbook_cli", "verify-evidence", str(run), *asked], cwd=ROOT, capture_output=True, text=True, timeout=120)


def on(deployment: Deployment, node: str, script: str) -> str:
    """What root's bash on a node prints for `script`. Raises HostError when it fails."""
    return as_root(deployment, node, script)


@pytest.fixture(scope="session")
def separated(lab: Any) -> Iterator[Deployed]:
    """The repaired cluster, as its params file has it. Whoever changes it puts it back."""
    with made(in_lab(lab, "greg-separated", "test-separated", 1)) as deployed:
        yield deployed


@pytest.fixture(scope="session")
def original(lab: Any) -> Iterator[Deployed]:
    """The pattern that was first proposed and leaks, built and not proven. Whoever changes it puts it back."""
    with made(in_lab(lab, "greg-original", "test-original", 7), "--to", "05") as deployed:
        yield deployed


@dataclass(frozen=True)
class Watched:
    """A deployment that was made under watch: `processes` are all that a user of this machine could see meanwhile."""

    deployed: Deployed
    processes: ProcessWatch


@pytest.fixture(scope="session")
def watched(lab: Any) -> Iterator[Watched]:
    """The smallest cluster. Whoever changes it puts it back."""
    with ExitStack() as stack:
        with ProcessWatch() as processes:
            deployed = stack.enter_context(made(in_lab(lab, "greg-single", "test-single", 5)))
        yield Watched(deployed, processes)


@pytest.fixture(scope="session")
def as_cluster(lab: Any) -> Iterator[Deployed]:
    """The AS cluster, as its params file has it; the drills have tests of their own."""
    with made(in_lab(lab, "as-cluster", "test-as", 4, drill=False)) as deployed:
        yield deployed


@pytest.fixture(params=["separated", "as_cluster"])
def either(request: pytest.FixtureRequest) -> Deployed:
    """A cluster of each product, one after the other. Whoever changes it puts it back."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def either_opened(either: Deployed) -> Iterator[Deployment]:
    deployment = either.open()
    yield deployment
    deployment.close()


@pytest.fixture(scope="session")
def as_deployment(as_cluster: Deployed) -> Iterator[Deployment]:
    """The AS cluster as a notebook holds it."""
    deployment = as_cluster.open()
    yield deployment
    deployment.close()
