"""The program's front door: the library's commands, and those that need the lab beside it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runbook_lib.errors import RunbookError
from runbook_lib.headless import cli

FRONT = [sys.executable, "-X", "utf8", "-m", "runbook_cli"]  # this program once more, as another user
STATE = Path("/run/ec2lab")
LAB_SETTINGS = {"EC2LAB_NAME": "RUNBOOK_LAB", "EC2LAB_DEBIAN_MIRROR": "RUNBOOK_DEBIAN_MIRROR"}  # of the lab's own, by ours


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status of the command (see `cli.COMMANDS`)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    os.environ["EC2LAB_COMMAND"] = "./runbook lab"  # what the lab's messages tell people to type
    os.environ.update({theirs: os.environ[ours] for theirs, ours in LAB_SETTINGS.items() if ours in os.environ})
    if argv[:1] == ["lab"]:
        if os.geteuid() != 0 and argv[1:2] in (["up"], ["down"], ["ssh"]):
            return as_root([*FRONT, *argv])
        from runbook_cli import lab

        return lab.main(argv[1:])
    more: dict[str, Callable[[argparse.Namespace], int]] = {"rehearse": rehearse, "open": open_, "doctor": doctor}
    return cli.main(argv, more)


def rehearse(args: argparse.Namespace) -> int:
    """The lab up, then the pattern end to end; says how long each part took."""
    began = time.monotonic()
    ensure_lab(args)
    up = time.monotonic()
    status = cli.VERBS["run"](args)
    print(f"time: {up - began:.0f} s until the lab was up, {time.monotonic() - up:.0f} s for the chapters")
    return status


def open_(args: argparse.Namespace) -> int:
    if args.params:
        ensure_lab(args)
    return cli.VERBS["open"](args)


def doctor(args: argparse.Namespace) -> int:
    """What the library finds, then what the lab lacks on this machine; the latter fails only where the params name a lab."""
    from runbook_cli import prerequisites

    found = cli.VERBS["doctor"](args)
    missing = prerequisites.missing_packages()
    needed = False
    with suppress(RunbookError):  # of the params: told above
        needed = bool(args.params and lab_of(args))
    mark = "○" if missing and not needed else ("✘" if missing else "✔")
    fix = f"missing: {' '.join(missing)} (./runbook lab up installs them)" if missing else "everything it needs is installed"
    print(f"{mark} lab: {fix}")
    return 1 if found or (missing and needed) else 0


def lab_of(args: argparse.Namespace) -> str | None:
    """The name of the lab that the params name, None when they speak of AWS itself."""
    from runbook_lib.spec.loader import load_spec, parse_overrides

    config = load_spec(args.params, parse_overrides(args.set)).cloud.aws_config
    found = Path(config) if config else None
    return found.parent.name if found and found.parent.parent == STATE else None


def ensure_lab(args: argparse.Namespace) -> None:
    """Bring up the lab that the params name, if they name one; asks for root's password at most once."""
    name = lab_of(args)
    if name is None:
        return
    status = as_root([*FRONT, "lab", "up", "--yes", "--name", name])
    if status:
        raise RunbookError(f"lab {name} could not be brought up", next_step="the lines above say why; ./runbook doctor says more")


def as_root(command: list[str]) -> int:
    """Run a command as root, by sudo where we are not; RunbookError where there is no way."""
    if os.geteuid() == 0:
        return subprocess.run(command).returncode
    if not shutil.which("sudo"):
        raise RunbookError("the lab makes machines and networks, which needs root", None, "run it as root, or install sudo")
    # what root imports is compiled into a folder of root's: a file of root's in somebody's environment could not be removed by its owner
    return subprocess.run(["sudo", "--", "env", "PYTHONPYCACHEPREFIX=/var/cache/runbook/bytecode", *command]).returncode
