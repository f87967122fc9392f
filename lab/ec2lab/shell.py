"""Running the host's own programs, with their output in the error."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ec2lab.errors import LabError


def run(*command: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> str:
    """Run `command` and return its standard output. Raises LabError when it is not installed or, with its last lines, when it fails.

    `check=False`: a failure is not an error. `timeout`: seconds after which subprocess.TimeoutExpired is raised.
    """
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError:
        raise LabError(f"there is no {command[0]} here", " ".join(command), "install the package that holds it") from None
    if check and done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise LabError(f"{command[0]} failed ({done.returncode}): {' / '.join(words)}", " ".join(command))
    return done.stdout


def processes() -> Iterator[tuple[int, list[str]]]:
    """Give pid and command line of each process. A zombie has none and is left out."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if words != [""]:
                yield int(folder.name), words


def lines(*command: str) -> Sequence[str]:
    """Return the lines that `command` prints to standard output, whatever its exit status; none when it is not installed."""
    with suppress(LabError):
        return run(*command, check=False).splitlines()
    return []
