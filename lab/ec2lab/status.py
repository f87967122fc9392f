"""The state of a running lab, read through its API as by any AWS client, with the machines' memory and shells on them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ec2lab import access_key
from ec2lab.errors import LabError, lab_command
from ec2lab.lifecycle import alive, client
from ec2lab.network import links
from ec2lab.paths import REGION, Lab

KEYS_BEGIN, KEYS_END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"


def require(lab: Lab) -> None:
    """Raise LabError unless the lab answers."""
    if not alive(lab):
        raise LabError(f"lab {lab.name} is not up", lab.endpoint, lab_command("up"))


def instances(lab: Lab) -> list[dict[str, Any]]:
    """Return the instances that are not terminated, as in DescribeInstances, ordered by name and address. Raises LabError when the lab is not up."""
    require(lab)
    pages = client(lab, "ec2").get_paginator("describe_instances").paginate()
    found = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
    return sorted((each for each in found if each["State"]["Name"] != "terminated"), key=_order)


def _order(instance: dict[str, Any]) -> tuple[str, str]:
    return tags(instance).get("Name", ""), instance.get("PrivateIpAddress", "")


def tags(instance: dict[str, Any]) -> dict[str, str]:
    """Return the instance's tags, value by key."""
    return {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}


def exports(lab: Lab) -> str:
    """Return shell lines that make any AWS client use this lab with its own key. Raises LabError when the lab is not up, or another user's."""
    require(lab)
    key = access_key.read(lab)
    values = {
        "AWS_ENDPOINT_URL": lab.endpoint,
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY"):
        values["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), str(lab.network), str(lab.gateway)]))
    return "\n".join(f"export {name}={value}" for name, value in values.items())


def status(lab: Lab) -> dict[str, Any]:
    """Return the lab and its machines as plain data, for JSON. Memory is in MB, or None when this process is not root.

    `trouble` says why the networks, or a machine's link and rules, are not what the API says; empty when they are.

    Raises LabError when the lab is not up.
    """
    trouble = json.loads(lab.trouble_file.read_text()) if lab.trouble_file.exists() else {}
    machines = [
        {
            "id": each["InstanceId"],
            "name": tags(each).get("Name", ""),
            "state": each["State"]["Name"],
            "address": each.get("PrivateIpAddress", ""),
            "groups": sorted(group["GroupName"] for group in each.get("SecurityGroups", [])),
            "image": each["ImageId"],
            "tags": tags(each),
            "memory_mb": memory_mb(lab, each["InstanceId"]),
            "trouble": trouble.get(each["InstanceId"], ""),
        }
        for each in instances(lab)
    ]
    return {
        **{"lab": lab.name, "range": str(lab.network), "endpoint": lab.endpoint},
        **{"aws_config": str(lab.aws_config), "log": str(lab.log), "machines": machines},
        "trouble": trouble.get("subnets", ""),
    }


def memory_mb(lab: Lab, instance_id: str) -> float | None:
    """Return the machine's memory in MB, the sum of its processes' proportional set sizes; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    kilobytes = 0
    for pid in links.pids_in(lab.namespace(instance_id)):
        with suppress(ProcessLookupError, FileNotFoundError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kilobytes += int(rollup.split("Pss:", 1)[1].split()[0]) if "Pss:" in rollup else 0
    return round(kilobytes / 1024, 1)


def status_table(lab_status: dict[str, Any]) -> str:
    """Return the result of `status` as lines of text."""
    table = Table("machine", "state", "address", "groups", "memory", "instance", box=None)
    for machine in lab_status["machines"]:
        memory = f"{machine['memory_mb']:.0f} MB" if machine["memory_mb"] else "-"
        table.add_row(machine["name"], machine["state"], machine["address"], ", ".join(machine["groups"]), memory, machine["id"])
    console = Console(width=160)
    with console.capture() as captured:
        console.print(f"lab {lab_status['lab']} at {lab_status['endpoint']}, log {lab_status['log']}")
        console.print(table if lab_status["machines"] else "no machines")
        for name, reason in [("its networks", lab_status["trouble"]), *((machine["id"], machine["trouble"]) for machine in lab_status["machines"])]:
            if reason:
                console.print(f"{name}: not as the API says, tried again every few seconds: {reason}", soft_wrap=True, markup=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def names_of(instance: dict[str, Any]) -> set[str]:
    """Return the names of an instance: its id, its private address, its tag Name."""
    return {instance["InstanceId"], instance.get("PrivateIpAddress", ""), tags(instance).get("Name", "")} - {""}


def find_instance(lab: Lab, wanted: str, names: Callable[[dict[str, Any]], set[str]] = names_of) -> dict[str, Any]:
    """Return the instance that has the name `wanted`. Raises LabError when there is none or more than one.

    `names`: returns all names of an instance.
    """
    found = instances(lab)
    matching = [each for each in found if wanted in names(each)]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(tags(each).get("Name") or each["InstanceId"] for each in found) or "no machine at all"
    what = f"{wanted!r} is the name of {len(matching)} machines" if matching else f"no machine {wanted!r} in the lab"
    raise LabError(what, f"lab {lab.name}", f"there is: {known}")


def console_host_keys(console: str) -> list[str]:
    """Return the host keys that cloud-init printed on a console, as 'ssh-ed25519 AAAA... comment' lines."""
    if KEYS_BEGIN not in console:
        return []
    block = console.rsplit(KEYS_BEGIN, 1)[1].split(KEYS_END)[0]
    return [line.strip() for line in block.splitlines() if line.strip()]


def open_shell(lab: Lab, instance_id: str, words: list[str]) -> int:
    """Open root's shell on a machine (or run the command `words` there) by its namespaces, without SSH, and return the exit status.

    Raises LabError when this process is not root or the machine is not running.
    """
    if os.geteuid() != 0:
        raise LabError(f"only root can open a shell on {instance_id} without SSH", next_step=f"sudo {lab_command('shell ' + instance_id)}")
    pids = links.pids_in(lab.namespace(instance_id))
    if not pids:
        raise LabError(f"{instance_id} is not running", f"lab {lab.name}", "start it, then try again")
    inside = ["nsenter", f"--target={min(pids)}", "--all", "--wd=/root"]
    return subprocess.call([*inside, *(words or ["/bin/bash", "--login"])])
