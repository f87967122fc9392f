"""What a request costs Nginx's guard: processor time for targets made to be slow, by hardening. No root, no lab; needs nginx.

    .venv/bin/python benchmarks/guard.py [--write]

The generated configuration runs in an ordinary Nginx on loopback. Targets grow from 1,000 to 15,000 characters (Nginx takes 16,000): a
guard that backtracks costs the square of that.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import page

sys.path.insert(0, str(page.ROOT))

from tests.support.nginx_process import Site, site, with_secrets

LENGTHS = (1_000, 4_000, 15_000)
TIMES = 40
TARGETS = {
    "semicolons": lambda n: "/" + ";" * n,
    "segments with a semicolon": lambda n: "/store" + "/;" * (n // 2),
    "dots": lambda n: "/" + "." * n,
    "folders below a door": lambda n: "/store/themes/store/css" + "/a" * (n // 2),
    "dots in a file's name": lambda n: "/store/themes/store/css/" + "a." * (n // 2),
    "encoded letters": lambda n: "/store/storage/x/1/" + "%C3" * (n // 3) + "%",
}


def processor_seconds(found: Site) -> float:
    """User and system time of Nginx's workers so far."""
    children = Path(f"/proc/{found.process.pid}/task/{found.process.pid}/children").read_text().split()
    ticks = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in children)
    return sum(int(fields[11]) + int(fields[12]) for fields in ticks) / os.sysconf("SC_CLK_TCK")


def cost(found: Site, target: str) -> float:
    """Milliseconds of processor per request, TLS included."""
    before = processor_seconds(found)
    for _ in range(TIMES):
        found.get("store", target)
    return 1000 * (processor_seconds(found) - before) / TIMES


def measure(hardening: str, folder: Path, net: int) -> list[list[float]]:
    with site(with_secrets("greg-separated", hardening), folder, net) as found:
        return [[cost(found, make(length)) for length in LENGTHS] for make in TARGETS.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    given, load = parser.parse_args(), os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        both = measure("full", Path(one), 61), measure("allow-list", Path(two), 62)
    for name, *figures in zip(TARGETS, *both, strict=True):
        rows.append(f"| {name} | " + " | ".join(" / ".join(f"{one:.1f}" for one in some) for some in figures) + " |")
    head = ["| target | full | allow-list |", "|---|---|---|"]
    lengths = " / ".join(f"{length:,}" for length in LENGTHS)
    what = f"Processor of Nginx for one request, a TLS handshake included, in ms; targets of {lengths} characters."
    text = page.section("guard", "Nginx's guard", "\n".join([*head, *rows]), load, what)
    print(text)
    if given.write:
        page.write(text)


if __name__ == "__main__":
    main()
