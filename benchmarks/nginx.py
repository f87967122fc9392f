"""What Nginx, as the runbook configures it, carries through TLS, what upstream keep-alive brings, and what a reload costs.

    ./runbook run params/as-cluster.lab.yaml            # the deployment that is measured
    python benchmarks/nginx.py [--write]                # needs h2load (Debian: nghttp2-client)

32 kept connections ask for one small page. Client, Nginx and nodes share this machine's processors: the figures compare
configurations with each other, not this machine with yours.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import threading

from runbook_lib.deployment import Deployment, open_deployment
from runbook_lib.spec import parse_overrides

PAGE = {"as-cluster": ("as", "/example/"), "greg-separated": ("store", "/store/pages/top-assets")}
CONF, MINE = "/etc/nginx/nginx.conf", "/etc/nginx/benchmark.conf"
# name, what sed takes out of the configuration, reloads meanwhile
VARIANTS = (
    ("as the runbook configures it", "", 0),
    ("without upstream keep-alive", "/^ *keepalive [0-9]*;/d; /^ *keepalive_timeout 30s;/d", 0),
    ("as configured, reloaded five times meanwhile", "", 5),
)


def h2load(host: str, path: str, address: str, seconds: int) -> dict[str, float]:
    """Requests per second, mean and highest time of a request (ms), failed requests."""
    command = ["h2load", "--h1", "-c", "32", "-t", "1", "-D", str(seconds), "--warm-up-time=2", f"--connect-to={address}:443", f"https://{host}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"([\d.]+) req/s", said)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    times = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)", said)
    if not (rate and counts and times):
        raise SystemExit(f"h2load said something else:\n{said}")
    failed = sum(int(counts[n]) for n in (2, 3, 4))
    return {"rate": float(rate[1]), "mean": milliseconds(times[3]), "worst": milliseconds(times[2]), "failed": failed, "asked": int(counts[1]) + failed}


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def measure(deployment: Deployment, seconds: int) -> list[tuple[str, dict[str, float]]]:
    """Every variant in turn; the configuration is put back whatever happens."""
    lb = deployment.topology.lbs[0]
    host = deployment.fleet()[lb.name]
    key, path = PAGE[deployment.spec.pattern]
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
            found.append((name, h2load(deployment.spec.hosts[key], path, lb.address, seconds)))
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
    rows = [f"| {name} | {r['rate']:.0f} | {r['mean']:.1f} | {r['worst']:.0f} | {r['failed']:.0f} of {r['asked']:.0f} |" for name, r in found]
    return "\n".join(["| Nginx | requests/s | mean, ms | worst, ms | failed |", "|---|---|---|---|---|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params/as-cluster.lab.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seconds", type=int, default=10, help="per variant")
    given = parser.parse_args()
    deployment = open_deployment(given.params, parse_overrides(given.set))
    print(table(measure(deployment, given.seconds)))
    deployment.close()


if __name__ == "__main__":
    main()
