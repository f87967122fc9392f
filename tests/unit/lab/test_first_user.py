"""`./runbook lab ssh` signs in as the first user of the machine's image."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
from ec2lab import status
from ec2lab.machines.image import RECIPES

from runbook_cli import machines


@pytest.mark.parametrize("name", RECIPES)
def test_a_machine_is_signed_in_to_as_its_images_first_user(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = [{"Key": "runbook:node", "Value": "db-1"}, {"Key": "runbook:deployment", "Value": "mine"}]
    instance = {"InstanceId": "i-1", "PrivateIpAddress": "192.0.2.7", "RootDeviceName": RECIPES[name].root_device, "Tags": tags}
    called: list[list[str]] = []
    monkeypatch.setattr(status, "find_instance", lambda *_: instance)
    monkeypatch.setattr(machines, "_parameter", lambda lab, parameter: "key")
    monkeypatch.setattr(machines, "_pinned", lambda stored, instance_id: ["ssh-ed25519 AAAA"])
    monkeypatch.setattr(subprocess, "call", lambda words: called.append(words) or 0)
    lab: Any = SimpleNamespace()
    assert machines.ssh(lab, "db-1", ["id", "-un"]) == 0
    assert called[0][-3:] == [f"{RECIPES[name].user}@192.0.2.7", "id", "-un"]
