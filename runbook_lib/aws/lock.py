"""One writer at a time: a parameter in SSM with owner, since when, and until when.

Of two that create a parameter without Overwrite, SSM lets one succeed. An expired lock (its holder was killed) is taken
over by whoever creates its take-over mark first, so of two that find it expired only one gets it. A lock whose holder
was a process of this machine, or container, that no longer exists counts as expired at once. A holder whose lock was taken over, as while
its machine was suspended, learns it within a minute and stops.
"""

from __future__ import annotations

import datetime
import getpass
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from runbook_lib.aws.parameter_store import Vault
from runbook_lib.errors import CloudError, LockHeld, Stopped
from runbook_lib.waiting import wait_until

NAME = "lock"
# A holder that cannot be asked whether it lives is believed this long. AWS accepts clocks that differ by up to five minutes, and who reads the
# time by another clock than the holder's must not take a lock for expired that is renewed.
MINUTES = 10.0
RENEWALS = 10  # within that time
PAUSE = 0.5  # seconds between two attempts while waiting
PATIENCE = 900.0  # seconds that a command waits which nobody watches; a lock whose holder was lost is free earlier
PROCESS = secrets.token_hex(8)  # tells this process apart from one of the same number in another container
MARK = " #"  # between an owner as people read it and that


@dataclass(frozen=True)
class Held:
    """The content of the lock: who, since and until when (UTC ISO 8601), and which process on which machine."""

    owner: str
    since: str
    until: str
    token: str
    machine: str
    pid: int
    started: str

    @property
    def words(self) -> str:
        """The owner as people read it."""
        return self.owner.partition(MARK)[0]

    @property
    def expired(self) -> bool:
        return _moment(self.until) <= _now() or self._process_is_gone()

    def _process_is_gone(self) -> bool:
        """Return whether the holder was a process of this machine that has ended. A later process with the same pid has another start time.

        A process of somebody else whose start time may not be read (hidepid) lives.
        """
        if self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return _started(self.pid) not in ("", self.started)


class Lock:
    """Hold the deployment's lock for a `with` block; a thread renews it. The same owner may nest it.

    Raises LockHeld with the other owner and since when, after `wait` seconds of trying. When the lock is lost to somebody else, `lost` is
    called, from a thread: it stops the block. A Stopped that the block raises then becomes LockHeld.
    """

    def __init__(self, vault: Vault, owner: str, minutes: float = MINUTES, wait: float = 0.0, lost: Callable[[], None] = lambda: None):
        self.vault, self.owner, self.minutes, self.wait, self.lost = vault, owner, minutes, wait, lost
        self._mine: Held | None = None  # None in a nested block: the outer one renews and releases it
        self._lost_to = ""
        self._done = threading.Event()

    def __enter__(self) -> Lock:
        if other := wait_until(self._acquire, self.wait, pause=PAUSE, enough=lambda other: other is None):
            raise LockHeld(
                f"{other.words} has been working on {self.vault.deployment} since {other.since}",
                f"{self.vault.prefix}{NAME} in SSM Parameter Store",
                f"wait until it is done; if it is no more, its lock ends by itself at {other.until}",
            )
        self._lost_to = ""
        self._done.clear()
        self._keeper = threading.Thread(target=self._keep, name="runbook-lock", daemon=True)
        self._keeper.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._keeper.join()
        if self._mine:
            current = holder(self.vault)
            if not self._lost_to and (current is None or current.token == self._mine.token):  # a look may be too early for what was made
                self.vault.delete(NAME)
            self._mine = None
        if self._lost_to and isinstance(error, Stopped):
            what = f"the lock of {self.vault.deployment} was taken over by {self._lost_to}, because it was not renewed in time: {error.what}"
            raise LockHeld(what, error.where, "wait until it is free, then run this again: it goes on from there") from error

    def refresh(self) -> bool:
        """Extend the lock, which a nested block only looks at; return False when somebody else has it now. One that a tear-down removed stays away."""
        current = holder(self.vault)
        if current and current.owner != self.owner:
            self._lost_to = current.words
            return False
        if current and self._mine and current.token == self._mine.token:
            self._mine = self._new(self._mine.token, self._mine.since)
            self.vault.put(NAME, json.dumps(asdict(self._mine)), secure=False)
        return True

    def _acquire(self) -> Held | None:
        """Try to get the lock; return None on success, otherwise who holds it."""
        mine = self._new(secrets.token_hex(8), _text(_now()))
        if self.vault.create(NAME, json.dumps(asdict(mine)), secure=False):
            self._mine = mine
            return None
        current = holder(self.vault)
        if current is None:  # released between the two calls
            return self._acquire()
        if current.token == mine.token:  # created after all: the answer was lost, and the repeated call was refused
            self._mine = mine
            return None
        if current.owner == self.owner and not current.expired:
            return None
        if not current.expired:
            return current
        if other := self._take_over(current, mine):
            return other
        self._mine = mine
        return None

    def _take_over(self, dead: Held, mine: Held) -> Held | None:
        """Try to take an expired lock over; return None on success, otherwise who was faster.

        A mark that expired itself, because who made it was killed, is taken over as the lock is: by whoever creates the mark of that mark.
        """
        marks, last = [], dead
        while last.token != mine.token:
            marks.append(f"{NAME}-taken-over-{last.token}")
            if self.vault.create(marks[-1], json.dumps(asdict(mine)), secure=False):
                break
            other = holder(self.vault, marks[-1])
            if other is None:  # just deleted: who made it has the lock
                return dead
            if other.token != mine.token and not other.expired:
                return other
            last = other
        try:
            still = holder(self.vault)
            if still is None or still.token != dead.token:
                return still or dead
            self.vault.put(NAME, json.dumps(asdict(mine)), secure=False)
            return None
        finally:
            for mark in marks:
                self.vault.delete(mark)

    def _new(self, token: str, since: str) -> Held:
        until = _text(_now() + datetime.timedelta(minutes=self.minutes))
        return Held(self.owner, since, until, token, _machine(), os.getpid(), _started(os.getpid()))

    def _keep(self) -> None:
        """Renew the lock until the block ends. A renewal that fails is repeated: the lock lasts RENEWALS intervals."""
        while not self._done.wait(self.minutes * 60 / RENEWALS):
            try:
                if not self.refresh():
                    self.lost()
                    return
            except CloudError:
                continue


def holder(vault: Vault, name: str = NAME) -> Held | None:
    """Return who holds the deployment's lock, expired or not, or made the mark `name`; None when nobody does."""
    text = vault.find(name, fresh=True)
    try:
        return Held(**json.loads(text)) if text else None
    except (TypeError, ValueError):
        raise CloudError("the lock is not one of the runbook's", vault.prefix + name, "look who wrote it, then delete it") from None


def owner_here() -> str:
    """Return this process as the owner of a lock: user, machine and process, and what no other process has."""
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()}){MARK}{PROCESS}"


def _machine() -> str:
    """Return name, boot id and namespace of process numbers: a pid means nothing on another machine or in another container, nor after a restart."""
    try:
        boot, numbers = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = numbers = ""
    return f"{socket.gethostname()} {boot} {numbers}"


def _started(pid: int) -> str:
    """Return the start time of a process of this machine in the kernel's ticks; empty when it cannot be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
