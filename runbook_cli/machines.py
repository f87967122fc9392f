"""The deployments' machines in a lab, found by the tags that the runbook sets: host names, node names, SSH."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from ec2lab import status
from ec2lab.lifecycle import client
from ec2lab.machines.image import first_user
from ec2lab.paths import Lab

from runbook_lib.aws.host_keys import Pinned


def hosts(lab: Lab) -> dict[str, str]:
    """Return the address of each public host name of the deployments, by name, from the tag `runbook:hosts`."""
    found = [each for each in status.instances(lab) if each.get("PrivateIpAddress")]
    return {name: each["PrivateIpAddress"] for each in found for name in status.tags(each).get("runbook:hosts", "").split()}


def names_of(instance: dict[str, Any]) -> set[str]:
    """Return the names of a machine: those that the lab knows, its node name, and deployment/node."""
    node, name = _place(status.tags(instance))
    return status.names_of(instance) | ({node, f"{name}/{node}"} if node else set())


def described(lab: Lab) -> dict[str, Any]:
    """Return the lab's status with the deployment and the node of each machine ("" where it has no such tag)."""
    found = status.status(lab)
    for machine in found["machines"]:
        machine["node"], machine["deployment"] = _place(machine["tags"])
    return found


def _place(tags: dict[str, str]) -> tuple[str, str]:
    return tags.get("runbook:node", ""), tags.get("runbook:deployment", "")


def authorities(lab: Lab) -> str:
    """Return the CA certificates of the deployments in the lab, as PEM."""
    names = {status.tags(each).get("runbook:deployment") for each in status.instances(lab)}
    return "".join(_parameter(lab, f"/runbook/{name}/ca.pem") or "" for name in names if name)


def _parameter(lab: Lab, name: str) -> str | None:
    with suppress(ClientError):
        return str(client(lab, "ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    return None


def _pinned(stored: str | None, instance_id: str) -> list[str]:
    """Return the host keys that the deployment pinned for this instance; empty when they belong to an instance that it replaced."""
    found = Pinned.read(stored) if stored else None
    return list(found.keys) if found and found.instance == instance_id else []


def ssh(lab: Lab, wanted: str, command: list[str]) -> int:
    """Open a shell on a machine, or run `command` there, and return the exit status.

    By SSH with the deployment's private key and the machine's host keys, pinned or from its console, where both are known;
    otherwise as root without SSH.
    """
    instance = status.find_instance(lab, wanted, names_of)
    instance_id, address = instance["InstanceId"], instance["PrivateIpAddress"]
    node, deployment = _place(status.tags(instance))
    private = _parameter(lab, f"/runbook/{deployment}/ssh-private-key")
    pinned = _pinned(_parameter(lab, f"/runbook/{deployment}/host-keys/{node}"), instance_id)
    if not pinned:
        pinned = status.console_host_keys(client(lab, "ec2").get_console_output(InstanceId=instance_id).get("Output", ""))
    if not (private and pinned):
        return status.open_shell(lab, instance_id, command)
    with tempfile.TemporaryDirectory(prefix="runbook-ssh-") as folder:
        key, known = Path(folder, "key"), Path(folder, "known_hosts")
        key.touch(0o600)
        key.write_text(private if private.endswith("\n") else private + "\n")
        known.write_text("".join(f"{address} {line}\n" for line in pinned))
        options = ["-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]
        return subprocess.call(["ssh", "-i", str(key), *options, f"{first_user(instance)}@{address}", *command])
