"""Looking at a running lab, from outside, as any AWS client would: status, names, shells, a browser."""

from __future__ import annotations

from typing import Any

from runbook_lab.layout import REGION, Lab
from runbook_lab.lifecycle import alive, client
from runbook_lib.errors import LabError


def require(lab: Lab) -> None:
    if not alive(lab):
        raise LabError(f"lab {lab.name} is not up", lab.endpoint, "sudo ./runbook lab up")


def instances(lab: Lab) -> list[dict[str, Any]]:
    pages = client(lab, "ec2").get_paginator("describe_instances").paginate()
    return [i for page in pages for reservation in page["Reservations"] for i in reservation["Instances"]]


def tags(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}


def exports(lab: Lab) -> str:
    """Shell lines that make any AWS client speak to this lab."""
    require(lab)
    values = {
        "AWS_ENDPOINT_URL": lab.endpoint,
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return "\n".join(f"export {name}={value}" for name, value in values.items())


def status(lab: Lab) -> dict[str, Any]:
    require(lab)
    return {
        "lab": lab.name,
        "range": str(lab.network),
        "endpoint": lab.endpoint,
        "machines": [
            {
                "id": i["InstanceId"],
                "name": tags(i).get("Name", ""),
                "node": tags(i).get("runbook:node", ""),
                "state": i["State"]["Name"],
                "address": i.get("PrivateIpAddress"),
                "groups": [g["GroupName"] for g in i.get("SecurityGroups", [])],
            }
            for i in instances(lab)
        ],
    }


def status_table(status: dict[str, Any]) -> str:
    return "\n".join(str(m) for m in status["machines"])


def hosts(lab: Lab) -> dict[str, str]:
    require(lab)
    return {}


def ssh(lab: Lab, node: str, command: list[str]) -> int:
    return 1


def browser(lab: Lab, url: str | None) -> int:
    return 1
