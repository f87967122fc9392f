"""Instance profiles in the lab, and machines that have one."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from tests.support.lab_fixtures import Box, LabClient, Net, eventually

TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}]}


def profile(lab: LabClient, name: str, actions: tuple[str, ...]) -> str:
    """An instance profile whose role allows these actions, once EC2 knows it; its ARN."""
    iam = lab.boto3_client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    made = iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"]
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return str(made)


def launched(lab: LabClient, net: Net, host: int, **more: Any) -> Box:
    """A machine in a group without any way in; waits until EC2 knows its profile."""

    def attempt() -> Box | None:
        try:
            return lab.launch(net, host, **more)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidParameterValue"
            return None

    return eventually(attempt, "EC2 knows the profile")
