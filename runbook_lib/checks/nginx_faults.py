"""Known faults of Nginx configurations, tested on the learner's own Nginx to show which of them `nginx -t` reports.

Each is tested as a file in a temporary folder; the running configuration is not changed.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from runbook_lib.errors import HostError
from runbook_lib.files import read_table
from runbook_lib.ssh import Host
from runbook_lib.tables import Table

# Tests each configuration of the JSON list on stdin in a temporary folder, with a certificate made there. Prints exit codes and messages as JSON.
PROGRAM = """
import json, os, subprocess, sys, tempfile
answers = []
with tempfile.TemporaryDirectory() as folder:
    key, certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "certificate.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=scratch", "-days", "1"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    for text in json.load(sys.stdin):
        path = os.path.join(folder, "nginx.conf")
        with open(path, "w") as out:
            out.write(text.replace("@KEY@", key).replace("@CERT@", certificate).replace("@FOLDER@", folder))
        done = subprocess.run(["nginx", "-t", "-q", "-c", path], capture_output=True, text=True)
        answers.append([done.returncode, done.stderr.replace(folder, "")])
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Fault:
    """One fault: the wrong lines, the right lines, what happens, and how to see it."""

    id: str
    title: str
    wrong: str
    right: str
    happens: str
    see: str


@cache
def faults() -> tuple[Fault, ...]:
    """Return the faults of `nginx_faults.yaml`."""
    return tuple(Fault(**row) for row in read_table(files("runbook_lib.checks") / "nginx_faults.yaml"))


def try_faults(host: Host) -> Table:
    """Return a table with the result of this host's `nginx -t` on each fault and on its repair.

    Raises `HostError` when they cannot be tested, for example without Nginx on the host.
    """
    texts = [_whole(text) for fault in faults() for text in (fault.wrong, fault.right)]
    done = host.run(f"sudo -n python3 -IS -c {shlex.quote(PROGRAM)}", json.dumps(texts).encode(), timeout=60)
    if not done.succeeded:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise HostError(f"the faults cannot be tried: {last}", host.name, "run chapter 05 first: it installs Nginx")
    answers = [_verdict(code, message) for code, message in json.loads(done.stdout)]
    rows = [(f"{number + 1}. {fault.title}", answers[2 * number], answers[2 * number + 1], fault.happens, fault.see) for number, fault in enumerate(faults())]
    columns = ("Fault", "nginx -t on the fault", "on its repair", "What happens", "How to see it")
    return Table(columns, rows, f"Known faults of Nginx configurations, tried on {host.name}")


def _whole(http: str) -> str:
    """Return a complete configuration file for these contents of its http block; `@FOLDER@` stands for the temporary folder."""
    return f"error_log stderr;\npid @FOLDER@/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{http}}}\n"


def _verdict(code: int, message: str) -> str:
    """Return the result of `nginx -t` in words: refused or accepted, and the first line of its message without time and file name."""
    first = next((line for line in message.splitlines() if "[" in line), "")
    shown = re.sub(r"^\d+#\d+: ", "", first.partition("] ")[2].rpartition(" in /")[0])
    if code:
        return f"refused: {shown}"
    return f"accepted, with a warning: {shown}" if shown else "accepted without a word"
