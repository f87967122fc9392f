"""The metadata service: a machine gets the credentials of its own instance profile, and what it does with them is what the role may do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.instance_profiles import launched, profile
from tests.support.lab_fixtures import Box, LabClient, Net

URL = "http://169.254.169.254/latest"
TOKEN = f"curl -s -m 30 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {URL}/api/token"
ASK = "curl -s -m 30 -w ' %{{http_code}}' -H \"X-aws-ec2-metadata-token: {token}\" " + URL + "/meta-data/{page}"
ROLE = "iam/security-credentials/"


def asked(box: Box, page: str, token: str = f"$({TOKEN})") -> tuple[str, str]:
    """What the service answers a machine, as text and status."""
    body, _, status = box.run(ASK.format(token=token, page=page)).rpartition(" ")
    return body, status


def test_a_machine_gets_the_credentials_of_its_own_profile_and_no_other_asker_gets_any(lab: LabClient, net: Net, launch: Callable[..., Box]) -> None:
    has_none = launch(41)
    given = launched(lab, net, 42, IamInstanceProfile={"Arn": profile(lab, "reader", ("ssm:GetParameter",))})  # in a network without a way out
    try:
        lab.ssm.put_parameter(Name="/runbook/metadata/one", Value="1", Type="String", Overwrite=True)
        for box in (given, has_none):
            box.booted()
        assert asked(given, "instance-id") == (given.id, "200")
        assert asked(given, ROLE) == ("reader", "200")
        body, status = asked(given, f"{ROLE}reader")
        assert status == "200"
        assert [client(lab, "ssm", body).get_parameter(Name="/runbook/metadata/one")["Parameter"]["Value"], whose(lab, body)] == ["1", f"reader/{given.id}"]
        with pytest.raises(ClientError, match="AccessDenied"):
            client(lab, "ssm", body).put_parameter(Name="/runbook/metadata/one", Value="2", Type="String", Overwrite=True)
        assert asked(given, f"{ROLE}reader")[0].split('"Expiration"')[1] == body.split('"Expiration"')[1], "the same until they are about to end"
        assert asked(given, ROLE, token="none")[1] == "401", "version 1, and a token that is none"
        assert asked(given, ROLE, token=has_none.run(TOKEN))[1] == "401", "another machine's token"
        assert [asked(has_none, page)[1] for page in (ROLE, f"{ROLE}reader")] == ["404", "404"]
    finally:
        given.terminate()
        given.gone()


def client(lab: LabClient, service: str, credentials: str) -> Any:
    """A client with what the metadata service gave."""
    found = json.loads(credentials)
    keys = {"aws_access_key_id": found["AccessKeyId"], "aws_secret_access_key": found["SecretAccessKey"], "aws_session_token": found["Token"]}
    return boto3.client(service, endpoint_url=lab.lab.endpoint, region_name="us-east-1", **keys)


def whose(lab: LabClient, credentials: str) -> str:
    return str(client(lab, "sts", credentials).get_caller_identity()["Arn"]).partition("assumed-role/")[2]
