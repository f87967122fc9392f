"""What runs out while nobody looks: certificates, room on the machines' disks, the newest backup, the operating system's security updates, and the
prices that a cost is computed with.

Certificates are read from Parameter Store, from which every machine has them (a plan shows where one has another), disks with one command
per machine. Nothing is written anywhere.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook_lib import pki
from runbook_lib.aws.images import RELEASES
from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.check import Check, answered
from runbook_lib.launch import secrets
from runbook_lib.topology.prices import OLD, prices, stale

if TYPE_CHECKING:
    from runbook_lib.session import Session
    from runbook_lib.ssh import Fleet

CHAPTER = "01_launch_ec2"
CERTIFICATE, DISK, PRICES, BACKUP, SUPPORT = "certificate", "disk", "prices", "backup", "support"
LAST_DAYS = 7.0  # of a certificate: what the next run would have renewed for weeks is not renewed
BACKUP_DAYS = 2.0  # after which the newest backup is worth a word: most timers make one a day
SUPPORT_DAYS = 183.0  # of an operating system: every machine is to be replaced before its end
LOW, FULL = 15.0, 5.0  # percent of a disk that is free: worth a word; a database stops soon
# bytes and inodes that a user other than root may still take; read-only images and what lies in memory are left out
DF = "df -lB1 --output=avail,size,iavail,itotal,target -x tmpfs -x devtmpfs -x squashfs -x iso9660 -x efivarfs"
SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True)
class Level:
    """How much of something is left. Below `soon` it is worth a word, below `least` its check fails.

    `kind`: certificate, disk, backup, support or prices; `place`: its name in Parameter Store, node and folder, place in S3, image, region;
    `left`: days, or percent of a disk; `measured`: what was read, in seconds since 1970 (UTC), bytes or days.
    """

    kind: str
    id: str
    title: str
    place: str
    left: float
    soon: float
    least: float
    words: str
    measured: Mapping[str, float]

    @property
    def low(self) -> bool:
        """Whether it is worth a word, and no more."""
        return self.least <= self.left < self.soon

    def check(self) -> Check:
        """Return the row of its check."""
        unit = "% free" if self.kind == DISK else "days left"
        return answered(self.id, self.title, self.left >= self.least, f"at least {self.least:.0f} {unit}", self.words, self.place, CHAPTER)


def levels(deployment: Session) -> list[Level]:
    """Return every level of a deployment. Raises HostError when a machine does not answer, CloudError when Parameter Store does not."""
    found = [level for read in disks(deployment).values() for level in read.result()]
    cloud = deployment.spec.cloud
    return [*certificates(deployment), *found, *support(cloud.image), price_age(cloud.region)]


def checks_of(found: list[Level]) -> list[Check]:
    """Return the rows of what can be wrong with the deployment: old prices break nothing, and how often a backup is due only its operator knows."""
    return [level.check() for level in found if level.least > -math.inf]


def certificates(deployment: Session) -> Iterator[Level]:
    """Yield the level of every certificate that the deployment uses and Parameter Store has."""
    topology, stored = deployment.topology, deployment.vault.read_all()
    for name in ("ca.pem", *secrets.certificates(topology), *(f"tier-key/{key}" for key in topology.tier_keys)):
        if found := pki.certificates(stored.get(name, "")):
            yield certificate(name, found[0].not_valid_after_utc)


def certificate(name: str, ends: datetime.datetime) -> Level:
    """Return the level of a certificate that ends then."""
    left = (ends - datetime.datetime.now(datetime.UTC)).total_seconds() / SECONDS_PER_DAY
    title, words = f"The certificate {name} is valid for a while", f"{left:.0f} days left, until {ends:%Y-%m-%d}"
    return Level(CERTIFICATE, f"certificate-{name}", title, name, left, pki.RENEW_DAYS, LAST_DAYS, words, {"ends": ends.timestamp()})


def disks(deployment: Session) -> dict[str, Future[list[Level]]]:
    """Return the levels of every machine's file systems by the node's name, all asked at once. A result raises HostError for a machine that does not answer."""
    nodes = [node.name for node in deployment.topology.nodes]
    hosts = deployment.running()
    with ThreadPoolExecutor(len(nodes)) as pool:
        return {node: pool.submit(_disk, hosts, node) for node in nodes}


def _disk(hosts: Fleet, node: str) -> list[Level]:
    return list(file_systems(node, hosts[node].run(DF, timeout=30).stdout))


def file_systems(node: str, text: str) -> Iterator[Level]:
    """Yield the levels from the answer of `DF`. Some file systems count no inodes."""
    for line in text.splitlines()[1:]:
        free, size, inodes, of, folder = line.split(maxsplit=4)
        if not (free.isdigit() and size.isdigit() and int(size)):
            continue
        counted = inodes.isdigit() and of.isdigit() and int(of) > 0
        left = min(100 * int(free) / int(size), 100 * int(inodes) / int(of) if counted else 100.0)
        words = f"{left:.0f} % free ({int(free) / 2**30:.1f} of {int(size) / 2**30:.1f} GiB{f', {inodes} of {of} inodes' if counted else ''})"
        title, measured = f"There is room on the disk of {node}", {"free": float(free), "size": float(size)}
        yield Level(DISK, f"disk-space-{node}", title, f"{node}:{folder}", left, LOW, FULL, words, measured)


def backup_age(deployment: Session) -> Iterator[Level]:
    """Yield how old the newest backup is, of any kind; nothing of a deployment without one. Raises CloudError."""
    store = BackupStore(deployment.cloud.aws, deployment.spec.deployment)
    if begun := store.begun():
        days = (datetime.datetime.now(datetime.UTC) - begun).total_seconds() / SECONDS_PER_DAY
        words = f"the newest backup is of {begun:%Y-%m-%d %H:%M} UTC, {days:.0f} days ago"
        yield Level(BACKUP, "backup-age", "A backup is of late", store.place, BACKUP_DAYS - days, 0.0, -math.inf, words, {"begun": begun.timestamp()})


def support(image: str, today: datetime.date | None = None) -> Iterator[Level]:
    """Yield how long the operating system gets security updates; nothing of one whose end is not known, such as an image of one's own."""
    if image in RELEASES and (until := RELEASES[image].until):
        left = float((until - (today or datetime.datetime.now(datetime.UTC).date())).days)
        words = f"security updates of {image} {'end' if left >= 0 else 'ended'} on {until}: another cloud.image replaces the machines one after the other"
        ends = datetime.datetime.combine(until, datetime.time(), datetime.UTC).timestamp()
        yield Level(SUPPORT, "image-support", "The operating system gets security updates", image, left, SUPPORT_DAYS, 0.0, words, {"ends": ends})


def price_age(region: str, today: datetime.date | None = None) -> Level:
    """Return how long the prices of a region can be relied on."""
    as_of = datetime.date.fromisoformat(prices(region)["as_of"])
    days = ((today or datetime.datetime.now(datetime.UTC).date()) - as_of).days
    why = stale(region, today)
    left = -1.0 if why else float(OLD.days - days)
    words = f"{why}: python -m runbook_cli.refresh_prices makes them anew" if why else f"the prices are of {as_of}"
    return Level(PRICES, "price-age", "The prices are of late", region, left, 0.0, -math.inf, words, {"days": float(days)})
