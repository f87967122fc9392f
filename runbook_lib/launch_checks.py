"""What chapter 01 proves about the machines: one row per question, all nodes in it. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runbook_lib.checks import Check, CheckTable
from runbook_lib.console import pinned_in
from runbook_lib.deployment_secrets import missing
from runbook_lib.launch_plan import LaunchPlan
from runbook_lib.topology import Topology
from runbook_lib.world import World

CHAPTER = "01_launch_ec2"
WHERE = "EC2 API"


def check_launch(topology: Topology, world: World, plan: LaunchPlan, stored: Mapping[str, str], ec2: Any) -> CheckTable:
    """Machines, disks, groups, host keys and secrets as designed; `plan` is the plan of this moment."""
    machines = {node.name: next(iter(world.of_node(node.name)), None) for node in topology.nodes}
    here = {name: machine for name, machine in machines.items() if machine}
    volumes = _volumes(ec2, [machine.id for machine in here.values()])
    pinned = pinned_in(stored)
    wide_open = [
        f"{role}: {p.ports} from {p.source}"
        for role, group in world.groups.items()
        for p in group.permissions
        if p.source in ("0.0.0.0/0", "::/0") and not (role.startswith("lb") and p.ports in ("80", "443"))
    ]
    drift = [f"{change.name}: {change.action} {change.detail}" for change in plan.of("rule", "group")]
    return CheckTable(
        [
            _row(
                "launch-machines-run",
                "Every machine runs",
                f"{len(topology.nodes)} running",
                [f"{n}: {m.state if m else 'absent'}" for n, m in machines.items() if not m or not m.running],
                f"{len(here)} running",
            ),
            _row(
                "launch-addresses",
                "Every machine has its fixed private address",
                "as in the topology",
                [
                    f"{n.name}: {here[n.name].address}, not {n.address}"
                    for n in topology.nodes
                    if n.name in here and here[n.name].address != n.address
                ],
                "all as in the topology",
                asked=bool(here),
            ),
            _row(
                "launch-imdsv2",
                "Metadata only with a session token (IMDSv2)",
                "required",
                [name for name, machine in here.items() if not machine.imdsv2],
                "required on all",
                asked=bool(here),
            ),
            _row(
                "launch-disks",
                "Root disks are encrypted gp3",
                "encrypted, gp3",
                [
                    f"{name}: {_disk(volumes.get(machine.id))}"
                    for name, machine in here.items()
                    if _disk(volumes.get(machine.id)) != "encrypted gp3"
                ],
                "all encrypted gp3",
                asked=bool(here),
            ),
            _row(
                "launch-groups",
                "Security groups hold the designed rules and no other",
                f"{len(topology.rules)} rules",
                drift,
                f"{sum(len(group.permissions) for group in world.groups.values())} rules, no drift",
            ),
            _row(
                "launch-own-group",
                "Each machine stands in its role's group and in no other",
                "one group each",
                [
                    name
                    for name, m in here.items()
                    if m.groups != {world.groups[m.role].id if m.role in world.groups else None}
                ],
                "one group each",
                asked=bool(here),
            ),
            _row(
                "launch-closed-to-world",
                "Nothing but 80 and 443 of Nginx is open to the world",
                "nothing else",
                wide_open,
                "nothing else",
                asked=bool(world.groups),
            ),
            _row(
                "launch-host-keys",
                "SSH host keys are pinned, each from this machine's console",
                "all pinned",
                [name for name, m in here.items() if name not in pinned or pinned[name].instance != m.id],
                "all pinned",
                asked=bool(here),
            ),
            _row(
                "launch-secrets",
                "Every secret that later chapters read is stored",
                "all stored",
                [f"{item.name} {item.why}".strip() for item in missing(topology, dict(stored))],
                "all stored",
            ),
        ]
    )


def _row(id_: str, title: str, expected: str, wrong: Iterable[str], right: str, asked: bool = True) -> Check:
    """`wrong` lists what speaks against it; with nothing to look at the question is undecided, not answered."""
    found = list(wrong)
    if not asked:
        return Check(id_, title, "undecided", expected, "nothing launched yet", WHERE, CHAPTER)
    return Check(id_, title, "fail" if found else "pass", expected, "; ".join(found) or right, WHERE, CHAPTER)


def _volumes(ec2: Any, instance_ids: list[str]) -> dict[str, dict[str, Any]]:
    if not instance_ids:
        return {}
    found = ec2.pages(
        "describe_volumes", "Volumes", Filters=[{"Name": "attachment.instance-id", "Values": instance_ids}]
    )
    return {volume["Attachments"][0]["InstanceId"]: volume for volume in found if volume.get("Attachments")}


def _disk(volume: dict[str, Any] | None) -> str:
    if volume is None:
        return "no disk found"
    return f"{'encrypted' if volume.get('Encrypted') else 'not encrypted'} {volume.get('VolumeType')}"
