"""`lab browser`: the deployments' names lead to their machines, and only right certificates are trusted."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from runbook_cli import browser, machines
from runbook_lib import pki
from runbook_lib.errors import RunbookError
from tests.conftest import need
from tests.support.lab_fixtures import eventually

SERVER = """\
import http.server, ssl, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<title>t</title><p id=words>the page of " + self.headers["Host"].encode() + b"</p>"
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("", 443), Page)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/root/cert.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def sites(lab, net):
    """Two machines named good.test (certificate by the deployment's CA) and bad.test (by another CA)."""
    group = lab.group(net.vpc, "web")
    lab.allow(group, 443)
    authority = pki.make_ca("browser-test")
    lab.ssm.put_parameter(Name="/runbook/browser/ca.pem", Value=authority.cert_pem, Type="String", Overwrite=True)
    boxes = []
    for number, (name, signer) in enumerate({"good.test": authority, "bad.test": pki.make_ca("other")}.items()):
        named = {"runbook:deployment": "browser", "runbook:node": f"lb-{number + 1}", "runbook:hosts": name}
        tags = [{"Key": key, "Value": value} for key, value in named.items()]
        more = {"TagSpecifications": [{"ResourceType": "instance", "Tags": tags}]}
        box = lab.launch(net, 10 + number, SecurityGroupIds=[net.group, group], **more)
        certificate, key = pki.issue(signer, [name])
        box.run(f"echo {shlex.quote(key + certificate)} | sudo tee /root/cert.pem >/dev/null")
        box.run(f"echo {shlex.quote(SERVER)} > s.py; sudo systemd-run -q --working-directory=/root python3 $PWD/s.py")
        boxes.append(box)
    for box in boxes:
        eventually(lambda box=box: socket.create_connection((box.address, 443), 5).close() is None, f"{box.address} serves")
    yield {"good.test": boxes[0].address, "bad.test": boxes[1].address}
    for box in boxes:
        box.terminate()


def seen(url: str, names: dict[str, str], keys: list[str], profile: str) -> str:
    """What Chromium shows of `url`, without a window."""
    program = next(filter(None, map(shutil.which, browser.PROGRAMS)), None)
    need(program, "no Chromium (apt-get install chromium)")
    command = [program, *browser.flags(names, keys, profile), "--headless=new", "--disable-gpu", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


def test_names_and_authorities_come_from_what_the_cloud_knows(lab, sites):
    assert sites.items() <= machines.hosts(lab.lab).items()  # other deployments of the session have names of their own
    assert "BEGIN CERTIFICATE" in machines.authorities(lab.lab)


def test_chromium_opens_a_deployment_s_name_without_a_warning_and_warns_of_a_wrong_certificate(lab, sites, tmp_path):
    keys = browser.trusted_keys(sites, machines.authorities(lab.lab))
    assert len(keys) == 1
    good = str(tmp_path / "a")
    eventually(lambda: "the page of good.test" in seen("https://good.test/", sites, keys, good), "the page", 120)  # a lab's network comes and goes
    assert "the page of" not in seen("https://bad.test/", sites, keys, str(tmp_path / "b"))


def test_without_a_display_the_browser_says_what_to_do(lab, sites, monkeypatch):
    need(next(filter(None, map(shutil.which, browser.PROGRAMS)), None), "no Chromium (apt-get install chromium)")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RunbookError) as caught:
        browser.open_browser(lab.lab)
    assert "lab hosts" in caught.value.next_step


def test_the_window_is_opened_with_a_profile_of_its_own_that_goes_with_it(lab, sites, monkeypatch, tmp_path):
    fake = tmp_path / "chromium"
    fake.write_text('#!/bin/sh\nfor word; do echo "$word"; done > "$0.words"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DISPLAY", ":0")
    assert browser.open_browser(lab.lab) == 0
    words = (tmp_path / "chromium.words").read_text().splitlines()
    assert words[-1] == f"https://{next(iter(machines.hosts(lab.lab)))}/"
    (rules,) = (word for word in words if word.startswith("--host-resolver-rules="))
    assert all(f"MAP {name} {address}" in rules for name, address in sites.items())
    (profile,) = (word.partition("=")[2] for word in words if word.startswith("--user-data-dir="))
    assert not Path(profile).exists()
