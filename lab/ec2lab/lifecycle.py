"""Starting (`up`) and removing (`down`) a lab: one at a time, repeatable, also after the daemon was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from ec2lab import access_key, cleanup, prerequisites
from ec2lab.errors import LabError, lab_command
from ec2lab.machines import image, limits
from ec2lab.network import links
from ec2lab.paths import REGION, Lab

Say = Callable[[str], None]
Uploads = Callable[[], Mapping[str, Sequence[Path]]]  # returns the files to put into each bucket


@contextlib.contextmanager
def exclusive(lab: Lab) -> Iterator[None]:
    """Hold the lab's lock for the block, so that only one `up` or `down` of it runs at a time. The lock file is removed with the lab."""
    while True:
        lab.lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = open(lab.lock, "w")  # noqa: SIM115 (closed by the `with` below)
        except FileNotFoundError:  # the last lab's `down` has just removed the folder
            continue
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not lab.lock.exists() or os.fstat(handle.fileno()).st_ino != lab.lock.stat().st_ino:
                continue  # its holder removed the file while this process waited: lock the new one
            try:
                yield
            finally:
                if not lab.run.exists():
                    lab.lock.unlink(missing_ok=True)
                    with contextlib.suppress(OSError):
                        lab.lock.parent.rmdir()  # only when this was the last lab
            return


def client(lab: Lab, service: str) -> Any:
    """Return a boto3 client of this lab with its own key, regardless of AWS settings and HTTP proxies in the environment. Raises LabError without the key."""
    key = access_key.read(lab)
    return boto3.client(  # type: ignore[call-overload]  # the stubs know literal names of services only
        service,
        endpoint_url=lab.endpoint,
        region_name=REGION,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        config=Config(proxies={}, retries={"total_max_attempts": 2}, connect_timeout=5),
    )


def alive(lab: Lab) -> bool:
    """Return whether the daemon runs and answers. Raises LabError when the lab is another user's."""
    if not lab.aws_config.exists():
        return False
    with contextlib.suppress(BotoCoreError, ClientError, ResponseParserError):
        client(lab, "sts").get_caller_identity()
        return True
    return False


def up(
    lab: Lab,
    allowed: tuple[str, ...] = (),
    assume_yes: bool = False,
    say: Say = print,
    uploads: Uploads = dict,
    images: Sequence[str] = (),
    pace: float | None = None,
    any_network: bool = False,
) -> None:
    """Start the lab; does nothing when it is up. Raises LabError, with the next step, when this machine cannot run it.

    `allowed`: hosts that machines may reach by HTTPS. `assume_yes`: install missing packages without asking.
    `uploads`: returns the files for each bucket; it is called in a thread of its own while the lab starts. `images`: names of the images
    that machines can be made of (see `image.RECIPES`); none: those that the lab has, `image.DEFAULT` for a new one.
    `pace`: be as slow as AWS, with consoles that are empty for so many seconds (see api.pace). `any_network`: have a default VPC, and take
    subnets of any addresses; this machine has no way into those outside of the lab's range, or with addresses of another VPC. Other regions
    answer as well, and have no machines.
    """
    prerequisites.check_machine()
    prerequisites.offer(prerequisites.missing_packages(), assume_yes, say)
    with exclusive(lab):
        _refuse_other_range(lab)
        _refuse_other_pace(lab, pace)
        if alive(lab):
            _refuse_other_images(lab, images)
            say(f"lab {lab.name} is up: {lab.endpoint}")
            return
        if lab.state_file.exists() and _take_over(lab, allowed, say):
            return
        found = cleanup.sweep(lab)
        if found:
            say(f"cleaned up what an earlier lab {lab.name} left: {len(found)} things")
        taken = links.clash(lab)
        if taken:
            raise links.range_taken(lab, taken)
        limits.raise_limits()
        try:
            with ThreadPoolExecutor(1) as beside:
                files = beside.submit(uploads)
                names = tuple(images) or (image.DEFAULT,)
                with image.in_use([image.wanted(name) for name in names]):  # held until the daemon holds it
                    for name in names:
                        image.ensure(say, name)
                    _record(lab, names, allowed, pace, any_network)
                    _start_daemon(lab, names, allowed)
                _upload(lab, files.result())
        except BaseException:  # also when interrupted: a partly started lab is of no use
            cleanup.sweep(lab)
            limits.restore_limits(lab)
            raise
    say(f"lab {lab.name} is up: {lab.endpoint} ({lab.network}); AWS_CONFIG_FILE={lab.aws_config}")


def _refuse_other_range(lab: Lab) -> None:
    file = lab.run / "range"
    recorded = file.read_text().strip() if file.exists() and cleanup.daemons(lab) else str(lab.network)
    if recorded != str(lab.network):
        raise LabError(
            f"lab {lab.name} is up with another range, {recorded}",
            "--range",
            f"leave --range out, take it down first, or use another --name than {lab.name}",
        )


def _refuse_other_pace(lab: Lab, pace: float | None) -> None:
    if pace is not None and cleanup.daemons(lab) and not lab.pace_file.exists():
        raise LabError(f"lab {lab.name} is up, and not as slow as AWS", "--as-slow-as-aws", f"take it down first, or use another --name than {lab.name}")


def _refuse_other_images(lab: Lab, images: Sequence[str]) -> None:
    has = image.parse_names((lab.run / "images").read_text())
    if lacking := [name for name in images if name not in has]:
        raise LabError(
            f"lab {lab.name} is up without the image {', '.join(lacking)}; it has {', '.join(has)}",
            "--images",
            f"{lab_command('down')}, then {lab_command('up --images ' + ','.join(dict.fromkeys([*has, *images])))}",
        )


def _take_over(lab: Lab, allowed: tuple[str, ...], say: Say) -> bool:
    """Start a daemon that takes over the machines and the API's state of one that was killed. Return False, saying why, where that fails."""
    cleanup.end_daemon(lab)
    before = (lab.run / "allowed").read_text().split()
    limits.raise_limits()
    try:
        names = image.parse_names((lab.run / "images").read_text())
        with image.in_use([image.wanted(name) for name in names]):
            _start_daemon(lab, names, tuple(dict.fromkeys([*before, *allowed])))
    except (LabError, OSError) as problem:
        say(f"what the killed daemon of lab {lab.name} knew cannot be taken over: {str(problem).splitlines()[0]}")
        return False
    say(f"lab {lab.name} is up again with the machines, buckets and parameters that it had: {lab.endpoint}")
    return True


def _record(lab: Lab, images: Sequence[str], allowed: tuple[str, ...], pace: float | None, any_network: bool) -> None:
    """Make the lab's folders, and write how it was asked for."""
    for folder, mode in ((lab.run, 0o755), (lab.disks, 0o700)):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
    (lab.run / "range").write_text(f"{lab.network}\n")
    if pace is not None:
        lab.pace_file.write_text(f"{pace}\n")
    if any_network:
        lab.any_network_file.touch()
    (lab.run / "images").write_text(",".join(images) + "\n")
    (lab.run / "allowed").write_text("\n".join(allowed) + "\n")


def _start_daemon(lab: Lab, images: Sequence[str], allowed: tuple[str, ...]) -> None:
    for left in (lab.aws_config, lab.pid_file):  # of an earlier daemon; these tell that the new one is there
        left.unlink(missing_ok=True)
    with open(lab.log, "ab") as log:
        access_key.give_to_user(lab.log)
        command = [sys.executable, "-m", "ec2lab.daemon", lab.name, str(lab.network), ",".join(images), *allowed]
        root = str(Path(__file__).resolve().parent.parent)
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=root, check=True)
    deadline = time.monotonic() + 60
    while not lab.aws_config.exists():
        born = lab.pid_file.exists()
        if time.monotonic() > deadline or (born and not cleanup.daemons(lab)):
            words = " / ".join(lab.log.read_text().strip().splitlines()[-3:])
            raise LabError(f"the lab's daemon did not start: {words}", str(lab.log), "read the log")
        time.sleep(0.02)


def _upload(lab: Lab, files: Mapping[str, Sequence[Path]]) -> None:
    s3 = client(lab, "s3")
    for bucket, paths in files.items():
        s3.create_bucket(Bucket=bucket)
        for path in paths:
            s3.upload_file(str(path), bucket, path.name)


def down(lab: Lab, say: Say = print) -> None:
    """Remove the lab and everything in it, in whatever state it is. The caches of images and packages are kept."""
    prerequisites.check_machine()
    with exclusive(lab):
        found = cleanup.sweep(lab)
        limits.restore_limits(lab)
    say(f"lab {lab.name} is down" if found else f"there was no lab {lab.name}")
