"""The agent on this machine, in a temporary folder: probe, plan, apply, and a second run that changes nothing."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import stat
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from runbook_lib import pki
from runbook_lib.converge import agent, engine
from runbook_lib.converge.agent import system
from runbook_lib.converge.archive import Archive
from runbook_lib.converge.edits import TextSet
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.keystore import Keystore
from runbook_lib.converge.resources import Absent, Directory, Edited, Exec, File, Package, Unit
from runbook_lib.errors import HostError, PlanOvertaken, Stopped
from runbook_lib.ssh import Completed, Fleet
from runbook_lib.waiting import wait_until
from tests.support.local_host import LocalHost, converged

OWNER = subprocess.run(["sh", "-c", "echo $(id -un):$(id -gn)"], capture_output=True, text=True).stdout.strip()


class HereHost:
    """This machine in the place of a host: the same agent over the same pipe, without SSH and without sudo."""

    def __init__(self, name: str):
        self.name, self.execs = name, 0

    def run(self, command, stdin=b"", on_line=None, timeout=900.0):
        self.execs += 1
        local = command.replace("exec sudo -n python3", f"exec {sys.executable}")
        done = subprocess.run(["sh", "-c", local], input=stdin, capture_output=True)
        for line in done.stdout.decode().splitlines():
            on_line(line)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())

    def close(self):
        pass


@pytest.fixture
def here() -> Fleet:
    return Fleet({"here": HereHost("here")})  # type: ignore[dict-item]


def converge_once(fleet: Fleet, *resources, stages=None):
    planned = engine.plan(fleet, {"here": stages or [Stage("all", resources)]})
    return planned, engine.apply(fleet, planned)


def test_files_are_written_once_and_then_left_alone(here, tmp_path):
    wish = (
        Directory(f"{tmp_path}/d", 0o750, OWNER),
        File(f"{tmp_path}/d/a", b"one\n", 0o640, OWNER),
    )
    first, result = converge_once(here, *wish)
    assert [p.change.verb for p in first.pending] == ["create", "create"]
    assert (tmp_path / "d/a").read_text() == "one\n"
    assert stat.S_IMODE(os.stat(tmp_path / "d/a").st_mode) == 0o640
    assert len(result.changed) == 2
    second, result = converge_once(here, *wish)
    assert not second and second.exit_code == 0 and not result.changed


def test_an_edited_file_keeps_its_content_when_only_its_mode_has_drifted(here, tmp_path):
    (tmp_path / "a.sh").write_text("size=1\n# theirs\n")
    edited = Edited(f"{tmp_path}/a.sh", (TextSet(r"^size=(\d+)", "2"),), mode=0o640, owner=OWNER)
    converge_once(here, edited)
    (tmp_path / "a.sh").chmod(0o666)
    planned, _ = converge_once(here, edited)
    assert [p.change.summary for p in planned.pending] == ["mode 0666 -> 0640"]
    assert (tmp_path / "a.sh").read_text() == "size=2\n# theirs\n"
    assert stat.S_IMODE((tmp_path / "a.sh").stat().st_mode) == 0o640
    assert not engine.plan(here, {"here": [Stage("all", (edited,))]})


def test_an_edited_file_without_a_mode_keeps_the_mode_that_it_came_with(here, tmp_path):
    (tmp_path / "a.sh").write_text("size=1\n")
    (tmp_path / "a.sh").chmod(0o751)
    converge_once(here, Edited(f"{tmp_path}/a.sh", (TextSet(r"^size=(\d+)", "2"),)))
    assert stat.S_IMODE((tmp_path / "a.sh").stat().st_mode) == 0o751


def test_a_plan_changes_nothing_and_shows_the_difference(here, tmp_path):
    (tmp_path / "a").write_text("old\n")
    planned = engine.plan(here, {"here": [Stage("all", (File(f"{tmp_path}/a", b"new\n", 0o644, OWNER),))]})
    assert "-old" in str(planned) and "+new" in str(planned) and planned.exit_code == 2
    assert (tmp_path / "a").read_text() == "old\n"


def test_the_content_of_a_secret_file_is_never_shown_nor_fetched(here, tmp_path):
    (tmp_path / "a").write_text("old-secret")
    planned = engine.plan(here, {"here": [Stage("all", (File(f"{tmp_path}/a", b"new-secret", 0o600, OWNER, secret=True),))]})
    assert planned and "old-secret" not in str(planned) and "new-secret" not in str(planned)


def test_a_plan_that_the_world_has_overtaken_is_refused_with_the_fresh_one(here, tmp_path):
    wish = {"here": [Stage("all", (File(f"{tmp_path}/a", b"new\n", 0o644, OWNER),))]}
    planned = engine.plan(here, wish)
    (tmp_path / "a").write_text("another hand was here\n")
    with pytest.raises(PlanOvertaken) as caught:
        engine.apply(here, planned)
    assert "another hand" in str(caught.value.fresh)
    assert (tmp_path / "a").read_text() == "another hand was here\n"


def test_an_apply_that_was_stopped_leaves_a_plan_that_is_its_own_rest_unless_another_hand_was_there(here, tmp_path):
    stages = [Stage("first", (File(f"{tmp_path}/a", b"new\n", 0o644, OWNER),)), Stage("second", (File(f"{tmp_path}/b", b"new\n", 0o644, OWNER),))]
    wish = {"here": [*stages, Stage("third", (File(f"{tmp_path}/c", b"new\n", 0o644, OWNER),))]}
    (tmp_path / "c").write_bytes(b"new\n")
    (tmp_path / "c").chmod(0o644)
    planned, stop = engine.plan(here, wish), threading.Event()
    with pytest.raises(Stopped, match="stopped before second on here") as caught:
        engine.apply(here, planned, lambda event: stop.set(), stop)
    assert [p.change.key for p in caught.value.changed] == [f"file {tmp_path}/a"]
    assert planned.begun == {"here"} and engine.plan(here, wish).is_left_of(planned)
    (tmp_path / "c").write_text("another hand was here\n")
    assert not engine.plan(here, wish).is_left_of(planned)


def test_an_interrupt_ends_as_a_stop_that_says_what_was_changed(here, tmp_path):
    wish = {"here": [Stage("all", (File(f"{tmp_path}/a", b"new\n", 0o644, OWNER),))]}

    def interrupt(names: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Stopped, match="plan: interrupted") as caught:
        engine.apply(here, engine.plan(here, wish), gate=interrupt)
    assert [p.change.key for p in caught.value.changed] == [f"file {tmp_path}/a"]


def test_a_stage_is_compared_after_the_stage_before_it(here, tmp_path):
    unpack = Exec("make it", f"test -e {tmp_path}/made", f"mkdir {tmp_path}/made; echo x > {tmp_path}/made/file")
    stages = [Stage("first", (unpack,)), Stage("second", (Absent(f"{tmp_path}/made/file"),))]
    planned, result = converge_once(here, stages=stages)
    assert [p.change.verb for p in planned.pending] == ["run"]
    assert [p.change.verb for p in result.changed] == ["run", "remove"]


@pytest.mark.parametrize(
    ("path", "active", "verbs"),
    [
        ("/etc/it.conf", True, ["create", "restart"]),
        ("/etc/it.d/own.conf", True, ["create", "restart"]),
        ("/etc/it.conf.other", True, ["create"]),
        ("/etc/it.conf", False, ["create", "start"]),
    ],
)
def test_a_plan_names_the_restart_that_its_change_of_a_file_brings_about(path, active, verbs):
    stages = [Stage("settings", (File(path, b"new"),)), Stage("service", (Unit("it.service", watches=("/etc/it.conf", "/etc/it.d")),))]
    state = {"load": "loaded", "active": active, "state": "active/running" if active else "inactive/dead", "enabled": True, "stale": False}
    absent, there = {"type": "absent"}, {"type": "file", "sha256": hashlib.sha256(b"new").hexdigest(), "mode": 0o644, "owner": "root:root"}
    assert [p.change.verb for p in engine._differing("here", stages, [[absent], [state]])] == verbs
    assert not engine._differing("here", stages, [[there], [{**state, "active": True}]])


def test_an_apply_asks_once_before_its_first_change_and_once_after_its_last(here, tmp_path):
    planned = engine.plan(here, {"here": [Stage("all", (File(f"{tmp_path}/a", b"x", 0o644, OWNER),))]})
    here["here"].execs = 0
    engine.apply(here, planned)
    assert here["here"].execs == 3, "probe, apply, probe"


def test_hosts_of_a_later_batch_are_asked_again_before_they_are_changed(tmp_path):
    fleet = Fleet({name: HereHost(name) for name in ("first", "second")})  # type: ignore[dict-item]
    wish = {name: [Stage("all", (File(f"{tmp_path}/{name}", b"new", 0o644, OWNER),))] for name in fleet.hosts}
    planned = engine.plan(fleet, wish)
    by_hand = lambda names: (tmp_path / "second").write_text("by hand") if names == ["first"] else None  # noqa: E731
    result = engine.apply(fleet, planned, batches=[["first"], ["second"]], gate=by_hand)
    assert [(p.host, p.change.verb) for p in result.changed] == [("first", "create"), ("second", "change")]


def test_one_exec_probes_everything(here, tmp_path):
    engine.plan(here, {"here": [Stage(str(n), (File(f"{tmp_path}/{n}", b"x", 0o644, OWNER),)) for n in range(30)]})
    assert here["here"].execs == 1


def test_a_failing_command_is_told_in_the_hosts_own_words(here):
    with pytest.raises(HostError, match="no such tool"):
        converge_once(here, Exec("break", "false", "echo no such tool >&2; exit 3"))


def test_a_package_that_would_remove_another_is_not_installed_and_the_way_out_is_named(tmp_path):
    (tmp_path / "apt-get").write_text("""#!/bin/sh
case "$*" in *" install "*) ;; *) exit 0 ;; esac
case "$*" in *--no-remove*) echo 'E: Packages need to be removed but remove is disabled.' >&2; exit 100 ;; esac
""")
    (tmp_path / "dpkg").write_text("#!/bin/sh\n")
    for name in ("apt-get", "dpkg"):
        (tmp_path / name).chmod(0o755)
    host = LocalHost("db-1", {}, {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    with pytest.raises(HostError, match="remove is disabled") as caught:
        converged(host, Package("a-rival-of-what-is-installed"))
    assert "name what is installed" in (caught.value.next_step or "")


@pytest.mark.parametrize(("below", "reloads"), [("units", ["daemon-reload"]), ("elsewhere", [])])
def test_systemd_reads_a_unit_file_again_as_soon_as_it_is_written(tmp_path, below, reloads):
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "asked").touch()
    host = LocalHost("db-1", {"/etc/systemd/system/": f"{tmp_path}/units/"}, {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    converged(host, File(f"{tmp_path}/{below}/it.service.d/restart.conf", b"[Service]\n", 0o644, OWNER))
    assert (tmp_path / "asked").read_text().splitlines() == reloads


def test_a_failure_says_what_was_changed_before_it(here, tmp_path):
    stages = [Stage("first", (File(f"{tmp_path}/a", b"1", 0o644, OWNER),)), Stage("second", (Exec("break", "false", "exit 3"),))]
    with pytest.raises(HostError) as caught:
        converge_once(here, stages=stages)
    assert [pending.change.key for pending in caught.value.changed] == [f"file {tmp_path}/a"]


def test_a_resource_at_odds_with_itself_is_reported(here):
    with pytest.raises(HostError, match="still differs"):
        converge_once(here, Exec("never satisfied", "false", "true"))


def test_a_keystore_opened_to_others_is_closed_again_and_not_made_anew(here, tmp_path):
    path = tmp_path / "wso2carbon.jks"
    wish = Keystore(str(path), "secret", OWNER, 0o600, "no-keytool-is-called", "".join(pki.issue(pki.make_ca("t"), ["a.test"])))
    path.write_bytes(b"sealed")
    (tmp_path / "wso2carbon.jks.runbook").write_text(f"{wish._made_of} {hashlib.sha256(b'sealed').hexdigest()}")
    path.chmod(0o644)
    planned, _ = converge_once(here, wish)
    assert "mode 0644 -> 0600" in str(planned)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_bytes() == b"sealed"
    assert not engine.plan(here, {"here": [Stage("all", (wish,))]})


def test_a_products_file_that_was_removed_comes_back_with_its_settings(here, tmp_path):
    wish = Edited(str(tmp_path / "a.conf"), (TextSet(r"^port=(.*)$", "9443"),), b"# the product's\nport=1\n", 0o640, OWNER)
    converge_once(here, wish)
    assert (tmp_path / "a.conf").read_text() == "# the product's\nport=9443\n"
    assert not engine.plan(here, {"here": [Stage("all", (wish,))]})


def test_a_products_file_that_was_removed_with_its_folder_is_told_with_the_way_out(here, tmp_path):
    wish = Edited(str(tmp_path / "app/a.conf"), (TextSet(r"^port=(.*)$", "9443"),), b"port=1\n", 0o640, OWNER)
    with pytest.raises(HostError, match="is gone, which the product brought") as caught:
        converge_once(here, wish)
    assert "terminate the machine" in (caught.value.next_step or "")
    assert not (tmp_path / "app").exists()


@pytest.fixture
def pack_url():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        entry = zipfile.ZipInfo("product-1.0/bin/run.sh")
        entry.external_attr = 0o755 << 16
        z.writestr(entry, "#!/bin/sh\n")
        z.writestr("product-1.0/conf/a.xml", "<a/>")
    data, ended = buffer.getvalue(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if self.path == "/pack.zipx" else 200)
            self.send_header("Content-Length", str(len(data) + (self.path != "/pack.zip")))
            self.end_headers()
            self.wfile.write(data)
            if self.path == "/pack.zip?stalls":
                self.wfile.flush()
                ended.wait(60)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/pack.zip", hashlib.sha256(data).hexdigest()
    ended.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The host's download cache, inside the test's folder."""
    assemble, here = agent._assemble, f"{tmp_path}/cache".encode()
    monkeypatch.setattr(agent, "_assemble", lambda modules: assemble(modules).replace(b"/var/cache/runbook-archives", here))
    return tmp_path / "cache"


def test_an_archive_is_unpacked_without_its_top_folder_and_once(here, tmp_path, pack_url, cache):
    url, digest = pack_url
    wish = Archive(f"{tmp_path}/home", digest, url, OWNER)
    converge_once(here, wish)
    assert os.access(tmp_path / "home/bin/run.sh", os.X_OK)
    assert not engine.plan(here, {"here": [Stage("all", (wish,))]})


@pytest.mark.parametrize("fault", ["sha256", "404"])
def test_a_wrong_archive_leaves_nothing_behind(here, tmp_path, pack_url, cache, fault):
    url, digest = pack_url
    wish = Archive(f"{tmp_path}/home", "0" * 64, url, OWNER) if fault == "sha256" else Archive(f"{tmp_path}/home", digest, url + "x", OWNER)
    with pytest.raises(HostError, match="has sha256" if fault == "sha256" else "cannot fetch"):
        converge_once(here, wish)
    assert not Path(tmp_path / "home").exists() and not any(p.is_file() and p.suffix != ".part" for p in cache.glob("*"))


@pytest.mark.parametrize(
    ("fault", "says"), [("cut", "pack.zip: cut short, 1 bytes are missing"), ("stalls", "pack.zip: The read operation timed out|pack.zip: timed out")]
)
def test_an_archive_whose_connection_breaks_cannot_be_fetched_whatever_its_checksum(here, tmp_path, pack_url, cache, monkeypatch, fault, says):
    url, digest = pack_url
    assemble = agent._assemble
    if fault == "stalls":
        monkeypatch.setattr(agent, "_assemble", lambda modules: assemble(modules).replace(b"timeout=60", b"timeout=0.3"))
    with pytest.raises(HostError, match=f"cannot fetch .*({says})") as caught:
        converge_once(here, Archive(f"{tmp_path}/home", digest, f"{url}?{fault}", OWNER))
    assert "check the URL" in (caught.value.next_step or "")


def test_an_archive_that_another_agent_is_still_unpacking_is_waited_for_and_then_taken_as_it_is(tmp_path):
    """Its operator's connection broke, and the next run began at once."""
    content, home = tmp_path / "content/product", tmp_path / "opt/home"
    content.mkdir(parents=True), home.parent.mkdir()
    (content / "a").write_text("a"), (content / "b").write_text("b")
    subprocess.run(["tar", "-cf", f"{tmp_path}/product.tar", "-C", content.parent, "product"], check=True)
    begun, go, waits = tmp_path / "begun", tmp_path / "go", tmp_path / "waits"
    os.mkfifo(begun), os.mkfifo(go)
    slow = tmp_path / "bin/tar"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\ntar "$@" product/a && echo > {begun} && read go < {go} && tar "$@" product/b\n')
    slow.chmod(0o755)
    moved = {"/var/cache/runbook-archives": f"{tmp_path}/cache"}
    first = LocalHost("here", moved, {"PATH": f"{slow.parent}:{os.environ['PATH']}"})
    second = LocalHost("here", {**moved, "fcntl.flock(": f"open('{waits}', 'w').close(); fcntl.flock("})
    archive = Archive(str(home), hashlib.sha256((tmp_path / "product.tar").read_bytes()).hexdigest(), f"file://{tmp_path}/product.tar", OWNER)
    order = [archive.order({"sha256": None, "exists": False})]
    with ThreadPoolExecutor() as pool:
        unpacking = pool.submit(engine.ask, first, "apply", order)
        begun.read_text()
        following = pool.submit(engine.ask, second, "apply", order)
        wait_until(lambda: waits.exists() or following.done(), 30, pause=0.01)
        go.write_text("\n")
        assert unpacking.result() == following.result() == {"applied": 1}
    assert [path.name for path in home.parent.iterdir()] == ["home"]
    assert {"a", "b"} < {path.name for path in home.iterdir()}


def test_a_kept_archive_that_a_power_cut_left_incomplete_is_fetched_again(here, tmp_path, pack_url, cache):
    url, digest = pack_url
    cache.mkdir()
    (cache / digest).write_bytes(b"PK")
    converge_once(here, Archive(f"{tmp_path}/home", digest, url, OWNER))
    assert (tmp_path / "home/conf/a.xml").read_text() == "<a/>"


def test_a_lock_of_somebody_else_is_waited_for_and_any_other_failure_is_not(tmp_path: Path) -> None:
    """Apt's own words when another one reads the package lists."""
    lock, asked = tmp_path / "lock", tmp_path / "asked"
    lock.touch()
    script = f"echo x >> {asked}; if [ -e {lock} ]; then echo 'E: Could not get lock /var/lib/apt/lists/lock.' >&2; exit 100; fi"
    threading.Timer(1.2, lock.unlink).start()
    system.unlocked(["sh", "-c", script])
    assert len(asked.read_text().split()) >= 2
    asked.unlink()
    with pytest.raises(system.Failed, match="Unable to locate package"):
        system.unlocked(["sh", "-c", f"echo x >> {asked}; echo 'E: Unable to locate package x' >&2; exit 100"])
    assert asked.read_text().split() == ["x"]


def apt(folder: Path, **exits: int) -> Path:
    """An apt-get whose `update` and `install` end so, the first installation with 100; returns where it says what it was asked."""
    asked = folder / "asked"
    words = f"""echo "$*" | grep -o 'update$\\| install' | tr -d ' ' >> {asked}
case "$*" in *update) echo 'E: no Release file' >&2; exit {exits["update"]};; esac
[ $(grep -c install {asked}) -gt 1 ] || exit 100
[ {exits["install"]} = 0 ] || {{ echo 'E: Unable to locate package' >&2; exit {exits["install"]}; }}"""
    for name, text in (("apt-get", words), ("dpkg", ":")):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return asked


@pytest.mark.parametrize(("update", "install", "told"), [(0, 0, ""), (100, 0, ""), (0, 100, "Unable to locate"), (100, 100, "no Release file")])
def test_a_repository_that_is_gone_stops_no_installation_that_needs_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: int, install: int, told: str
) -> None:
    asked = apt(tmp_path, update=update, install=install)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(system.Failed, match=told) if told else nullcontext():
        system.Packages.apply([{"name": "small"}])
    assert asked.read_text().split() == ["install", "update", "install"]


def test_packages_that_user_data_installs_are_waited_for_with_a_word_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller takes silence for a lost host."""
    installing, now, told = tmp_path / "runbook-packages.service", [0.0], list[dict[str, str]]()
    installing.touch()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > 12 and not never:
            installing.unlink()

    monkeypatch.setattr(system, "INSTALLING", str(installing))
    monkeypatch.setattr(system, "say", lambda **message: told.append(message))
    monkeypatch.setattr(system, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    never = False
    system.await_launch()
    assert 12 < now[0] < 13 and told == [{"waiting": "user data installs packages"}] * 2
    system.await_launch()
    assert now[0] < 13, "there is nothing to wait for"
    installing.touch()
    never = True
    system.await_launch()
    assert 600 < now[0] < 620, "no machine is waited for for ever"
