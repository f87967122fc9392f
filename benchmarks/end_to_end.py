"""A whole cluster, from nothing to verified and again with nothing to change, beside the same cluster by hand.

Brings up a lab of its own from the built image, runs `params/greg-separated.lab.yaml` by `./runbook run`, then plans it
again (one process for all: warm; one process each: cold, imports included), then takes it down and makes the cluster
by one hand-written shell script per host, all hosts in parallel (benchmarks/by_hand; launched by the same chapter 01).
Prints the section `End to end` of docs/performance.md; with --write it puts it there.

    sudo .venv/bin/python benchmarks/end_to_end.py [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import httpx2  # noqa: E402
import page  # noqa: E402
from ec2lab.lifecycle import down  # noqa: E402
from ec2lab.paths import find_lab  # noqa: E402

from runbook_cli.lab import up  # noqa: E402
from runbook_lib.chapters.deployment import Deployment, open_deployment  # noqa: E402
from runbook_lib.launch.instances import launching  # noqa: E402
from runbook_lib.redaction import redactor  # noqa: E402
from runbook_lib.spec.chapters import chapters_of  # noqa: E402
from runbook_lib.ssh import Host  # noqa: E402

PARAMS = "params/greg-separated.lab.yaml"
BY_HAND = Path(__file__).resolve().parent / "by_hand"
COLD = """
import json, sys, time
began = time.monotonic()
from runbook_lib.chapters.deployment import open_deployment
deployment = open_deployment({params!r}, {overrides!r})
assert not getattr(deployment, {chapter!r}).plan()
print(json.dumps(time.monotonic() - began))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    parser.add_argument("--rounds", type=int, default=5, help="of what finds nothing to change (5)")
    options = parser.parse_args()
    lab, load = find_lab("whole", "10.218.0.0/16"), os.getloadavg()[0]
    try:
        began = time.monotonic()
        up(lab, say=lambda text: None)
        seconds = time.monotonic() - began
        overrides = {"cloud.aws_config": str(lab.aws_config), "cloud.network": "10.218.1.0/24", "deployment": "bench"}
        figures = {"up": seconds, **measure(overrides, options.rounds)}
        launching.packages_of = launching.downloaded_of = lambda node, spec: ()  # the scripts install everything themselves
        figures["by_hand"] = by_hand({**overrides, "deployment": "bench-hand", "cloud.network": "10.218.2.0/24"})
    finally:
        down(lab, say=lambda text: None)
    text = section(figures, load)
    print(text)
    if options.write:
        page.write(text)


def measure(overrides: dict[str, str], rounds: int) -> dict[str, Any]:
    """Seconds of the whole run, of its chapters, and of a chapter with nothing to change, warm and cold."""
    settings = [word for key, value in overrides.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "runbook_cli"]
    began = time.monotonic()
    done = subprocess.run([*command, "run", PARAMS, *settings], cwd=ROOT, capture_output=True, text=True)
    whole = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"the run failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    result = json.loads((ROOT / "runs" / overrides["deployment"] / "latest" / "result.json").read_text())
    chapters = {c["name"]: c["seconds"] for c in result["chapters"]}
    building = [c for c in chapters_of("greg-separated") if c.converges]
    deployment = open_deployment(ROOT / PARAMS, overrides)
    try:
        warm = {c.name: median(lambda c=c: getattr(deployment, c.attribute).plan(), rounds) for c in building}
        cold = {c.name: statistics.median(_cold(overrides, c.attribute) for _ in range(rounds)) for c in building}
    finally:
        deployment.close()
        subprocess.run([*command, "destroy", PARAMS, *settings, "--yes"], cwd=ROOT, capture_output=True, check=True)
    return {"whole": whole, "chapters": chapters, "warm": warm, "cold": cold}


def median(work: Callable[[], object], rounds: int) -> float:
    """Median seconds; the first round, which opens the connections, is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        began = time.monotonic()
        work()
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds[1:])


def _cold(overrides: dict[str, str], chapter: str) -> float:
    code = COLD.format(params=str(ROOT / PARAMS), overrides=overrides, chapter=chapter)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def by_hand(overrides: dict[str, str]) -> dict[str, float]:
    """Seconds of the same cluster by shell scripts: until the machines answer, until they are set up, until both
    hosts show their pages."""
    deployment = open_deployment(ROOT / PARAMS, overrides)
    try:
        began = time.monotonic()
        deployment.launch.apply(deployment.launch.plan())
        launched = time.monotonic()
        hosts = deployment.fleet()
        hosts.each(lambda host: script(host, *_words(deployment, host.name)))
        installed = time.monotonic()
        for node in deployment.topology.wso2_nodes:
            script(hosts[node.name], "boot.sh", {"SECONDS_AT_MOST": "300"})
        for host, path in (("store", "/store/pages/top-assets"), ("publisher", "/publisher/pages/sso-login")):
            until_served(deployment, deployment.spec.hosts[host], path)
        ended = time.monotonic()
    finally:
        deployment.destroy(confirm=overrides["deployment"])
    return {"launch": launched - began, "scripts": installed - launched, "boots": ended - installed}


def script(host: Host, name: str, words: dict[str, str]) -> None:
    """Run one of the scripts as root; its environment goes over stdin with it."""
    settings = "".join(f"export {key}='{value}'\n" for key, value in words.items())
    done = host.run("sudo -n bash", (settings + (BY_HAND / name).read_text()).encode())
    if done.rc:
        raise SystemExit(redactor.redact(f"{name} failed on {host.name}:\n{done.stdout[-1500:]}{done.stderr[-1500:]}"))


def _words(deployment: Deployment, name: str) -> tuple[str, dict[str, str]]:
    """Which script a node gets, and its environment."""
    topology, hosts = deployment.topology, deployment.spec.hosts
    node, tiers = topology.node(name), {tier: " ".join(n.address for n in topology.tier(tier)) for tier in topology.tiers}
    names = {"STORE": hosts["store"], "PUBLISHER": hosts["publisher"]}
    if node.role == "lb":
        return "lb.sh", {**names, "STORE_NODES": tiers["store"], "PUBLISHER_NODES": tiers["publisher"]}
    words = {"SELF": node.address, "PACK": deployment.pack.url, "PASSWORD": deployment.vault.get("carbon-admin-password")}
    if node.role == "db":
        return "db.sh", words
    other = "publisher" if node.tier == "store" else "store"
    members = {"TIER": node.tier or "", "OTHER": other, "MEMBERS": tiers[node.tier or ""], "DB": topology.db.address}
    return "node.sh", {**words, **members, **names}


def until_served(deployment: Deployment, host: str, path: str, seconds: float = 120) -> None:
    """Until the page answers 200 through Nginx (whose certificate signs itself)."""
    address, deadline, said = deployment.topology.lb_for(host).address, time.monotonic() + seconds, ""
    with httpx2.Client(verify=False, trust_env=False) as client:
        while time.monotonic() < deadline:
            answer = client.get(f"https://{address}{path}", headers={"Host": host}, extensions={"sni_hostname": host})
            if answer.status_code == 200:
                return
            said = f"{answer.status_code} {answer.headers.get('location', '')}"
            time.sleep(0.2)
    raise SystemExit(f"https://{host}{path} does not serve: {said}")


def section(figures: dict[str, Any], load: float) -> str:
    hand = figures["by_hand"]
    by_hand_whole = sum(hand.values())
    building = sum(figures["chapters"][name] for name in figures["warm"])
    rows = ["| chapter | from nothing | nothing to change, warm | cold process |", "|---|---|---|---|"]
    for name, seconds in figures["chapters"].items():
        warm, cold = figures["warm"].get(name), figures["cold"].get(name)
        again = f"{warm:.2f} s | {cold:.2f} s" if warm is not None and cold is not None else " | "
        rows.append(f"| `{name}` | {seconds:.1f} s | {again} |")
    rows.append(f"| all, kernels and report included | {figures['whole']:.0f} s | | |")
    what = f"`greg-separated` in the lab, six machines; the lab itself was up after {figures['up']:.1f} s, from the built image."
    words = (
        f"The same machines by one hand-written shell script per host, in parallel ([benchmarks/by_hand]"
        f"(../benchmarks/by_hand)): {by_hand_whole:.0f} s (launch {hand['launch']:.0f} s, scripts {hand['scripts']:.0f} s, "
        f"first boots {hand['boots']:.0f} s). The chapters that build the same (01 to 05, with their checks, the nodes' "
        f"own keystores and TLS to the database, which the scripts do without) took {building:.0f} s: {building / by_hand_whole:.2f} times as long."
    )
    table = "\n".join(rows)
    return page.section("end_to_end", "End to end", f"{table}\n\n{words}", load, what)


if __name__ == "__main__":
    main()
