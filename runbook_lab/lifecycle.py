"""up, down and what both need: one at a time, again and again, also after a death."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from runbook_lab import image, limits, network, prerequisites, remains
from runbook_lab.layout import CACHE, REGION, Lab
from runbook_lib.errors import LabError

PACK_BUCKET = "runbook-packs"
Say = Callable[[str], None]


@contextlib.contextmanager
def exclusive(lab: Lab) -> Iterator[None]:
    """One `up` or `down` of this lab at a time; others wait. The lock file goes when no lab is left to lock."""
    while True:
        lab.lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = open(lab.lock, "w")  # noqa: SIM115 (closed by the `with` below)
        except FileNotFoundError:  # the last lab's `down` has just removed the folder
            continue
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not lab.lock.exists() or os.fstat(handle.fileno()).st_ino != lab.lock.stat().st_ino:
                continue  # its holder removed it while we waited: take the new one
            try:
                yield
            finally:
                if not lab.run.exists():
                    lab.lock.unlink(missing_ok=True)
                    with contextlib.suppress(OSError):
                        lab.lock.parent.rmdir()  # only when this was the last lab
            return


def client(lab: Lab, service: str) -> Any:
    """A boto3 client of this lab, whatever AWS settings or HTTP proxies the environment holds."""
    return boto3.client(  # type: ignore[call-overload]  # the stubs know literal names of services only
        service,
        endpoint_url=lab.endpoint,
        region_name=REGION,
        aws_access_key_id="lab",
        aws_secret_access_key="lab",
        config=Config(proxies={}, retries={"total_max_attempts": 2}, connect_timeout=5),
    )


def alive(lab: Lab) -> bool:
    """Whether the daemon runs and answers."""
    if not lab.aws_config.exists():
        return False
    with contextlib.suppress(BotoCoreError, ClientError, ResponseParserError):
        client(lab, "sts").get_caller_identity()
        return True
    return False


def up(lab: Lab, allowed: tuple[str, ...] = (), assume_yes: bool = False, say: Say = print) -> None:
    """Bring the lab up; does nothing when it is. Raises LabError with the way out when this machine cannot."""
    prerequisites.check_machine()
    _offer_packages(assume_yes, say)
    with exclusive(lab):
        _refuse_other_range(lab)
        if alive(lab):
            say(f"lab {lab.name} is up: {lab.endpoint}")
            return
        found = remains.sweep(lab)
        if found:
            say(f"cleaned up what an earlier lab {lab.name} left: {len(found)} things")
        taken = network.clash(lab)
        if taken:
            raise network.range_taken(lab, taken)
        limits.raise_limits()
        try:
            packs = _PackBuilder()
            image.ensure(say)
            _start_daemon(lab, allowed)
            packs.upload(lab, say)
        except BaseException:  # also when interrupted: half a lab is no lab
            remains.sweep(lab)
            limits.restore_limits(lab)
            raise
    say(f"lab {lab.name} is up: {lab.endpoint} ({lab.network}); AWS_CONFIG_FILE={lab.aws_config}")


def _offer_packages(assume_yes: bool, say: Say) -> None:
    lacking = prerequisites.missing_packages()
    if not lacking:
        return
    command = f"sudo apt-get install --no-install-recommends {' '.join(lacking)}"
    if not assume_yes:
        if not sys.stdin.isatty():
            raise LabError(f"Debian packages are missing: {' '.join(lacking)}", next_step=f"{command}  (or: lab up --yes)")
        if input(f"The lab needs {' '.join(lacking)}. Install now? [y/N] ").strip().lower() not in ("y", "yes"):
            raise LabError("the lab needs these packages", next_step=command)
    prerequisites.install(lacking, say)


def _refuse_other_range(lab: Lab) -> None:
    file = lab.run / "range"
    recorded = file.read_text().strip() if file.exists() and remains.daemons(lab) else str(lab.network)
    if recorded != str(lab.network):
        raise LabError(
            f"lab {lab.name} is up with another range, {recorded}",
            "--range",
            f"leave --range out, take it down first, or use another --name than {lab.name}",
        )


def _start_daemon(lab: Lab, allowed: tuple[str, ...]) -> None:
    for folder, mode in ((lab.run, 0o755), (lab.disks, 0o700)):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
    (lab.run / "range").write_text(f"{lab.network}\n")
    with open(lab.log, "ab") as log:
        command = [sys.executable, "-m", "runbook_lab.daemon", lab.name, str(lab.network), *allowed]
        root = str(Path(__file__).resolve().parent.parent)
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=root, check=True)
    deadline = time.monotonic() + 60
    while not lab.aws_config.exists():
        born = lab.pid_file.exists()
        if time.monotonic() > deadline or (born and not remains.daemons(lab)):
            words = " / ".join(lab.log.read_text().strip().splitlines()[-3:])
            raise LabError(f"the lab's daemon did not start: {words}", str(lab.log), "./runbook doctor")
        time.sleep(0.02)


class _PackBuilder:
    """Builds the practice packs beside everything else, and puts them into the bucket once the lab answers."""

    def __init__(self) -> None:
        self.packs: list[Path] = []
        self.problem: Exception | None = None
        self._thread = threading.Thread(target=self._build, daemon=True)
        self._thread.start()

    def _build(self) -> None:
        try:
            from runbook_lab.practice import build
        except ImportError:
            return
        try:
            self.packs = build(CACHE / "packs")
        except Exception as problem:  # the lab is of use without packs; say so and go on
            self.problem = problem

    def upload(self, lab: Lab, say: Say) -> None:
        s3 = client(lab, "s3")
        s3.create_bucket(Bucket=PACK_BUCKET)
        self._thread.join()
        for pack in self.packs:
            s3.upload_file(str(pack), PACK_BUCKET, pack.name)
        if self.problem:
            say(f"the practice packs could not be built, and the bucket {PACK_BUCKET} is empty: {self.problem}")


def down(lab: Lab, say: Say = print) -> None:
    """Take the lab and everything in it away, in whatever state it is. Its image and package cache stay."""
    prerequisites.check_machine()
    with exclusive(lab):
        found = remains.sweep(lab)
        limits.restore_limits(lab)
    say(f"lab {lab.name} is down" if found else f"there was no lab {lab.name}")
