"""The entry point of the program: the library's commands, and those that also need the lab."""

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
from typing import TYPE_CHECKING

from runbook_lib.errors import RunbookError
from runbook_lib.headless import cli

if TYPE_CHECKING:
    from runbook_lib.spec.sections import CloudSpec

FRONT = [sys.executable, "-X", "utf8", "-m", "runbook_cli"]  # the command to run this program again as root
STATE = Path("/run/ec2lab")
SYSTEMS = {"darwin": "macOS", "win32": "Windows"}
LAB_SETTINGS = {  # the lab's variable: the runbook's variable
    "EC2LAB_NAME": "RUNBOOK_LAB",
    "EC2LAB_DEBIAN_MIRROR": "RUNBOOK_DEBIAN_MIRROR",
    "EC2LAB_UBUNTU_MIRROR": "RUNBOOK_UBUNTU_MIRROR",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status (see `arguments.COMMANDS`)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    os.environ["EC2LAB_COMMAND"] = "./runbook lab"  # the command that the lab's messages name
    os.environ.update({theirs: os.environ[ours] for theirs, ours in LAB_SETTINGS.items() if ours in os.environ})
    if argv[:1] == ["lab"]:
        if sys.platform != "linux":
            print(not_here(), file=sys.stderr)
            return 1
        if os.environ.get("RUNBOOK_CLASSROOM") and argv[1:2] in (["up"], ["down"]):
            print(of_the_classroom(f"./runbook lab {argv[1]}"), file=sys.stderr)
            return 1
        if os.geteuid() != 0 and argv[1:2] in (["up"], ["down"], ["ssh"]) and not os.environ.get("RUNBOOK_CLASSROOM"):
            return as_root([*FRONT, *argv])
        from runbook_cli import lab

        return lab.main(argv[1:])
    if argv[:1] == ["classroom"]:
        return classroom(argv[1:])
    more: dict[str, Callable[[argparse.Namespace], int]] = {"rehearse": rehearse, "open": open_, "doctor": doctor}
    return cli.main(argv, more)


def classroom(argv: list[str]) -> int:
    """Run the classroom's command as root and return its exit status. What it says of its options needs no root."""
    if sys.platform != "linux":
        print(not_here("the classroom"), file=sys.stderr)
        return 1
    if os.environ.get("RUNBOOK_CLASSROOM"):
        print(of_the_classroom("./runbook classroom"), file=sys.stderr)
        return 1
    if os.geteuid() != 0 and not {"-h", "--help"} & set(argv):
        try:
            return as_root([*FRONT, "classroom", *argv], "the classroom makes users, machines and networks")
        except RunbookError as problem:
            print(problem, file=sys.stderr)
            return 1
    from runbook_cli.classroom import cli as of_classroom

    return of_classroom.main(argv)


def of_the_classroom(command: str) -> RunbookError:
    """Return what a learner in a classroom is told who asks for what the instructor does."""
    step = "stop and start your server (File > Hub Control Panel): the lab is up again with it; or ask your instructor"
    return RunbookError("your lab is run by the classroom, as root", command, step)


def rehearse(args: argparse.Namespace) -> int:
    """Start the lab, run the pattern's chapters, and return their exit status; prints how long each part took."""
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
    """Print what the library finds, then which packages the lab lacks here, and return 1 when something needed is missing, else 0.

    The lab's packages are needed only when the params name a lab.
    """
    from runbook_cli import prerequisites

    found = cli.VERBS["doctor"](args)
    if sys.platform != "linux":
        print(f"○ lab: {not_here().what} ({not_here().next_step})")
        return found
    missing = prerequisites.missing_packages()
    needed = False
    with suppress(RunbookError):  # of the params: the library reported it above
        needed = bool(args.params and lab_of(args))
    mark = "○" if missing and not needed else ("✘" if missing else "✔")
    fix = f"missing: {' '.join(missing)} (./runbook lab up installs them)" if missing else "everything it needs is installed"
    print(f"{mark} lab: {fix}")
    return 1 if found or (missing and needed) else 0


def lab_of(args: argparse.Namespace) -> str | None:
    """Return the name of the lab that the params name, or None when they name none (AWS itself)."""
    config = _cloud_of(args).aws_config
    found = Path(config) if config else None
    return found.parent.name if found and found.parent.parent == STATE else None


def _cloud_of(args: argparse.Namespace) -> CloudSpec:
    from runbook_lib.spec.loader import load_spec, parse_overrides

    return load_spec(args.params, parse_overrides(args.set)).cloud


def ensure_lab(args: argparse.Namespace) -> None:
    """Start the lab that the params name, if any. sudo may ask for a password, once. Raises RunbookError when the lab does not start."""
    name = lab_of(args)
    if name is None:
        return
    if sys.platform != "linux":
        raise not_here()
    if os.environ.get("RUNBOOK_CLASSROOM"):  # no learner has sudo: the classroom keeps the lab up
        _require_up(name)
        return
    image = _cloud_of(args).image
    images = [] if image.startswith("ami-") else ["--images", image]
    status = as_root([*FRONT, "lab", "up", "--yes", "--name", name, *images])
    if status:
        raise RunbookError(f"lab {name} could not be brought up", next_step="the lines above say why; ./runbook doctor says more")


def _require_up(name: str) -> None:
    """Raise RunbookError unless the lab answers to whoever asks."""
    from ec2lab.errors import LabError
    from ec2lab.lifecycle import alive
    from ec2lab.paths import find_lab

    try:
        if alive(find_lab(name)):
            return
    except LabError as problem:
        raise RunbookError(problem.what, problem.where, "use the params of your own workspace, which name your lab") from None
    raise RunbookError(f"lab {name} is not up", name, of_the_classroom("").next_step)


def not_here(what: str = "the lab") -> RunbookError:
    """Return what a machine without Linux is told that is asked for the lab or the classroom: what works there."""
    what = f"{what} needs Linux, and this is {SYSTEMS.get(sys.platform, sys.platform)}: here works what is on AWS, with params that end in .aws.yaml"
    return RunbookError(what, None, "for the lab a Linux virtual machine, on Windows WSL")


def as_root(command: list[str], why: str = "the lab makes machines and networks") -> int:
    """Run a command as root (by sudo when this process is not root) and return its exit status. Raises RunbookError when there is no sudo."""
    if os.geteuid() == 0:
        return subprocess.run(command).returncode
    if not shutil.which("sudo"):
        raise RunbookError(f"{why}, which needs root", None, "run it as root, or install sudo")
    # sudo drops the environment. Root's bytecode goes to a separate folder: an environment's owner could not remove root's files from it
    settings = [f"{ours}={value}" for theirs, ours in LAB_SETTINGS.items() if (value := os.environ.get(ours) or os.environ.get(theirs))]
    return subprocess.run(["sudo", "--", "env", "PYTHONPYCACHEPREFIX=/var/cache/runbook/bytecode", *settings, *command]).returncode
