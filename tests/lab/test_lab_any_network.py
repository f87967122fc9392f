"""A lab with a default VPC that takes any networks, as an account at AWS does."""

from __future__ import annotations

import subprocess
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from ec2lab import access_key
from ec2lab.lifecycle import client
from ec2lab.paths import Lab

from tests.support.lab_fixtures import IMAGE_PARAMETER, eventually


def machines(lab: Lab, number: int, **where: str) -> list[dict[str, Any]]:
    image = client(lab, "ssm").get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    made = client(lab, "ec2").run_instances(ImageId=image, MinCount=number, MaxCount=number, InstanceType="t3.small", **where)["Instances"]
    ids = [each["InstanceId"] for each in made]
    client(lab, "ec2").get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    return made


def end(lab: Lab, *made: dict[str, Any]) -> None:
    ids = [each["InstanceId"] for each in made]
    client(lab, "ec2").terminate_instances(InstanceIds=ids)
    client(lab, "ec2").get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    of_them = [{"Name": "attachment.instance-id", "Values": ids}]
    eventually(lambda: not client(lab, "ec2").describe_network_interfaces(Filters=of_them)["NetworkInterfaces"], "their interfaces to go")


def admit(lab: Lab, machine: dict[str, Any]) -> None:
    """Let SSH into the machine's group from everywhere."""
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    client(lab, "ec2").authorize_security_group_ingress(GroupId=machine["SecurityGroups"][0]["GroupId"], IpPermissions=[rule])


def reaches(lab: Lab, machine: dict[str, Any], address: str) -> bool:
    inside = ["nsenter", f"--net=/run/netns/{lab.namespace(machine['InstanceId'])}", "timeout", "1", "bash", "-c"]
    return subprocess.run([*inside, f"</dev/tcp/{address}/22"], capture_output=True).returncode == 0


def test_a_launch_without_a_subnet_is_in_the_default_network_and_its_machines_reach_each_other(any_lab):
    first, second = made = machines(any_lab, 2)
    assert first["PrivateIpAddress"].startswith("172.31.")
    admit(any_lab, second)
    eventually(lambda: reaches(any_lab, first, second["PrivateIpAddress"]), "one machine to reach the other")
    end(any_lab, *made)


def test_two_networks_may_have_the_same_addresses_and_do_not_meet(any_lab):
    ec2, made = client(any_lab, "ec2"), []
    for _ in range(2):
        vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.50.1.0/24")["Subnet"]["SubnetId"]
        made += machines(any_lab, 1, SubnetId=subnet, PrivateIpAddress=f"10.50.1.{10 + len(made)}")
        admit(any_lab, made[-1])
    eventually(lambda: all(reaches(any_lab, each, each["PrivateIpAddress"]) for each in made), "both machines to answer")
    assert not reaches(any_lab, made[0], "10.50.1.11")
    end(any_lab, *made)


def test_other_regions_answer_and_have_no_machines(any_lab):
    config = Config(proxies={}, retries={"total_max_attempts": 1})
    key = access_key.read(any_lab)
    signed = {"aws_access_key_id": key.id, "aws_secret_access_key": key.secret}
    there = boto3.client("ec2", "eu-west-1", endpoint_url=any_lab.endpoint, config=config, **signed)
    assert there.describe_vpcs()["Vpcs"][0]["IsDefault"]
    image = there.describe_images()["Images"][0]["ImageId"]
    try:
        there.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.small")
    except ClientError as refusal:
        assert refusal.response["Error"]["Code"] == "OptInRequired"
    else:
        raise AssertionError("a machine in eu-west-1")
