"""README's first command as somebody new to the project meets it: a fresh clone, no environment, no image of the machines, nothing downloaded.

The Debian packages that the lab needs are not taken away first; what installing them takes is not in the figures.

    sudo .venv/bin/python benchmarks/first_run.py [--write]       # no lab may be up
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import page
from ec2lab.paths import CACHE

PARTS = (
    ("environment", r"the environment is ready after (\d+) s"),
    ("lab, with the image of its machines built", r"time: (\d+) s until the lab was up"),
    ("chapters 01 to 07, to the verdict", r"(\d+) s for the chapters"),
)


@contextmanager
def nothing_kept() -> Iterator[None]:
    """The lab's images and downloaded packages put aside, and put back."""
    aside = CACHE.with_suffix(".aside")
    if CACHE.exists():
        CACHE.rename(aside)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(CACHE)], check=True)
        if aside.exists():
            aside.rename(CACHE)


def first_run(folder: Path) -> tuple[str, float]:
    """What `./runbook rehearse` said in a fresh clone, and the seconds it took. The lab is taken down again."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(page.ROOT), str(clone)], check=True)
    downloads = {"UV_CACHE_DIR": str(folder / "uv"), "PIP_NO_CACHE_DIR": "1"}  # what other environments of this machine downloaded is not used
    began = time.monotonic()
    try:
        done = subprocess.run(["./runbook", "rehearse"], cwd=clone, env=os.environ | downloads, capture_output=True, text=True)
        seconds = time.monotonic() - began
    finally:
        subprocess.run(["./runbook", "lab", "down"], cwd=clone, capture_output=True, check=True)
    if done.returncode:
        raise SystemExit(f"the rehearsal failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return done.stderr + done.stdout, seconds


def table(said: str, seconds: float) -> str:
    rows = ["| part | seconds |", "|---|---|"]
    for name, pattern in PARTS:
        found = re.search(pattern, said)
        rows.append(f"| {name} | {found[1] if found else 'not said'} |")
    return "\n".join([*rows, f"| `./runbook rehearse`, all | {seconds:.0f} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    given, load = parser.parse_args(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, nothing_kept():
        said, seconds = first_run(Path(folder))
    what = "README's first command in a fresh clone, without an environment, without an image of the machines, and with nothing kept of earlier downloads."
    text = page.section("first_run", "The first run", table(said, seconds), load, what)
    print(text)
    if given.write:
        page.write(text)


if __name__ == "__main__":
    main()
