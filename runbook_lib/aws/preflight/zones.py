"""Availability zones: which of them offers every instance type that is to be launched. Asked before anything is made in one."""

from __future__ import annotations

import re
from collections.abc import Collection

from runbook_lib.aws.client import Api
from runbook_lib.errors import CloudError

# A region's code and a letter (EC2 User Guide, "Availability Zones"). A Local Zone that the account has enabled, such as us-west-2-lax-1a, may come
# first by name; it has other Elastic IPs, and not every one has NAT gateways.
ORDINARY = re.compile(r"^[a-z]+(-[a-z]+)+-\d+[a-z]$")


def zones_by_type(ec2: Api, types: Collection[str]) -> dict[str, set[str]]:
    """Return for each instance type the zones of the region that offer it. One DescribeInstanceTypeOfferings call."""
    wanted = [{"Name": "instance-type", "Values": sorted(types)}]
    found = ec2.pages("describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="availability-zone", Filters=wanted)
    return {type_: {item["Location"] for item in found if item["InstanceType"] == type_} for type_ in types}


def zone_for(ec2: Api, types: Collection[str], zone: str | None = None, key: str = "cloud.availability_zone") -> str:
    """Return a zone that offers all `types`: `zone` where it is given, by the parameter `key`, else the first by name. Raises CloudError when there is none."""
    offered = zones_by_type(ec2, types)
    everywhere = set.union(*offered.values()) if offered else set()
    for type_, zones in offered.items():
        if not zones:
            raise CloudError(f"cloud.instance_type: {type_} is not offered in this region", ec2.about, "choose another type, or another cloud.region")
    whole = sorted(set.intersection(*offered.values())) if offered else []
    if zone is None and not whole:
        table = "; ".join(f"{type_}: {', '.join(sorted(zones))}" for type_, zones in sorted(offered.items()))
        raise CloudError(f"cloud.instance_type: no zone offers all of these types ({table})", ec2.about, "choose types that one zone offers")
    if zone is None:
        return next((each for each in whole if ORDINARY.search(each)), whole[0])
    if zone in whole:
        return zone
    if zone not in everywhere and zone not in (known := _zones(ec2)):
        step = f"one of {', '.join(known)}, or leave it out: then one that offers every type is chosen"
        raise CloudError(f"{key}: {zone} is not a zone of this region", ec2.about, step)
    lacking = ", ".join(sorted(type_ for type_, zones in offered.items() if zone not in zones))
    step = f"another cloud.instance_type; {'in ' + ', '.join(whole) if whole else 'no zone'} all of them are offered ({key})"
    raise CloudError(f"{key}: {zone} does not offer {lacking}", ec2.about, step)


def _zones(ec2: Api) -> list[str]:
    return sorted(zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"])
