"""A classroom of two: they sign in with Chromium, one builds, breaks and repairs, the instructor sees it, nobody gets at what is another's.

The tests use one classroom in the order in which they stand here. Pictures: runs/pictures/classroom-*.png.
"""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ec2lab import cleanup
from ec2lab.machines import cgroups

from runbook_cli.classroom import certificate, users
from runbook_cli.classroom.room import AUTHORITY, ENVIRONMENT, INSTRUCTOR, RUN, Learner, Room
from tests.support.accessibility import hindrances
from tests.support.classroom import NAMES, Classroom, as_learner, classroom, everything, require_classroom_machine, running
from tests.support.jupyterlab_server import PATIENCE, chromium_running, menu, picture
from tests.support.lab_fixtures import eventually

pytestmark = pytest.mark.browser
ADA, GRACE = NAMES
PARAMS = "params/greg-single.lab.yaml"
MYSQL = "02_install_mysql"
ASK_MYSQL = f"python -c \"from runbook_lib import open_deployment as o; o('{PARAMS}').mysql.verify()\""


@pytest.fixture(scope="module")
def before() -> dict[str, set[str]]:
    """What is on this machine before there is a classroom."""
    require_classroom_machine()
    return everything()


@pytest.fixture(scope="module")
def room(before: dict[str, set[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    with running(tmp_path_factory.mktemp("classroom")) as found:
        yield found


@pytest.fixture(scope="module")
def browser(room: Classroom) -> Iterator[Any]:
    with chromium_running() as found:
        yield found


SignIn = Callable[[str], Any]


@pytest.fixture(scope="module")
def sign_in(browser: Any, room: Classroom) -> SignIn:
    """Returns somebody's window: signed in once, and the same one when it is asked for again."""
    windows: dict[str, Any] = {}

    def signed_in(name: str) -> Any:
        if name not in windows:
            page = browser.new_context(ignore_https_errors=True, viewport={"width": 1400, "height": 900}).new_page()
            page.set_default_timeout(2 * PATIENCE)
            page.goto(room.url)
            page.get_by_label("Username").fill(name)
            page.get_by_label("Password").fill(room.passwords[name])
            page.get_by_role("button", name="Sign in").click()
            windows[name] = page
        return windows[name]

    return signed_in


@pytest.fixture(scope="module")
def ada(room: Classroom) -> Learner:
    return room.learner(ADA)


@pytest.fixture(scope="module")
def grace(room: Classroom) -> Learner:
    return room.learner(GRACE)


def open_notebook(page: Any, room: Classroom, learner: str, chapter: str) -> None:
    page.goto(f"{room.url}/user/{learner}/lab/tree/work/greg-single/notebooks/{chapter}.ipynb?reset")
    page.get_by_role("tab", name=f"{chapter}.ipynb").wait_for()
    page.get_by_text("| Idle").wait_for()


def row(page: Any, learner: str) -> Any:
    """The learner's row on the instructor's page, which refreshes itself."""
    return page.locator(f'tr[data-learner="{learner}"]')


def status_of(page: Any, url: str) -> int:
    """The status with which an address answers whoever is signed in in this window."""
    other = page.context.new_page()
    try:
        return int(other.goto(url).status)
    finally:
        other.close()


# --- the way in


def test_the_address_has_tls_with_the_certificate_whose_fingerprint_was_printed(room: Classroom) -> None:
    served = ssl.get_server_certificate(("127.0.0.1", room.port))
    assert certificate.fingerprint(served) in room.said
    assert httpx2.get(f"{room.url}/hub/login", verify=ssl.create_default_context(cafile=str(AUTHORITY)), trust_env=False).status_code == 200
    with pytest.raises(httpx2.HTTPError):
        httpx2.get(f"http://127.0.0.1:{room.port}/hub/login", trust_env=False)


def test_each_password_was_printed_and_lies_hashed_only(room: Classroom) -> None:
    assert sorted(room.passwords) == sorted([*NAMES, INSTRUCTOR])
    assert all(f"{name}  " in room.said and password in room.said for name, password in room.passwords.items())
    kept = [path for path in RUN.rglob("*") if path.is_file()]
    assert kept and not [path for path in kept for password in room.passwords.values() if password.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "a classroom is up on this machine already"),
        (("--learners", "0"), "1 to 99 learners, not 0"),
        (("--learners", "100"), "1 to 99 learners, not 100"),
        (("--names", "zoë"), "'zoë' cannot be a learner's name"),
        (("--names", "root"), "a user of that name"),
        (("--names", "a,a"), "'a' is there 2 times"),
    ],
)
def test_what_cannot_be_is_one_error_and_changes_nothing(room: Classroom, words: tuple[str, ...], said: str) -> None:
    here = everything()
    done = classroom("up", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr and "next:" in done.stderr and "Traceback" not in done.stderr
    assert {kind: names for kind, names in everything().items() if kind != "processes"} == {kind: names for kind, names in here.items() if kind != "processes"}


def test_down_without_a_yes_removes_nothing(room: Classroom) -> None:
    done = classroom("down")
    assert done.returncode == 1 and "not confirmed" in done.stderr
    assert httpx2.get(f"{room.url}/hub/health", verify=ssl.create_default_context(cafile=str(AUTHORITY)), trust_env=False).status_code == 200


def test_a_wrong_password_lets_nobody_in(browser: Any, room: Classroom) -> None:
    page = browser.new_context(ignore_https_errors=True).new_page()
    page.goto(room.url)
    assert hindrances(page) == []
    picture(page, "classroom-login")
    for name, password in ((ADA, room.passwords[GRACE]), ("root", room.passwords[ADA]), (INSTRUCTOR, "")):
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("Invalid username or password").wait_for()
    page.context.close()


# --- two learn, one builds, breaks and repairs, the instructor sees it


def test_two_learners_find_their_own_chapters(room: Classroom, sign_in: SignIn) -> None:
    for name in NAMES:
        page = sign_in(name)
        page.get_by_role("tab", name="00_start_here.ipynb").wait_for()
        page.get_by_text("| Idle").wait_for()
        assert f"/user/{name}/lab" in page.url
        assert page.get_by_text("notified about official Jupyter news").count() == 0
    picture(sign_in(ADA), "classroom-jupyterlab")
    params = {each.name: (each.workspace / PARAMS).read_text() for each in room.learners}
    for each in room.learners:
        assert f"aws_config: {each.lab.aws_config}" in params[each.name]
        assert f"network: {each.lab.network.network_address + 512}/24" in params[each.name]


def test_the_instructor_sees_who_builds_breaks_and_repairs(room: Classroom, sign_in: SignIn) -> None:
    page, instructor = sign_in(ADA), sign_in(INSTRUCTOR)
    row(instructor, ADA).wait_for()
    assert f"/services/{INSTRUCTOR}/" in instructor.url
    for chapter in ("01_launch_ec2", MYSQL):
        open_notebook(page, room, ADA, chapter)
        menu(page, "Run", "Run All Cells")
        row(instructor, ADA).get_by_text(f"{chapter[:2]} verified").wait_for()
    row(instructor, ADA).get_by_text("3 of 3 run").wait_for()
    assert "nothing yet" in row(instructor, GRACE).inner_text()
    in_terminal(page, room.learner(ADA), f"runbook lab ssh db-1 sudo systemctl stop mariadb; {ASK_MYSQL}")
    row(instructor, ADA).get_by_text("02 failed").wait_for()
    row(instructor, ADA).get_by_text(re.compile(f"{MYSQL}.*", re.DOTALL)).first.wait_for()
    picture(instructor, "classroom-instructor")
    assert hindrances(instructor) == []
    open_notebook(page, room, ADA, MYSQL)
    menu(page, "Run", "Run All Cells")
    row(instructor, ADA).get_by_text("02 verified").wait_for()
    found = room.status()
    assert {chapter: state for chapter, state in found[ADA]["deployments"][0]["chapters"].items() if state != "to do"} == {
        "01_launch_ec2": "verified",
        MYSQL: "verified",
    }
    assert found[GRACE]["machines"] == found[GRACE]["deployments"] == []


def in_terminal(page: Any, learner: Learner, command: str) -> None:
    """Open a terminal and type a command there, once its shell listens."""
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text("New", exact=True).hover()
    page.locator(".lm-Menu-itemLabel").get_by_text("Terminal", exact=True).click()
    page.locator(".jp-Terminal .xterm-screen").click()
    listens = learner.home / "listens"

    def typed() -> bool:
        page.keyboard.type(f"touch {listens}\n")
        return listens.exists()

    eventually(typed, "a shell in the terminal", PATIENCE / 1000)
    page.keyboard.type(f"{command}\n")


def test_a_learners_command_line_works_without_root(ada: Learner) -> None:
    done = as_learner(ada, "runbook", "lab", "status", "--json")
    assert done.returncode == 0, done.stderr
    assert {machine["node"] for machine in json.loads(done.stdout)["machines"]} == {"lb-1", "db-1", "greg-1"}
    assert ada.lab.endpoint in as_learner(ada, "runbook", "lab", "env").stdout
    assert as_learner(ada, "runbook", "lab", "ssh", "db-1", "id", "-un").stdout.strip() == "admin"
    refused = as_learner(ada, "runbook", "lab", "down")
    assert refused.returncode == 1 and "run by the classroom" in refused.stderr


# --- what is another's

ANOTHERS = {
    "a chapter": "cat {workspace}/work/greg-single/notebooks/01_launch_ec2.ipynb",
    "the runs": "ls {workspace}/runs",
    "the home": "ls {home}",
    "a new file in the home": "touch {home}/tmp/left",
    "the lab's key": "cat /run/ec2lab/{lab}/aws-config",
    "the lab's log": "cat /run/ec2lab/{lab}/log",
    "the kernels' sockets": "ls {sockets}",
    "the lab's API without a key": "curl --silent --max-time 9 --output /dev/null http://{gateway}:5000/",
    "the lab's API with one's own key": 'AWS_CONFIG_FILE=/run/ec2lab/$RUNBOOK_LAB/aws-config python -c "import boto3; '
    "boto3.client('sts', endpoint_url='http://{gateway}:5000').get_caller_identity()\"",
    "the lab's sessions": "{connect} {gateway} 5001",
    "the lab's packages": "{connect} {gateway} 3128",
    "SSH on a machine": "{connect} {machine} 22",
    "JupyterLab behind the hub's back": "{connect} {address} {port}",
    "JupyterLab's environment": "cat /proc/{pid}/environ",
    "JupyterLab's open files": "ls /proc/{pid}/fd/",
    "a signal to JupyterLab": "kill -0 {pid}",
}
CONNECT = "python -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 9)'"


@pytest.fixture(scope="module")
def adas(room: Classroom, ada: Learner) -> dict[str, object]:
    """Where ada's things are: her server's process and port, a machine's address, her lab."""
    [pid, port] = server_of(ada)
    machines = json.loads(as_learner(ada, "runbook", "lab", "status", "--json").stdout)["machines"]
    return {
        **{"workspace": ada.workspace, "home": ada.home, "sockets": ada.sockets, "lab": ada.lab.name, "gateway": ada.lab.gateway, "address": ada.address},
        **{"pid": pid, "port": port, "machine": machines[0]["address"], "connect": CONNECT},
    }


def server_of(learner: Learner) -> list[int]:
    """Pid and port of a learner's JupyterLab."""
    pids = users.processes_of([learner.uid])
    [pid] = [each for each in pids if b"jupyterhub-singleuser" in Path(f"/proc/{each}/cmdline").read_bytes()]
    environment = dict(word.split("=", 1) for word in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in word)
    return [pid, int(environment["JUPYTERHUB_SERVICE_URL"].split(":")[2].split("/")[0])]


@pytest.mark.parametrize("what", ANOTHERS)
def test_a_learner_does_not_get_at_what_is_anothers(ada: Learner, grace: Learner, adas: dict[str, object], what: str) -> None:
    command = ANOTHERS[what].format(**adas)
    control = as_learner(ada, "sh", "-c", command)
    assert control.returncode == 0, f"it is hers, and she does not get at it either: {control.stderr}"
    tried = as_learner(grace, "sh", "-c", command)
    assert tried.returncode != 0, tried.stdout[:500]


ROOTS = [
    *(f"cat {RUN}/{name}" for name in ("room.json", "logins.json", "key.pem", "certificate.pem", "hub.sqlite", "hub.log", "cookie_secret")),
    *(f"ls {folder}" for folder in (RUN, RUN / "kernels", "/var/lib/runbook-classroom/homes", "/var/lib/ec2lab/{lab}")),
    "{connect} 127.0.0.1 {proxy_port}",
    "{connect} 127.0.0.1 {page_port}",
    "touch /var/lib/runbook-classroom/library/runbook_lib/__init__.py",
    "touch /var/cache/runbook/classroom/environment/left",
    "echo $$ > /sys/fs/cgroup/memory/cgroup.procs || exit 1",
    "nft list tables",
    "sudo -n true",
]


@pytest.mark.parametrize("command", ROOTS)
def test_no_learner_gets_at_what_is_roots(room: Classroom, ada: Learner, command: str) -> None:
    ports = Room.read(RUN / "room.json")
    words = command.format(lab=ada.lab.name, connect=CONNECT, proxy_port=ports.proxy_port, page_port=ports.page_port)
    tried = as_learner(ada, "sh", "-c", words)
    assert tried.returncode != 0, tried.stdout[:500]


def test_the_hub_gives_no_learner_anothers_server_nor_the_instructors_page(room: Classroom, sign_in: SignIn) -> None:
    asked = {
        path: status_of(sign_in(GRACE), f"{room.url}{path}")
        for path in (f"/user/{ADA}/lab", "/services/instructor/", "/hub/admin", f"/user/{GRACE}/api/status")
    }
    assert asked == {f"/user/{ADA}/lab": 403, "/services/instructor/": 403, "/hub/admin": 403, f"/user/{GRACE}/api/status": 200}


def test_a_learners_token_opens_his_own_server_only(room: Classroom, grace: Learner, ada: Learner) -> None:
    words = Path(f"/proc/{server_of(grace)[0]}/environ").read_text().split("\0")
    token = next(word.split("=", 1)[1] for word in words if word.startswith("JUPYTERHUB_API_TOKEN="))

    def asked(path: str) -> int:
        return int(
            httpx2.get(
                f"{room.url}{path}", headers={"Authorization": f"token {token}"}, verify=ssl.create_default_context(cafile=str(AUTHORITY)), trust_env=False
            ).status_code
        )

    assert asked(f"/user/{GRACE}/api/status") == 200
    assert {asked(f"/user/{ADA}/api/status"), asked(f"/hub/api/users/{ADA}"), asked("/services/instructor/")} <= {302, 403, 404}


def test_the_instructor_has_no_server_of_his_own_and_starts_none_for_others(room: Classroom, sign_in: SignIn) -> None:
    assert status_of(sign_in(INSTRUCTOR), f"{room.url}/hub/spawn") == 403


def test_the_instructor_stops_and_starts_servers_and_does_not_get_into_one(room: Classroom, sign_in: SignIn) -> None:
    instructor = sign_in(INSTRUCTOR)
    assert status_of(instructor, f"{room.url}/user/{ADA}/lab") == 403
    page = instructor.context.new_page()
    page.goto(f"{room.url}/hub/admin")
    servers = page.locator("tr", has_text=GRACE)
    servers.get_by_role("button", name="Stop Server").click()
    servers.get_by_role("button", name="Start Server").click()
    servers.get_by_role("button", name="Stop Server").wait_for()
    page.close()
    assert sign_in(GRACE).goto(f"{room.url}/user/{GRACE}/lab").status == 200


def test_the_instructor_makes_no_token_in_a_learners_name(room: Classroom, sign_in: SignIn) -> None:
    page = sign_in(INSTRUCTOR).context.new_page()
    page.goto(f"{room.url}/hub/home")
    asked = "name => fetch(`/hub/api/users/${name}/tokens?_xsrf=${window.jhdata.xsrf_token}`, {method: 'POST'}).then(answer => answer.status)"
    assert (page.evaluate(asked, ADA), page.evaluate(asked, INSTRUCTOR)) == (403, 201)
    page.close()


# --- limits


def test_a_learners_server_and_machines_have_one_limit_together(room: Classroom, ada: Learner) -> None:
    limits = Room.read(RUN / "room.json")
    groups = [root / ada.lab.cgroup for root in cgroups.hierarchies()]
    counted = {
        name: int((group / name).read_text()) for group in groups for name in ("memory.limit_in_bytes", "memory.max", "pids.max") if (group / name).exists()
    }
    assert set(counted.values()) == {limits.memory_mb << 20, limits.processes}
    assert server_of(ada)[0] in cgroups.pids(ada.lab, "learner")
    assert len({pid for pid in cgroups.pids(ada.lab)} - cgroups.pids(ada.lab, "learner")) > 10
    found = room.status()[ADA]
    assert 100 < found["memory_mb"] < limits.memory_mb and found["processes"] > 20


def test_who_takes_more_memory_than_his_limit_is_ended_alone(room: Classroom, grace: Learner, sign_in: SignIn) -> None:
    limits = Room.read(RUN / "room.json")
    group = [path / "cgroup.procs" for path in cgroups.groups(grace.lab, "learner")]
    cgroups.limit(grace.lab, 700 << 20, limits.processes)
    try:
        words = [f"echo $$ > {file};" for file in group]
        command = ["sh", "-c", f"{' '.join(words)} exec setpriv --reuid {grace.uid} --clear-groups {ENVIRONMENT}/bin/python -c 'bytearray(900 << 20)'"]
        assert subprocess.run(command, capture_output=True).returncode in (-signal.SIGKILL, 137)
    finally:
        cgroups.limit(grace.lab, limits.memory_mb << 20, limits.processes)
    assert status_of(sign_in(GRACE), f"{room.url}/user/{GRACE}/api/status") == 200


# --- a lab that dies


def test_one_learners_lab_is_killed_and_the_others_notice_nothing(room: Classroom, ada: Learner, grace: Learner, sign_in: SignIn) -> None:
    [daemon] = cleanup.daemons(ada.lab)
    kept = set(cleanup.supervisors(ada.lab))
    os.kill(daemon, signal.SIGKILL)
    eventually(lambda: not cleanup.daemons(ada.lab), "the daemon's end")
    found = room.status()
    assert "does not answer" in found[ADA]["trouble"] and not found[GRACE]["trouble"]
    assert as_learner(grace, "runbook", "lab", "status").returncode == 0
    assert status_of(sign_in(GRACE), f"{room.url}/user/{GRACE}/api/status") == 200
    instructor, page = sign_in(INSTRUCTOR), sign_in(ADA)
    row(instructor, ADA).get_by_text("stop and start the learner's server").wait_for()
    assert row(instructor, GRACE).locator(".trouble").count() == 0
    page.goto(f"{room.url}/hub/home", wait_until="networkidle")  # the buttons do something once the page's scripts are there
    page.locator("#stop").click()
    page.locator("#start", has_text="Start My Server").click()
    page.get_by_role("tab", name=re.compile(r"\.ipynb")).first.wait_for()
    row(instructor, ADA).get_by_text("3 of 3 run").wait_for()
    assert set(cleanup.supervisors(ada.lab)) == kept
    assert as_learner(ada, "runbook", "lab", "status").returncode == 0


# --- the end


def test_down_keeps_the_runs_that_are_asked_for_and_leaves_nothing(room: Classroom, before: dict[str, set[str]], tmp_path: Path, ada: Learner) -> None:
    Path(f"/tmp/classroom-left-{os.getpid()}").touch()
    os.chown(f"/tmp/classroom-left-{os.getpid()}", ada.uid, ada.uid)
    (ada.workspace / "runs" / "shadow").symlink_to("/etc/shadow")
    archive = tmp_path / "runs.tar.gz"
    done = classroom("down", "--yes", "--keep-runs", str(archive))
    assert done.returncode == 0, done.stderr
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert any(re.fullmatch(rf"{ADA}/runs/greg-single/\d+T\d+Z/journal.jsonl", name) for name in names)
    assert not [name for name in names if "shadow" in name or "latest" in name]
    assert archive.stat().st_mode & 0o777 == 0o600
    after = everything()
    assert {kind: names - before[kind] for kind, names in after.items() if names - before[kind]} == {}
    assert {kind: before[kind] - names for kind, names in after.items() if kind != "processes" and before[kind] - names} == {}
    assert "there is no classroom" in classroom("down", "--yes").stdout
