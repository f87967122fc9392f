"""The bash front door: which lock it installs when, with uv or with pip, and that it changes nothing that is enough already.

Its environment is a folder with a `python` and a `uv` that write down how they are called.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

CHAPTERS, TESTS = "requirements.lock", "requirements-test.lock"
UV = next(line.split()[0].removeprefix("uv==") for line in (ROOT / CHAPTERS).read_text().splitlines() if line.startswith("uv=="))
PYTHON = """\
#!/bin/sh
here="$(dirname "$0")"
case "$*" in
  *sysconfig*) echo "$here/../site" ;;
  "-m pip --version") ;;
  *ec2lab.machines.image*) echo "$PYTHONPATH" >"$here/image" ;;
  "-c "*) ;;
  "-m pip install"*/dev/stdin) { printf 'python %s: ' "$*"; grep -o '^[a-z].*==[^ ]*'; } >>"$here/calls"; exit "$(cat "$here/pip-exit")" ;;
  "-m pip install"*) echo "python $*" >>"$here/calls"; exit "$(cat "$here/pip-exit")" ;;
  *) echo "python $*" >>"$here/calls"; env >"$here/environment" ;;
esac
"""
UV_PROGRAM = """\
#!/bin/sh
[ "$1" = --version ] && { echo "uv $(cat "$(dirname "$0")/uv-version") (some system)"; exit; }
echo "uv $*" >>"$(dirname "$0")/calls"
exit "$(cat "$(dirname "$0")/uv-exit")"
"""


@dataclass
class Clone:
    folder: Path

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def state(self, *locks: str) -> str:
        kind = "tests" if TESTS in locks else "chapters"
        return f"{kind} {hashlib.sha256(b''.join((self.folder / name).read_bytes() for name in (*locks, 'runbook'))).hexdigest()}"

    def call(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self.folder / "runbook"), *words], env=os.environ | environment, capture_output=True, text=True, timeout=60)

    def installed(self) -> list[str]:
        """The lock files that were installed, in order, each with the program that did it; what is between is not told."""
        calls = (self.venv / "bin/calls").read_text().splitlines()
        return [f"{line.split()[0]} {Path(line.split()[-1]).name}" for line in calls if line.endswith(".lock")]

    def set(self, **values: object) -> None:
        for name, value in values.items():
            (self.venv / "bin" / name.replace("_", "-")).write_text(str(value))


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path)
    for name in ("runbook", CHAPTERS, TESTS):
        shutil.copy(ROOT / name, tmp_path / name)
    (made.venv / "bin").mkdir(parents=True)
    (made.venv / "site").mkdir()
    for name, text in (("python", PYTHON), ("uv", UV_PROGRAM)):
        (made.venv / "bin" / name).write_text(text)
        os.chmod(made.venv / "bin" / name, 0o755)
    made.set(calls="", uv_version=UV, uv_exit=0, pip_exit=0)
    return made


@pytest.mark.parametrize(
    ("before", "command", "installs", "after"),
    [
        ("nothing", "doctor", [f"uv {CHAPTERS}"], "chapters"),
        ("nothing", "test", [f"uv {TESTS}"], "tests"),
        ("chapters", "doctor", [], "chapters"),
        ("chapters", "test", [f"uv {TESTS}"], "tests"),
        ("tests", "test", [], "tests"),
        ("tests", "doctor", [], "tests"),
        ("chapters 0ld", "doctor", [f"uv {CHAPTERS}"], "chapters"),
        ("tests 0ld", "doctor", [f"uv {TESTS}"], "tests"),
        ("tests unfinished", "doctor", [f"uv {TESTS}"], "tests"),
        ("a hash without a word, as it was written before 0.3", "doctor", [f"uv {CHAPTERS}"], "chapters"),
    ],
)
def test_the_lock_that_the_command_needs_is_installed_once(clone: Clone, before: str, command: str, installs: list[str], after: str) -> None:
    states = {"chapters": clone.state(CHAPTERS), "tests": clone.state(CHAPTERS, TESTS)}
    if before != "nothing":
        (clone.venv / ".runbook").write_text(states.get(before, before) + "\n")
    assert clone.call(command).returncode == 0
    assert clone.installed() == installs
    assert (clone.venv / ".runbook").read_text().strip() == states[after]
    assert (clone.venv / "bin/calls").read_text().splitlines()[-1] == f"python -m runbook_cli {command}"
    assert clone.call(command).returncode == 0 and clone.installed() == installs, "the second call has nothing to install"
    if installs:
        assert (clone.venv / "site/wso2-cluster-runbook.pth").read_text().split() == [
            str(clone.folder),
            str(clone.folder / "lab"),
            str(clone.folder / "practice"),
        ]


@pytest.mark.parametrize("changed", [CHAPTERS, TESTS])
def test_a_lock_that_changed_is_installed_into_an_environment_for_tests(clone: Clone, changed: str) -> None:
    (clone.venv / ".runbook").write_text(clone.state(CHAPTERS, TESTS))
    with open(clone.folder / changed, "a") as lock:
        lock.write("# another\n")
    clone.call("doctor")
    assert clone.installed() == [f"uv {TESTS}"]


@pytest.mark.parametrize("program", ["uv", "pip"])
def test_nothing_is_installed_without_a_hash(clone: Clone, program: str) -> None:
    clone.set(uv_exit=0 if program == "uv" else 2, uv_version="0.1")
    clone.call("doctor")
    calls = [line for line in (clone.venv / "bin/calls").read_text().splitlines() if "runbook_cli" not in line]
    assert len(calls) == (2 if program == "uv" else 3) and all("--require-hashes" in line for line in calls)


def test_uv_comes_by_pip_in_the_locked_version(clone: Clone) -> None:
    clone.set(uv_version="0.1")
    clone.call("doctor")
    first, second = (clone.venv / "bin/calls").read_text().splitlines()[:2]
    assert first.startswith("python -m pip install") and first.endswith(f"/dev/stdin: uv=={UV}")
    assert second.startswith("uv pip sync")


def test_pip_installs_where_uv_does_not(clone: Clone) -> None:
    clone.set(uv_exit=2)
    done = clone.call("test")
    assert done.returncode == 0 and "pip does it" in done.stderr
    assert clone.installed() == [f"uv {TESTS}", f"python {TESTS}"]


def test_what_could_not_be_installed_is_tried_again(clone: Clone) -> None:
    (clone.venv / ".runbook").write_text(clone.state(CHAPTERS))
    clone.set(uv_exit=2, pip_exit=1)
    done = clone.call("test")
    assert done.returncode == 1 and "could not be installed" in done.stderr
    assert "runbook_cli" not in (clone.venv / "bin/calls").read_text()
    clone.set(uv_exit=0, calls="")
    assert clone.call("doctor").returncode == 0 and clone.installed() == [f"uv {TESTS}"]
    assert (clone.venv / ".runbook").read_text().strip() == clone.state(CHAPTERS, TESTS)


@pytest.mark.parametrize(("command", "builds"), [("rehearse", True), ("lab", True), ("doctor", False), ("test", False)])
def test_the_machines_image_is_built_while_packages_come_for_commands_that_start_a_lab(clone: Clone, command: str, builds: bool) -> None:
    """The uv of this environment is done when the image is, so the image began before it ended; only root with mmdebstrap builds."""
    mmdebstrap = clone.folder / "bin/mmdebstrap"
    mmdebstrap.parent.mkdir()
    for name, text in (("mmdebstrap", "#!/bin/sh\n"), ("id", "#!/bin/sh\necho 0\n")):
        (mmdebstrap.parent / name).write_text(text)
        os.chmod(mmdebstrap.parent / name, 0o755)
    image = clone.venv / "bin/image"
    waiting = f'for turn in $(seq 100); do [ -e "{image}" ] && exit 0; sleep 0.1; done; exit 1' if builds else "exit 0"
    clone.set(uv=UV_PROGRAM.replace('exit "$(cat', f'({waiting}) || exit 9\nexit "$(cat'))
    done = clone.call(command, PATH=f"{mmdebstrap.parent}:{os.environ['PATH']}")
    assert done.returncode == 0 and "pip does it" not in done.stderr
    assert image.exists() == builds
    if builds:
        assert image.read_text().strip() == str(clone.folder / "lab")


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ({"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": ""}, ""),
        ({"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": ""}, "{venv}/bytecode"),
        ({"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/mine"}, "/mine"),
    ],
)
def test_who_wants_no_bytecode_beside_sources_has_it_in_the_environment(clone: Clone, given: dict[str, str], prefix: str) -> None:
    clone.call("plan", **given)
    seen = dict(line.split("=", 1) for line in (clone.venv / "bin/environment").read_text().splitlines() if line.startswith("PYTHON"))
    assert "PYTHONDONTWRITEBYTECODE" not in seen
    assert seen.get("PYTHONPYCACHEPREFIX", "") == prefix.format(venv=clone.venv)


def test_a_python_without_its_venv_module_gets_it_from_apt(clone: Clone) -> None:
    """As on a fresh Debian: `python3 -m venv` fails until the package python3.11-venv is installed."""
    programs = clone.folder / "bin"
    programs.mkdir()
    shutil.move(clone.venv, clone.folder / "made")
    texts = {
        "id": "echo 0",
        "uv": "exit 1",
        "apt-get": f'echo "apt-get $*" >>{programs}/apt-calls; [ "$1" != install ] || touch {programs}/has-venv',
        "python3": f"""\
case "$*" in
  *"import venv"* | *virtualenv*) [ -e {programs}/has-venv ] ;;
  *"sys.exit"*) ;;
  *print*) echo python3.11 ;;
  "-m venv "*) [ -e {programs}/has-venv ] && cp -r {clone.folder}/made "$3" ;;
esac""",
    }
    for name, text in texts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        os.chmod(programs / name, 0o755)
    done = clone.call("doctor", PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "install -y -qq --no-install-recommends python3.11-venv" in (programs / "apt-calls").read_text()
    assert clone.installed() == [f"uv {CHAPTERS}"]
