"""What stands for AWS's SSM Agent on a machine of the lab: a package with a service of its name. The lab's endpoint speaks for it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

FILES = {
    "DEBIAN/control": "Package: amazon-ssm-agent\nVersion: 0-lab\nArchitecture: all\nMaintainer: the lab <lab@lab.test>\nDescription: stands for AWS's agent\n",
    "DEBIAN/postinst": "#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable --now amazon-ssm-agent\n",
    "usr/bin/amazon-ssm-agent": "#!/bin/sh\nwhile sleep 3600; do :; done\n",
    "lib/systemd/system/amazon-ssm-agent.service": "[Service]\nExecStart=/usr/bin/amazon-ssm-agent\n[Install]\nWantedBy=multi-user.target\n",
}


def package(folder: Path) -> bytes:
    """Return the .deb, made in `folder`."""
    tree = folder / "tree"
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(0o755 if text.startswith("#!") else 0o644)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, folder / "agent.deb"], check=True, capture_output=True)
    return (folder / "agent.deb").read_bytes()


def published(lab: Any, folder: Path) -> dict[str, str]:
    """Put the package into the lab's S3 and return `url` and `sha256`, as the parameters take them."""
    data = package(folder)
    lab.s3.create_bucket(Bucket="ssm-agent")
    lab.s3.put_object(Bucket="ssm-agent", Key="amazon-ssm-agent.deb", Body=data, ACL="public-read")  # as AWS's own bucket of it
    return {"url": f"{lab.lab.endpoint}/ssm-agent/amazon-ssm-agent.deb", "sha256": hashlib.sha256(data).hexdigest()}
