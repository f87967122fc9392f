"""RunInstances for the nodes that have no machine: once for each, also when a run is killed between request and answer."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from runbook_lib.aws.client_tokens import ClientTokens
from runbook_lib.aws.images import Ami, find_image
from runbook_lib.converge.agent.system import AT_LAUNCH, LONGEST, OPTIONS, QUIET
from runbook_lib.errors import CloudError
from runbook_lib.launch import instance_profile, key_pair
from runbook_lib.launch.instances.described import FIRST_PAUSE, LONGEST_PAUSE, instances_of
from runbook_lib.launch.inventory import DEPLOYMENT, HOSTS, IMAGE, NODE, ROLE, SHOWN, Instance, Inventory, not_shown, once_free, tag_specification
from runbook_lib.launch.inventory import GONE as ENDED
from runbook_lib.topology.model import Node, Topology
from runbook_lib.topology.packages import downloaded_of, packages_of
from runbook_lib.waiting import wait_until

USER_DATA = """\
#cloud-config
hostname: {name}
manage_etc_hosts: true
ssh_genkeytypes: [ed25519]
ssh_pwauth: false
disable_root: true
"""
AT_ONCE = 8  # calls in flight
SPENT_TOKEN = ("IdempotentInstanceTerminated", "IdempotentParameterMismatch")  # the token was used: for a machine that ended, or for another one


def machine_tags(topology: Topology, node: Node) -> dict[str, str]:
    """The tags of a node's machine."""
    name = f"{topology.spec.deployment}/{node.name}"
    tags = {**topology.spec.cloud.tags, "Name": name, DEPLOYMENT: topology.spec.deployment, ROLE: node.role, NODE: node.name}
    return tags | ({HOSTS: " ".join(node.hosts)} if node.hosts else {})


def launch_absent(inventory: Inventory) -> None:
    """Launch a machine for each node that has none, and wait until EC2 shows them. Raises `CloudError`."""
    absent = [node for node in inventory.topology.nodes if node.name not in inventory.here]
    if not absent:
        return
    image = find_image(inventory.spec.cloud.image, inventory.spec.cloud.login_user, inventory.ec2, inventory.aws.client("ssm"))
    tokens = ClientTokens(inventory.vault)
    kept = tokens.keep(node.name for node in absent)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = set(pool.map(lambda node: _run_instance(inventory, node, image, tokens, kept[node.name]), absent))
    _await_shown(inventory, made)
    tokens.forget(node.name for node in inventory.topology.nodes)  # also what a killed run left of nodes that it did launch


def _run_instance(inventory: Inventory, node: Node, image: Ami, tokens: ClientTokens, token: str) -> str:
    """Launch one machine and return its id; by `token`, the one that an earlier request for this node made, where there is one."""
    inventory.say(node.name, f"launching a {node.instance_type}")
    # its address may be that of a machine which has just ended, and is free with that one's interface only
    run = partial(once_free, partial(instance_profile.once_known, inventory.ec2.run_instances), **_launch_request(inventory, node, image))
    try:
        return _instance_id(run(ClientToken=token))
    except CloudError as error:
        if error.code not in SPENT_TOKEN:
            raise
        if error.code == "IdempotentParameterMismatch" and (earlier := _shown_late(inventory, node)):
            return earlier.id
    return _instance_id(run(ClientToken=tokens.renew(node.name)))


def _instance_id(answer: dict[str, Any]) -> str:
    return str(answer["Instances"][0]["InstanceId"])


def _launch_request(inventory: Inventory, node: Node, image: Ami) -> dict[str, Any]:
    tags = machine_tags(inventory.topology, node) | {IMAGE: inventory.spec.cloud.image}
    disk = {"VolumeSize": inventory.spec.cloud.disk_gb, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    disk |= {"KmsKeyId": inventory.spec.cloud.kms_key} if inventory.spec.cloud.kms_key else {}
    return {
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": image.id,
        "InstanceType": node.instance_type,
        "KeyName": key_pair.name_of(inventory),
        "SubnetId": inventory.subnets[node.subnet]["SubnetId"],
        "PrivateIpAddress": node.address,
        "SecurityGroupIds": [inventory.groups[node.role].id],
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": image.root_device, "Ebs": disk}],
        "UserData": user_data(inventory, node.name),
        "TagSpecifications": [tag_specification(kind, tags) for kind in ("instance", "volume", "network-interface")],
        **instance_profile.of_launch(inventory),
    }


def user_data(inventory: Inventory, node: str) -> str:
    """Return the user data of a node's machine: what cloud-init does at its first boot.

    The packages of a WSO2 node are installed meanwhile, and those of a server downloaded.
    """
    machine = inventory.topology.node(node)
    packages = (_installing(packages_of(machine, inventory.spec)), _installing(downloaded_of(machine, inventory.spec), "--download-only"))
    steps = filter(None, (*instance_profile.at_first_boot(inventory), *packages))
    commands = "".join(f"- {json.dumps(['sh', '-c', step])}\n" for step in steps)
    return USER_DATA.format(name=node) + (f"runcmd:\n{commands}" if commands else "")


def _installing(packages: Sequence[str], *options: str) -> str:
    """Return the command that installs packages in the background; empty without a package.

    In the background, because cloud-init prints the host keys, which chapter 01 waits for, after its commands. It tries again, because apt's own timers
    hold its locks at a first boot; an update that fails for one repository has fetched the lists of the others. What it could not install, the node's
    chapter does. `options`: of apt-get, such as `--download-only`.
    """
    if not packages:
        return ""
    update = shlex.join(["apt-get", *OPTIONS, "update"])
    install = shlex.join(["apt-get", *OPTIONS, "--no-install-recommends", *options, "install", *packages])
    script = f"{install} || for again in 1 2 3 4 5 6; do {update}; {install} && exit; sleep 10; done"
    unit = ["systemd-run", "--collect", f"--unit={AT_LAUNCH}", *(f"--setenv={name}={value}" for name, value in QUIET.items())]
    return f"dpkg-query --status {shlex.join(packages)} >/dev/null 2>&1 || {shlex.join([*unit, 'timeout', str(LONGEST), 'sh', '-c', script])}"


def _shown_late(inventory: Inventory, node: Node) -> Instance | None:
    """Return the machine that an earlier run launched with other parameters, which EC2 may not show yet; None when it has ended.

    It is taken as it is: the next plan says what differs.
    """

    def look() -> Instance | None:
        shown = instances_of(inventory.aws, inventory.deployment)
        return next((machine for machine in shown if machine.node == node.name and machine.state not in ENDED), None)

    return wait_until(look, SHOWN, pause=FIRST_PAUSE, longest=LONGEST_PAUSE)


def _await_shown(inventory: Inventory, ids: set[str]) -> None:
    """Wait until EC2 describes machines that it has just made: DescribeInstances follows RunInstances by some seconds. Raises `CloudError`."""

    def lacking() -> set[str]:
        return ids - {machine.id for machine in instances_of(inventory.aws, inventory.deployment)}

    if missing := wait_until(lacking, SHOWN, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda missing: not missing):
        raise not_shown(inventory, missing)
