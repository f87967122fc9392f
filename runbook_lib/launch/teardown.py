"""Take a deployment down, in the order in which nothing is still needed, and prove that nothing of it is left.

Repeatable: it works on what it finds by tag, so a run that was cut short is finished by the next. The account's staging
bucket stays, other deployments use it; SSM goes last, so that until then a colleague can still sign in to a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from runbook_lib.changes import Reporter
from runbook_lib.check import Check, CheckTable
from runbook_lib.errors import CloudError
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.inventory import DEPLOYMENT, Instance, by_tag, groups_in, instances_of
from runbook_lib.waiting import wait_until

CHAPTER = "99_tear_down"
IN_USE = ("DependencyViolation", "InvalidNetworkInterface.InUse", "VolumeInUse")
SETTLE = 90.0  # seconds that something may still be said to be in use after what used it ended
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
VANISHED = ("NotFound", "Malformed", "InvalidKeyPair.NotFound", "Gateway.NotAttached")


def destroy(cloud: Cloud, progress: Callable[[Any], None] | None = None) -> CheckTable:
    """Remove machines, groups, key pair, network and secrets. The checks say of each kind that nothing is left.

    Raises `CloudError` when something does not go; what went stays gone, and the next run goes on.
    """
    say = Reporter(progress, "tear down", 1)
    for step in STEPS:
        step(cloud, say)
    return prove_gone(cloud)


def prove_gone(cloud: Cloud) -> CheckTable:
    """One row per kind of thing: what still carries the deployment's tag, or lies below its SSM path."""
    return CheckTable(_gone(id_, title, list(find(cloud))) for id_, title, find in PROOFS)


def _machines(cloud: Cloud, say: Reporter) -> None:
    """Ended, and seen to have ended: a group or a subnet cannot go before the last machine in it has."""
    told: set[str] = set()

    def end_them() -> list[Instance]:
        """Terminate those that were not told yet; returns all that have not ended."""
        alive = [m for m in instances_of(cloud.aws, cloud.spec.deployment) if m.state != "terminated"]
        going = [machine for machine in alive if machine.state != "shutting-down" and machine.id not in told]
        if going:
            for machine in going:
                say(machine.node or machine.id, f"terminating {machine.id}")
            cloud.aws.client("ec2").terminate_instances(InstanceIds=[machine.id for machine in going])
            told.update(machine.id for machine in going)
        return alive

    seconds = cloud.spec.timeouts.running
    if alive := wait_until(end_them, seconds, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda alive: not alive):
        names = ", ".join(f"{machine.id} ({machine.state})" for machine in alive)
        raise CloudError(f"these machines do not end within {seconds} s: {names}", cloud.aws.about, "look at them in EC2; then run this again")


def _disks_and_interfaces(cloud: Cloud, say: Reporter) -> None:
    """They go with their machine; what is left of one that was made otherwise goes here."""
    ec2 = cloud.aws.client("ec2")
    for volume in _volumes(cloud):
        say(volume, "deleting the volume")
        _unless_gone(ec2.delete_volume, VolumeId=volume)
    for interface in _interfaces(cloud):
        say(interface, "deleting the network interface")
        _unless_gone(ec2.delete_network_interface, NetworkInterfaceId=interface)


def _groups(cloud: Cloud, say: Reporter) -> None:
    """Rules first: groups that name each other cannot go one after the other."""
    ec2 = cloud.aws.client("ec2")
    groups = groups_in(ec2, cloud.spec.deployment).values()
    for group in groups:
        for permission in group.permissions:
            _unless_gone(ec2.revoke_security_group_ingress, GroupId=group.id, IpPermissions=[permission.as_request()])
    for group in groups:
        say(group.role, "deleting its security group")
        _unless_gone(ec2.delete_security_group, GroupId=group.id)


def _key_pairs(cloud: Cloud, say: Reporter) -> None:
    for name in _tagged(cloud, "describe_key_pairs", "KeyPairs", "KeyName"):
        say(name, "deleting the key pair")
        _unless_gone(cloud.aws.client("ec2").delete_key_pair, KeyName=name)


def _network(cloud: Cloud, say: Reporter) -> None:
    ec2 = cloud.aws.client("ec2")
    for subnet in _tagged(cloud, "describe_subnets", "Subnets", "SubnetId"):
        say(subnet, "deleting the subnet")
        _unless_gone(ec2.delete_subnet, SubnetId=subnet)
    vpcs = _tagged(cloud, "describe_vpcs", "Vpcs", "VpcId")
    for gateway in _tagged(cloud, "describe_internet_gateways", "InternetGateways", "InternetGatewayId"):
        say(gateway, "deleting the internet gateway")
        for vpc in vpcs:
            _unless_gone(ec2.detach_internet_gateway, InternetGatewayId=gateway, VpcId=vpc)
        _unless_gone(ec2.delete_internet_gateway, InternetGatewayId=gateway)
    for vpc in vpcs:
        say(vpc, "deleting the VPC")
        _unless_gone(ec2.delete_vpc, VpcId=vpc)


def _secrets(cloud: Cloud, say: Reporter) -> None:
    removed = cloud.vault.delete_all()
    if removed:
        say("SSM", f"{len(removed)} parameters deleted")


def _unless_gone(call: Callable[..., Any], **options: Any) -> None:
    """Make the call; what is gone already is well. EC2 lags: what a machine used is free only some time after."""
    try:
        wait_until(
            lambda: call(**options),
            SETTLE,
            pause=FIRST_PAUSE,
            longest=LONGEST_PAUSE,
            enough=lambda answer: True,
            again_after=lambda error: isinstance(error, CloudError) and error.code in IN_USE,
        )
    except CloudError as error:
        if error.code in IN_USE:
            error.what += f"; waited {SETTLE:.0f} s for what uses it to end"
        if not error.code.endswith(VANISHED):
            raise


def _tagged(cloud: Cloud, operation: str, key: str, id_key: str) -> list[str]:
    answer = getattr(cloud.aws.client("ec2"), operation)(Filters=by_tag(cloud.spec.deployment))
    return [str(item[id_key]) for item in answer[key]]


def _volumes(cloud: Cloud) -> list[str]:
    found = cloud.aws.client("ec2").pages("describe_volumes", "Volumes", Filters=by_tag(cloud.spec.deployment))
    return [volume["VolumeId"] for volume in found if volume.get("State") != "deleting"]


def _interfaces(cloud: Cloud) -> list[str]:
    """Of the deployment's VPCs: an interface does not carry its machine's tags everywhere."""
    vpcs = _tagged(cloud, "describe_vpcs", "Vpcs", "VpcId")
    if not vpcs:
        return []
    wanted = [{"Name": "vpc-id", "Values": vpcs}]
    found = cloud.aws.client("ec2").pages("describe_network_interfaces", "NetworkInterfaces", Filters=wanted)
    return [interface["NetworkInterfaceId"] for interface in found]


def _live_machines(cloud: Cloud) -> Iterable[str]:
    return (f"{m.id} ({m.state})" for m in instances_of(cloud.aws, cloud.spec.deployment) if m.state != "terminated")


def _live_groups(cloud: Cloud) -> Iterable[str]:
    return (group.id for group in groups_in(cloud.aws.client("ec2"), cloud.spec.deployment).values())


def _live_network(cloud: Cloud) -> Iterable[str]:
    for operation, key, id_key in (
        ("describe_vpcs", "Vpcs", "VpcId"),
        ("describe_subnets", "Subnets", "SubnetId"),
        ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    ):
        yield from _tagged(cloud, operation, key, id_key)


def _gone(id_: str, title: str, left: list[str]) -> Check:
    status, observed = ("fail", ", ".join(left)) if left else ("pass", "nothing")
    return Check(id_, title, status, "nothing", observed, "EC2 and SSM API", CHAPTER)  # type: ignore[arg-type]


STEPS = (_machines, _disks_and_interfaces, _groups, _key_pairs, _network, _secrets)
PROOFS: tuple[tuple[str, str, Callable[[Cloud], Iterable[str]]], ...] = (
    ("gone-machines", f"Machines with the tag {DEPLOYMENT}", _live_machines),
    ("gone-disks", "Volumes and network interfaces", lambda cloud: [*_volumes(cloud), *_interfaces(cloud)]),
    ("gone-groups", "Security groups", _live_groups),
    ("gone-key-pairs", "Key pairs", lambda cloud: _tagged(cloud, "describe_key_pairs", "KeyPairs", "KeyPairId")),
    ("gone-network", "VPC, subnet, internet gateway", _live_network),
    ("gone-secrets", "Parameters below the deployment's SSM path", lambda cloud: cloud.vault.names()),
)
