"""The system users of the learners: made, given a workspace, found again and removed without a record of them."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from ec2lab.shell import run

from runbook_cli.classroom.room import COMMAND, ENVIRONMENT, FIRST_UID, HOME, MARK, MOST, Learner
from runbook_lib.errors import RunbookError
from runbook_lib.waiting import wait_until

SHARED_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # where everybody may write
LAB_CONFIG = re.compile(r"aws_config: \S+")
LAB_NETWORK = re.compile(r"network: 10\.213\.(\d+)\.0/24")
PROFILE = """\
export PATH="{path}"  # a terminal's shell is a login shell, and /etc/profile has just set another one
[ ! -f ~/.bashrc ] || . ~/.bashrc
"""
MAKE_WORKSPACE = """
import sys
from pathlib import Path
from runbook_lib.files import make_workspace
make_workspace(Path(sys.argv[1]))
"""
MAKE_COPIES = """
from runbook_lib.files import ROOT
from runbook_lib.notebook.work_copies import work_copies
from runbook_lib.spec.loader import load_spec
for path in sorted((ROOT / "params").glob("*.lab.yaml")):
    spec = load_spec(path)
    work_copies(path, spec.deployment, spec.pattern)
"""


def make(learner: Learner) -> None:
    """Make the system user, who has no password, with a home that nobody else can read, and his copy of the notebooks."""
    learner.home.parent.mkdir(parents=True, exist_ok=True)
    learner.home.parent.chmod(0o711)
    command = ["useradd", "--uid", str(learner.uid), "--user-group", "--comment", MARK, "--shell", "/bin/bash", "--home-dir", str(learner.home)]
    run(*command, "--create-home", "--key", "HOME_MODE=0700", "--key", "UMASK=077", learner.name)
    learner.home.chmod(0o700)
    learner.sockets.mkdir(parents=True)
    learner.sockets.parent.chmod(0o711)
    learner.sockets.chmod(0o700)
    os.chown(learner.sockets, learner.uid, learner.uid)
    as_learner(learner, MAKE_WORKSPACE, str(learner.workspace))
    _use_own_lab(learner)
    as_learner(learner, MAKE_COPIES)
    (learner.workspace / "runbook").symlink_to(COMMAND)  # what chapters and errors call ./runbook
    (learner.home / ".bash_profile").write_text(PROFILE.format(path=environment(learner)["PATH"]), encoding="utf-8")
    (learner.home / ".bash_profile").chmod(0o644)


def _use_own_lab(learner: Learner) -> None:
    """Let the params of the learner's workspace name his lab and its addresses. No program of his runs yet, so root may write there."""
    lab = learner.lab
    for path in (learner.workspace / "params").glob("*.lab.yaml"):
        text = LAB_CONFIG.sub(f"aws_config: {lab.aws_config}", path.read_text(encoding="utf-8"))
        path.write_text(LAB_NETWORK.sub(lambda found: f"network: {lab.network.network_address + 256 * int(found[1])}/24", text), encoding="utf-8")


def environment(learner: Learner) -> dict[str, str]:
    """Return the environment of the learner's programs."""
    return {
        "HOME": str(learner.home),
        "USER": learner.name,
        "LOGNAME": learner.name,
        "SHELL": "/bin/bash",
        "PATH": f"{learner.home}/.local/bin:{COMMAND.parent}:{ENVIRONMENT}/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONUTF8": "1",
        "TMPDIR": str(learner.home / "tmp"),
        "JUPYTER_RUNTIME_DIR": str(learner.sockets),
        "RUNBOOK_HOME": str(learner.workspace),
        "RUNBOOK_LAB": learner.lab.name,
        "RUNBOOK_CLASSROOM": "1",
    }


def as_learner(learner: Learner, program: str, *words: str) -> None:
    """Run a Python program as the learner. Raises RunbookError when it fails."""
    command = [str(ENVIRONMENT / "bin" / "python"), "-c", f"import os; os.umask(0o077); os.makedirs(os.environ['TMPDIR'], exist_ok=True)\n{program}", *words]
    rights = {"user": learner.uid, "group": learner.uid, "extra_groups": []}
    done = subprocess.run(command, cwd=learner.home, env=environment(learner), capture_output=True, text=True, timeout=120, **rights)  # type: ignore[call-overload]
    if done.returncode:
        raise RunbookError(f"the workspace of {learner.name} could not be made: {done.stderr.strip()[-400:]}", str(learner.home))


def made() -> list[pwd.struct_passwd]:
    """Return the users that a classroom made on this machine."""
    return [user for user in pwd.getpwall() if user.pw_gecos == MARK and FIRST_UID < user.pw_uid <= FIRST_UID + MOST]


def processes_of(uids: Iterable[int]) -> list[int]:
    """Return the pids of these users' processes."""
    wanted, found = set(uids), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.stat().st_uid in wanted or _real_uid(folder) in wanted:
                found.append(int(folder.name))
    return found


def _real_uid(folder: Path) -> int:
    return int((folder / "status").read_text().split("Uid:", 1)[1].split()[0])


def end_processes(uids: Sequence[int], seconds: float = 15) -> None:
    """Kill what these users run. Raises RunbookError when something is left after `seconds`."""

    def killed() -> list[int]:
        found = processes_of(uids)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found

    if left := wait_until(killed, seconds, pause=0.05, enough=lambda found: not found):
        raise RunbookError(f"processes of learners do not end: {', '.join(map(str, left))}", "/proc", "see what holds them, then run this again")


def remove(user: pwd.struct_passwd) -> None:
    """Remove a user whose processes have ended, with his home and all files of his in folders where everybody may write."""
    run("userdel", user.pw_name)
    shutil.rmtree(HOME / "homes" / user.pw_name, ignore_errors=True)
    Path("/var/mail", user.pw_name).unlink(missing_ok=True)
    for folder in SHARED_FOLDERS:
        for path in folder.iterdir():
            with suppress(OSError):
                if path.lstat().st_uid == user.pw_uid:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def new_file(path: Path, what: str) -> Iterator[IO[bytes]]:
    """Give the block a new file that who called sudo alone can read; a block that fails leaves none. `what`: its name in the error.

    Raises RunbookError before the block when the file is there already or cannot be made.
    """
    try:
        file = open(path, "xb", opener=partial(os.open, mode=0o600))  # noqa: SIM115 (the block below closes it, or removes it)
    except OSError as problem:
        raise RunbookError(f"{what} cannot be written: {problem.strerror}", str(path), "name a file that does not exist, in a folder that does") from None
    try:
        os.fchown(file.fileno(), int(os.environ.get("SUDO_UID", os.getuid())), int(os.environ.get("SUDO_GID", os.getgid())))
        yield file
        file.close()
    except BaseException:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # what a full disk did not take
            file.close()
        raise


def keep_runs(users: Sequence[pwd.struct_passwd], archive: IO[bytes]) -> None:
    """Write the learners' runs into the file as a tar archive. Raises RunbookError when that cannot be done.

    A learner who put a link anywhere in the path has no runs there: it may lead to a neighbour's, and the archive is written as root.
    """
    try:
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for user in users:
                folder = (HOME / "homes" / user.pw_name).resolve() / "runbook" / "runs"
                if folder.is_dir() and folder.resolve() == folder:
                    tar.add(folder, f"{user.pw_name}/runs", filter=_ordinary)
        archive.flush()
    except OSError as problem:
        step = "the homes are as they were: make room, or name a file elsewhere, then run this again"
        raise RunbookError(f"the learners' runs cannot be kept: {problem.strerror}", str(archive.name), step) from None


def _ordinary(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what is neither a file nor a folder: links that a learner made may point anywhere."""
    return entry if entry.isreg() or entry.isdir() else None
