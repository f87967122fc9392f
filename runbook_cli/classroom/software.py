"""What a classroom runs: a Python environment with JupyterHub, the library as this installation has it, and the hub's proxy.

None of it can be written by a learner, and none of it comes from where a learner could not read. The environment and the proxy are kept for the next
classroom; the library is copied each time.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path

import ec2lab
import wso2_practice
from ec2lab.lifecycle import Say
from ec2lab.prerequisites import missing_packages as lacking
from ec2lab.prerequisites import offer

import runbook_cli
import runbook_lib
from runbook_cli.classroom.room import CACHE, COMMAND, ENVIRONMENT, LIBRARY, PROXY
from runbook_cli.prerequisites import CLASSROOM
from runbook_lib.errors import RunbookError
from runbook_lib.files import COPIED, ROOT, templates
from runbook_lib.headless.cli import NO_NEWS

PACKAGES = (runbook_lib, runbook_cli, ec2lab, wso2_practice)
LOCK = ROOT / "requirements-classroom.lock"
NODE = 18  # the oldest that the proxy runs with
OLDEST = (3, 11)
NOBODY = 65534
COMPILED = ("*.pyc", "__pycache__")


def require(assume_yes: bool, say: Say) -> None:
    """Install missing Debian packages after asking. Raises an error when something is missing that is not installed."""
    offer(lacking(CLASSROOM, {}), assume_yes, say)
    found = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if not found or int(found.lstrip("v").split(".")[0]) < NODE:
        raise RunbookError(f"node is {found or 'broken'}, and JupyterHub's proxy needs {NODE} or newer", shutil.which("node"), "install a newer nodejs")
    if not LOCK.is_file():
        raise RunbookError("the classroom's requirements are not here", str(LOCK), "run the classroom from a clone of the repository: ./runbook classroom up")


def install(say: Say) -> None:
    """Make the environment, the library and the proxy, as far as they are not there as they should be. Raises RunbookError."""
    before = os.umask(0o022)
    try:
        for folder in (CACHE, LIBRARY.parent):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711 if folder == LIBRARY.parent else 0o755)
        _environment(say)
        _library()
        _proxy(say)
    finally:
        os.umask(before)


def _environment(say: Say) -> None:
    stamp, wanted = ENVIRONMENT / ".lock", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted and _readable(ENVIRONMENT / "bin" / "python"):
        return
    say(f"preparing the classroom's environment in {ENVIRONMENT} (first use, or its requirements changed)")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise RunbookError("there is no uv here", str(Path(sys.executable).parent), "./runbook doctor makes the environment that has it")
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    _run("the environment could not be made", uv, "venv", "--quiet", "--python", python(), str(ENVIRONMENT))
    sync = ("pip", "sync", "--quiet", "--system-certs", "--require-hashes", "--compile-bytecode", "--python", str(ENVIRONMENT / "bin" / "python"), str(LOCK))
    _run("the classroom's packages could not be installed", uv, *sync)
    [site] = (ENVIRONMENT / "lib").glob("python3.*/site-packages")
    (site / "runbook-classroom.pth").write_text(f"{LIBRARY}\n")
    stamp.write_text(wanted)


def python() -> str:
    """Return a Python that learners may run, or raise RunbookError: one below somebody's home is for nobody else."""
    names = ["python3", *(f"python3.{minor}" for minor in range(11, 15))]
    paths = [getattr(sys, "_base_executable", sys.executable), *(f"{folder}/{name}" for folder in ("/usr/bin", "/usr/local/bin") for name in names)]
    for path in paths:
        if Path(path).exists() and _readable(Path(path)):
            return str(Path(path).resolve())
    raise RunbookError(f"no Python {OLDEST[0]}.{OLDEST[1]} here can be run by another user", ", ".join(paths[:2]), "apt-get install python3")


def _readable(path: Path) -> bool:
    """Return whether a user with no rights can run this Python, and it is new enough."""
    test = f"import ssl, sqlite3, sys; sys.exit(sys.version_info < {OLDEST})"
    try:
        return not subprocess.run([path, "-c", test], capture_output=True, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/").returncode
    except OSError:
        return False


def _library() -> None:
    """Copy our packages, with notebooks, params and docs in them as an installed package has them, and JupyterLab's settings."""
    shutil.rmtree(LIBRARY, ignore_errors=True)
    for package in PACKAGES:
        folder = Path(package.__file__ or "").parent
        shutil.copytree(folder, LIBRARY / folder.name, ignore=shutil.ignore_patterns(*COMPILED))
    for name in COPIED:
        with as_file(templates(name)) as folder:
            shutil.copytree(folder, LIBRARY / "runbook_lib" / "workspace" / name, ignore=shutil.ignore_patterns(*COMPILED, ".*"), dirs_exist_ok=True)
    for path in (LIBRARY, *LIBRARY.rglob("*")):
        path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    compileall.compile_dir(LIBRARY, quiet=2)
    COMMAND.parent.mkdir()
    COMMAND.write_text(f'#!/bin/sh\nexec {ENVIRONMENT}/bin/python -m runbook_cli "$@"\n')
    COMMAND.chmod(0o755)
    settings = ENVIRONMENT / "etc" / "jupyter" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(NO_NEWS), encoding="utf-8")


def _proxy(say: Say) -> None:
    """Install the proxy by npm: exactly what the lock file lists, each package checked by its hash, no script of a package run."""
    source = files("runbook_cli.classroom") / "proxy"
    texts = {name: (source / name).read_text(encoding="utf-8") for name in ("package.json", "package-lock.json")}
    if all((PROXY / name).is_file() and (PROXY / name).read_text(encoding="utf-8") == text for name, text in texts.items()) and proxy_command()[1].is_file():
        return
    say(f"installing JupyterHub's proxy in {PROXY}")
    shutil.rmtree(PROXY, ignore_errors=True)
    PROXY.mkdir()
    for name, text in texts.items():
        (PROXY / name).write_text(text, encoding="utf-8")
    _run("JupyterHub's proxy could not be installed", "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", folder=PROXY)


def proxy_command() -> tuple[str, Path]:
    """Return the words that start the proxy."""
    return shutil.which("node") or "node", PROXY / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"


def _run(what: str, *command: str, folder: Path = Path("/")) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONPYCACHEPREFIX")}
    done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        words = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise RunbookError(f"{what}: {words}", " ".join(command[:3]), "repair that, then run this again")
