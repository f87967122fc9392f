"""Another archive in the place of a program's home: what is carried over, what stays behind, what a plan foresees, and a cut in the middle."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.converge import engine
from runbook_lib.converge.agent import homes
from runbook_lib.converge.archive import Archive, Home
from runbook_lib.converge.edits import TextSet
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.resources import Absent, Directory, Edited, Exec, File, Resource
from runbook_lib.errors import HostError
from tests.support.local_host import LocalHost, fleet_of

OWNER = subprocess.run(["sh", "-c", "echo $(id -un):$(id -gn)"], capture_output=True, text=True).stdout.strip()
ROOM = "shutil.disk_usage(os.path.dirname(path)).free"
RULES = {
    "places": ["apps/*", "lib"],
    "whole": ["db", "logs"],
    "linked": ["logs"],
    "made": ["tmp/*", ".runbook-*"],
    "unpacked": [".war"],
    "ours": ["conf/our.xml", "conf/extra", "lib/driver.jar"],
}
OLD = {
    "apps/web/shipped/a": "1",
    "apps/web/shipped/b": "1",
    "apps/web/gone.war": "1",
    "lib/x.jar": "1",
    "conf/our.xml": "port=1\n",
    "conf/z.xml": "1",
    "v": "P v1.0",
}
NEW = OLD | {"apps/web/shipped/b": "2", "lib/new.jar": "2", "v": "P v2.0"}
DIFFERENCES = [  # (what others did, what becomes of it)
    ({"apps/web/own.war": "w"}, ("carry", "apps/web/own.war")),
    ({"apps/web/own.war": "w", "apps/web/own/index.html": "unpacked"}, ("carry", "apps/web/own.war")),
    ({"apps/web/exploded/index.html": "h"}, ("carry", "apps/web/exploded/index.html")),
    ({"apps/web/shipped/a": "by hand"}, ("carry", "apps/web/shipped/a")),
    ({"apps/web/shipped/b": "by hand"}, ("left", "apps/web/shipped/b")),
    ({"apps/web/gone.war": None}, ("remove", "apps/web/gone.war")),
    ({"lib/mine.jar": "m"}, ("carry", "lib/mine.jar")),
    ({"lib/new.jar": "mine"}, ("left", "lib/new.jar")),
    ({"lib/new.jar": "2"}, None),
    ({"conf/z.xml": "by hand"}, ("left", "conf/z.xml")),
    ({"conf/z.xml": None}, ("left", "conf/z.xml")),
    ({"conf/mine.xml": "m"}, ("left", "conf/mine.xml")),
    ({"conf/our.xml": "port=2\n"}, ("anew", "")),
    ({"tmp/x": "t", "db/data": "d", "logs/l": "l"}, None),
]


def zipped(folder: Path, name: str, files: dict[str, str]) -> tuple[str, str, Home]:
    """A zip below a top folder: its URL, its sha256, and the home that it makes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        out.writestr(zipfile.ZipInfo("product/"), "")
        for path, text in files.items():
            entry = zipfile.ZipInfo(f"product/{path}")
            entry.external_attr = 0o640 << 16
            out.writestr(entry, text)
    (folder / name).write_bytes(made.getvalue())
    with zipfile.ZipFile(made) as z:
        listing = {e.filename.removeprefix("product/") or "./": (e.file_size, e.CRC, e.external_attr >> 16 & 0o777) for e in z.infolist()}
    lists: dict[str, Any] = {key: tuple(value) for key, value in RULES.items()}
    home = Home("", **lists, version="v", listing=listing, member=lambda path: files[path].encode())
    return f"file://{folder / name}", hashlib.sha256(made.getvalue()).hexdigest(), home


@dataclass
class Node:
    """A host on which the old archive is unpacked."""

    folder: Path
    host: LocalHost

    def __post_init__(self) -> None:
        self.home = self.folder / "opt/home"
        self.home.parent.mkdir()
        self.converge(*self.wish("old.zip", OLD))

    def wish(self, name: str, files: dict[str, str]) -> list[Stage]:
        url, sha256, home = zipped(self.folder, name, files)
        return [
            Stage("pack", (Archive(str(self.home), sha256, url, OWNER, home),)),
            Stage("settings", tuple(self.settings())),
        ]

    def settings(self) -> list[Resource]:
        base = OLD["conf/our.xml"].encode()
        return [
            Directory(f"{self.home}", 0o750, OWNER),
            Directory(f"{self.home}/apps/web", 0o750, OWNER),
            Directory(f"{self.home}/apps/none", 0o750, OWNER),
            Absent(f"{self.home}/apps/absent"),
            Edited(f"{self.home}/conf/our.xml", (TextSet(r"^port=(.*)$", "9443"),), base, 0o600, OWNER),
            File(f"{self.home}/conf/extra", b"x", 0o640, OWNER),
            Exec("a jar", f"test -e {self.home}/lib/driver.jar", f"touch {self.home}/lib/driver.jar", path=f"{self.home}/lib/driver.jar"),
        ]

    def plan(self, *stages: Stage) -> engine.Plan:
        return engine.plan(fleet_of(self.host), {"here": stages})

    def converge(self, *stages: Stage) -> engine.Result:
        return engine.apply(fleet_of(self.host), self.plan(*stages))

    def put(self, files: dict[str, str | None]) -> None:
        for path, text in files.items():
            at = self.home / path
            at.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                at.unlink()
            else:
                at.write_text(text)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, LocalHost("here", {"/var/cache/runbook-archives": f"{tmp_path}/cache"}))


@pytest.mark.parametrize(("done", "becomes"), DIFFERENCES)
def test_what_others_did_is_carried_over_removed_again_or_named(tmp_path: Path, done: dict[str, str | None], becomes: tuple[str, str] | None) -> None:
    listings = [zipped(tmp_path, name, files)[2].listing for name, files in (("old.zip", OLD), ("new.zip", NEW))]
    for path, text in {**OLD, **done}.items():
        (tmp_path / "home" / path).parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (tmp_path / "home" / path).write_text(text)
    homes.write_manifest(str(tmp_path / "home"), listings[0])
    decided = homes.decide(homes.differences(str(tmp_path / "home"), RULES), listings[1], RULES)
    found = {("carry", path) for path in decided["carry"]} | {("remove", path) for path in decided["remove"]}
    found |= {("left", path) for path, _ in decided["left"]} | ({("anew", "")} if decided["anew"] else set())
    assert found == ({becomes} if becomes else set())


def test_where_nobody_noted_what_the_old_archive_brought_only_what_the_new_one_has_nothing_of_is_carried(tmp_path: Path) -> None:
    listing = zipped(tmp_path, "new.zip", NEW)[2].listing
    found = {"known": False, "changed": {}, "removed": []}
    found["added"] = {"apps/web/own.war": [1, 1], "apps/web/shipped/old-only": [1, 1], "lib/x.jar": [9, 9], "lib/mine.jar": [1, 1]}
    decided = homes.decide(found, listing, RULES)
    assert decided["carry"] == ["apps/web/own.war", "lib/mine.jar"]
    assert {path for path, _ in decided["left"]} == {"apps/web", "lib"}


def test_a_plan_foresees_all_that_is_written_anew_and_a_second_run_changes_nothing(node: Node) -> None:
    node.put({"apps/web/own.war": "w", "apps/none/x": "carried", "db/data": "d", "logs/l": "l", "conf/z.xml": "by hand", "apps/web/gone.war": None})
    wish = node.wish("new.zip", NEW)
    planned = node.plan(*wish)
    done = node.converge(*wish)
    assert [(p.change.key, p.change.verb, p.change.summary) for p in planned.pending] == [(p.change.key, p.change.verb, p.change.summary) for p in done.changed]
    assert len(done.changed) == 7  # the archive, three folders, settings, file, jar; what must be absent is
    assert not node.plan(*wish)
    assert {path: (node.home / path).read_text() for path in ("apps/web/own.war", "db/data", "logs/l", "v", "conf/z.xml", "conf/our.xml")} == {
        "apps/web/own.war": "w", "db/data": "d", "logs/l": "l", "v": "P v2.0", "conf/z.xml": "1", "conf/our.xml": "port=9443\n",
    }  # fmt: skip
    assert not (node.home / "apps/web/gone.war").exists() and (node.home / homes.UNPROVEN).exists()
    assert Path(f"{node.home}.previous/conf/z.xml").read_text() == "by hand"
    assert (node.home / "logs/l").samefile(f"{node.home}.previous/logs/l") and not (node.home / "db/data").samefile(f"{node.home}.previous/db/data")


def test_the_plan_names_what_is_carried_what_is_not_and_that_nothing_is_known_about_migrating(node: Node) -> None:
    node.put({"apps/web/own.war": "w", "conf/z.xml": "by hand"})
    words = str(node.plan(*node.wish("new.zip", NEW)))
    for line in (
        "carries 1 file over, leaves 1",
        "P v1.0 -> P v2.0",
        "+ carried over: apps/web/own.war",
        "- not carried over: conf/z.xml (changed since it was unpacked)",
    ):
        assert line in words


@pytest.mark.parametrize("gone", ["renamed away", "aside"])
def test_a_power_cut_between_the_two_renames_is_mended_by_the_next_run(node: Node, gone: str) -> None:
    node.put({"apps/web/own.war": "w"})
    node.home.rename(f"{node.home}{homes.PREVIOUS if gone == 'renamed away' else homes.ASIDE}")
    wish = node.wish("new.zip", NEW)
    assert "+ carried over: apps/web/own.war" in str(node.plan(*wish))
    node.converge(*wish)
    assert (node.home / "v").read_text() == "P v2.0" and (node.home / "apps/web/own.war").exists()
    assert sorted(path.name for path in node.home.parent.iterdir()) == ["home", "home.previous"]


def test_a_home_that_never_served_is_not_the_one_to_go_back_to(node: Node) -> None:
    node.converge(*node.wish("new.zip", NEW))
    node.converge(*node.wish("third.zip", NEW | {"v": "P v3.0"}))
    assert (node.home / "v").read_text() == "P v3.0" and Path(f"{node.home}.previous/v").read_text() == "P v1.0"


def test_what_came_after_the_plan_is_not_lost(node: Node) -> None:
    wish = node.wish("new.zip", NEW)
    archive = wish[0].resources[0]
    fact = engine.ask(node.host, "probe", [archive.question()])["facts"][0]  # type: ignore[arg-type]
    node.put({"apps/web/late.war": "w"})
    with pytest.raises(HostError, match="changed since it was looked at"):
        engine.ask(node.host, "apply", [archive.order(fact)])  # type: ignore[arg-type]
    assert (node.home / "v").read_text() == "P v1.0" and (node.home / "apps/web/late.war").exists()


def test_without_room_for_two_homes_nothing_is_touched(node: Node) -> None:
    wish = node.wish("new.zip", NEW)
    node.host.moved = {**node.host.moved, ROOM: "0"}
    with pytest.raises(HostError, match="No space left for another home") as told:
        node.converge(*wish)
    assert "larger disk" in (told.value.next_step or "") and (node.home / "v").read_text() == "P v1.0"
    shutil.rmtree(node.folder / "cache")
