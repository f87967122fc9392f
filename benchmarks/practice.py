"""What a practice node costs: seconds to start, memory, requests per second of the probe page.

Two AS and G-Reg homes are unpacked into a temporary folder and started with the pack's own script on loopback. The
client shares the processors with the server, so requests per second are a lower bound.

    .venv/bin/python benchmarks/practice.py [--seconds 5] [--write]
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import os
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from page import section, write  # noqa: E402
from wso2_practice.build import build  # noqa: E402

from runbook_lib.operations import demo_app  # noqa: E402
from tests.support.practice_nodes import Node, Nodes, sign_in  # noqa: E402

CLIENTS = 4
RESTARTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="how long each page is asked for")
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    options, busy = parser.parse_args(), os.getloadavg()[0]
    rows = ["| node | first boot | later boots | memory idle, after load | requests/s over TLS |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        greg, appserver = build()
        nodes = Nodes({"greg": greg, "as": appserver}, Path(folder))
        try:
            for product, page in (("greg", "/store/pages/top-assets"), ("as", "/probe/")):
                node = nodes.make(product)
                if product == "as":
                    (node.home / "repository/deployment/server/webapps" / demo_app.NAME).write_bytes(demo_app.archive())
                rows.append(measure(node, product, page, options.seconds))
        finally:
            nodes.stop()
    what = f"One node of each practice pack on loopback, {CLIENTS} clients that keep their connections."
    text = section("practice", "The practice servers", "\n".join(rows), busy, what)
    print(text)
    if options.write:
        write(text)


def measure(node: Node, product: str, page: str, seconds: float) -> str:
    """A row of the table."""
    first, later = timed(node, "-Dsetup"), []
    for _ in range(RESTARTS):
        node.stop()
        later.append(timed(node))
    idle, used = memory(node), processor(node)
    if product == "greg":
        with node.client() as client:
            sign_in(client, "store", "admin", "admin")
    rate = load(node, page, seconds)
    memories = f"{idle:.0f} MB, {memory(node):.0f} MB"
    node.stop()
    boots = f"{first:.1f} s | {statistics.median(later):.1f} s ({used:.1f} s of processor)"
    return f"| {product} | {boots} | {memories} | {rate:.0f} (`{page}`) |"


def timed(node: Node, *arguments: str) -> float:
    """Seconds from the call of the script to the line that says started."""
    begin = time.monotonic()
    node.start(*arguments)
    return time.monotonic() - begin


def memory(node: Node) -> float:
    """Resident memory in MB."""
    status = Path(f"/proc/{node.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def processor(node: Node) -> float:
    """Processor seconds used since the start."""
    fields = Path(f"/proc/{node.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(node: Node, page: str, seconds: float) -> float:
    """Requests per second of several clients that keep their connections."""
    with multiprocessing.Pool(CLIENTS) as pool:
        counts = pool.starmap(ask, [(9443 + node.offset, page, seconds)] * CLIENTS)
    return sum(counts) / seconds


def ask(port: int, page: str, seconds: float) -> int:
    context = ssl._create_unverified_context()
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # the shipped certificate is as weak as the real product's
    connection, count = http.client.HTTPSConnection("127.0.0.1", port, context=context), 0
    headers: dict[str, str] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        connection.request("GET", page, headers=headers)
        answer = connection.getresponse()
        answer.read()
        cookie = answer.getheader("Set-Cookie")
        headers = {"Cookie": cookie.split(";")[0]} if cookie else headers
        assert answer.status == 200, answer.status
        count += 1
    return count


if __name__ == "__main__":
    main()
