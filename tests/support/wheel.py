"""The package as somebody has it who installs it: a wheel of this clone, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.conftest import ROOT

UV = Path(sysconfig.get_path("scripts")) / "uv"


def clean() -> dict[str, str]:
    """The environment without what speaks to our program or to Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_", "PYTHON"))}


def run(*words: object, cwd: Path | None = None, seconds: float = 300) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=clean(), capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def install(folder: Path, extras: str = "") -> Path:
    """The bin folder of a new environment below `folder` with the wheel and what it requires, in the versions of requirements.lock.

    `extras`: as pip writes them, `[lab,browser]`. The wheel is built from a copy of what git tracks, which is gone afterwards.
    """
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / "clone" / name)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "clone")
    shutil.rmtree(folder / "clone")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    bin_ = folder / "venv" / "bin"
    (wheel,) = folder.glob("*.whl")
    # the lock says which versions; which packages are needed is what the wheel itself says
    constraints = ("--constraints", ROOT / "requirements.lock")
    run(UV, "pip", "install", "--quiet", "--system-certs", "--python", bin_ / "python", *constraints, f"{wheel}{extras}")
    return bin_
