"""First boots and readiness: the program of a node is run for real, on a folder, with a pretended systemd."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runbook_lib import pki
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.operations import startup, startup_watch
from runbook_lib.roles import carbon
from runbook_lib.roles.context import Context
from runbook_lib.ssh import Completed, Fleet, Host
from tests.fakes import context_with_keys

READY = ["[x] Starting WSO2 Carbon...", "[x] Configured Registry in 3ms", "[x] WSO2 Carbon started in 7 sec"]
BROKEN = [
    "[x] Starting WSO2 Carbon...",
    "ERROR {org.wso2.carbon.user.core.internal.Activator} - Cannot start User Manager Core bundle",
    "Caused by: java.lang.Exception: Unsupported database: MariaDB. Database will not be created automatically",
]
SYSTEMCTL = """#!/bin/sh
root={root}
case "$1" in
  show)
    if [ "$3" = InvocationID ]; then wc -l < $root/verbs; exit; fi
    echo "ActiveState=$(cat $root/active)"; echo "Result=$(cat $root/result 2>/dev/null)"; echo ExecMainStatus=1
    echo "SubState=$(cat $root/sub 2>/dev/null)" ;;
  start|restart)
    echo "$1" >> $root/verbs
    mkdir -p $root/run/wso2carbon; stat -c "%s %i" $root/log-file > $root/run/wso2carbon/log-start
    echo active > $root/active
    cat $root/says >> $root/log-file
    if [ -e $root/dies ]; then echo failed > $root/active; echo exit-code > $root/result; fi
    if [ -e $root/ends ]; then echo activating > $root/active; echo auto-restart > $root/sub; fi ;;
  stop) echo stop >> $root/verbs; echo inactive > $root/active ;;
esac
"""


class Machine(Host):
    """A folder that plays a node: paths below /opt and /run are moved into it, systemd is a script, sudo is nothing."""

    def __init__(self, name: str, root: Path):
        self.name, self.root = name, root
        self.home = root / "opt/wso2/greg"
        for folder in ("bin-of-test", "opt/wso2/greg/repository/logs", "opt/wso2/greg/repository/database"):
            (root / folder).mkdir(parents=True)
        (self.home / "repository/database/shipped.db").write_text("as shipped")
        (self.home / "repository/logs/wso2carbon.log").symlink_to(root / "log-file")
        (root / "log-file").write_text("[old] WSO2 Carbon started in 99 sec\n")
        (root / "active").write_text("inactive")
        self.says(READY)
        programs = {
            "systemctl": SYSTEMCTL.format(root=root),
            "sudo": '#!/bin/sh\nshift\nexec "$@"\n',
            "journalctl": "#!/bin/sh\necho the journal speaks\n",
        }
        for program, text in programs.items():
            path = root / "bin-of-test" / program
            path.write_text(text)
            path.chmod(0o755)

    def says(self, lines: list[str]) -> None:
        (self.root / "says").write_text("".join(f"{line}\n" for line in lines))

    @property
    def verbs(self) -> list[str]:
        path = self.root / "verbs"
        return path.read_text().split() if path.exists() else []

    @property
    def mark(self) -> str:
        path = self.home / ".runbook-first-boot"
        return path.read_text().strip() if path.exists() else ""

    def run(
        self,
        command: str,
        stdin: bytes = b"",
        on_line: Callable[[str], None] | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        def moved(text: str) -> str:
            return re.sub(r"(?<![\w.])/(opt/wso2|run/wso2carbon)", rf"{self.root}/\1", text)

        environment = {**os.environ, "PATH": f"{self.root}/bin-of-test:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-c", moved(command)],
            input=moved(stdin.decode()).encode(),
            capture_output=True,
            env=environment,
            timeout=60,
        )
        for line in done.stdout.decode().splitlines():
            if on_line:
                on_line(line)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


class Database(Host):
    """What the database server would answer."""

    def __init__(self, machines: list[Machine]):
        self.name, self.machines = "db-1", machines
        self.used, self.locked, self.doubles = False, False, ""

    def run(self, command: str, stdin: bytes = b"", on_line: object = None, timeout: float = 60.0) -> Completed:
        statement = stdin.decode()
        if "UM_USER" in statement:
            booted = any(machine.verbs for machine in self.machines)
            return Completed(0, "7\n" if self.used or booted else "0\n", "")
        if "HAVING COUNT" in statement:
            return Completed(0, self.doubles, "")
        if statement.startswith("UPDATE"):
            self.locked = False
        return Completed(0, "LOCKED\n" if self.locked else "UNLOCKED\n", "")


class Scene:
    """A deployment of two Store and one Publisher node on folders."""

    def __init__(self, root: Path):
        self.ctx: Context = context_with_keys("greg-separated", nodes={"store": 2, "publisher": 1}, timeouts={"first_boot": 60, "boot": 60})
        names = [node.name for node in self.ctx.topology.wso2_nodes]
        self.machines = {name: Machine(name, root / name) for name in names}
        self.database = Database(list(self.machines.values()))
        self.fleet = Fleet({**self.machines, "db-1": self.database})
        self.recorded: list[str] = []
        self.recreated = 0

    def recreate(self) -> None:
        self.recreated += 1
        self.database.used = False
        for machine in self.machines.values():
            (machine.root / "verbs").unlink(missing_ok=True)

    def first_boots(self, ctx: Context | None = None) -> tuple[startup.Started, ...]:
        return startup.first_boots(self.fleet, ctx or self.ctx, self.recorded.append, self.recreate)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(startup, "PROBES", dict.fromkeys(startup.PROBES, ()))  # pages are probed in a test of their own
    command = startup.agent.COMMAND.replace("exec sudo -n python3", "exec python3")
    monkeypatch.setattr(startup.agent, "COMMAND", command)
    return Scene(tmp_path)


def test_first_boots_come_in_order_and_are_recorded_at_the_end(scene: Scene) -> None:
    started = scene.first_boots()
    assert [each.node for each in started] == ["store-1", "store-2", "publisher-1"] == scene.recorded
    assert all(each.line.endswith("started in 7 sec") for each in started)
    assert all(machine.mark == "complete" and machine.verbs == ["start"] for machine in scene.machines.values())
    assert scene.recreated == 0


def test_the_ready_line_of_an_earlier_start_does_not_count(scene: Scene) -> None:
    scene.machines["store-1"].says(["[x] Starting WSO2 Carbon..."])
    ctx = replace(
        scene.ctx,
        spec=scene.ctx.spec.model_copy(update={"timeouts": scene.ctx.spec.timeouts.model_copy(update={"boot": 1})}),
    )
    with pytest.raises(HostError, match="did not say that it is started within 1 s") as error:
        startup.start(scene.fleet, ctx, "store-1")
    said = " ".join(str(error.value).split())
    assert "UPDATE WSO2_REGISTRY_DB.REG_CLUSTER_LOCK SET REG_LOCK_STATUS = 'UNLOCKED'" in said and "db-1" in said and "no node is starting" in said


OLD = ("[x] WSO2 Carbon started in 99 sec",)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ({"wso2carbon.log": (*OLD, "*", *READY)}, READY),
        ({"wso2carbon.log.2026-11-21": (*OLD, "*", *READY), "wso2carbon.log": ("day 2",)}, [*READY, "day 2"]),
        (
            {"wso2carbon.log.2026-11-20": OLD, "wso2carbon.log.2026-11-21": ("*", *READY), "wso2carbon.log.2026-11-22": ("day 2",), "wso2carbon.log": ()},
            [*READY, "day 2"],
        ),
        ({"wso2carbon.log.2026-11-21": (*OLD, "*"), "wso2carbon.log": READY}, READY),  # renamed by the start's own first line
    ],
    ids=["the same day", "one midnight later", "days later", "renamed by its first line"],
)
def test_the_log_of_a_start_is_found_behind_midnights(scene: Scene, days: dict[str, tuple[str, ...]], expected: list[str]) -> None:
    """`*`: where the log ended when the node was started."""
    machine = scene.machines["store-1"]
    logs = machine.home / "repository/logs"
    (logs / "wso2carbon.log").unlink()
    for name, lines in days.items():
        before = "".join(f"{line}\n" for line in lines[: lines.index("*")]) if "*" in lines else ""
        path = logs / name
        path.write_text(before)
        if "*" in lines or len(days) == 1:
            note = machine.root / "run/wso2carbon/log-start"
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(f"{len(before)} {path.stat().st_ino}\n")
        with path.open("a") as log:
            log.writelines(f"{line}\n" for line in lines[lines.index("*") + 1 if "*" in lines else 0 :])
    (machine.root / "active").write_text("active")
    printed = machine.run(f"sudo -n sh -c {shlex.quote(carbon.log_of_this_start(scene.ctx.spec))}").stdout
    assert printed.splitlines() == list(expected)
    assert startup.start(scene.fleet, scene.ctx, "store-1", "watch").line.endswith("started in 7 sec")


def test_of_a_node_whose_first_days_log_is_gone_only_its_pages_are_asked(scene: Scene) -> None:
    machine = scene.machines["store-1"]
    note = machine.root / "run/wso2carbon/log-start"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text("17 1\n")
    (machine.root / "log-file").write_text("a line of today\n")
    (machine.root / "active").write_text("active")
    assert startup.start(scene.fleet, scene.ctx, "store-1", "watch").line == "it runs since longer than its logs are kept"
    (machine.root / "active").write_text("failed")
    with pytest.raises(HostError, match="stopped while starting"):
        startup.start(scene.fleet, scene.ctx, "store-1", "watch")


class Unsteady(Machine):
    """A machine to which the connection is lost `losses` times, each after this word of the program, which goes on by itself."""

    def __init__(self, root: Path, word: str, losses: int = 1, meanwhile: Callable[[Unsteady], object] = lambda machine: None):
        super().__init__("store-1", root / "unsteady")
        self.word, self.losses, self.meanwhile, self.asked = word, losses, meanwhile, list[dict]()

    def run(self, command: str, stdin: bytes = b"", on_line: Callable[[str], None] | None = None, timeout: float = 60.0) -> Completed:
        done = super().run(command, stdin)
        self.asked.append(json.loads(stdin.rpartition(b"\n")[2]))
        for line in done.stdout.splitlines():
            if self.losses and self.word in line:
                self.losses -= 1
                self.meanwhile(self)
                raise HostError("lost store-1 while it ran a command: the connection broke")
            if on_line:
                on_line(line)
        return done


def test_a_first_boot_is_followed_over_the_next_connection_when_one_is_lost(scene: Scene, tmp_path: Path) -> None:
    machine = Unsteady(tmp_path, "Configured Registry", losses=2)
    found = startup.start(Fleet({"store-1": machine}), scene.ctx, "store-1", first=True)
    assert found.line.endswith("started in 7 sec") and machine.verbs == ["start"] and machine.mark == "complete"
    assert [(each["verb"], each["mark"] is not None) for each in machine.asked] == [("start", True), ("watch", False), ("watch", False)]
    assert machine.asked[0]["seconds"] >= machine.asked[-1]["seconds"] > 0


def started_anew(machine: Unsteady) -> None:
    with (machine.root / "verbs").open("a") as verbs:
        verbs.write("start\n")


@pytest.mark.parametrize(
    ("word", "lost", "meanwhile", "asked", "says"),
    [
        ("begun", startup.LOST, lambda machine: None, 1, "lost store-1 while it was starting"),  # nobody knows whether there is a start to follow
        ("Configured Registry", 0.0, lambda machine: None, 1, "lost store-1 while it was starting: no sign of life for 0 s"),
        ("Configured Registry", startup.LOST, started_anew, 2, "it was started anew meanwhile"),  # its first boot was cut short
    ],
    ids=["before the start was asked for", "for too long", "and the machine was off"],
)
def test_a_start_that_cannot_be_followed_any_more_is_an_error(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, lost: float, meanwhile: Callable[[Unsteady], object], asked: int, says: str
) -> None:
    monkeypatch.setattr(startup, "LOST", lost)
    machine = Unsteady(tmp_path, word, meanwhile=meanwhile)
    with pytest.raises(HostError, match=says):
        startup.start(Fleet({"store-1": machine}), scene.ctx, "store-1", first=True)
    assert len(machine.asked) == asked


def test_a_boot_that_hangs_alive_is_named_with_its_line_and_its_cause(scene: Scene) -> None:
    scene.machines["store-1"].says(BROKEN)
    with pytest.raises(HostError) as error:
        scene.first_boots()
    assert "Unsupported database: MariaDB" in error.value.what and "product name" in error.value.what
    assert "useMysqlMetadata=true" in (error.value.next_step or "")
    assert scene.recorded == [] and scene.machines["store-2"].verbs == []


def test_a_start_that_dies_is_named_with_the_words_of_its_unit(scene: Scene) -> None:
    machine = scene.machines["store-1"]
    machine.says(["Error: JAVA_HOME is not defined correctly."])
    (machine.root / "dies").touch()
    with pytest.raises(HostError, match="failed, exit-code") as error:
        startup.start(scene.fleet, scene.ctx, "store-1")
    assert "the journal speaks" in error.value.what


@pytest.mark.parametrize(
    ("verb", "result", "words"),
    [
        ("restart", "success", "stopped while starting .activating, success"),  # wso2server.sh ends with 0 however Java ended
        ("restart", "exit-code", "stopped while starting .activating, exit-code"),
        ("watch", "success", "stopped while starting .activating, success"),
        ("watch", "exit-code", "did not say that it is started within 1 s"),  # systemd's own next start may find the database
    ],
)
def test_a_node_whose_java_dies_is_named_although_systemd_will_start_it_again(scene: Scene, verb: str, result: str, words: str) -> None:
    machine = scene.machines["store-1"]
    machine.says(["[x] Starting WSO2 Carbon..."])
    for name, text in {"log-file": "", "ends": "", "result": result, "active": "activating", "sub": "auto-restart"}.items():
        (machine.root / name).write_text(text)
    with pytest.raises(HostError, match=words):
        startup.start(scene.fleet, scene.ctx, "store-1", verb, seconds=10.0 if "stopped" in words else 1.0)


def test_after_a_cut_short_first_boot_the_next_run_begins_anew_with_fresh_databases(scene: Scene) -> None:
    scene.machines["store-2"].says(BROKEN)
    with pytest.raises(HostError):
        scene.first_boots()
    assert [machine.mark for machine in scene.machines.values()] == ["complete", "begun", ""]
    for machine in scene.machines.values():
        (machine.home / "repository/database/shipped.db").write_text("half made")
        (machine.home / "solr/data").mkdir(parents=True)
    scene.machines["store-2"].says(READY)
    scene.first_boots()
    assert scene.recreated == 1 and scene.recorded == ["store-1", "store-2", "publisher-1"]
    for name in ("store-1", "store-2"):
        assert (scene.machines[name].home / "repository/database/shipped.db").read_text() == "as shipped"
        assert not (scene.machines[name].home / "solr/data").exists()


@pytest.mark.parametrize(("in_use", "row"), [(False, 1), (True, startup.ROW)], ids=["nobody has come yet", "visitors come to the others"])
def test_a_first_boot_warms_a_node_up_where_visitors_come_to_it_next(scene: Scene, monkeypatch: pytest.MonkeyPatch, in_use: bool, row: int) -> None:
    real, rows = startup.start, list[int]()
    monkeypatch.setattr(startup, "start", lambda *given, **more: (rows.append(more["row"]), real(*given, **more))[1])
    scene.first_boots(replace(scene.ctx, in_use=in_use))
    assert rows == [row] * 3


def test_a_run_that_was_killed_between_two_first_boots_goes_on_with_the_second(scene: Scene) -> None:
    startup.start(scene.fleet, scene.ctx, "store-1", first=True)
    started = scene.first_boots()
    assert [each.node for each in started] == ["store-2", "publisher-1"]
    assert scene.recreated == 0 and scene.recorded == ["store-1", "store-2", "publisher-1"]


def test_rows_of_a_machine_that_is_gone_are_removed_too(scene: Scene) -> None:
    scene.database.used = True
    scene.first_boots()
    assert scene.recreated == 1


def test_databases_made_anew_by_somebody_else_make_every_first_boot_count_again(scene: Scene) -> None:
    startup.start(scene.fleet, scene.ctx, "store-1", first=True)
    (scene.machines["store-1"].root / "verbs").unlink()  # the database knows nothing of it
    scene.first_boots()
    assert scene.machines["store-1"].verbs == ["stop", "start"] or scene.machines["store-1"].verbs == ["start"]
    assert scene.recreated == 0 and scene.recorded == ["store-1", "store-2", "publisher-1"]


def test_once_a_first_boot_was_recorded_the_databases_are_left_to_the_user(scene: Scene) -> None:
    ctx = replace(scene.ctx, booted=frozenset({"store-1"}))
    scene.database.used = True
    scene.machines["store-2"].says(BROKEN)
    with pytest.raises(HostError):
        scene.first_boots(ctx)
    scene.machines["store-2"].says(READY)
    with pytest.raises(RunbookError, match="store-2 was cut short, and the databases already hold what store-1 made") as error:
        scene.first_boots(ctx)
    assert "mysql.recreate" in (error.value.next_step or "") and scene.recreated == 0


def test_a_node_that_joins_later_is_booted_alone(scene: Scene) -> None:
    ctx = replace(scene.ctx, booted=frozenset({"store-1", "publisher-1"}))
    scene.database.used = True
    assert [each.node for each in scene.first_boots(ctx)] == ["store-2"]
    assert scene.recorded == ["store-2"] and scene.machines["store-1"].verbs == []


def test_the_databases_of_a_deployment_in_use_are_not_made_anew_when_all_its_nodes_were_replaced(scene: Scene) -> None:
    scene.database.used = True
    assert [each.node for each in scene.first_boots(replace(scene.ctx, in_use=True))] == ["store-1", "store-2", "publisher-1"]
    assert scene.recreated == 0


def test_a_node_without_the_product_is_nothing_to_put_back(scene: Scene) -> None:
    shutil.rmtree(scene.machines["store-2"].home)
    startup.forget_first_boots(scene.fleet, scene.ctx)
    assert scene.machines["store-1"].verbs == ["stop"]


def test_a_lock_that_a_dead_node_left_is_freed_before_a_first_boot(scene: Scene) -> None:
    scene.database.locked = True
    scene.first_boots()
    assert not scene.database.locked


def test_duplicates_in_the_registry_keep_the_boots_from_being_recorded(scene: Scene) -> None:
    scene.database.doubles = "/_system/config/security/policy\t2\n"
    with pytest.raises(RunbookError, match="holds 1 resources twice, such as /_system/config/security/policy"):
        scene.first_boots()
    assert scene.recorded == []


def test_stop_ends_between_two_first_boots(scene: Scene) -> None:
    stop = threading.Event()

    def after_the_first(event: object) -> None:
        if "started in" in str(event):
            stop.set()

    with pytest.raises(RunbookError, match="stopped before the first boot of store-2"):
        startup.first_boots(scene.fleet, scene.ctx, scene.recorded.append, scene.recreate, after_the_first, stop)
    assert scene.recorded == [] and scene.machines["store-1"].mark == "complete"


def test_batches_keep_one_node_of_each_role_serving() -> None:
    ctx = context_with_keys("greg-separated", nodes={"store": 3, "publisher": 2})
    names = [node.name for node in ctx.topology.wso2_nodes]
    assert startup.batches(replace(ctx, booted=frozenset(names))) == [["store-1", "publisher-1"], ["store-2", "publisher-2"], ["store-3"]]


def test_nodes_that_do_not_serve_change_before_the_others_of_their_role() -> None:
    ctx = context_with_keys("greg-separated", nodes={"store": 3, "publisher": 2})
    booted = replace(ctx, booted=frozenset(node.name for node in ctx.topology.wso2_nodes))
    assert startup.batches(booted, down={"store-2", "publisher-2"}) == [["store-2", "publisher-2"], ["store-1", "publisher-1"], ["store-3"]]


def test_who_does_not_serve_is_told_at_once_where_systemd_or_the_log_says_so(scene: Scene) -> None:
    hung, stopped, well = (scene.machines[name] for name in ("store-1", "store-2", "publisher-1"))
    hung.says(BROKEN)
    for machine in (hung, stopped, well):
        machine.run("systemctl start wso2carbon.service")
    stopped.run("systemctl stop wso2carbon.service")
    assert startup.not_serving(scene.fleet, scene.ctx, scene.machines) == {"store-1", "store-2"}
    with pytest.raises(HostError, match=r"store-2 stopped after it had started .inactive"):
        startup.wait_ready(scene.fleet, scene.ctx, ["store-2"])


def test_nodes_that_serve_nobody_yet_are_set_up_all_at_once_before_the_others_change() -> None:
    ctx = context_with_keys("greg-separated", nodes={"store": 3, "publisher": 2})
    assert startup.batches(ctx) == [[node.name for node in ctx.topology.wso2_nodes]]
    some = replace(ctx, booted=frozenset({"store-1", "store-2", "publisher-1"}))
    assert startup.batches(some) == [["store-3", "publisher-2"], ["store-1", "publisher-1"], ["store-2"]]


LINES = {
    "Unsupported database": "Caused by: java.lang.Exception: Unsupported database: MariaDB. Database will not be",
    "Incorrect string value": r"ERROR {x} - Database Error - (conn=19) Incorrect string value: '\xE2\x80' for column",
    "Cannot start User Manager Core bundle": "ERROR {x.Activator} - Cannot start User Manager Core bundle",
    "no tables": 'org.h2.jdbc.JdbcSQLException: Table "REG_PATH" not found; SQL statement:',
    "FATAL": "FATAL {x.UserRegistry} - Failed to add the root collection to the coreRegistry",
    "no tables in MySQL": "Table 'WSO2_USER_DB.UM_TENANT' doesn't exist",
    "clear text": "(conn=7) Connections using insecure transport are prohibited while --require_secure_transport=ON.",
    "another address": 'address=(host=10.0.0.4)(port=3306)(type=master) : IPv4 host "10.0.0.4" doesn\'t correspond to certificate CN "db-1"',
    "worker profile": "java.lang.RuntimeException: OSGi runtime worker profile not found",
}


@pytest.mark.parametrize("line", LINES.values(), ids=list(LINES))
def test_the_failures_of_the_golden_run_are_known(line: str) -> None:
    assert any(re.search(signature.pattern, line) for signature in startup.signatures())


@pytest.mark.parametrize("line", [*READY, "WARN {x} - Carbon is configured to use the default keystore", "ERROR {x} - TypeError"])
def test_lines_of_a_healthy_boot_are_no_failures(line: str) -> None:
    assert not any(re.search(signature.pattern, line) for signature in startup.signatures())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/store/pages/top-assets" else 302)
            self.send_header("Location", "https://elsewhere.invalid/")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    (tmp_path / "tls.pem").write_text(pki.make_tier_key("localhost", ["localhost"]))
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "tls.pem")
    listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield listening.server_port
    listening.shutdown()
    listening.server_close()


def test_a_probe_does_not_follow_redirects_and_names_what_it_got(server: int) -> None:
    def ask(path: str, status: list[int], port: int = server) -> tuple[bool, str]:
        return startup_watch.answers({"address": "127.0.0.1", "port": port, "path": path, "status": status})

    assert ask("/store/pages/top-assets", [200]) == (True, "status 200")
    assert ask("/publisher/", [200]) == (False, "status 302")
    assert ask("/publisher/", []) == (True, "status 302")
    assert ask("/", [], port=1)[0] is False


@pytest.mark.parametrize(
    ("row", "took", "asked"),
    [(50, [1.5, 1.5, 0.1], 52), (50, [0.1] * 20 + [1.5, 0.1], 71), (50, [0.1], 50), (1, [0.1], 1), (1, [1.5, 1.5, 0.1], 3)],
    ids=["slow at first", "slow once more", "warm", "nobody is sent there", "slow, and nobody is sent there"],
)
def test_a_node_serves_once_it_has_answered_quickly_many_times_in_a_row(monkeypatch: pytest.MonkeyPatch, row: int, took: list[float], asked: int) -> None:
    made = pages(monkeypatch, took)
    assert startup_watch.serve({"probes": [{"path": "/", "address": "a", "port": 1, "status": [200]}], "row": row}, deadline=1e9) is None
    assert len(made) == asked


def test_a_node_that_never_answers_quickly_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pages(monkeypatch, [0.1, 3.0] * 100)
    mute = startup_watch.serve({"probes": [{"path": "/slow", "address": "a", "port": 1, "status": [200]}], "row": 50}, deadline=30.0)
    assert mute == {"mute": "/slow", "words": "status 200 after 3.0 s, more than 1 s"}
    assert 18 <= len(made) <= 22, "it was asked until the time was over"


def pages(monkeypatch: pytest.MonkeyPatch, took: list[float]) -> list[str]:
    """What is asked of a node whose answers take so many seconds, the last of them from then on; time passes only while it answers."""
    made, now = list[str](), [0.0]

    class Connection:
        status = 200

        def __init__(self, *where: object, **how: object) -> None:
            pass

        def request(self, verb: str, path: str) -> None:
            now[0] += took[min(len(made), len(took) - 1)]
            made.append(path)

        def getresponse(self) -> Connection:
            return self

        def read(self) -> bytes:
            return b""

        def close(self) -> None:
            pass

    monkeypatch.setattr(startup_watch.http.client, "HTTPSConnection", Connection)
    monkeypatch.setattr(startup_watch.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(startup_watch.time, "sleep", lambda seconds: None)
    return made
