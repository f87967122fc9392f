"""A classroom in which everybody builds greg-single at the same time: what one learner takes, and when the last one has a verified cluster.

Each learner has his JupyterLab open, and his chapters run headless as he himself would run them in its terminal.

    sudo .venv/bin/python benchmarks/classroom.py [--learners 8] [--write]       # no classroom may be up
"""

from __future__ import annotations

import argparse
import os
import re
import ssl
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import page

from runbook_cli.classroom import labs, request, users
from runbook_cli.classroom.room import AUTHORITY, ROOM, Learner, Room

RESERVE_MB = 6000  # of this machine's memory: what is measured ends before others suffer
RUN = ["runbook", "run", "params/greg-single.lab.yaml", "-q"]


def classroom(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "runbook_cli", "classroom", *words], cwd=page.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"classroom {words[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def sign_in(room: Room, learner: Learner, password: str) -> float:
    """Sign in, and return the seconds until the learner's JupyterLab answers."""
    began, url = time.monotonic(), f"https://127.0.0.1:{room.port}"
    with httpx2.Client(verify=ssl.create_default_context(cafile=str(AUTHORITY)), trust_env=False, follow_redirects=True, timeout=300) as browser:
        form = browser.get(f"{url}/hub/login").text
        token = re.search(r'name="_xsrf"\s+value="([^"]+)"', form)
        browser.post(f"{url}/hub/login", data={"username": learner.name, "password": password, "_xsrf": token[1] if token else ""})
        browser.get(f"{url}/hub/spawn")
        while True:  # a page and not the API: only pages lead through the hub's permission
            page_of_lab = browser.get(f"{url}/user/{learner.name}/lab")
            if page_of_lab.status_code == 200 and page_of_lab.url.path.startswith("/user/"):
                break
            time.sleep(0.2)
    return time.monotonic() - began


def build(learner: Learner) -> tuple[float, int]:
    """Run all chapters of greg-single as the learner; return the seconds and the exit status."""
    began = time.monotonic()
    words = {"user": learner.uid, "group": learner.uid, "extra_groups": []}
    log = Path(f"/run/runbook-classroom/build-{learner.number}.log")
    with log.open("w") as out:
        done = subprocess.run(RUN, cwd=learner.workspace, env=users.environment(learner), stdout=out, stderr=out, **words)  # type: ignore[call-overload]
    if done.returncode:
        print(f"{learner.name}: {log.read_text()[-1500:]}", file=sys.stderr)
    return time.monotonic() - began, done.returncode


def watched(room: Room, passwords: dict[str, str]) -> dict[str, object]:
    """Let everybody sign in and build, and return the figures."""
    free = request.meminfo("MemAvailable")
    with ThreadPoolExecutor(len(room.learners)) as pool:
        signed = list(pool.map(lambda learner: sign_in(room, learner, passwords[learner.name]), room.learners))
        building = [pool.submit(build, learner) for learner in room.learners]
        least = free
        while not all(each.done() for each in building):
            least = min(least, request.meminfo("MemAvailable"))
            if least < RESERVE_MB:
                raise SystemExit(f"stopped: {least} MB are left of this machine's memory")
            time.sleep(1)
        built = [each.result() for each in building]
    taken = [labs.usage(learner)[0] for learner in room.learners]
    most = [
        int(file.read_text()) >> 20 for learner in room.learners for file in Path("/sys/fs/cgroup").glob(f"**/{learner.lab.cgroup}/memory.max_usage_in_bytes")
    ]
    return {
        **{"signed": signed, "built": [seconds for seconds, _ in built], "failed": sum(bool(status) for _, status in built)},
        **{"taken": taken, "most": most, "host": (free - request.meminfo("MemAvailable")) / len(room.learners), "least": least},
    }


def table(up: float, found: dict[str, object], learners: int, down: float) -> str:
    signed, built, taken = (list(map(float, found[name])) for name in ("signed", "built", "taken"))  # type: ignore[call-overload]
    rows = [
        (f"`classroom up` for {learners}, environment, image and packs cached", f"{up:.0f} s"),
        (f"from the password to JupyterLab, {learners} at once: median, last", f"{statistics.median(signed):.0f} s, {max(signed):.0f} s"),
        (f"chapters 01 to 07 of greg-single, {learners} started together: first, last verified", f"{min(built):.0f} s, {max(built):.0f} s"),
        ("of them not verified", str(found["failed"])),
        (
            "memory of a learner with his cluster running and JupyterLab: as his limit counts it, without the cache of files",
            f"{statistics.median(taken):.0f} MB",
        ),
        ("the same, what the host has less: lab, hub and cache included", f"{found['host']:.0f} MB"),
        ("`classroom down`", f"{down:.0f} s"),
    ]
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=8)
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    given, load = parser.parse_args(), os.getloadavg()[0]
    began = time.monotonic()
    said = classroom("up", "--learners", str(given.learners), "--port", str(given.port), "--yes")
    up = time.monotonic() - began
    try:
        passwords = dict(re.findall(r"^(learner\d+|instructor) +(\S+)$", said, re.MULTILINE))
        found = watched(Room.read(ROOM), passwords)
    finally:
        began = time.monotonic()
        classroom("down", "--yes")
    what = f"{given.learners} learners on one machine, each with greg-single (three machines) in his own lab and JupyterLab open."
    text = page.section("classroom", "The classroom", table(up, found, given.learners, time.monotonic() - began), load, what)
    print(text)
    if given.write:
        page.write(text)


if __name__ == "__main__":
    main()
