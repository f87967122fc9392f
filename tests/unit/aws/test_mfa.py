"""Profiles whose role asks for an MFA code: one question for all chapters, one error where nobody can be asked, before anything is created."""

from __future__ import annotations

import getpass
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from runbook_lib.aws import profile
from runbook_lib.aws.client import Aws, translate
from runbook_lib.errors import CloudError
from runbook_lib.launch.cloud import Cloud
from runbook_lib.spec.sections import CloudSpec
from tests.conftest import ROOT

pytest_plugins = ["tests.support.aws_endpoint"]
DEVICE, ROLE = "arn:aws:iam::123456789012:mfa/me", "arn:aws:iam::123456789012:role/operator"


@pytest.fixture
def spec(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudSpec:
    """A profile whose role needs a code; the home directory is empty. The role exists: where calls are held to policies, its own are looked up."""
    iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b", config=Config(proxies={}))
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=ROLE.rpartition("/")[2], AssumeRolePolicyDocument="{}")
    path = tmp_path / "aws-config"
    role = f"role_arn = {ROLE}\nsource_profile = me\nmfa_serial = {DEVICE}\nregion = us-east-1\nendpoint_url = {endpoint}\n"
    path.write_text(f"[profile work]\n{role}[profile me]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    return CloudSpec(aws_config=str(path), profile="work")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody sits at a terminal and types a code."""
    found: list[str] = []

    def answer(prompt: str) -> str:
        found.append(prompt)
        return "123456\n"

    answer.__module__ = "getpass"
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", answer)
    return found


def arn(spec: CloudSpec) -> str:
    return str(Aws(spec).client("sts").get_caller_identity()["Arn"])


def test_a_code_is_asked_for_once_and_its_session_serves_all_processes(spec: CloudSpec, asked: list[str], tmp_path: Path) -> None:
    assert "role/operator" in arn(spec)
    assert "role/operator" in arn(spec)
    assert len(asked) == 1 and DEVICE in asked[0]
    script = "import sys; from runbook_lib.aws.client import Aws; from runbook_lib.spec.sections import CloudSpec\n"
    script += f"print(Aws(CloudSpec(aws_config={spec.aws_config!r}, profile='work')).client('sts').get_caller_identity()['Arn'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ.copy())
    assert "role/operator" in done.stdout, done.stderr
    [session] = (tmp_path / profile.CACHE).iterdir()
    assert session.stat().st_mode & 0o077 == 0


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def no_frontend(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel that papermill started puts in the place of getpass."""

    def refuse(prompt: str) -> str:
        raise RuntimeError("getpass was called, but this frontend does not support input requests.")

    monkeypatch.setattr(getpass, "getpass", refuse)


def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)


@pytest.mark.parametrize("place", [nobody, no_frontend, closed])
def test_where_nobody_can_be_asked_it_is_one_error_before_anything_is_created(
    place: Callable[[pytest.MonkeyPatch], None],
    spec: CloudSpec,
    make_cloud: Callable[..., Cloud],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place(monkeypatch)
    logging.getLogger("botocore.credentials").setLevel(logging.NOTSET)  # as in a new process: an earlier test's session may have set it
    for verb in ("plan", "apply", "identity"):
        cloud = make_cloud(overrides={"cloud.aws_config": spec.aws_config, "cloud.profile": "work"})
        with pytest.raises(CloudError) as caught:
            getattr(cloud, verb)()
        assert DEVICE in caught.value.what and "cloud.profile" in (caught.value.where or "")
        assert "./runbook doctor" in (caught.value.next_step or "")
        with pytest.raises(CloudError, match="needs an MFA code") as caught:
            getattr(cloud, verb)()
        assert "./runbook doctor" in (caught.value.next_step or ""), "and again"
    assert [record.message for record in caplog.records if record.name.startswith("botocore") and record.exc_info] == [], "told twice"


def test_a_code_that_is_not_accepted_is_told(spec: CloudSpec) -> None:
    message = "MultiFactorAuthentication failed with invalid MFA one time pass code."
    found = translate(ClientError({"Error": {"Code": "AccessDenied", "Message": message}}, "AssumeRole"), "sts:assume_role", "AWS")
    assert "MFA code is not accepted" in found.what and "next code" in (found.next_step or "")


def test_a_profile_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(CloudError, match="nobody") as caught:
        Aws(CloudSpec(profile="nobody")).client("sts")
    assert "cloud.profile must be one of" in (caught.value.next_step or "")
