"""Known faults of Nginx configurations, tried on the learner's own Nginx: which of them does `nginx -t` notice?

Each is tested as a scratch file in a temporary folder; the running configuration is not touched.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from runbook_lib.errors import HostError
from runbook_lib.ssh import Host
from runbook_lib.tables import Table

# Tests one configuration from stdin in a folder that is gone afterwards; a certificate is made there for it.
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
    """One fault: the wrong lines, the right ones, what happens, how to see it."""

    id: str
    title: str
    wrong: str
    right: str
    happens: str
    see: str


@cache
def faults() -> tuple[Fault, ...]:
    """The faults of `nginx_faults.yaml`."""
    text = files("runbook_lib.checks").joinpath("nginx_faults.yaml").read_text()
    return tuple(Fault(**row) for row in yaml.safe_load(text))


def try_faults(host: Host) -> Table:
    """A row per fault: what this host's `nginx -t` says to it and to its repair. Raises HostError when the host has no Nginx."""
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
    """A whole configuration file around the contents of its http block; `@FOLDER@` stands for the temporary folder."""
    return f"error_log stderr;\npid @FOLDER@/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{http}}}\n"


def _verdict(code: int, message: str) -> str:
    """What `nginx -t` decided, by its exit code, and the first line of its message without time and file name."""
    first = next((line for line in message.splitlines() if "[" in line), "")
    shown = re.sub(r"^\d+#\d+: ", "", first.partition("] ")[2].rpartition(" in /")[0])
    if code:
        return f"refused: {shown}"
    return f"accepted, with a warning: {shown}" if shown else "accepted without a word"
