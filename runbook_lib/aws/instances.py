"""Machines that have stopped while something is awaited of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.errors import CloudError

DOWN = ("stopping", "stopped", "shutting-down", "terminated")  # states that no machine leaves by itself


def refuse_stopped(ec2: Any, machines: Mapping[str, str]) -> None:
    """Raise CloudError when one of `machines` (ids by node name) is stopping or has stopped: what is awaited of it would not come. One call."""
    names = {id_: name for name, id_ in machines.items()}
    if not names:
        return
    filters = [{"Name": "instance-id", "Values": sorted(names)}, {"Name": "instance-state-name", "Values": list(DOWN)}]
    down = [item for reservation in ec2.pages("describe_instances", "Reservations", Filters=filters) for item in reservation["Instances"]]
    if down:
        words = "; ".join(f"{names[item['InstanceId']]} ({item['InstanceId']}) is {item['State']['Name']}{_reason(item)}" for item in down)
        step = "run chapter 01, which starts or replaces it; if it stops again, the reason and its console output in EC2 say why"
        raise CloudError(f"{words}: it is not waited for", ec2.about, step)


def _reason(item: Mapping[str, Any]) -> str:
    message = item.get("StateReason", {}).get("Message", "")
    return f" ({message})" if message else ""
