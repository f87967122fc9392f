"""What Nginx, as the runbook configures it, carries through TLS, what upstream keep-alive brings, and what a reload costs.

    ./runbook run params/greg-separated.lab.yaml        # the deployment that is measured
    sudo .venv/bin/python benchmarks/nginx.py [--write] # as root; needs wrk (Debian: wrk)

32 kept connections ask for one small page. Client, Nginx and nodes share this machine's processors: the figures compare
configurations with each other, not this machine with yours.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import threading

import page

from runbook_lib.chapters.deployment import Deployment, open_deployment
from runbook_lib.spec.loader import parse_overrides

ASKED = ("store", "/store/pages/top-assets")
CONF, MINE = "/etc/nginx/nginx.conf", "/etc/nginx/benchmark.conf"
# name, what sed takes out of the configuration, reloads meanwhile
VARIANTS = (
    ("as the runbook configures it", "", 0),
    ("without upstream keep-alive", "/^ *keepalive [0-9]*;/d; /^ *keepalive_timeout 30s;/d", 0),
    ("as configured, reloaded five times meanwhile", "", 5),
)


def wrk(host: str, path: str, address: str, seconds: int) -> dict[str, float]:
    """Requests per second, mean and 99th percentile (ms), error statuses, and kept connections that ended under a request.

    Nginx ends a kept connection after 1,000 requests and at a reload; a browser then asks again on a new one, wrk does not.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".hosts") as hosts:  # the name is known to this one process only
        hosts.write(f"{address} {host}\n")
        hosts.flush()
        inside = f"mount --bind {hosts.name} /etc/hosts && exec wrk -t1 -c32 -d{seconds} --latency https://{host}{path}"
        said = subprocess.run(["unshare", "--mount", "sh", "-c", inside], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    asked = re.search(r"(\d+) requests in", said)
    mean, late = re.search(r"Latency\s+(\S+)", said), re.search(r"99%\s+(\S+)", said)
    if not (rate and asked and mean and late):
        raise SystemExit(f"wrk said something else:\n{said}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    times = {"mean": milliseconds(mean[1]), "late": milliseconds(late[1])}
    ended = sum(map(int, errors.groups())) if errors else 0
    return {"rate": float(rate[1]), **times, "wrong": int(wrong[1]) if wrong else 0, "ended": ended, "asked": int(asked[1])}


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def measure(deployment: Deployment, seconds: int) -> list[tuple[str, dict[str, float]]]:
    """Every variant in turn; the configuration is put back whatever happens."""
    lb = deployment.topology.lbs[0]
    host = deployment.fleet()[lb.name]
    key, path = ASKED
    tree = host.run(f"readlink {CONF}").stdout.strip()
    found = []
    try:
        for name, without, reloads in VARIANTS:
            script = f"sed '{without}' {tree} > {MINE} && ln -sfn {MINE} {CONF} && nginx -tq && systemctl reload nginx"
            done = host.run(f'sudo -n sh -c "{script}"')
            if not done.succeeded:
                raise SystemExit(done.stderr)
            stop = threading.Event()
            again = threading.Thread(target=reload, args=(host, reloads, seconds / (reloads + 1), stop))
            again.start()
            found.append((name, wrk(deployment.spec.hosts[key], path, lb.address, seconds)))
            stop.set()
            again.join()
    finally:
        host.run(f"sudo -n sh -c 'ln -sfn {tree} {CONF} && rm -f {MINE} && systemctl reload nginx'")
    return found


def reload(host, times: int, pause: float, stop: threading.Event) -> None:  # type: ignore[no-untyped-def]
    for _ in range(times):
        if stop.wait(pause):
            return
        host.run("sudo -n systemctl reload nginx")


def table(found: list[tuple[str, dict[str, float]]]) -> str:
    rows = [f"| {name} | {r['rate']:.0f} | {r['mean']:.1f} | {r['late']:.0f} | {r['wrong']:.0f} of {r['asked']:.0f} | {r['ended']:.0f} |" for name, r in found]
    return "\n".join(["| Nginx | requests/s | mean, ms | 99 %, ms | error status | connection ended |", "|---|---|---|---|---|---|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params/greg-separated.lab.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seconds", type=int, default=10, help="per variant")
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    given, load = parser.parse_args(), os.getloadavg()[0]
    deployment = open_deployment(given.params, parse_overrides(given.set))
    what = "One small page of a practice node through Nginx and TLS, 32 kept connections; client, Nginx and nodes share the processors."
    text = page.section("nginx", "Nginx", table(measure(deployment, given.seconds)), load, what)
    deployment.close()
    print(text)
    if given.write:
        page.write(text)


if __name__ == "__main__":
    main()
