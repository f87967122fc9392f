"""What EC2 says of a deployment's instances, and the tags by which it is told what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.aws.client import Aws
from runbook_lib.errors import CloudError
from runbook_lib.launch.inventory import NODE, ROLE, SHOWN, Instance, by_tag, tags_of
from runbook_lib.waiting import wait_until

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


def set_tags(aws: Aws, instance: str, tags: Mapping[str, str]) -> None:
    """Write tags on the instance with this id, and wait until EC2 describes it with them. Raises `CloudError`."""
    aws.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    _await_tags(aws, instance, tags)


def remove_tag(aws: Aws, instance: str, key: str) -> None:
    """Take a tag off the instance with this id, and wait until EC2 describes it without. Raises `CloudError`."""
    aws.client("ec2").delete_tags(Resources=[instance], Tags=[{"Key": key}])
    _await_tags(aws, instance, {key: None})


def _await_tags(aws: Aws, instance: str, wanted: Mapping[str, str | None]) -> None:
    """Wait until EC2 describes these tags (None: no such tag): who asks next decides by them, and descriptions follow a change by some seconds."""

    def shown() -> bool:
        [found] = aws.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"]
        tags = tags_of(found["Instances"][0])
        return all(tags.get(key) == value for key, value in wanted.items())

    if not wait_until(shown, SHOWN, pause=FIRST_PAUSE, longest=LONGEST_PAUSE):
        what = f"EC2 changed the tags {', '.join(wanted)} of {instance} and does not show it within {SHOWN:.0f} s"
        raise CloudError(what, aws.about, "run this step again: it goes on with what it finds")
