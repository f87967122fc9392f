"""What programs that this project did not write say of what it configures: sslyze, gixy-ng, ssh-audit, lynis, Mozilla's Observatory.

They are installed for these tests, the first three in an environment of their own: sslyze needs an older pydantic than the library has.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.support.deployments import Deployed, in_lab, made, on
from tests.support.wheel import UV, run

pytestmark = pytest.mark.full

JUDGES = ("sslyze==6.3.1", "gixy-ng==0.2.59", "ssh-audit==3.9.0")
# What gixy-ng finds and we keep: the default server answers nobody (444), so there is no answer to put HSTS into; where a range alone may open a host,
# everybody is told that another host was meant (421) and where the console's path is (302 of `/`), which says nothing of what lies behind.
NOT_TRUE = {"hsts_header", "return_bypasses_allow_deny"}
POSSESSIVE = re.compile(r"([*+?])\+")  # PCRE's quantifiers that give nothing back, which gixy's parser does not know
LEAST_LYNIS = 75
OBSERVATORY, GOOD_GRADES = "@mdn/mdn-http-observatory@1.4.8", {"A+", "A", "A-", "B+"}


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the judges' programs."""
    folder = tmp_path_factory.mktemp("judges")
    run(UV, "venv", "--quiet", folder)
    run(UV, "pip", "install", "--quiet", "--python", folder / "bin/python", *JUDGES)
    return folder / "bin"


@pytest.fixture(scope="module", params=["greg-separated", "as-cluster"])
def judged(request: pytest.FixtureRequest, lab: Any) -> Iterator[Deployed]:
    nodes = {"nodes__store": 1, "nodes__publisher": 1} if request.param == "greg-separated" else {"nodes__worker": 2}
    with made(in_lab(lab, request.param, f"judged-{request.param[:4]}", 12, drill=False, **nodes), "--to", "05") as deployed:
        yield deployed


def test_tls_is_as_mozilla_recommends(judged: Deployed, judges: Path, tmp_path: Path) -> None:
    deployment = judged.open()
    (tmp_path / "ca.pem").write_text(deployment.context().secrets["ca.pem"])
    for host in deployment.spec.hosts.values():
        address = deployment.public_addresses()[deployment.topology.lb_for(host).name]
        said = run(judges / "sslyze", "--mozilla_config=intermediate", f"--certinfo_ca_file={tmp_path / 'ca.pem'}", f"{host}:443{{{address}}}")
        assert f"{host}:443: OK - Compliant." in said, said[-1500:]


def test_nginx_has_no_known_fault(judged: Deployed, judges: Path, tmp_path: Path) -> None:
    text = on(judged.open(), "lb-1", "cat /etc/nginx/nginx.conf")
    (tmp_path / "nginx.conf").write_text(POSSESSIVE.sub(r"\1", text))
    done = subprocess.run([judges / "gixy", "--format", "json", tmp_path / "nginx.conf"], capture_output=True, text=True, timeout=120)
    found = {row["plugin"] for row in json.loads(done.stdout)}
    assert found <= NOT_TRUE, done.stdout


def test_sshd_is_within_the_hardened_profile_of_debian_12(judged: Deployed, judges: Path, tmp_path: Path) -> None:
    built_in = "import json, ssh_audit.builtin_policies as b; print(json.dumps(b.BUILTIN_POLICIES['Hardened Debian 12 (version 3)']))"
    profile = json.loads(run(judges / "python", "-c", built_in))
    lists = {"host keys": profile["host_keys"], "key exchanges": profile["kex"], "ciphers": profile["ciphers"], "macs": profile["macs"]}
    head = ['name = "Debian 12, or stricter"', "version = 1", "allow_algorithm_subset_and_reordering = true"]
    (tmp_path / "policy").write_text("\n".join([*head, *(f"{name} = {', '.join(values)}" for name, values in lists.items())]) + "\n")
    deployment = judged.open()
    for node in deployment.topology.nodes:
        command = [judges / "ssh-audit", "--no-colors", "-P", tmp_path / "policy", node.address]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        assert "Passed" in said, f"{node.name}: {said}"


def test_lynis_gives_every_machine_a_good_index(judged: Deployed) -> None:
    deployment = judged.open()
    install = "apt-get -qq update >/dev/null; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends lynis >/dev/null 2>&1"
    for name in (node.name for node in deployment.topology.nodes):
        said = on(deployment, name, f"{install}; lynis audit system --quick --no-colors 2>/dev/null")
        index = re.search(r"Hardening index : (\d+)", said)
        assert index and int(index[1]) >= LEAST_LYNIS, f"{name}: {index and index[0]}"


@pytest.mark.parametrize("judged", ["greg-separated"], indirect=True)  # an AS without applications has no page to judge
def test_both_hosts_get_a_good_grade_from_the_observatory(judged: Deployed, tmp_path: Path) -> None:
    """More than B+ needs a policy without inline scripts, of which the product's own pages consist."""
    need(shutil.which("npm") and shutil.which("node"), "Node.js 20 and npm are needed")
    run("npm", "install", "--silent", "--no-audit", "--ignore-scripts", "--prefix", tmp_path, OBSERVATORY)
    package = tmp_path / "node_modules" / OBSERVATORY.rpartition("@")[0]
    (package / "conf").mkdir(exist_ok=True)
    (package / "conf" / "hsts-preload.json").write_text("{}")  # fetched by a script of its installation: a public list, which has no host of a lab
    deployment = judged.open()
    addresses, hosts = deployment.public_addresses(), deployment.spec.hosts.values()
    (tmp_path / "ca.pem").write_text(deployment.context().secrets["ca.pem"])
    (tmp_path / "hosts").write_text("".join(f"{addresses[deployment.topology.lb_for(host).name]} {host}\n" for host in hosts))
    as_if_public = 'mount --bind "$1" /etc/hosts; exec node "$2" "$3"'  # in a mount namespace of its own
    for host in hosts:
        command = ["unshare", "--mount", "sh", "-ec", as_if_public, "sh", tmp_path / "hosts", package / "src" / "scan.js", host]
        said = subprocess.run(command, env={**os.environ, "NODE_EXTRA_CA_CERTS": str(tmp_path / "ca.pem")}, capture_output=True, text=True, timeout=120)
        found = json.loads(said.stdout)
        failed = {name: each["result"] for name, each in found["tests"].items() if not each["pass"]}
        assert found["scan"]["grade"] in GOOD_GRADES, f"{host}: {found['scan']['grade']}, {failed}"
