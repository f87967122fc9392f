"""The lab's own access key, which may do everything: made by the daemon for each lab, kept in the AWS config file that its user alone can read."""

from __future__ import annotations

import configparser
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from ec2lab.errors import LabError, lab_command
from ec2lab.paths import REGION, Lab

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # of an access key's id
AWS_CONFIG = """\
# An ordinary AWS shared configuration file: AWS_CONFIG_FILE={path} makes any client speak to this lab.
[default]
region = {region}
aws_access_key_id = {key.id}
aws_secret_access_key = {key.secret}
endpoint_url = {endpoint}
# Not AWS's: the range that this lab's subnets must lie in.
ec2_network = {network}
"""


@dataclass(frozen=True)
class AccessKey:
    id: str
    secret: str = field(repr=False)


def make() -> AccessKey:
    """Return a new key, random, in AWS's form."""
    return AccessKey("AKIA" + "".join(secrets.choice(LETTERS) for _ in range(16)), secrets.token_urlsafe(30))


def write(lab: Lab, key: AccessKey) -> None:
    """Write the lab's AWS config file, whole or not at all, for the lab's user alone."""
    half = lab.aws_config.with_suffix(".new")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(AWS_CONFIG.format(path=lab.aws_config, region=REGION, key=key, endpoint=lab.endpoint, network=lab.network))
    give_to_user(half)
    half.rename(lab.aws_config)


def give_to_user(path: Path) -> None:
    """Make a file the lab's user's: of who called sudo, or of root where nobody did. Nobody else can read or write it."""
    path.chmod(0o600)
    os.chown(path, int(os.environ.get("SUDO_UID", os.getuid())), int(os.environ.get("SUDO_GID", os.getgid())))


def read(lab: Lab) -> AccessKey:
    """Return the key of a lab that is up. Raises LabError when there is none, or when it is another user's."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(lab.aws_config.read_text())
    except FileNotFoundError:
        raise LabError(f"lab {lab.name} is not up", lab.endpoint, lab_command("up")) from None
    except PermissionError:
        raise LabError(f"lab {lab.name} is another user's", str(lab.aws_config), "be that user or root, or make a lab of your own: --name, --range") from None
    return AccessKey(parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"])
