"""One writer at a time: a parameter in SSM with owner, since when, and until when.

Of two that create a parameter without Overwrite, SSM lets one succeed. An expired lock (its holder was killed) is taken
over by whoever creates its take-over mark first, so of two that find it expired only one gets it. A lock whose holder
was a process on this machine that no longer exists counts as expired at once.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import socket
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from runbook_lib.aws.parameter_store import Vault
from runbook_lib.errors import CloudError, LockHeld
from runbook_lib.waiting import wait_until

NAME = "lock"
MINUTES = 3.0  # a holder that cannot be asked whether it lives is believed this long
PAUSE = 0.5  # seconds between two attempts while waiting


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
    def expired(self) -> bool:
        return _moment(self.until) <= _now() or self._process_is_gone()

    def _process_is_gone(self) -> bool:
        """Return whether the holder was a process of this machine that has ended. A later process with the same pid has another start time."""
        return self.machine == _machine() and _started(self.pid) != self.started


class Lock:
    """Hold the deployment's lock for a `with` block; a thread renews it. The same owner may nest it.

    Raises LockHeld with the other owner and since when, after `wait` seconds of trying.
    """

    def __init__(self, vault: Vault, owner: str, minutes: float = MINUTES, wait: float = 0.0):
        self.vault, self.owner, self.minutes, self.wait = vault, owner, minutes, wait
        self._mine: Held | None = None
        self._done = threading.Event()
        self._keeper: threading.Thread | None = None

    def __enter__(self) -> Lock:
        if other := wait_until(self._acquire, self.wait, pause=PAUSE, enough=lambda other: other is None):
            raise LockHeld(
                f"{other.owner} has been working on {self.vault.deployment} since {other.since}",
                f"{self.vault.prefix}{NAME} in SSM Parameter Store",
                f"wait until it is done; if it is no more, its lock ends by itself at {other.until}",
            )
        if self._mine:
            self._done.clear()
            self._keeper = threading.Thread(target=self._keep, name="runbook-lock", daemon=True)
            self._keeper.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._mine is None:
            return
        self._done.set()
        if self._keeper:
            self._keeper.join()
        current = holder(self.vault)
        if current and current.token == self._mine.token:
            self.vault.delete(NAME)
        self._mine = None

    def refresh(self) -> bool:
        """Extend the lock; return False when somebody else has it now."""
        current = holder(self.vault)
        if self._mine is None or current is None or current.token != self._mine.token:
            return False
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
        if current.owner == self.owner and not current.expired:
            return None
        if current.expired and self._take_over(current, mine):
            self._mine = mine
            return None
        return current

    def _take_over(self, dead: Held, mine: Held) -> bool:
        mark = f"{NAME}-taken-over-{dead.token}"
        if not self.vault.create(mark, mine.owner, secure=False):
            return False
        try:
            still = holder(self.vault)
            if still is None or still.token != dead.token:
                return False
            self.vault.put(NAME, json.dumps(asdict(mine)), secure=False)
            return True
        finally:
            self.vault.delete(mark)

    def _new(self, token: str, since: str) -> Held:
        until = _text(_now() + datetime.timedelta(minutes=self.minutes))
        return Held(self.owner, since, until, token, _machine(), os.getpid(), _started(os.getpid()))

    def _keep(self) -> None:
        """Renew the lock until the block ends. A renewal that fails once is repeated: the lock lasts three intervals."""
        while not self._done.wait(self.minutes * 60 / 3):
            try:
                if not self.refresh():
                    return
            except CloudError:
                continue


def holder(vault: Vault) -> Held | None:
    """Return who holds the deployment's lock, expired or not; None when nobody does."""
    text = vault.find(NAME, fresh=True)
    try:
        return Held(**json.loads(text)) if text else None
    except (TypeError, ValueError):
        raise CloudError("the lock is not one of the runbook's", vault.prefix + NAME, "look who wrote it, then delete it") from None


def _machine() -> str:
    """Return the name and boot id of this machine: a pid means nothing on another machine, nor after a restart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}"


def _started(pid: int) -> str:
    """Return the start time of a process of this machine in the kernel's ticks; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "" if Path("/proc/self").exists() else "unknown"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
