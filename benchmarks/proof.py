"""How long the proof of separation takes, several in a row on one deployment: each launches a probe machine and makes every attempt.

    .venv/bin/python benchmarks/proof.py [PARAMS] [--times 10] [--write]

The deployment is up already: ./runbook rehearse PARAMS.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

import page

sys.path.insert(0, str(page.ROOT))

from runbook_lib import open_deployment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="?", default="params/greg-separated.lab.yaml", metavar="PARAMS")
    parser.add_argument("--times", type=int, default=10, help="how many proofs (default 10)")
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    given, load = parser.parse_args(), os.getloadavg()[0]
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RUNBOOK_RUNS"] = folder  # the deployment's own evidence stays as it is
        deployment = open_deployment(given.params)
        for _ in range(given.times):
            began = time.monotonic()
            proof = deployment.sso.prove()
            taken.append(time.monotonic() - began)
            assert proof.as_expected, proof.verdict
        deployment.close()
    what = f"`{deployment.spec.pattern}`, {len(deployment.topology.nodes)} machines, {proof.tally}; one process, one proof after the other."
    rows = ["| proof | " + " | ".join(str(number) for number in range(1, given.times + 1)) + " |", "|---|" + "---|" * given.times]
    rows.append("| seconds | " + " | ".join(f"{each:.1f}" for each in taken) + " |")
    text = page.section("proof", "Proofs in a row", "\n".join(rows), load, what)
    print(text)
    if given.write:
        page.write(text)


if __name__ == "__main__":
    main()
