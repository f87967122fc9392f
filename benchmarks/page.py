"""docs/performance.md: each benchmark writes its own section of it, between two marks."""

from __future__ import annotations

import datetime
import os
import platform
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # of what is started here: cold processes are not compiled anew each time at a user's
CALM = 0.7  # a load average above this is said in the section


def section(script: str, title: str, body: str, load: float, what: str = "", mark: str = "") -> str:
    """A section with its marks: what was measured, when, on what machine, by which script, and whether it had other work.

    `mark`: the section's own name, where a script writes more than one.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    busy = f" **The machine had other work: load average {load:.1f} at the beginning.**" if load > CALM else ""
    intro = f"{what} Measured {today} on {machine()} by `benchmarks/{script}.py`.{busy}".strip()
    mark = mark or script
    return f"<!-- {mark}: begin -->\n## {title}\n\n{intro}\n\n{body.strip()}\n<!-- {mark}: end -->\n"


def write(text: str, page: Path = PAGE) -> None:
    """Put a section in the place of its former self, or at the end."""
    old = page.read_text(encoding="utf-8") if page.exists() else "# Performance\n"
    mark = text.split(":", 1)[0].removeprefix("<!-- ")
    there = re.compile(rf"<!-- {mark}: begin -->.*?<!-- {mark}: end -->\n?", re.DOTALL)
    page.write_text(there.sub(lambda _: text, old) if there.search(old) else f"{old.rstrip()}\n\n{text}", encoding="utf-8")


def machine() -> str:
    """Cores, memory and kernel in words."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0]) / 1024**2
    name = model.group(1) if model else platform.machine()
    return f"{os.cpu_count()} cores ({name}), {memory:.0f} GB, Linux {platform.release().split('-')[0]}"
