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
    """What this host's `nginx -t` says to each fault and to its repair. `HostError` when it has no Nginx."""
    texts = [_whole(text) for fault in faults() for text in (fault.wrong, fault.right)]
    done = host.run(f"sudo -n python3 -IS -c {shlex.quote(PROGRAM)}", json.dumps(texts).encode(), timeout=60)
    if not done.succeeded:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise HostError(f"the faults cannot be tried: {last}", host.name, "run chapter 05 first: it installs Nginx")
    answers = [_said(code, words) for code, words in json.loads(done.stdout)]
    rows = [(fault.title, answers[2 * number], answers[2 * number + 1], fault.happens, fault.see) for number, fault in enumerate(faults())]
    columns = ("Fault", "nginx -t on the fault", "on its repair", "What happens", "How to see it")
    return Table(columns, rows, f"Five faults that are passed around, tried on {host.name}")


def _whole(http: str) -> str:
    return f"error_log stderr;\npid @FOLDER@/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{http}}}\n"


def _said(code: int, words: str) -> str:
    """Its verdict, and the first line of its words without the file's name."""
    first = next((line for line in words.splitlines() if "[" in line), "")
    told = re.sub(r"^\d+#\d+: ", "", first.partition("] ")[2].rpartition(" in /")[0])
    if code:
        return f"refused: {told}"
    return f"accepted, with a warning: {told}" if told else "accepted without a word"
