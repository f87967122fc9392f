"""An account at the endpoint in this process, whose users are held to their policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from ec2lab.api import authorization
from ec2lab.api.patches import account as corrected
from moto.servicequotas.models import ServiceQuotasBackend

from runbook_lib.aws.host_keys import read_console
from runbook_lib.launch import host_keys


@pytest.fixture(scope="module")
def account(endpoint: str) -> Iterator[Any]:
    """The account as root sees it: an image of Debian with its public parameter, a bucket of packs, and users held to their policies."""
    authorization.install()
    root = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1", "endpoint_url": endpoint}
    clients = {name: boto3.client(name, config=Config(proxies={}), **root) for name in ("ec2", "s3", "ssm", "iam", "kms")}  # type: ignore[call-overload]
    image = clients["ec2"].register_image(Name="debian-12-amd64-20260101-1", RootDeviceName="/dev/xvda")["ImageId"]
    clients["s3"].create_bucket(Bucket="runbook-packs")
    clients["s3"].put_object(Bucket="runbook-packs", Key="pack.zip", Body=b"a pack")
    with pytest.MonkeyPatch.context() as patch:
        for code in ("L-F678F1CE", "L-0263D0A3", "L-FE5A380F"):  # VPCs, Elastic IPs, NAT gateways: other tests' deployments in this account keep theirs
            patch.setitem(corrected.QUOTAS, code, 1000.0)
        quotas = ServiceQuotasBackend.get_service_quota
        patch.setattr(ServiceQuotasBackend, "get_service_quota", lambda self, **asked: corrected.get_service_quota(quotas, self, **asked))
        _publish("/aws/service/debian/release/12/latest/amd64", image)

        def keys_of(ec2: Any, name: str, id_: str, seconds: float) -> tuple[str, ...]:
            read_console(ec2, id_)  # a machine of moto prints no keys
            return (f"ssh-ed25519 AAAAC3Nza{id_[2:]}",)

        patch.setattr(host_keys, "wait_for_keys", keys_of)
        yield clients


def _publish(name: str, value: str) -> None:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.ssm.models import Parameter, ssm_backends

    fields = dict.fromkeys(("description", "allowed_pattern", "keyid"))
    more = {"last_modified_date": 0, "version": 1, "data_type": "text", "parameter_type": "String"}
    ssm_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]._parameters[name].append(Parameter(DEFAULT_ACCOUNT_ID, name, value=value, **fields, **more))  # type: ignore[arg-type,abstract]
