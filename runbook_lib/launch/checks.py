"""What chapter 01 proves about the machines: one row per question, all nodes in it. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runbook_lib.aws.host_keys import Pinned, pinned_in
from runbook_lib.changes import Plan
from runbook_lib.check import Check, CheckTable
from runbook_lib.launch.inventory import Instance, World
from runbook_lib.launch.secrets import missing
from runbook_lib.topology.model import Topology

CHAPTER = "01_launch_ec2"
WHERE = "EC2 API"


@dataclass(frozen=True)
class Facts:
    """What was found: the design, the world, today's plan, SSM, the root disks by instance id."""

    topology: Topology
    world: World
    plan: Plan
    stored: Mapping[str, str]
    volumes: Mapping[str, Mapping[str, Any]]

    @cached_property
    def here(self) -> dict[str, Instance]:
        """The machines that exist, by node."""
        found = {node.name: next(iter(self.world.of_node(node.name)), None) for node in self.topology.nodes}
        return {name: machine for name, machine in found.items() if machine}

    @cached_property
    def pinned(self) -> Mapping[str, Pinned]:
        return pinned_in(self.stored)


def not_running(f: Facts) -> list[str]:
    states = {node.name: f.here[node.name].state if node.name in f.here else "absent" for node in f.topology.nodes}
    return [f"{name}: {state}" for name, state in states.items() if state != "running"]


def elsewhere(f: Facts) -> list[str]:
    there = [(node, f.here[node.name]) for node in f.topology.nodes if node.name in f.here]
    return [f"{node.name}: {machine.address}, not {node.address}" for node, machine in there if machine.address != node.address]


def without_imdsv2(f: Facts) -> list[str]:
    return [name for name, machine in f.here.items() if not machine.imdsv2]


def other_disks(f: Facts) -> list[str]:
    disks = {name: _disk(f.volumes.get(machine.id)) for name, machine in f.here.items()}
    return [f"{name}: {disk}" for name, disk in disks.items() if disk != "encrypted gp3"]


def drifted_rules(f: Facts) -> list[str]:
    return [f"{p.subject}: {p.change.verb} {p.change.summary}" for p in f.plan.of("rule", "group")]


def in_other_groups(f: Facts) -> list[str]:
    own = {name: {f.world.groups[m.role].id if m.role in f.world.groups else None} for name, m in f.here.items()}
    return [name for name, machine in f.here.items() if machine.groups != own[name]]


def open_to_the_world(f: Facts) -> list[str]:
    return [
        f"{role}: {rule.ports} from {rule.source}"
        for role, group in f.world.groups.items()
        for rule in group.permissions
        if rule.source in ("0.0.0.0/0", "::/0") and not (role.startswith("lb") and rule.ports in ("80", "443"))
    ]


def not_pinned(f: Facts) -> list[str]:
    return [name for name, machine in f.here.items() if name not in f.pinned or f.pinned[name].instance != machine.id]


def not_stored(f: Facts) -> list[str]:
    return [f"{item.name} {item.why}".strip() for item in missing(f.topology, dict(f.stored))]


# id, title, what speaks against it, what is expected, what is said when nothing does; a word in braces is of `_counts`
QUESTIONS: tuple[tuple[str, str, Callable[[Facts], list[str]], str, str], ...] = (
    ("launch-machines-run", "Every machine runs", not_running, "{nodes} running", "{here} running"),
    ("launch-addresses", "Every machine has its fixed private address", elsewhere, "as in the topology", "all as in the topology"),
    ("launch-imdsv2", "Metadata only with a session token (IMDSv2)", without_imdsv2, "required", "required on all"),
    ("launch-disks", "Root disks are encrypted gp3", other_disks, "encrypted, gp3", "all encrypted gp3"),
    ("launch-groups", "Security groups hold the designed rules and no other", drifted_rules, "{designed} rules", "{rules} rules, no drift"),
    ("launch-own-group", "Each machine stands in its role's group and in no other", in_other_groups, "one group each", "one group each"),
    ("launch-closed-to-world", "Nothing but 80 and 443 of Nginx is open to the world", open_to_the_world, "nothing else", "nothing else"),
    ("launch-host-keys", "SSH host keys are pinned, each from this machine's console", not_pinned, "all pinned", "all pinned"),
    ("launch-secrets", "Every secret that later chapters read is stored", not_stored, "all stored", "all stored"),
)
ASKED_OF_NOTHING = ("launch-machines-run", "launch-groups", "launch-secrets")  # an answer even before the launch
ASKED_OF_GROUPS = ("launch-closed-to-world",)


def check_launch(topology: Topology, world: World, plan: Plan, stored: Mapping[str, str], ec2: Any) -> CheckTable:
    """Machines, disks, groups, host keys and secrets as designed; `plan` is the plan of this moment."""
    machines = [machine.id for node in topology.nodes for machine in world.of_node(node.name)]
    facts = Facts(topology, world, plan, stored, _volumes(ec2, machines))
    return CheckTable(_row(facts, *question) for question in QUESTIONS)


def _row(facts: Facts, id_: str, title: str, against: Callable[[Facts], list[str]], expected: str, right: str) -> Check:
    """With nothing to look at the question is undecided, not answered."""
    expected, right = (words.format_map(_counts(facts)) for words in (expected, right))
    there = facts.world.groups if id_ in ASKED_OF_GROUPS else facts.here
    if not there and id_ not in ASKED_OF_NOTHING:
        return Check(id_, title, "undecided", expected, "nothing launched yet", WHERE, CHAPTER)
    found = against(facts)
    return Check(id_, title, "fail" if found else "pass", expected, "; ".join(found) or right, WHERE, CHAPTER)


def _counts(facts: Facts) -> dict[str, int]:
    made = sum(len(group.permissions) for group in facts.world.groups.values())
    return {"nodes": len(facts.topology.nodes), "here": len(facts.here), "designed": len(facts.topology.rules), "rules": made}


def _volumes(ec2: Any, instance_ids: list[str]) -> dict[str, dict[str, Any]]:
    if not instance_ids:
        return {}
    found = ec2.pages("describe_volumes", "Volumes", Filters=[{"Name": "attachment.instance-id", "Values": instance_ids}])
    return {volume["Attachments"][0]["InstanceId"]: volume for volume in found if volume.get("Attachments")}


def _disk(volume: Mapping[str, Any] | None) -> str:
    if volume is None:
        return "no disk found"
    return f"{'encrypted' if volume.get('Encrypted') else 'not encrypted'} {volume.get('VolumeType')}"
