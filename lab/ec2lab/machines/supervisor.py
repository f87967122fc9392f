"""The process that runs a machine: systemd-nspawn, below a shell that notes its exit status for a daemon that is not its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ec2lab.shell import processes

NOTING = '"$@"; status=$?; echo $status > "$0.new"; mv "$0.new" "$0"; exit $status'
UNKNOWN = 137  # of a process that was killed before it could note anything


class Supervisor:
    """A machine's process, started here or by an earlier daemon. `note`: the file with its exit status."""

    def __init__(self, pid: int, note: Path, child: subprocess.Popen[bytes] | None = None):
        self.pid, self._note, self._child = pid, note, child
        self._handle = os.pidfd_open(pid) if child is None else -1

    @classmethod
    def start(cls, command: Sequence[str], note: Path, console: int, environment: Mapping[str, str]) -> Supervisor:
        """Start `command` in a session of its own, with its output on `console`."""
        note.unlink(missing_ok=True)
        child = subprocess.Popen(
            ["sh", "-c", NOTING, str(note), *command],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            env=environment,
        )
        return cls(child.pid, note, child)

    @classmethod
    def find(cls, directory: Path, note: Path) -> Supervisor | None:
        """Return the process that runs the machine of this root directory, which an earlier daemon started; None when there is none."""
        found = {pid for pid, words in processes() if f"--directory={directory}" in words}
        first = [pid for pid in found if _parent(pid) not in found]
        with suppress(ProcessLookupError):
            return cls(first[0], note) if first else None
        return None

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self._child is not None:
            return self._child.wait(timeout)
        ended, _, _ = select.select([self._handle], [], [], timeout)
        if not ended:
            raise subprocess.TimeoutExpired("systemd-nspawn", timeout or 0)
        with suppress(OSError, ValueError):
            return int(self._note.read_text())
        return UNKNOWN

    def kill(self) -> None:
        """End the process and its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
