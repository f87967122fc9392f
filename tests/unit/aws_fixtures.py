"""What tests of the cloud side share: an AWS endpoint in this process, machines with host keys on their consoles."""

from __future__ import annotations

import logging
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import console, launch_apply, operator_range
from runbook_lib.cloud import Cloud
from runbook_lib.images import Image
from runbook_lib.spec import load_spec

OPERATOR = "10.213.0.1/32"
CONSOLE = """\
[    1.0] systemd[1]: Started sshd.
-----BEGIN SSH HOST KEY KEYS-----
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{id} root@{id}
-----END SSH HOST KEY KEYS-----
"""


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """moto on loopback, one for all tests; each test that uses `aws_config` begins with it empty."""
    os.environ.setdefault(
        "MOTO_EC2_LOAD_DEFAULT_AMIS", "false"
    )  # 1301 images, anew for each test, that nobody asks for
    server_module = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws_config(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AWS config file for an empty account; whatever the environment says about AWS is out of the way."""
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "aws-config"
    keys = "aws_access_key_id = test\naws_secret_access_key = test"
    path.write_text(f"[default]\nregion = us-east-1\n{keys}\nendpoint_url = {endpoint}\n")
    return path


@pytest.fixture
def make_cloud(aws_config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cloud]:
    """`make_cloud("greg-single", {"nodes.greg": 1})`: the deployment of a lab params file in the empty account."""
    monkeypatch.setattr(console, "read_console", lambda ec2, instance_id: CONSOLE.format(id=instance_id[2:]))
    monkeypatch.setattr(operator_range, "_source_towards", lambda network: OPERATOR.removesuffix("/32"))
    monkeypatch.setattr(launch_apply, "find_image", lambda *args: Image("ami-0123456789abcdef0", "/dev/xvda", "admin"))

    def make(pattern: str = "greg-single", overrides: dict[str, Any] | None = None) -> Cloud:
        return Cloud(load_spec(f"params/{pattern}.lab.yaml", {"cloud.aws_config": str(aws_config)} | (overrides or {})))

    return make
