"""A workspace with two small chapters in which `./runbook batch` runs as a user types it: real processes, papermill and kernels.

What chapter 02 does is in the deployment's tags, so that it travels as everything does: by the parameters.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import yaml

from runbook_lib.spec.loader import find_params
from runbook_lib.spec.params_yaml import read
from tests.conftest import ROOT

FIRST = """
import os, signal, time
from pathlib import Path
from runbook_lib import errors
from runbook_lib.notebook import display
from runbook_lib.spec.loader import load_spec

display.install()
spec = load_spec(params_file, overrides)
does, here = spec.cloud.tags.get("does", ""), Path(os.environ.get("NOTES") or os.environ["RUNBOOK_HOME"])
tries = here / f"{spec.deployment}.tries"
tries.open("a").write("begun\\n")
"""
SECOND = """
once = len(tries.read_text().split()) == 1
if does == "unreachable" or (does == "unreachable-once" and once):
    raise errors.HostError("db-1 does not answer", "db-1, port 22", "look at its console")
if does == "refused":
    raise errors.RunbookError("the pack is not a zip", "product.pack", "name another")
if does == "halts":
    run = os.getppid()
    os.kill(run, signal.SIGSTOP)  # hears of no interrupt then
    time.sleep(60)
    os.kill(run, signal.SIGCONT)
if does == "waits" or (does == "waits-once" and once):
    time.sleep(600)
if does == "dies":
    os.kill(os.getpid(), 9)
tries.open("a").write("ended\\n")
"""


class Workspace:
    """A folder with two small chapters, of which a sweep does the second (each costs a kernel), the params file `one.yaml`, and the command line in it."""

    def __init__(self, folder: Path, aws_config: Path):
        self.folder = folder
        (folder / "params").mkdir()
        values = read(find_params("greg-single.lab.yaml").read_text(), "")
        values["cloud"] = {"aws_config": str(aws_config), "network": "10.9.0.0/24", "operator_cidr": "10.9.0.1/32"}
        self.write("params/one.yaml", values)
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        (folder / "notebooks").mkdir()
        for name, code in (("01_launch_ec2", FIRST), ("02_install_mysql", FIRST + SECOND)):
            cells = [
                nbformat.v4.new_code_cell('params_file = ""\noverrides = {}', metadata={"tags": ["parameters"]}),
                nbformat.v4.new_code_cell(code if name.startswith("02") else "1"),
            ]
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / f"{name}.ipynb")

    def write(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def files(self, **does: str) -> None:
        """Write a params file `params/<name>.yaml` for the deployment `s-<name>` per word."""
        base = yaml.safe_load((self.folder / "params/one.yaml").read_text())
        for number, (name, word) in enumerate(does.items(), 1):
            cloud = {**base["cloud"], "network": f"10.9.{number}.0/24", "tags": {"does": word}}
            self.write(f"params/{name}.yaml", {**base, "deployment": f"s-{name}", "cloud": cloud})

    def sweep(self, does: list[str], **keys: Any) -> None:
        """Write the sweep `s` with a row per word."""
        rows = [{"name": word.replace("-", ""), "cloud.tags": {"does": word}} for word in does]
        content = {"sweep": "s", "params": ["params/one.yaml"], "networks": "10.9.0.0/16", "include": rows, "chapters": "02", **keys}
        self.write("sweep.yaml", content)

    def begin(self, *words: str, apart: bool = False) -> subprocess.Popen[str]:
        """Start a command. `apart`: what it says on standard error is left out."""
        environment = {**os.environ, "RUNBOOK_HOME": str(self.folder), "RUNBOOK_RUNS": str(self.folder / "runs"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "runbook_lib", *words]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if apart else subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, seconds: float = 240, apart: bool = False) -> tuple[int, str]:
        process = self.begin(*words, apart=apart)
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, said

    def found(self) -> dict[str, dict[str, Any]]:
        """The rows of the newest batch, by what they do."""
        document = json.loads((self.folder / "runs/_batches/s/latest/batch.json").read_text())
        return {row["cells"]["cloud.tags"]["does"]: row for row in document["rows"]}

    def tries(self, word: str) -> list[str]:
        """What chapter 02 of that row wrote: begun, ended, by try."""
        file = self.folder / f"s-{word.replace('-', '')}.tries"
        return file.read_text().split() if file.exists() else []
