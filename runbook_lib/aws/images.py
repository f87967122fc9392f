"""The machine image that a name such as `debian-12` stands for in a region, and its first user."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from runbook_lib.errors import CloudError


@dataclass(frozen=True)
class Release:
    """Where the newest image of an operating system is published: a public SSM parameter, else the publisher's image list."""

    parameter: str
    owner: str
    name: str
    user: str


@dataclass(frozen=True)
class Ami:
    """An image of this region. `root_device`: device name of its root volume; `user`: its first user."""

    id: str
    root_device: str
    user: str


RELEASES = {
    # https://wiki.debian.org/Cloud/AmazonEC2Image/Bookworm
    "debian-12": Release("/aws/service/debian/release/12/latest/amd64", "136693071363", "debian-12-amd64-*", "admin"),
    # https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
    "ubuntu-22.04": Release(
        "/aws/service/canonical/ubuntu/server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id",
        "099720109477",
        "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*",
        "ubuntu",
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
        raise CloudError(
            f"no image {name} in this region",
            f"cloud.image at {ec2.about}",
            "another cloud.region, or cloud.image: ami-…",
        )
    newest = max(found, key=lambda image: str(image.get("CreationDate", "")))
    return Ami(newest["ImageId"], newest.get("RootDeviceName") or "/dev/xvda", login_user(name, user))


def _announced(release: Release, ec2: Any, ssm: Any) -> list[Any]:
    """Return the image that the public SSM parameter of the release names; an empty list when the region has none."""
    try:
        image_id = ssm.get_parameter(Name=release.parameter)["Parameter"]["Value"]
        return list(ec2.describe_images(ImageIds=[image_id])["Images"])
    except CloudError as error:
        if error.code in ("ParameterNotFound", "InvalidAMIID.NotFound"):
            return []
        raise


def _listed(release: Release, ec2: Any) -> list[Any]:
    """Return all images of the release that its publisher has in this region."""
    wanted = [{"Name": "name", "Values": [release.name]}, {"Name": "state", "Values": ["available"]}]
    return list(ec2.describe_images(Owners=[release.owner], Filters=wanted)["Images"])
