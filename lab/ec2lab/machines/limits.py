"""Kernel limits that many machines need: raised while a lab is up, restored when the last lab is down.

Each machine's systemd takes half a dozen inotify instances, all counted for root; the usual limit of 128 allows only about twenty machines.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ec2lab.paths import Lab

NEEDED = {"fs/inotify/max_user_instances": 8192, "fs/inotify/max_user_watches": 524288}
SYSCTL = Path("/proc/sys")
BEFORE = Path("/run/ec2lab/limits")  # what the limits were before the first lab: 'name value' lines


def raise_limits() -> None:
    """Raise the limits that are too low, and record their former values."""
    low = {name: (SYSCTL / name).read_text().strip() for name, least in NEEDED.items() if _value(name) < least}
    if low and not BEFORE.exists():
        BEFORE.parent.mkdir(parents=True, exist_ok=True)
        BEFORE.write_text("".join(f"{name} {value}\n" for name, value in low.items()))
    for name in low:
        (SYSCTL / name).write_text(str(NEEDED[name]))


def restore_limits(lab: Lab) -> None:
    """Restore the limits, unless another lab than `lab` still exists."""
    others = [folder for folder in BEFORE.parent.glob("*/") if folder != lab.run]
    if others or not BEFORE.exists():
        return
    for line in BEFORE.read_text().splitlines():
        name, value = line.split()
        with suppress(OSError):
            (SYSCTL / name).write_text(value)
    BEFORE.unlink()


def _value(name: str) -> int:
    return int((SYSCTL / name).read_text())
