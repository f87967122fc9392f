"""Running the host's own programs, with their words in the error."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress

from ec2lab.errors import LabError


def run(*command: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> str:
    """Run `command` and return its standard output. Raises LabError with its last words when it fails."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError:
        raise LabError(f"there is no {command[0]} here", " ".join(command), "install the package that holds it") from None
    if check and done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise LabError(f"{command[0]} failed ({done.returncode}): {' / '.join(words)}", " ".join(command))
    return done.stdout


def lines(*command: str) -> Sequence[str]:
    """The lines that `command` prints; none when it fails or is not installed."""
    with suppress(LabError):
        return run(*command, check=False).splitlines()
    return []
