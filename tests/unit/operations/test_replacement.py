"""Which pack runs: asked of the nodes, of which some do not answer and some have none."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.errors import HostError
from runbook_lib.operations import replacement
from runbook_lib.roles.carbon_settings import home_of
from runbook_lib.ssh import Completed, Fleet
from tests.fakes import context_with_keys

OLD, NEW = "ab" * 32, "cd" * 32


@dataclass
class Machine:
    """A node whose home is a folder here, or None when it does not answer."""

    home: Path | None
    at: str

    def run(self, command: str, **_: Any) -> Completed:
        if self.home is None:
            raise HostError("does not answer", "node")
        words = command.removeprefix("sudo -n ").replace(self.at, str(self.home))
        done = subprocess.run(["sh", "-c", words], capture_output=True, text=True)
        return Completed(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("nodes", "runs"),
    [
        (({"stamp": OLD, "version": "WSO2 AS\n v5.3.0\n"}, {"stamp": NEW, "version": "WSO2 AS v6"}), ("WSO2 AS v5.3.0", OLD)),
        ((None, {"stamp": OLD, "version": "WSO2 AS v5.3.0"}), ("WSO2 AS v5.3.0", OLD)),
        (({"version": "unpacked by hand"}, {"stamp": OLD, "version": "WSO2 AS v5.3.0"}), ("WSO2 AS v5.3.0", OLD)),
        (({"stamp": OLD}, None), ("", OLD)),
        ((None, None), None),
    ],
    ids=["the first", "one that does not answer", "one without a stamp", "a pack without a version", "none answers"],
)
def test_the_first_booted_node_that_answers_says_which_pack_runs(
    tmp_path: Path, nodes: tuple[dict[str, str] | None, ...], runs: tuple[str, str] | None
) -> None:
    ctx = replace(context_with_keys("as-cluster"), booted=frozenset({"as-worker-1", "as-worker-2"}))
    hosts: dict[str, Any] = {}
    for name, node in zip(sorted(ctx.booted), nodes, strict=True):
        home = tmp_path / name
        (home / "bin").mkdir(parents=True)
        for file, text in (node or {}).items():
            (home / {"stamp": ".runbook-archive", "version": "bin/version.txt"}[file]).write_text(text + "\n")
        hosts[name] = Machine(None if node is None else home, home_of(ctx.spec))
    assert replacement.running(Fleet(hosts), ctx) == runs
