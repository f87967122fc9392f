"""What goes wrong is told once, in words: what, where, what next. Nothing is half-written, and the next run goes on."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib import pki
from runbook_lib.aws import packs
from runbook_lib.aws.host_keys import Pinned, pin_name
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.errors import ChecksFailed, HostError, RunbookError
from runbook_lib.headless import cli
from tests.support.deployments import Deployed
from tests.support.drift_tools import OURS, as_root
from tests.support.lab_fixtures import eventually

FAULTS = yaml.safe_load((Path(__file__).parent / "faults.yaml").read_text())
ZEROS = "0" * 64


class Refusing(BaseHTTPRequestHandler):
    """An endpoint of AWS that answers every call with one error code; a GET of anything finds nothing."""

    code = ""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "X-Amz-Target" in self.headers:
            kind, text = (
                "application/x-amz-json-1.1",
                json.dumps({"__type": self.code, "message": "as the test wants it"}),
            )
        else:
            error = f"<Error><Code>{self.code}</Code><Message>as the test wants it</Message></Error>"
            kind, text = "text/xml", f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>"
        self._answer(403 if kind == "text/xml" else 400, kind, text)

    def do_GET(self) -> None:
        self._answer(404, "text/plain", "nothing here")

    def _answer(self, status: int, kind: str, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def served(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port on loopback where `Refusing` answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the table's words in braces stand for."""
    folder = tmp_path_factory.mktemp("faults")
    ca = pki.make_ca("faults")
    certificate, key = pki.issue(ca, ["127.0.0.1"])
    (folder / "ca.pem").write_text(ca.cert_pem)
    (folder / "server.pem").write_text(certificate + key)
    (folder / "text.zip").write_text("not a zip")
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("other-1.0/README", "another product")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with served() as plain, served(context) as secure:
        for name, port in (("nobody", 9), ("refusing", plain)):
            settings = f"region = us-east-1\naws_access_key_id = a\naws_secret_access_key = b\nendpoint_url = http://127.0.0.1:{port}\n"
            (folder / name).write_text(f"[default]\n{settings}")
        yield {
            "folder": str(folder),
            "https": f"https://127.0.0.1:{secure}",
            "refusing": str(folder / "refusing"),
            "zeros": ZEROS,
        }


@pytest.fixture
def trusting(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{places['folder']}/ca.pem")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", f"{places['folder']}/cache")  # other tests fetch packs at the same time


@pytest.fixture
def opened(separated: Deployed) -> Iterator[Deployment]:
    deployment = separated.open()
    yield deployment
    deployment.close()


@pytest.fixture
def second(separated: Deployed) -> Iterator[Callable[..., Deployment]]:
    """The same deployment opened by somebody else: new connections, other parameters where given."""
    found: list[Deployment] = []

    def open_it(**overrides: Any) -> Deployment:
        found.append(separated.open(**overrides))
        return found[-1]

    yield open_it
    for deployment in found:
        deployment.close()


@pytest.mark.parametrize("row", FAULTS, ids=[row["fault"] for row in FAULTS])
def test_bad_input_is_one_clear_error(
    separated: Deployed,
    places: dict[str, str],
    trusting: None,
    row: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Refusing, "code", row.get("code", ""))
    kept = sorted(packs.cache().iterdir())
    settings = json.loads(re.sub(r"\{(\w+)\}", lambda m: places.get(m[1], m[0]), json.dumps(row["set"])))
    status = cli.main(separated.command("plan")[3:] + [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")])
    told = capsys.readouterr()
    assert status == 1, told.out
    wanted = [re.sub(r"\{(\w+)\}", lambda m: places.get(m[1], m[0]), words) for words in row["says"]]
    assert [words for words in wanted if words not in told.err] == [], told.err
    assert told.err.count("  next:  ") == 1 and "Traceback" not in told.err + told.out
    assert [path for path in sorted(packs.cache().iterdir()) if path not in kept and path.name.startswith(".coming-")] == []


def test_a_wrong_checksum_stops_a_run_at_its_chapter_without_a_traceback(separated: Deployed, opened: Deployment) -> None:
    done = separated.cli("run", "--from", "02", "--set", f'product.sha256="{ZEROS}"')
    assert done.returncode == 1
    assert f"the parameters say {ZEROS}" in done.stdout and "next:" in done.stdout
    assert "02_install_mysql  ✘ stopped" in done.stdout and "04_configure" not in done.stdout
    assert not OURS.search(done.stdout + done.stderr)
    assert separated.result["ok"] is False
    assert not opened.mysql.plan() and not opened.greg.plan()


def test_a_machine_whose_ssh_never_answers_is_named_after_the_time_given(opened: Deployment, second: Callable[..., Deployment]) -> None:
    warm = opened.fleet()["publisher-1"]
    as_root(warm, "systemctl stop ssh.socket ssh.service 2>/dev/null || systemctl stop ssh.service")  # our own session stays
    try:
        other = second(timeouts__ssh=1)
        with pytest.raises(HostError) as told:
            other.launch.apply(other.launch.plan())
        assert "publisher-1 does not answer" in told.value.what
        assert re.search(r"publisher-1 \(admin@[\d.]+:22\)", told.value.where or "")
        assert "security group for port 22" in (told.value.next_step or "")
    finally:
        as_root(warm, "systemctl start ssh.service")
    assert not second().greg.plan()


def test_a_machine_with_another_host_key_is_not_talked_to(opened: Deployment, second: Callable[..., Deployment]) -> None:
    name = pin_name("store-1")
    stored = opened.vault.get(name)
    foreign = pki.ssh_public_key(pki.make_ssh_key()).split()[:2]
    opened.vault.put(name, Pinned(Pinned.read(stored).instance, (" ".join(foreign),)).text(), secure=False)
    try:
        with pytest.raises(HostError) as told:
            second().greg.plan()
        assert "store-1 shows another host key" in told.value.what
        assert "store-1 (admin@" in (told.value.where or "") and "run chapter 01 again" in (told.value.next_step or "")
    finally:
        opened.vault.put(name, stored, secure=False)
    assert not second().greg.plan()


def test_a_full_disk_is_told_and_leaves_nothing_half_unpacked(opened: Deployment) -> None:
    host = opened.fleet()["store-2"]
    as_root(host, "mount -t tmpfs -o size=1m,mode=755 tmpfs /opt/wso2")
    try:
        plan = opened.greg.plan()
        assert {p.host for p in plan.pending} == {"store-2"}
        with pytest.raises(HostError) as told:
            opened.greg.apply(plan)
        assert "No space left" in told.value.what and "store-2" in (told.value.where or "")
        assert "free space on the host" in (told.value.next_step or "")
        assert "archive /opt/wso2/greg" in {p.change.key for p in opened.greg.plan().pending}
    finally:
        as_root(host, "umount /opt/wso2")
    assert not opened.greg.plan()
    back = opened.nginx.plan()  # a node that could not be changed is left out of Nginx until chapter 05 says otherwise
    assert {p.host for p in back.pending} == {"lb-1"} and "down" in str(back)
    opened.nginx.apply(back)


def test_a_password_that_mysql_refuses_is_shown_by_the_plan_and_put_right(opened: Deployment) -> None:
    host = "SELECT host FROM mysql.user WHERE user = 'wso2_registry' LIMIT 1"
    change = f"""mariadb -e "SET PASSWORD FOR 'wso2_registry'@'$(mariadb -BNe "{host}")' = PASSWORD('another')" """
    as_root(opened.fleet()["db-1"], change)
    with pytest.raises(RunbookError):
        opened.mysql.verify()
    plan = opened.mysql.plan()
    assert [(p.change.verb, p.change.summary) for p in plan.pending] == [("change", "another password")]
    opened.mysql.apply(plan)
    opened.mysql.verify()


def test_a_database_server_that_refuses_root_is_one_clear_error(opened: Deployment) -> None:
    """A second administrator (the login user) lets root in again afterwards."""
    db = opened.fleet()["db-1"]
    as_root(
        db,
        "mariadb <<'END'\n"
        "CREATE USER admin@localhost IDENTIFIED VIA unix_socket;\n"
        "GRANT ALL ON *.* TO admin@localhost WITH GRANT OPTION;\n"
        "ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('nobody-knows');\n"
        "END",
    )
    try:
        with pytest.raises(HostError) as told:
            opened.mysql.plan()
        assert "Access denied for user 'root'@'localhost'" in told.value.what
        assert "db-1" in (told.value.where or "") and "unix_socket" in (told.value.next_step or "")
    finally:
        healed = db.run("mariadb", b"ALTER USER root@localhost IDENTIFIED VIA unix_socket;\n")
        assert healed.rc == 0, healed.stderr
        as_root(db, "mariadb -e 'DROP USER admin@localhost'")
    assert not opened.mysql.plan()


def test_settings_that_the_first_boot_froze_in_the_registry_are_compared_with_todays(opened: Deployment) -> None:
    """Who renames the Store's host later changes the file, and the product goes on reading its copy."""
    opened.greg.verify()
    copy = (
        "UPDATE REG_CONTENT c JOIN REG_RESOURCE r USING (REG_CONTENT_ID) SET c.REG_CONTENT_DATA = "
        "REPLACE(c.REG_CONTENT_DATA, 'https://{}/social\"', 'https://{}/social\"') WHERE r.REG_NAME = 'store.json'"
    )
    store, db = opened.spec.hosts["store"], opened.fleet()["db-1"]
    as_root(db, f"mariadb WSO2_REGISTRY_DB <<'END'\n{copy.format(store, 'old.example')};\nEND")
    try:
        with pytest.raises(ChecksFailed, match=r"registry-frozen-settings.*not features\.social\.keys\.socialAppUrl") as told:
            opened.greg.verify()
        assert "store/configs/store.json in the console" in told.value.what
    finally:
        as_root(db, f"mariadb WSO2_REGISTRY_DB <<'END'\n{copy.format('old.example', store)};\nEND")
    opened.greg.verify()


def test_a_machine_without_power_is_named_and_started_by_the_next_run(opened: Deployment, second: Callable[..., Deployment]) -> None:
    kept = opened.fleet()["lb-1"]
    assert kept.run("true").succeeded
    opened.cloud.power_cut("lb-1")
    eventually(lambda: opened.instances()["lb-1"].state == "stopped", "lb-1 stopped")
    with pytest.raises(HostError) as told:
        second().nginx.plan()
    assert "not running: lb-1" in told.value.what and "run chapter 01" in (told.value.next_step or "")
    other = second()
    plan = other.launch.plan()
    assert [(p.change.verb, p.host) for p in plan.pending] == [("start", "lb-1")]
    other.launch.apply(plan)
    assert kept.run("true").succeeded, "a connection from before the power cut is made anew"
    assert not other.nginx.plan()
