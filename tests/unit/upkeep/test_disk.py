"""What a plan says of a node's disk that ends: the files there that no run brings back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.converge.agent import homes
from runbook_lib.errors import HostError
from runbook_lib.operations.upkeep import disk
from runbook_lib.roles import appserver
from runbook_lib.roles.carbon_settings import home_of
from runbook_lib.roles.context import Context, Download
from runbook_lib.ssh import Completed
from tests.fakes import context_with_keys
from tests.support.local_host import LocalHost

PACK = {"bin/version.txt": "v5.3.0", "repository/conf/axis2/axis2.xml": "ours", "repository/components/lib/shipped.jar": "shipped", "lib/core.jar": "core"}
SERVERS = "repository/deployment/server"


class Node(LocalHost):
    """This machine, with the node's home in a folder here."""

    def run(self, command: str, stdin: bytes = b"", *rest: Any) -> Completed:
        [(path, here)] = self.moved.items()
        return super().run(command, stdin.replace(path.encode(), here.encode()), *rest)


class Silent:
    name = "as-worker-1"

    def run(self, *_: Any) -> Completed:
        raise HostError("no answer on port 22\nsince 10:00", "as-worker-1")


def at_home(tmp_path: Path) -> tuple[Context, Path]:
    """A node whose home is as its pack was unpacked, and its context."""
    home = tmp_path / "home"
    for path, text in PACK.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    listing = {path: (*homes.checksum(str(home / path)), 0o644) for path in PACK}
    homes.write_manifest(str(home), listing)
    (home / ".runbook-archive").write_text("cd" * 32)
    return replace(context_with_keys("as-cluster"), pack=Download("cd" * 32, member=lambda name: PACK.get(name, "").encode(), listing=lambda: listing)), home


@pytest.mark.parametrize(
    ("written", "lost"),
    [
        ({}, []),
        ({"repository/components/dropins/own.jar": "own"}, ["- repository/components/dropins/own.jar"]),
        ({"repository/components/lib/shipped.jar": "patched"}, ["- repository/components/lib/shipped.jar"]),
        ({"lib/core.jar": "patched"}, ["- lib/core.jar (changed since it was unpacked)"]),
        ({"repository/conf/own.properties": "own"}, ["- repository/conf/own.properties (added since)"]),
        ({"repository/components/lib/shipped.jar": None}, ["- repository/components/lib/shipped.jar (removed)"]),
        ({"repository/conf/axis2/axis2.xml": "as the runbook writes it"}, []),
        ({f"{SERVERS}/webapps/own.war": "own"}, []),  # comes back from another node
        ({f"{SERVERS}/webapps/exploded/index.html": "own"}, [f"- {SERVERS}/webapps/exploded/index.html"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_people_changed_in_a_home_is_named(tmp_path: Path, written: dict[str, str | None], lost: list[str]) -> None:
    ctx, home = at_home(tmp_path)
    for path, text in written.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).unlink() if text is None else (home / path).write_text(text)
    host: Any = Node("as-worker-1", {home_of(ctx.spec): str(home)})
    change = disk.lost_with(host, appserver.desired(ctx.topology.node("as-worker-1"), ctx), deployed_elsewhere=True)
    assert (change.diff.splitlines() if change else []) == lost
    assert change is None or (change.verb, "that no run brings back" in change.summary) == (disk.LOSE, True)


def test_what_was_deployed_is_lost_with_the_only_node_that_has_it(tmp_path: Path) -> None:
    ctx, home = at_home(tmp_path)
    (home / f"{SERVERS}/carbonapps").mkdir(parents=True)
    (home / f"{SERVERS}/carbonapps/own.car").write_text("own")
    host: Any = Node("as-worker-1", {home_of(ctx.spec): str(home)})
    change = disk.lost_with(host, appserver.desired(ctx.topology.node("as-worker-1"), ctx), deployed_elsewhere=False)
    assert change and change.diff == f"- {SERVERS}/carbonapps/own.car"


def test_of_a_home_whose_packs_files_nobody_noted_it_is_not_known(tmp_path: Path) -> None:
    ctx, home = at_home(tmp_path)
    (home / homes.MANIFEST).unlink()
    host: Any = Node("as-worker-1", {home_of(ctx.spec): str(home)})
    change = disk.lost_with(host, appserver.desired(ctx.topology.node("as-worker-1"), ctx), deployed_elsewhere=True)
    assert change and change.summary.endswith("is not known: nobody noted what its pack brought")


def test_a_node_that_does_not_answer_may_hold_anything(tmp_path: Path) -> None:
    ctx, _ = at_home(tmp_path)
    silent: Any = Silent()
    change = disk.lost_with(silent, appserver.desired(ctx.topology.node("as-worker-1"), ctx), deployed_elsewhere=True)
    assert change and change.verb == disk.LOSE and change.summary.endswith("is not known: no answer on port 22")
