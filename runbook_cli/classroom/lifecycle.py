"""Making and removing the classroom. `down` looks for what a classroom has on this machine and trusts no record, so it also clears up after a crash."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from ec2lab.network import links
from ec2lab.prerequisites import check_machine, offer
from ec2lab.shell import processes
from wso2_practice.build import build

from runbook_cli.classroom import certificate, labs, logins, request, software, users, walls
from runbook_cli.classroom.room import AUTHORITY, ENVIRONMENT, HOME, INSTRUCTOR, LIBRARY, LOG, LOGINS, ROOM, RUN, Learner, Room, lab_name, seats
from runbook_cli.prerequisites import missing_packages
from runbook_lib.errors import RunbookError
from runbook_lib.waiting import wait_until

Say = Callable[[str], None]
LOCK = Path("/run/runbook-classroom.lock")  # not in /run/lock, where everybody may put links
HUB_SECONDS = 90
POLL = 0.1  # seconds between two looks
AT_ONCE = 2  # labs that start together: more only wait for each other
CONFIG = LIBRARY / "runbook_cli" / "classroom" / "hub" / "config.py"


@dataclass(frozen=True)
class Wanted:
    """What was asked for, after `request` has checked it."""

    names: Sequence[str]
    port: int
    range: str | None = None
    memory_mb: int | None = None
    processes: int = request.PROCESSES
    hosts: Sequence[str] = ()
    logins: Path | None = None
    assume_yes: bool = False


def up(wanted: Wanted, say: Say) -> None:
    """Make the classroom, and print its address, its certificate's fingerprint and the logins. What was begun is removed when something fails."""
    check_machine()
    with _alone():
        _refuse_what_is_there()
        network = request.network(wanted.range, len(wanted.names))
        learners = seats(wanted.names, network)
        _refuse_taken_ranges(learners)
        memory = request.memory(len(learners), wanted.memory_mb)
        request.port(wanted.port)
        software.require(wanted.assume_yes, say)
        offer(missing_packages(), wanted.assume_yes, say)
        hub_port, proxy_port, page_port = _free_ports(3)
        room = Room(learners, wanted.port, hub_port, proxy_port, page_port, memory, wanted.processes, certificate.hosts(wanted.hosts))
        began = time.monotonic()
        with users.new_file(wanted.logins, "the list of logins") if wanted.logins else nullcontext() as file:
            try:
                fingerprint, passwords = _make(room, say)
            except BaseException:  # also when interrupted: half a classroom is of no use
                say("the classroom could not be made: what was begun is removed")
                _sweep(lambda text: None)
                raise
            if file is not None:
                file.write(f"{room.url}\n{logins.listed(passwords)}\n".encode())
    say(f"the classroom is up after {time.monotonic() - began:.0f} s: {room.url}")
    say(f"certificate (SHA-256): {fingerprint}\nits authority, for browsers: {AUTHORITY}")
    say(f"each learner may take {room.memory_mb} MB and {room.processes} processes and threads, machines included\n")
    say(f"{logins.listed(passwords)}\n\nThese passwords are shown only now" + (f"; they are also in {wanted.logins}." if wanted.logins else "."))


def _refuse_what_is_there() -> None:
    if ROOM.exists() or hub_pids():
        raise RunbookError("a classroom is up on this machine already", str(RUN), "./runbook classroom status; to begin anew, ./runbook classroom down first")
    if left := found():
        raise RunbookError(f"something is left of an earlier classroom: {', '.join(left[:5])}", str(HOME), "./runbook classroom down removes it")


def _refuse_taken_ranges(learners: Sequence[Learner]) -> None:
    for learner in learners:
        if taken := links.clash(learner.lab):
            raise RunbookError(f"the range {learner.network} is in use here: {taken}", "--range", "choose another one, for example --range 10.176.0.0/12")


def _free_ports(number: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _make(room: Room, say: Say) -> tuple[str, dict[str, str]]:
    """Make everything of the classroom, and return the certificate's fingerprint and the passwords."""
    software.install(say)
    RUN.mkdir(mode=0o711)
    RUN.chmod(0o711)
    walls.build(room.learners, (room.proxy_port, room.page_port))  # before there is anybody whom they are to keep out
    for learner in room.learners:
        users.make(learner)
    passwords = logins.make([*(learner.name for learner in room.learners), INSTRUCTOR])
    logins.store(passwords, LOGINS)
    fingerprint = certificate.make(room.hosts)
    AUTHORITY.chmod(0o644)
    room.write(ROOM)
    ROOM.chmod(0o600)
    build()  # a classroom without them is of no use, and a lab goes on without
    say(f"{len(room.learners)} learners have a home and their notebooks; their labs start")
    first, *others = room.learners  # the first lab builds what all of them share: the machines' image and the packs
    labs.ensure(first, room.memory_mb, room.processes)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda learner: labs.ensure(learner, room.memory_mb, room.processes), others))
    _start_hub(room)
    return fingerprint, passwords


def _start_hub(room: Room) -> None:
    """Start JupyterHub, which starts its proxy and the instructor's page, and wait until it answers through the proxy."""
    command = [str(ENVIRONMENT / "bin" / "jupyterhub"), "--config", str(CONFIG)]
    environment = {
        "PATH": f"{ENVIRONMENT}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONUTF8": "1",
        "HOME": "/root",
    }
    passed = {name: value for name, value in os.environ.items() if name.startswith(("RUNBOOK_", "EC2LAB_")) and name != "RUNBOOK_HOME"}
    with open(LOG, "ab") as log:
        LOG.chmod(0o600)
        alone = {"stdin": subprocess.DEVNULL, "start_new_session": True, "umask": 0o077}  # what the hub writes is for root: its database is beside the sockets
        hub = subprocess.Popen(command, cwd=RUN, env={**passed, **environment}, stdout=log, stderr=log, **alone)  # type: ignore[call-overload]
    trust = ssl.create_default_context(cafile=str(AUTHORITY))

    def answers() -> bool:
        with suppress(httpx2.HTTPError):
            return bool(httpx2.get(f"https://127.0.0.1:{room.port}/hub/health", verify=trust, trust_env=False).status_code == 200)
        return False

    wait_until(lambda: answers() or hub.poll() is not None, HUB_SECONDS, pause=POLL)
    if hub.poll() is None and answers():
        return
    words = " / ".join(LOG.read_text(errors="replace").strip().splitlines()[-3:])
    raise RunbookError(f"JupyterHub did not start: {words}", str(LOG), "the lines above are the end of its log")


def down(say: Say, archive: Path | None = None) -> None:
    """Remove the classroom and everything in it, in whatever state it is; with `archive`, the learners' runs are kept in that file first."""
    check_machine()
    with _alone():
        if not found():
            say("there is no classroom on this machine")
            return
        with users.new_file(archive, "the archive") if archive else nullcontext() as file:  # what it refuses is told before anything ends
            _end(hub_pids())
            people = users.made()
            users.end_processes([user.pw_uid for user in people])
            if file is not None:
                users.keep_runs(people, file)
                say(f"the learners' runs are kept in {archive}")
        _sweep(say)
    say("the classroom is down: nothing of it is left but the cached environment and proxy")


def _sweep(say: Say) -> None:
    _end(hub_pids())
    people = users.made()
    users.end_processes([user.pw_uid for user in people])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda number: labs.down(number, say), labs.there()))
    for user in people:
        users.remove(user)
    shutil.rmtree(LIBRARY, ignore_errors=True)
    shutil.rmtree(RUN, ignore_errors=True)
    labs.remove_folder()
    walls.remove()
    if left := found():
        raise RunbookError(f"something of the classroom cannot be removed: {', '.join(left)}", str(RUN), "end what uses it, then run this again")


def found() -> list[str]:
    """Return, in words, everything of a classroom that is on this machine."""
    return [
        *(f"process {pid}" for pid in hub_pids()),
        *(f"user {user.pw_name}" for user in users.made()),
        *(f"lab {lab_name(number)}" for number in labs.there()),
        *(f"folder {folder}" for folder in (RUN, HOME) if folder.exists()),
        *(["the table runbook_classroom of nftables"] if walls.there() else []),
    ]


def hub_pids() -> list[int]:
    """Return the pids of the hub, its proxy and the instructor's page, found by their command lines."""
    signs = {str(CONFIG), str(software.proxy_command()[1]), "runbook_cli.classroom.page.instructor"}
    return [pid for pid, words in processes() if signs & set(words)]


def _end(pids: Sequence[int], seconds: float = 20) -> None:
    """End processes: asked at first, so that the hub ends the learners' servers, killed after `seconds`."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if not wait_until(lambda: [pid for pid in pids if _runs(pid)], patience, pause=POLL, enough=lambda left: not left):
            return


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty for a process that only waits to be forgotten
    return False


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the classroom's lock, so that one `up` or `down` runs at a time. Raises RunbookError when another one runs."""
    with open(LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunbookError("another ./runbook classroom is at work", str(LOCK), "wait until it has ended") from None
        try:
            yield
        finally:
            LOCK.unlink(missing_ok=True)
