"""The machine image that a name such as `debian-12` stands for in a region, and its first user."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.errors import CloudError


@dataclass(frozen=True)
class Release:
    """Where the newest image of an operating system is published: a public SSM parameter, else the publisher's image list.

    `owners`: the publisher's account in each partition of AWS. `parameter`: "" where there is none. `until`: the last day with security updates
    that everybody gets; None where there is no such day.
    """

    parameter: str
    owners: Mapping[str, str]
    name: str
    user: str
    until: datetime.date | None = None


@dataclass(frozen=True)
class Ami:
    """An image of this region. `root_device`: device name of its root volume; `user`: its first user."""

    id: str
    root_device: str
    user: str


# https://wiki.debian.org/Cloud/AmazonEC2Image: releases are of one account, the daily images of unstable of another. Debian names no
# account in the partitions for China and the United States' government.
DEBIAN = {"aws": "136693071363"}
DEBIAN_DAILY = {"aws": "903794441882"}
# https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/, "Ownership verification"
CANONICAL = {"aws": "099720109477", "aws-us-gov": "513442679011", "aws-cn": "837727238323"}
# Ends: https://wiki.debian.org/LTS, and https://ubuntu.com/about/release-cycle, "Standard security maintenance", by its month
RELEASES = {
    "debian-12": Release("/aws/service/debian/release/12/latest/amd64", DEBIAN, "debian-12-amd64-*", "admin", datetime.date(2028, 6, 30)),
    "debian-13": Release("/aws/service/debian/release/13/latest/amd64", DEBIAN, "debian-13-amd64-*", "admin", datetime.date(2030, 6, 30)),
    "debian-11": Release("/aws/service/debian/release/11/latest/amd64", DEBIAN, "debian-11-amd64-*", "admin", datetime.date(2026, 8, 31)),
    "debian-sid": Release("", DEBIAN_DAILY, "debian-sid-amd64-daily-*", "admin"),
    "ubuntu-22.04": Release(
        "/aws/service/canonical/ubuntu/server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id",
        CANONICAL,
        "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*",
        "ubuntu",
        datetime.date(2027, 4, 30),
    ),
    "ubuntu-24.04": Release(
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        CANONICAL,
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*",
        "ubuntu",
        datetime.date(2029, 4, 30),
    ),
}


def login_user(image: str, chosen: str | None) -> str:
    """Return the user that the key pair gives access to: `chosen`, else the user of the image."""
    return chosen or RELEASES[image].user


def find_image(name: str, user: str | None, ec2: Any, ssm: Any) -> Ami:
    """Return the newest image of the release `name`, or the image with that id. Raises CloudError when the region has none."""
    if re.fullmatch(r"ami-[0-9a-f]+", name):
        found = ec2.describe_images(ImageIds=[name])["Images"]
    else:
        found = _announced(RELEASES[name], ec2, ssm) or _listed(RELEASES[name], ec2)
    if not found:
        here = [each for each, release in RELEASES.items() if ec2.partition in release.owners]
        raise CloudError(
            f"no image {name} in this region",
            f"cloud.image at {ec2.about}",
            f"another cloud.image (published here: {', '.join(here)}; or ami-… of your own), or another cloud.region; in a lab: lab up --images {name}",
        )
    newest = max(found, key=lambda image: str(image.get("CreationDate", "")))
    return Ami(newest["ImageId"], newest.get("RootDeviceName") or "/dev/xvda", login_user(name, user))


def _announced(release: Release, ec2: Any, ssm: Any) -> list[Any]:
    """Return the image that the public SSM parameter of the release names; an empty list when there is none, or in the region none."""
    if not release.parameter:
        return []
    try:
        image_id = ssm.get_parameter(Name=release.parameter)["Parameter"]["Value"]
        return list(ec2.describe_images(ImageIds=[image_id])["Images"])
    except CloudError as error:
        if error.code in ("ParameterNotFound", "InvalidAMIID.NotFound"):
            return []
        raise


def _listed(release: Release, ec2: Any) -> list[Any]:
    """Return all images of the release that its publisher has in this region; an empty list where the publisher has no known account."""
    owner = release.owners.get(ec2.partition)
    if owner is None:
        return []
    wanted = [{"Name": "name", "Values": [release.name]}, {"Name": "state", "Values": ["available"]}]
    return list(ec2.describe_images(Owners=[owner], Filters=wanted)["Images"])
