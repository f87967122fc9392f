"""What EC2 says of a deployment's instances."""

from __future__ import annotations

from typing import Any

from runbook_lib.aws.client import Aws
from runbook_lib.launch.inventory import NODE, ROLE, Instance, by_tag, tags_of

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two looks at an instance's state, growing


def instances_of(aws: Aws, deployment: str) -> list[Instance]:
    """Every machine of the deployment in any state, oldest first. One DescribeInstances call."""
    answer = aws.client("ec2").pages("describe_instances", "Reservations", Filters=by_tag(deployment))
    machines = [_instance(item, aws.cloud.connect_via) for reservation in answer for item in reservation["Instances"]]
    return sorted(machines, key=lambda machine: (machine.node, machine.launched, machine.id))


def _instance(item: dict[str, Any], connect_via: str) -> Instance:
    tags = tags_of(item)
    address, public = item.get("PrivateIpAddress", ""), item.get("PublicIpAddress", "")
    return Instance(
        id=item["InstanceId"],
        node=tags.get(NODE, ""),
        role=tags.get(ROLE, ""),
        state=item["State"]["Name"],
        address=address,
        public_address=public,
        dial={"public": public or address, "session-manager": item["InstanceId"]}.get(connect_via, address),
        instance_type=item.get("InstanceType", ""),
        tags=tags,
        launched=item["LaunchTime"],
        groups=frozenset(group["GroupId"] for group in item.get("SecurityGroups", [])),
        imdsv2=item.get("MetadataOptions", {}).get("HttpTokens") == "required",
        key_name=item.get("KeyName", ""),
        root_volume=_root_volume(item),
        profile=item.get("IamInstanceProfile", {}).get("Arn", ""),
        image=item.get("ImageId", ""),
    )


def _root_volume(item: dict[str, Any]) -> str:
    volumes = {each["DeviceName"]: str(each["Ebs"]["VolumeId"]) for each in item.get("BlockDeviceMappings", []) if "Ebs" in each}
    return volumes.get(item.get("RootDeviceName", ""), next(iter(volumes.values()), ""))
