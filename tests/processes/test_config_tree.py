"""A configuration tree on a real Nginx: switched whole, tested first, rolled back, drift shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from runbook_lib.converge.config_tree import ConfigTree, TreeFile
from runbook_lib.errors import HostError
from tests.conftest import need
from tests.support.lab_fixtures import eventually
from tests.support.local_host import LocalHost, converged, planned

ADDRESS = f"127.{64 + os.getpid() % 128}.1.1"
HOST = LocalHost("lb-1", {})
IMPATIENT = LocalHost("lb-1", {"RELOAD_SECONDS = 15": "RELOAD_SECONDS = 3"})


def tree(folder: Path, port: int = 18099, text: str = "one", extra: str = "", **settings) -> ConfigTree:
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration = f"""
user root; pid {folder}/pid; error_log {folder}/error.log; {extra}
events {{}}
http {{
  access_log off; {temporary}
  server {{ listen {ADDRESS}:{port}; location = /version {{ return 200 @VERSION@; }} location = /text {{ root @TREE@; }} }}
}}
"""
    nginx = ("nginx", "-c", f"{folder}/nginx.conf")
    plain, secret = TreeFile("text", text.encode()), TreeFile("key", text.encode(), 0o600, True)
    wish = {
        "root": f"{folder}/tree", "link": f"{folder}/nginx.conf", "entry": "nginx.conf",
        "files": (TreeFile("nginx.conf", configuration.encode()), plain, secret),
        "test": ("nginx", "-t", "-q", "-c", "{entry}"), "active": ("sh", "-c", f"kill -0 $(cat {folder}/pid)"),
        "reload": (*nginx, "-s", "reload"), "status": f"{ADDRESS}:18099",
    }  # fmt: skip
    return ConfigTree(**{**wish, **settings})


def served() -> str:
    return httpx2.get(f"http://{ADDRESS}:18099/text").text


def serves(text: str) -> bool:
    with suppress(httpx2.TransportError):  # it opens its port again
        return served() == text
    return False


@pytest.fixture
def folder(tmp_path):
    """Nginx runs with the first tree."""
    need(shutil.which("nginx"), "nginx is not installed (apt-get install --no-install-recommends nginx-light)")
    (tmp_path / "nginx.conf").write_text("# what the package brought\n")
    converged(HOST, tree(tmp_path))
    subprocess.run(["nginx", "-c", tmp_path / "nginx.conf"], check=True, capture_output=True)
    eventually(lambda: serves("one") and (tmp_path / "pid").read_text().strip(), "Nginx serves, and has said who it is")
    yield tmp_path
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 15)
    deadline = time.monotonic() + 10
    while (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_the_first_tree_replaces_what_the_package_brought_and_keeps_a_copy(folder):
    assert served() == "one"
    assert (folder / "tree/original").read_text() == "# what the package brought\n"
    assert not planned(HOST, tree(folder))


def test_a_new_tree_is_served_once_the_apply_returns(folder):
    change = planned(HOST, tree(folder, text="two")).pending[0].change
    assert (change.verb, "-one" in change.diff, "+two" in change.diff) == ("replace", True, True)
    converged(HOST, tree(folder, text="two"))
    assert served() == "two"
    assert not planned(HOST, tree(folder, text="two"))


def test_a_difference_shows_the_text_that_changed_and_no_secret(folder):
    change = planned(HOST, tree(folder, text="two")).pending[0].change
    assert change.summary.startswith("key, text;")
    assert "nginx.conf" not in change.diff, "the version's own paths are no difference"
    assert change.diff.count("two") == 1, "the key is not shown"


def test_a_tree_that_fails_its_test_never_becomes_the_running_one(folder):
    with pytest.raises(HostError, match=r"fails its test, so the old one stays: (?s:.*)unknown directive .nonsense"):
        converged(HOST, tree(folder, text="two", extra="nonsense on;"))
    assert served() == "one"
    assert not planned(HOST, tree(folder))


def test_a_tree_that_the_service_does_not_take_is_rolled_back(folder):
    with pytest.raises(HostError, match="did not take the new configuration, so the old one is back"):
        converged(IMPATIENT, tree(folder, port=18098, text="two"))  # what it would say of itself is not where it is asked
    eventually(lambda: serves("one"), "the way back, which nobody waits for")
    assert not planned(HOST, tree(folder))


def test_a_tree_that_was_switched_to_and_never_loaded_is_due_until_it_is_served(folder):
    (folder / "nginx.conf").unlink()  # as on a new machine: what the package brought runs, and says nothing of versions
    (folder / "nginx.conf").write_text(f"user root; pid {folder}/pid; events {{}} http {{ access_log off; server {{ listen {ADDRESS}:18098; }} }}")
    subprocess.run(["nginx", "-c", folder / "nginx.conf", "-s", "reload"], check=True, capture_output=True)
    eventually(lambda: not serves("one"), "the package's own configuration")
    point = 'Trees.point(r, os.path.join(r["root"], r["version"], r["entry"]))'
    with pytest.raises(HostError, match="the agent ended with 9"):
        converged(LocalHost("lb-1", {point: f"{point}; os._exit(9)"}), tree(folder))
    change = planned(HOST, tree(folder)).pending[0].change
    assert (change.verb, change.summary.split(",")[0]) == ("reload", "the service runs what was there before")
    converged(HOST, tree(folder))
    assert served() == "one" and not planned(HOST, tree(folder))


def test_a_file_edited_by_hand_is_shown_and_put_back(folder):
    path = next(folder.glob("tree/*/text"))
    path.write_text("by hand")
    change = planned(HOST, tree(folder)).pending[0].change
    assert (change.verb, change.summary) == ("restore", "changed by hand: text")
    assert "-by hand" in change.diff
    converged(HOST, tree(folder))
    assert served() == "one"


def test_a_file_added_by_hand_or_a_wider_mode_is_seen(folder):
    version = next(folder.glob("tree/*/key")).parent
    (version / "more.conf").write_text("")
    (version / "key").chmod(0o644)
    assert planned(HOST, tree(folder)).pending[0].change.summary == "changed by hand: key, more.conf"
    converged(HOST, tree(folder))
    assert not planned(HOST, tree(folder))


def test_a_switch_that_was_cut_before_the_reload_is_finished_by_the_next_run(folder):
    two = tree(folder, text="two")
    with pytest.raises(HostError, match="still differs"):
        converged(HOST, tree(folder, text="two", active=("false",)))  # switched, and then nobody reloaded
    assert served() == "one"
    assert planned(HOST, two).pending[0].change.verb == "reload"
    converged(HOST, two)
    assert served() == "two"


def test_going_back_to_an_earlier_tree_is_a_change_like_any_other(folder):
    converged(HOST, tree(folder, text="two"))
    converged(HOST, tree(folder))
    assert served() == "one"


def test_only_the_newest_earlier_version_is_kept(folder):
    for text in ("two", "three", "four"):
        converged(HOST, tree(folder, text=text))
    assert sorted(path.read_text() for path in folder.glob("tree/*/text")) == ["four", "three"]
