"""A Java runtime and a JDBC driver by URL, made of those of this machine: nothing of either comes from the distribution."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import need
from tests.support.lab_fixtures import LabClient

JVM = Path("/usr/lib/jvm/java-17-openjdk-amd64")
DRIVER = Path("/usr/share/java/mariadb-java-client.jar")
BUCKET = "other-ways"


def by_url(lab: LabClient) -> dict[str, Any]:
    """Store both in the lab's S3, and return the parameters that name them."""
    need(JVM.is_dir() and DRIVER.exists(), "no OpenJDK 17 and MariaDB driver to make archives of")
    jdk, jdk_sha256 = _put(lab, "jdk.tar.gz", _archive_of(JVM, "jdk-17"))
    driver, driver_sha256 = _put(lab, "driver.jar", DRIVER.read_bytes())
    return {
        "java.package": None,
        "java.archive": jdk,
        "java.sha256": jdk_sha256,
        "database.driver.url": driver,
        "database.driver.sha256": driver_sha256,
    }


def _put(lab: LabClient, name: str, data: bytes) -> tuple[str, str]:
    """An object of the bucket: its URL and its sha256."""
    lab.s3.create_bucket(Bucket=BUCKET)
    lab.s3.put_object(Bucket=BUCKET, Key=name, Body=data)
    return f"s3://{BUCKET}/{name}", hashlib.sha256(data).hexdigest()


def _archive_of(folder: Path, top: str) -> bytes:
    """As vendors ship a JDK: a tar.gz with one folder at the top, and no link that leads out of it."""
    renamed = f"--transform=s|^{folder.name}|{top}|"
    left_out = ["--exclude=src.zip", "--exclude=docs", "--exclude=man"]  # Debian's links to packages that are not installed
    command = ["tar", "-C", folder.parent, "-chz", renamed, *left_out, folder.name]
    return subprocess.run(command, check=True, capture_output=True).stdout
