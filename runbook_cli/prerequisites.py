"""The Debian packages that the lab, the practice packs and the tests need. Only the standard library is needed to import this module.

`python -m runbook_cli.prerequisites` prints them all, and works before the Python environment exists.
"""

from __future__ import annotations

import ec2lab.prerequisites as lab
import wso2_practice.prerequisites as practice

CLASSROOM = {"node": "nodejs", "npm": "npm", "useradd": "passwd", "userdel": "passwd"}  # command: Debian package
TESTS = (  # only the tests need these
    "awscli",
    "chromium",
    "chromium-headless-shell",
    "fonts-dejavu-core",
    "libnginx-mod-http-echo",
    "libnss3-tools",
    "mariadb-client",
    "mariadb-server-core",
    "nginx-light",
    "procps",
    "sudo",
)


def missing_packages() -> list[str]:
    """Return the Debian packages, sorted, that are missing for running the lab and building the practice packs."""
    return lab.missing_packages({**lab.COMMANDS, **practice.COMMANDS}, {**lab.FILES, **practice.FILES})


if __name__ == "__main__":
    tables = (lab.COMMANDS, lab.FILES, practice.COMMANDS, practice.FILES)
    node = lab.missing_packages(CLASSROOM, {})  # only what is missing: elsewhere node comes with npm, and Debian's npm cannot be installed beside it
    print(*sorted({*TESTS, *node, *(package for table in tables for package in table.values())}), sep="\n")
