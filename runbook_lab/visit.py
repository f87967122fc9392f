"""Looking at a running lab, from outside, as any AWS client would: status, names, exports, shells."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console
from rich.table import Table

from runbook_lab import network
from runbook_lab.layout import REGION, Lab
from runbook_lab.lifecycle import alive, client
from runbook_lib.aws.host_keys import Pinned
from runbook_lib.errors import LabError

LOGIN_USER = "admin"
KEYS_BEGIN, KEYS_END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"


def require(lab: Lab) -> None:
    """Raise LabError unless the lab answers."""
    if not alive(lab):
        raise LabError(f"lab {lab.name} is not up", lab.endpoint, "./runbook lab up")


def instances(lab: Lab) -> list[dict[str, Any]]:
    """The instances that are not terminated, as DescribeInstances shows them, by deployment and node."""
    require(lab)
    pages = client(lab, "ec2").get_paginator("describe_instances").paginate()
    found = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
    return sorted((each for each in found if each["State"]["Name"] != "terminated"), key=_order)


def _order(instance: dict[str, Any]) -> tuple[str, str]:
    return tags(instance).get("runbook:deployment", ""), instance.get("PrivateIpAddress", "")


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
    if os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY"):
        values["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), str(lab.network), str(lab.gateway)]))
    return "\n".join(f"export {name}={value}" for name, value in values.items())


def status(lab: Lab) -> dict[str, Any]:
    """What `lab status --json` prints. Memory is None where only root can measure it."""
    machines = []
    for each in instances(lab):
        named = tags(each)
        machines.append(
            {
                "id": each["InstanceId"],
                "name": named.get("Name", ""),
                "deployment": named.get("runbook:deployment", ""),
                "node": named.get("runbook:node", ""),
                "state": each["State"]["Name"],
                "address": each.get("PrivateIpAddress", ""),
                "groups": sorted(group["GroupName"] for group in each.get("SecurityGroups", [])),
                "image": each["ImageId"],
                "memory_mb": memory_mb(lab, each["InstanceId"]),
            }
        )
    return {
        **{"lab": lab.name, "range": str(lab.network), "endpoint": lab.endpoint},
        **{"aws_config": str(lab.aws_config), "log": str(lab.log), "machines": machines},
    }


def memory_mb(lab: Lab, instance_id: str) -> float | None:
    """The machine's share of memory: the sum of its processes' proportional set sizes, in MB."""
    if os.geteuid() != 0:
        return None
    kilobytes = 0
    for pid in network.pids_in(lab.namespace(instance_id)):
        with suppress(ProcessLookupError, FileNotFoundError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kilobytes += int(rollup.split("Pss:", 1)[1].split()[0]) if "Pss:" in rollup else 0
    return round(kilobytes / 1024, 1)


def status_table(lab_status: dict[str, Any]) -> str:
    table = Table("machine", "state", "address", "groups", "memory", "instance", box=None)
    for machine in lab_status["machines"]:
        name = machine["name"] or "/".join(filter(None, (machine["deployment"], machine["node"])))
        memory = f"{machine['memory_mb']:.0f} MB" if machine["memory_mb"] else "-"
        groups = ", ".join(machine["groups"])
        table.add_row(name, machine["state"], machine["address"], groups, memory, machine["id"])
    console = Console(width=160)
    with console.capture() as captured:
        console.print(f"lab {lab_status['lab']} at {lab_status['endpoint']}, log {lab_status['log']}")
        console.print(table if lab_status["machines"] else "no machines")
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def hosts(lab: Lab) -> dict[str, str]:
    """Public host names of the deployments and the address each leads to, from the tag `runbook:hosts`."""
    return {name: each["PrivateIpAddress"] for each in instances(lab) for name in tags(each).get("runbook:hosts", "").split() if each.get("PrivateIpAddress")}


def find_instance(lab: Lab, wanted: str) -> dict[str, Any]:
    """The one instance that `wanted` names. Raises LabError when there is none or more than one."""
    found = instances(lab)
    matching = [each for each in found if wanted in _names(each)]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(tags(each).get("Name") or each["InstanceId"] for each in found) or "no machine at all"
    what = f"{wanted!r} is the name of {len(matching)} machines" if matching else f"no machine {wanted!r} in the lab"
    raise LabError(what, f"lab {lab.name}", f"there is: {known}")


def _names(instance: dict[str, Any]) -> set[str]:
    named = tags(instance)
    full = f"{named.get('runbook:deployment', '')}/{named.get('runbook:node', '')}"
    address = instance.get("PrivateIpAddress", "")
    return {instance["InstanceId"], address, named.get("Name", ""), named.get("runbook:node", ""), full} - {"", "/"}


def parameter(lab: Lab, name: str) -> str | None:
    """A value of the lab's Parameter Store, or None."""
    with suppress(ClientError):
        return str(client(lab, "ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    return None


def console_host_keys(console: str) -> list[str]:
    """The host keys that cloud-init printed: 'ssh-ed25519 AAAA... comment' lines."""
    if KEYS_BEGIN not in console:
        return []
    block = console.rsplit(KEYS_BEGIN, 1)[1].split(KEYS_END)[0]
    return [line.strip() for line in block.splitlines() if line.strip()]


def _pinned(stored: str | None, instance_id: str) -> list[str]:
    """The host keys that the deployment pinned for this machine; those of a machine that it replaced say nothing about it."""
    found = Pinned.read(stored) if stored else None
    return list(found.keys) if found and found.instance == instance_id else []


def ssh(lab: Lab, node: str, command: list[str]) -> int:
    """A shell on a machine (or `command` there): by SSH with the deployment's key and the machine's pinned host
    keys where the deployment published both, else by the machine's console, as root. Returns its exit status."""
    instance = find_instance(lab, node)
    named, address = tags(instance), instance["PrivateIpAddress"]
    prefix = f"/runbook/{named.get('runbook:deployment')}"
    private = parameter(lab, f"{prefix}/ssh-private-key")
    pinned = _pinned(parameter(lab, f"{prefix}/host-keys/{named.get('runbook:node')}"), instance["InstanceId"])
    if not pinned:
        output = client(lab, "ec2").get_console_output(InstanceId=instance["InstanceId"]).get("Output", "")
        pinned = console_host_keys(output)
    if not (private and pinned):
        return _console(lab, instance["InstanceId"], command)
    with tempfile.TemporaryDirectory(prefix="runbook-ssh-") as folder:
        key, known = Path(folder, "key"), Path(folder, "known_hosts")
        key.touch(0o600)
        key.write_text(private if private.endswith("\n") else private + "\n")
        known.write_text("".join(f"{address} {line}\n" for line in pinned))
        options = ["-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]
        return subprocess.call(["ssh", "-i", str(key), *options, f"{LOGIN_USER}@{address}", *command])


def _console(lab: Lab, instance_id: str, command: list[str]) -> int:
    if os.geteuid() != 0:
        raise LabError(f"no SSH key is known for {instance_id}", next_step="sudo ./runbook lab ssh opens its console")
    pids = network.pids_in(lab.namespace(instance_id))
    if not pids:
        raise LabError(f"{instance_id} is not running", f"lab {lab.name}", "start it, then try again")
    inside = ["nsenter", f"--target={min(pids)}", "--all", "--wd=/root"]
    return subprocess.call([*inside, *(command or ["/bin/bash", "--login"])])
