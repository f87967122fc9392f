"""Checks of a node's running process: mounts, service providers, listeners, its tier's key (golden run 2, 5).

The plans compare files; these checks look at the process that read them. The module builds a command and reads its
output; it opens no connection.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from runbook_lib.check import Check, Status
from runbook_lib.roles import carbon
from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import Node

PORTS = (9443, 9763)  # the product's ports; there is no port offset because each node has a host of its own (facts 4)
MOUNTS = 2  # config and governance (facts 1.4; golden run 2: the log lines of success)
LINES = "Connected to mount at [^ ]+|SSO Service Provider is registered for : [^ ]+|WSO2 Carbon started"
# Run as root on a node. Prints four JSON lines: log lines of the present start, listening sockets, the certificate on 9443, and the
# versions: of the product by its own file, of the Java that runs, of the jars of JDBC drivers. It connects to no other host.
ASK = """\
{log} | grep -oE {lines} | python3 -c 'import json, sys; print(json.dumps(sys.stdin.read().splitlines()))'
ss -Hltn {ports} | awk '{{print $4}}' | sort -u | python3 -c 'import json, sys; print(json.dumps(sys.stdin.read().split()))'
python3 -c '
import json, socket, ssl, sys
socket.setdefaulttimeout(10)  # get_server_certificate has a timeout of its own since Python 3.10 only
print(json.dumps(ssl.get_server_certificate((sys.argv[1], 9443))))' {address} || echo '""'
python3 -c '
import glob, hashlib, json, os, subprocess, sys, zipfile
home = sys.argv[1]
def first(path):
    try:
        return " ".join(open(path, encoding="utf-8", errors="replace").read().split())
    except OSError:
        return ""
def jar(path):
    try:
        lines = zipfile.ZipFile(path).read("META-INF/MANIFEST.MF").decode("utf-8", "replace").splitlines()
        told = dict(line.split(": ", 1) for line in lines if ": " in line)
    except (KeyError, OSError, zipfile.BadZipFile):
        told = {{}}
    version = told.get("Implementation-Version") or told.get("Bundle-Version") or "without a version of its own"
    with open(path, "rb") as file:
        return "%s %s, sha256 %s" % (os.path.basename(path), version, hashlib.sha256(file.read()).hexdigest()[:16])
running = {{os.path.realpath(path) for path in glob.glob("/proc/[0-9]*/exe")}}
javas = sorted(path for path in running if path.endswith("/bin/java") and os.path.exists(path))
told = [subprocess.run([path, "-version"], stderr=subprocess.PIPE, timeout=20).stderr.decode("utf-8", "replace").splitlines() for path in javas]
jvm = "; ".join(" / ".join(line.strip() for line in lines if not line.startswith("Picked up")) for lines in told)
drivers = "; ".join(jar(path) for path in sorted(glob.glob(home + "/repository/components/lib/*.jar")))
print(json.dumps({{"product": first(home + "/bin/version.txt"), "jvm": jvm, "driver": drivers}}))' {home} || echo '{{}}'
"""


@dataclass(frozen=True)
class Running:
    """The answer of one node: log lines of its present start, the product's listeners, the certificate on 9443 (PEM), and versions.

    `versions`: of the product, the Java that runs and the JDBC drivers, by the names of `evidence.provenance.OBSERVED`.
    """

    lines: Sequence[str]
    listening: Sequence[str]
    certificate: str
    versions: Mapping[str, str] = field(default_factory=dict)


def question(node: Node, spec: Spec) -> str:
    """Return the shell command that asks the node; `answer` reads its output."""
    ports = shlex.quote(" or ".join(f"sport = :{port}" for port in PORTS))
    text = ASK.format(log=carbon.log_of_this_start(spec), lines=shlex.quote(LINES), ports=ports, address=node.address, home=shlex.quote(carbon.home_of(spec)))
    return f"sudo -n sh -c {shlex.quote(text)}"


def answer(stdout: str) -> Running:
    """Return the output of `question` as a `Running`; fields without a line stay empty. Raises `ValueError` when a line is not JSON."""
    said = dict(zip(("lines", "listening", "certificate", "versions"), map(json.loads, stdout.splitlines()), strict=False))
    return Running(said.get("lines", []), said.get("listening", []), said.get("certificate", ""), said.get("versions", {}))


def rows(node: Node, running: Running, providers: Sequence[str], tier_certificate: str, chapter: str) -> list[Check]:
    """Return the checks of one node.

    `providers`: names of the applications that the node's identity provider must know, none for a product without one;
    `tier_certificate`: PEM of the certificate that belongs to the tier's key. The checks of mounts and providers are
    undecided when they do not hold and the log of the present start is no longer kept.
    """
    told = any("started" in line for line in running.lines)  # otherwise the log of this start is no longer kept, and a missing line proves nothing
    mounts = [line.split()[-1] for line in running.lines if "mount" in line]
    known = sorted({line.split()[-1] for line in running.lines if "Service Provider" in line})
    listens = [f"{node.address}:{port}" for port in PORTS]
    shown, wanted = _fingerprint(running.certificate), _fingerprint(tier_certificate)

    def row(what: str, title: str, ok: bool, expected: str, observed: str, asked: bool = True) -> Check:
        status: Status = "pass" if ok else "fail" if asked else "undecided"
        return Check(f"node-{what}-{node.name}", title, status, expected, observed if asked else "the log of its start is no longer kept", node.name, chapter)

    found = [row("mounts", f"{node.name} mounted the shared registry", len(mounts) == MOUNTS, f"{MOUNTS} mounts", f"{len(mounts)} mounts", told)]
    if providers:
        title = f"The identity provider on {node.name} knows its own applications only"
        found.append(row("providers", title, known == sorted(providers), ", ".join(sorted(providers)), ", ".join(known) or "none", told))
    same = sorted(running.listening) == sorted(listens)
    found.append(
        row("listens", f"{node.name} listens on its private address only", same, ", ".join(listens), ", ".join(sorted(running.listening)) or "nothing")
    )
    found.append(row("key", f"{node.name} shows the certificate of its tier's key", shown == wanted, wanted, shown))
    return found


def _fingerprint(pem: str) -> str:
    """Return the first 8 bytes of the certificate's SHA-256 as browsers write them, or "none" when `pem` has no certificate."""
    if not re.search("BEGIN CERTIFICATE", pem):
        return "none"
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex(":")[:23].upper()
