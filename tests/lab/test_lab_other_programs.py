"""Programs that others wrote for EC2 make a machine in the lab and end it: another SDK (JavaScript's), Ansible's amazon.aws, and Packer.

Each is installed for its test, in a folder or an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.support.lab_fixtures import LabClient, Net
from tests.support.wheel import UV, run

pytestmark = pytest.mark.full

SCRIPT = """\
import { EC2Client, RunInstancesCommand, TerminateInstancesCommand, waitUntilInstanceRunning, waitUntilInstanceTerminated } from "@aws-sdk/client-ec2";
const client = new EC2Client({});
const request = JSON.parse(process.argv[2]);
const made = (await client.send(new RunInstancesCommand(request))).Instances[0];
const one = { InstanceIds: [made.InstanceId] };
await waitUntilInstanceRunning({ client, maxWaitTime: 60, minDelay: 1, maxDelay: 1 }, one);
await client.send(new TerminateInstancesCommand(one));
await waitUntilInstanceTerminated({ client, maxWaitTime: 60, minDelay: 1, maxDelay: 1 }, one);
console.log(made.PrivateIpAddress);
"""
PLAYBOOK = """\
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
    - &machine
      name: a machine
      amazon.aws.ec2_instance:
        {name: by-ansible, image_id: IMAGE, instance_type: t3.small, vpc_subnet_id: SUBNET, security_group: GROUP, state: running, wait: true,
         exact_count: 1, filters: {"tag:Name": by-ansible, instance-state-name: [pending, running]}, tags: {Name: by-ansible, made: once}}
      register: first
    - {<<: *machine, name: once more, register: second}
    - {name: its end, amazon.aws.ec2_instance: {instance_ids: "{{ first.instance_ids }}", state: absent, wait: true}}
    - {name: what was found, ansible.builtin.debug: {msg: "CHANGED {{ first.changed }} THEN {{ second.changed }} OF {{ first.instance_ids | length }}"}}
"""
TEMPLATE = {
    "builders": [{
        "type": "amazon-ebs", "region": "us-east-1", "instance_type": "t3.small", "ssh_username": "admin", "ami_name": "by-packer",
        "ssh_interface": "private_ip", "ssh_timeout": "2m", "skip_metadata_api_check": True, "skip_region_validation": True,
    }],
    "provisioners": [{"type": "shell", "inline": ["cloud-init status --wait", "echo of packer | sudo tee /etc/made"]}],
}  # fmt: skip


@pytest.fixture
def signed(lab: LabClient) -> dict[str, str]:
    """The environment of a program that works in the lab as in an account."""
    key = {"AWS_ACCESS_KEY_ID": lab.key_of_lab.id, "AWS_SECRET_ACCESS_KEY": lab.key_of_lab.secret, "AWS_REGION": "us-east-1"}
    return {**os.environ, **key, "AWS_ENDPOINT_URL": lab.lab.endpoint, "NO_PROXY": "*"}


def call(*words: object, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(list(map(str, words)), env=env, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_another_sdk_makes_a_machine_waits_for_it_and_ends_it(lab: LabClient, net: Net, signed: dict[str, str], tmp_path: Path) -> None:
    need(shutil.which("npm") and shutil.which("node"), "Node.js and npm are needed")
    run("npm", "install", "--silent", "--no-audit", "--ignore-scripts", "--prefix", tmp_path, "@aws-sdk/client-ec2", seconds=600)
    (tmp_path / "walk.mjs").write_text(SCRIPT)
    said = call("node", "walk.mjs", json.dumps(lab.request(net, 30)), env=signed, cwd=tmp_path)
    assert said.strip() == net.address(30)


def test_ansible_makes_a_machine_once_and_ends_it(lab: LabClient, net: Net, signed: dict[str, str], tmp_path: Path) -> None:
    run(UV, "venv", "--quiet", tmp_path / "venv")
    run(UV, "pip", "install", "--quiet", "--python", tmp_path / "venv/bin/python", "ansible==12.3.0", "boto3", seconds=600)
    (tmp_path / "play.yml").write_text(PLAYBOOK.replace("IMAGE", lab.image).replace("SUBNET", net.subnet).replace("GROUP", net.group))
    said = call(tmp_path / "venv/bin/ansible-playbook", "play.yml", env={**signed, "HOME": str(tmp_path)}, cwd=tmp_path)
    assert "CHANGED True THEN False OF 1" in said


def test_packer_makes_an_image_that_machines_are_made_of(lab: LabClient, net: Net, launch: Callable[..., Any], signed: dict[str, str], tmp_path: Path) -> None:
    need(shutil.which("packer"), "packer is needed (apt-get install packer)")
    builder = {"source_ami": lab.image, "subnet_id": net.subnet, "vpc_id": net.vpc, "custom_endpoint_ec2": lab.lab.endpoint}
    (tmp_path / "image.json").write_text(json.dumps({**TEMPLATE, "builders": [{**TEMPLATE["builders"][0], **builder}]}))
    said = call("packer", "build", "-color=false", "image.json", env={**signed, "HOME": str(tmp_path)}, cwd=tmp_path)
    [made] = re.findall(r"us-east-1: (ami-\w+)", said)
    assert launch(31, ImageId=made).run("cat /etc/made").strip() == "of packer"
