"""The machines' instance profile: for their SSM Agents where connect_via is session-manager, and for a sweep's workers, which do what an operator does.
No other machine has one: what runs on a machine may do whatever its profile's role may.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from runbook_lib.aws.instances import refuse_stopped
from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.errors import CloudError
from runbook_lib.files import templates
from runbook_lib.launch.instances.renewing import image_of
from runbook_lib.launch.inventory import DEPLOYMENT, SSH, Instance, Inventory, Question, pending, row, while_refused
from runbook_lib.topology.workers import WORKERS
from runbook_lib.waiting import wait_until

PATH, AGENTS, OPERATOR = "/runbook/", "session-manager", "operator"  # of roles; names of their policies
# AWS's minimum for Session Manager (user guide, "Create a custom IAM role for Session Manager"). Its managed policy AmazonSSMManagedInstanceCore allows
# ssm:GetParameter on everything as well, and with it any process on any machine could read the deployment's secrets.
ACTIONS = (
    "ssm:UpdateInstanceInformation",
    *(f"ssmmessages:{verb}{channel}Channel" for verb in ("Create", "Open") for channel in ("Control", "Data")),
)
UNIT = "runbook-ssm-agent"  # which installs the agent at a machine's first boot
PACKS = "runbook-packs"  # the bucket that the policy names
ABSENT, PRESENT, HELD = "NoSuchEntity", "EntityAlreadyExists", "DeleteConflict"
SETTLE = 60.0  # seconds until IAM itself and EC2 know what was made: IAM is eventually consistent
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # seconds between two looks, growing


def name_of(inventory: Inventory) -> str:
    """The deployment's profile, and its role. IAM has no regions, deployments do."""
    return f"runbook-{inventory.deployment}-{inventory.spec.cloud.region}"


def by_sessions(inventory: Inventory) -> bool:
    """Return whether the machines are reached through their SSM Agents."""
    return inventory.spec.cloud.connect_via == "session-manager"


def wanted(inventory: Inventory) -> bool:
    """Return whether the machines need the profile."""
    return by_sessions(inventory) or _for_workers(inventory)


def _for_workers(inventory: Inventory) -> bool:
    return inventory.spec.pattern == WORKERS


def _policy_name(inventory: Inventory) -> str:
    return OPERATOR if _for_workers(inventory) else AGENTS


def ours(inventory: Inventory, machine: Instance) -> bool:
    """Return whether the machine has the deployment's profile."""
    return machine.profile.endswith(f"/{name_of(inventory)}")


def concerned(inventory: Inventory) -> bool:
    """Return whether to ask IAM at all: who never used Session Manager needs no right there."""
    return wanted(inventory) or any(ours(inventory, machine) for machine in inventory.instances)


def _policy(inventory: Inventory) -> dict[str, Any]:
    """What the role may do: a worker what an operator may, an agent what agents need."""
    if _for_workers(inventory):
        return _operator_policy(inventory)
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(ACTIONS), "Resource": "*"}]}


def _operator_policy(inventory: Inventory) -> dict[str, Any]:
    """The operator's own policy (docs/iam/README.md), with the bucket that the pack lies in, and an existing VPC if the machines stand in one; without
    rights in IAM, with which a worker could give itself any other.

    Of that VPC's subnets any may be used: a machine stands in a group as well, and groups can be made in this VPC and in tagged ones only.
    """
    text, pack = (templates("docs") / "iam" / "operator.json").read_text(encoding="utf-8"), inventory.spec.product.pack
    text = text.replace(PACKS, pack.split("/")[2]) if pack.startswith("s3://") else text
    policy: dict[str, Any] = json.loads(text.replace("arn:aws:", f"arn:{inventory.aws.partition}:"))
    policy["Statement"] = [statement for statement in policy["Statement"] if "iam:" not in json.dumps(statement["Action"])]
    if vpc := inventory.spec.cloud.vpc:
        resources = [f"arn:{inventory.aws.partition}:ec2:*:*:{name}" for name in ("subnet/*", f"vpc/{vpc}")]
        policy["Statement"].append({"Effect": "Allow", "Action": ["ec2:CreateSecurityGroup", "ec2:RunInstances"], "Resource": resources})
    return policy


def _trust(partition: str) -> dict[str, Any]:
    service = "ec2.amazonaws.com.cn" if partition == "aws-cn" else "ec2.amazonaws.com"
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}]}


def _look(call: Callable[..., Any], **options: Any) -> dict[str, Any] | None:
    """What IAM says, or None where there is no such thing."""
    try:
        return dict(call(**options))
    except CloudError as error:
        if error.code == ABSENT:
            return None
        raise


def observe(inventory: Inventory) -> None:
    """The profile, and of its role what is not as it should be."""
    inventory.profile, inventory.profile_lacks = "", ()
    if not concerned(inventory):
        return
    iam, name = inventory.aws.client("iam"), name_of(inventory)
    policy = _look(iam.get_role_policy, RoleName=name, PolicyName=_policy_name(inventory))
    profile = _look(iam.get_instance_profile, InstanceProfileName=name)
    inventory.profile = profile["InstanceProfile"]["Arn"] if profile else ""
    lacks = {
        "profile": profile is None,
        "role in it": not (profile and profile["InstanceProfile"]["Roles"]),
        "policy": policy is None or policy["PolicyDocument"] != _policy(inventory),
    }
    inventory.profile_lacks = tuple(part for part, lacking in lacks.items() if lacking)


def plan(inventory: Inventory) -> Iterator[Pending]:
    """The profile to make, to repair or to delete. Raises `CloudError` where a machine that runs would never be reached through its agent."""
    _refuse_without_agent(inventory)
    if wanted(inventory) and inventory.profile_lacks:
        verb = "modify" if inventory.profile else "create"
        purpose = "for what a sweep's workers do" if _for_workers(inventory) else "for the machines' SSM Agents"
        yield pending(verb, "instance profile", name_of(inventory), f"{purpose}: {', '.join(inventory.profile_lacks)}")
    if not wanted(inventory) and inventory.profile:
        yield pending("delete", "instance profile", name_of(inventory), f"connect_via is {inventory.spec.cloud.connect_via}")


def _refuse_without_agent(inventory: Inventory) -> None:
    """Debian's images bring no agent, and user data, which installs it, runs once in a machine's life."""
    going_over = [(name, machine) for name, machine in inventory.here.items() if by_sessions(inventory) and not ours(inventory, machine)]
    if names := [name for name, machine in going_over if image_of(inventory, machine).startswith("debian-") and not _has_agent(inventory, machine)]:
        step = (
            f"set cloud.connect_via back and keep cloud.ssm_agent; then: ./runbook replace PARAMS {' '.join(names)} gives them, one after the other, "
            "machines that install it; then connect_via: session-manager"
        )
        raise CloudError(f"no SSM Agent was installed at the first boot of {', '.join(names)}, and the image brings none", "cloud.connect_via", step)


def _has_agent(inventory: Inventory, machine: Instance) -> bool:
    found = inventory.ec2.describe_instance_attribute(InstanceId=machine.id, Attribute="userData")["UserData"]
    return UNIT.encode() in base64.b64decode(found.get("Value", ""))


def apply(inventory: Inventory) -> None:
    """The role with its policy, and the profile with the role. What is no longer wanted stays until `remove_surplus`, when no machine has it."""
    if not (wanted(inventory) and inventory.profile_lacks):
        return
    iam, name = inventory.aws.client("iam"), name_of(inventory)
    inventory.say(name, "making the instance profile")
    named = {**inventory.spec.cloud.tags, "Name": inventory.deployment, DEPLOYMENT: inventory.deployment}
    tags = [{"Key": key, "Value": value} for key, value in named.items()]
    trust = json.dumps(_trust(inventory.aws.partition))
    _unless(PRESENT, iam.create_role, Path=PATH, RoleName=name, AssumeRolePolicyDocument=trust, Tags=tags)
    _once_there(iam.put_role_policy, RoleName=name, PolicyName=_policy_name(inventory), PolicyDocument=json.dumps(_policy(inventory)))
    _unless(PRESENT, iam.create_instance_profile, Path=PATH, InstanceProfileName=name, Tags=tags)
    if "role in it" in inventory.profile_lacks:
        _once_there(iam.add_role_to_instance_profile, InstanceProfileName=name, RoleName=name)
    if lacks := wait_until(partial(_lacks, inventory), SETTLE, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda lacks: not lacks):
        what = f"IAM made the instance profile {name} and does not show it whole within {SETTLE:.0f} s; it lacks: {', '.join(lacks)}"
        raise CloudError(what, inventory.aws.about, "run chapter 01 again: it goes on with what it finds")


def _lacks(inventory: Inventory) -> tuple[str, ...]:
    observe(inventory)
    return inventory.profile_lacks


def _once_there(call: Callable[..., Any], **options: Any) -> None:
    """Make the call that names what was just made; again while IAM does not know it yet."""
    while_refused(lambda error: error.code == ABSENT, SETTLE, call, **options)


def _once_empty(call: Callable[..., Any], **options: Any) -> None:
    """Make the call that deletes what was just emptied; again while IAM counts as there what was in it."""
    while_refused(lambda error: error.code == HELD, SETTLE, call, **options)


def _unless(code: str, call: Callable[..., Any], **options: Any) -> None:
    try:
        call(**options)
    except CloudError as error:
        if error.code != code:
            raise


def of_launch(inventory: Inventory) -> dict[str, Any]:
    """What RunInstances is told of the profile."""
    return {"IamInstanceProfile": {"Arn": inventory.profile}} if wanted(inventory) else {}


def once_known(call: Callable[..., Any], **options: Any) -> Any:
    """Make EC2's call; again while EC2 does not know the new profile yet, or not yet the role in it.

    The code is that of every wrong value; the parameter that EC2 names tells whether it is the profile's.
    """
    seconds = SETTLE if "IamInstanceProfile" in options else 0.0
    return while_refused(lambda error: error.code == "InvalidParameterValue" and error.parameter.startswith("iamInstanceProfile"), seconds, call, **options)


def at_first_boot(inventory: Inventory) -> tuple[str, ...]:
    """Return the shell command that installs the SSM Agent at the first boot, for an image without it, whatever the way to the machine is now.

    In the background, and again after a failure: user data runs once in a machine's life, dpkg's lock may be held at a first boot, and Nginx's way out
    is its Elastic IP, which it gets when it runs already.
    """
    agent = inventory.spec.cloud.ssm_agent
    if not agent.url:
        return ()
    file = "/var/tmp/amazon-ssm-agent.deb"
    fetch = f"import shutil, urllib.request; shutil.copyfileobj(urllib.request.urlopen('{agent.url}', timeout=30), open('{file}', 'wb'))"
    install = f'python3 -c "{fetch}" && echo "{str(agent.sha256).lower()}  {file}" | sha256sum --check && dpkg --install {file}'
    script = f"for again in $(seq 60); do {install} && exit; sleep 10; done"
    return (shlex.join(["systemd-run", "--collect", f"--unit={UNIT}", "sh", "-c", script]),)


def differs(inventory: Inventory, machine: Instance) -> bool:
    """Return whether a machine lacks the profile, or still has it."""
    return wanted(inventory) != ours(inventory, machine)


def set_on(inventory: Inventory, machine: Instance) -> None:
    """Give a machine that was launched without it the profile, or take it off."""
    if wanted(inventory):
        once_known(inventory.ec2.associate_iam_instance_profile, IamInstanceProfile={"Arn": inventory.profile}, InstanceId=machine.id)
        return
    here = [{"Name": "instance-id", "Values": [machine.id]}]
    for found in inventory.ec2.describe_iam_instance_profile_associations(Filters=here)["IamInstanceProfileAssociations"]:
        inventory.ec2.disassociate_iam_instance_profile(AssociationId=found["AssociationId"])


def states(inventory: Inventory) -> dict[str, str]:
    """The state of each machine's agent, by node: Online, ConnectionLost, Inactive, or `not registered`."""
    ids = {machine.id: name for name, machine in inventory.here.items()}
    if not ids:
        return {}
    filters = [{"Key": "InstanceIds", "Values": sorted(ids)}]
    found = inventory.aws.client("ssm").pages("describe_instance_information", "InstanceInformationList", Filters=filters)
    known = {item["InstanceId"]: item["PingStatus"] for item in found}
    return {name: known.get(id_, "not registered") for id_, name in ids.items()}


def _offline(inventory: Inventory) -> list[str]:
    return [f"{name} ({inventory.here[name].id}): {state}" for name, state in states(inventory).items() if state != "Online"]


def wait_online(inventory: Inventory) -> None:
    """Wait until Systems Manager has every machine's agent. Raises `CloudError` after `timeouts.agent`, and at once for a machine that has stopped."""
    if not by_sessions(inventory):
        return
    inventory.say(name_of(inventory), "waiting for the SSM Agents")
    seconds = inventory.spec.timeouts.agent

    def look() -> list[str]:
        if found := _offline(inventory):
            refuse_stopped(inventory.ec2, {name: machine.id for name, machine in inventory.here.items()})
        return found

    left = wait_until(look, seconds, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda found: not found)
    if left:
        step = (
            "see on the machine's console whether the agent was installed (cloud.ssm_agent) and runs; it needs a way out to ssm and ssmmessages, "
            f"port 443, and the instance profile {name_of(inventory)}; then run chapter 01 again"
        )
        if any(permission.ports == SSH for group in inventory.groups.values() for permission in group.permissions):
            step += (
                ". An agent that had no profile looks for one again after up to an hour, or when it or its machine is restarted. Until all are Online "
                "port 22 stays open: with cloud.connect_via set back, SSH goes on as before"
            )
        raise CloudError(f"waited {seconds} s (timeouts.agent) for the SSM Agent of {'; '.join(left)}", inventory.aws.about, step)


def check(inventory: Inventory) -> Iterator[Check]:
    if by_sessions(inventory):
        there = inventory.here
        yield row("launch-agents-online", "Systems Manager reaches every machine's agent", _offline(inventory), "Online", f"{len(there)} Online", there)


def remove_surplus(inventory: Inventory) -> None:
    if inventory.profile and not wanted(inventory):
        remove(inventory)


def remove(inventory: Inventory) -> None:
    """The profile without its role, then the role without its policy: neither goes while it holds something, as IAM may see it for some time."""
    if not any(_left(inventory)):
        return
    iam, name = inventory.aws.client("iam"), name_of(inventory)
    inventory.say(name, "deleting the instance profile")
    _unless(ABSENT, iam.remove_role_from_instance_profile, InstanceProfileName=name, RoleName=name)
    _unless(ABSENT, partial(_once_empty, iam.delete_instance_profile), InstanceProfileName=name)
    _unless(ABSENT, iam.delete_role_policy, RoleName=name, PolicyName=_policy_name(inventory))
    _unless(ABSENT, partial(_once_empty, iam.delete_role), RoleName=name)
    inventory.profile = ""


def _left(inventory: Inventory) -> Iterable[str]:
    if not (concerned(inventory) or inventory.profile):
        return
    iam, name = inventory.aws.client("iam"), name_of(inventory)
    if _look(iam.get_instance_profile, InstanceProfileName=name):
        yield f"instance profile {name}"
    if _look(iam.get_role, RoleName=name):
        yield f"role {name}"


GONE: tuple[Question, ...] = (("gone-instance-profile", "Instance profile and role of the machines", _left),)
