"""Whatever is asked of the API, rightly or wrongly: afterwards machines, wires and fences are what it says, and no call failed inside of the lab."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from ec2lab import status
from ec2lab.network import firewall, links
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.lab_fixtures import RANGE, eventually

SUBNETS = [str(next_) for next_ in list(IPv4Network(RANGE).subnets(new_prefix=24))[40:44]]
JUNK_RANGES = ["banana", "10.0.0.0/99", "10.9.1.0/24", f"{IPv4Network(RANGE).network_address}/24", "0.0.0.0/0"]
SOURCES = ["0.0.0.0/0", "10.1.2.3/8", "10.77.0.0/16", "192.0.2.7/32", "banana/8", "10.0.0.1", ""]
PROTOCOLS = ["tcp", "udp", "icmp", "-1", "50", "icmpv6", "carrier-pigeon", "256"]
PORTS = [None, -1, 0, 22, 80, 65535, 65536]
WORDS = ["", "a", "aws:mine", "k" * 129, "Name", "ü"]
MOST_MACHINES = 3  # that run at once: each takes a second to boot

which = st.integers(0, 5)  # of the things of a kind that there are; one of them is none
permission = st.tuples(st.sampled_from(PROTOCOLS), st.sampled_from(PORTS), st.sampled_from(PORTS), st.one_of(st.sampled_from(SOURCES), which))
calls = st.one_of(
    st.tuples(st.just("subnet"), which, st.sampled_from(SUBNETS + JUNK_RANGES)),
    st.tuples(st.just("vpc"), st.sampled_from([RANGE, *JUNK_RANGES])),
    st.tuples(st.just("group"), which, st.sampled_from(["web", "db", "default", ""])),
    st.tuples(st.just("allow"), which, st.sampled_from(["ingress", "egress"]), permission),
    st.tuples(st.just("allow"), which, st.sampled_from(["ingress", "egress"]), permission),
    st.tuples(st.just("revoke"), which, st.sampled_from(["ingress", "egress"]), permission),
    st.tuples(st.just("revoke_first"), which, st.sampled_from(["ingress", "egress"])),
    st.tuples(st.just("run"), which, st.lists(which, max_size=2), st.integers(0, 2), st.integers(1, 2)),
    st.tuples(st.just("run"), which, st.lists(which, max_size=2), st.just(1), st.just(1)),
    st.tuples(st.just("change"), which, st.sampled_from(["stop", "cut", "start", "reboot", "terminate"])),
    st.tuples(st.just("change"), which, st.sampled_from(["stop", "cut", "start", "reboot", "terminate"])),
    st.tuples(st.just("move"), which, st.lists(which, max_size=2)),
    st.tuples(st.just("tag"), which, st.sampled_from(WORDS), st.sampled_from(WORDS)),
    st.tuples(st.just("delete"), st.sampled_from(["group", "subnet", "vpc"]), which),
)


@dataclass
class Account:
    """What the calls made, by kind; and the calls themselves."""

    lab: Any
    vpc: list[str] = field(default_factory=list)
    subnet: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    machine: list[str] = field(default_factory=list)

    def one(self, kind: str, number: int) -> str:
        none = {"vpc": "vpc-0bad", "subnet": "subnet-0bad", "group": "sg-0bad", "machine": "i-0bad"}
        return [*getattr(self, kind), none[kind]][number % (len(getattr(self, kind)) + 1)]

    def do(self, call: tuple[Any, ...]) -> None:
        """Make one call. A refusal is an answer; a failure inside of the lab is none."""
        try:
            getattr(self, f"do_{call[0]}")(*call[1:])
        except ClientError as refusal:
            assert refusal.response["ResponseMetadata"]["HTTPStatusCode"] < 500, f"{call}: {refusal}"

    def do_vpc(self, cidr: str) -> None:
        self.vpc.append(self.lab.ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"])

    def do_subnet(self, vpc: int, cidr: str) -> None:
        self.subnet.append(self.lab.ec2.create_subnet(VpcId=self.one("vpc", vpc), CidrBlock=cidr)["Subnet"]["SubnetId"])

    def do_group(self, vpc: int, name: str) -> None:
        self.group.append(self.lab.ec2.create_security_group(VpcId=self.one("vpc", vpc), GroupName=name, Description=name)["GroupId"])

    def rule(self, permission: tuple[Any, ...]) -> dict[str, Any]:
        protocol, first, last, source = permission
        peer = {"IpRanges": [{"CidrIp": source}]} if isinstance(source, str) else {"UserIdGroupPairs": [{"GroupId": self.one("group", source)}]}
        ports = {name: port for name, port in (("FromPort", first), ("ToPort", last)) if port is not None}
        return {"IpProtocol": protocol, **ports, **peer}

    def do_allow(self, group: int, way: str, permission: tuple[Any, ...]) -> None:
        getattr(self.lab.ec2, f"authorize_security_group_{way}")(GroupId=self.one("group", group), IpPermissions=[self.rule(permission)])

    def do_revoke(self, group: int, way: str, permission: tuple[Any, ...]) -> None:
        getattr(self.lab.ec2, f"revoke_security_group_{way}")(GroupId=self.one("group", group), IpPermissions=[self.rule(permission)])

    def do_revoke_first(self, group: int, way: str) -> None:
        [found] = self.lab.ec2.describe_security_groups(GroupIds=[self.one("group", group)])["SecurityGroups"]
        rules = found["IpPermissions" if way == "ingress" else "IpPermissionsEgress"]
        getattr(self.lab.ec2, f"revoke_security_group_{way}")(GroupId=found["GroupId"], IpPermissions=rules[:1])

    def do_run(self, subnet: int, groups: list[int], least: int, most: int) -> None:
        if len(self.machine) + most > MOST_MACHINES:
            return
        asked = {"SubnetId": self.one("subnet", subnet), "SecurityGroupIds": [self.one("group", group) for group in groups]}
        made = self.lab.ec2.run_instances(ImageId=self.lab.image, InstanceType="t3.small", MinCount=least, MaxCount=most, **asked)
        self.machine += [each["InstanceId"] for each in made["Instances"]]

    def do_change(self, machine: int, how: str) -> None:
        more = {"SkipOsShutdown": True} if how == "cut" else {}
        getattr(self.lab.ec2, f"{'stop' if how == 'cut' else how}_instances")(InstanceIds=[self.one("machine", machine)], **more)

    def do_move(self, machine: int, groups: list[int]) -> None:
        self.lab.ec2.modify_instance_attribute(InstanceId=self.one("machine", machine), Groups=[self.one("group", group) for group in groups])

    def do_tag(self, machine: int, key: str, value: str) -> None:
        self.lab.ec2.create_tags(Resources=[self.one("machine", machine)], Tags=[{"Key": key, "Value": value}])

    def do_delete(self, kind: str, number: int) -> None:
        call, parameter = {"group": ("security_group", "GroupId"), "subnet": ("subnet", "SubnetId"), "vpc": ("vpc", "VpcId")}[kind]
        getattr(self.lab.ec2, f"delete_{call}")(**{parameter: self.one(kind, number)})
        getattr(self, kind).remove(self.one(kind, number))

    def machines(self) -> dict[str, dict[str, Any]]:
        pages = self.lab.ec2.get_paginator("describe_instances").paginate()  # of a hundred: those that have ended are described for as long as the lab is up
        found = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
        return {each["InstanceId"]: each for each in found if each["State"]["Name"] != "terminated"}

    def clear(self) -> None:
        """Remove what the calls made."""
        if living := list(self.machines().keys() & set(self.machine)):
            self.lab.ec2.terminate_instances(InstanceIds=living)
            eventually(lambda: not self.machines().keys() & set(living), "the machines to end")
            of_them = [{"Name": "attachment.instance-id", "Values": living}]
            eventually(lambda: not self.lab.ec2.describe_network_interfaces(Filters=of_them)["NetworkInterfaces"], "their interfaces to go")
        for group in self.group:
            [found] = self.lab.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
            for way, rules in (("ingress", found["IpPermissions"]), ("egress", found["IpPermissionsEgress"])):
                with suppress(ClientError):
                    getattr(self.lab.ec2, f"revoke_security_group_{way}")(GroupId=group, IpPermissions=rules)
        for kind in ("group", "subnet", "vpc"):
            while getattr(self, kind):
                self.do_delete(kind, 0)


def fence(lab: Any, machine: dict[str, Any], machines: dict[str, dict[str, Any]]) -> str:
    """The rules that a machine must have by what the API says of its groups, as nft lists them."""
    members: dict[str, list[str]] = {}
    for each in machines.values():
        for group in each["SecurityGroups"]:
            members.setdefault(group["GroupId"], []).append(each["PrivateIpAddress"])
    groups = lab.ec2.describe_security_groups(GroupIds=[group["GroupId"] for group in machine["SecurityGroups"]])["SecurityGroups"]

    def allows(rules: list[dict[str, Any]]) -> list[firewall.Allow]:
        found = []
        for rule in rules:
            peers = [IPv4Network(each["CidrIp"]) for each in rule.get("IpRanges", [])]
            peers += [IPv4Network(address) for pair in rule.get("UserIdGroupPairs", []) for address in members.get(pair["GroupId"], [])]
            found += [firewall.Allow(rule["IpProtocol"], (peer,), rule.get("FromPort"), rule.get("ToPort")) for peer in peers]
        return found

    inbound, outbound = (allows([rule for group in groups for rule in group[name]]) for name in ("IpPermissions", "IpPermissionsEgress"))
    return firewall.ruleset(inbound, outbound)


def listed(command: list[str], rules: str | None = None) -> set[str]:
    """The lines of the table of security groups in a machine, or in a new network namespace with `rules`. A machine that boots has none yet."""
    script = "nft -f - && " if rules is not None else ""
    done = subprocess.run(
        [*command, "sh", "-c", f"{script}nft list table inet {firewall.TABLE}"], input=rules, capture_output=True, text=True, check=rules is not None
    )
    return single(done.stdout)


def single(table: str) -> set[str]:
    """The lines of a table with one address each, below their chain: how rules are grouped, and neighbours' addresses into one range, is no matter."""
    found, chain = set(), ""
    for line in map(str.strip, table.splitlines()):
        chain = line if line.startswith("chain") else chain
        head, open_, rest = line.partition("{ ")
        inside, close, tail = rest.partition(" }")
        lines = [f"{head}{peer.strip()}{tail}" for peer in inside.split(",")] if open_ and close else [line]
        found |= {f"{chain} {each}" for one in lines for each in _by_address(one)}
    return found


def _by_address(line: str) -> list[str]:
    if small := re.search(r"[\d.]+/(?:2[89]|3\d)\b", line):
        return [line.replace(small[0], str(each)) for each in IPv4Network(small[0])]
    if row := re.search(r"(\d+(?:\.\d+){3})-(\d+(?:\.\d+){3})", line):
        first, last = map(IPv4Address, row.groups())
        return [line.replace(row[0], str(IPv4Address(each))) for each in range(int(first), int(last) + 1)]
    return [line]


def differences(account: Account) -> list[str]:
    """What is not as the API says."""
    lab, machines, wrong = account.lab.lab, account.machines(), []
    running = {name: each for name, each in machines.items() if each["State"]["Name"] == "running"}
    spaces = {path.name.removeprefix(lab.namespace_prefix) for path in Path("/run/netns").glob(f"{lab.namespace_prefix}*")}
    if spaces != running.keys():
        wrong.append(f"namespaces {spaces}, running {set(running)}")
    disks = {path.name for path in lab.disks.glob("i-*")}
    if disks != machines.keys():
        wrong.append(f"disks {disks}, instances {set(machines)}")
    subnets = account.lab.ec2.describe_subnets()["Subnets"]
    bridges = {lab.vpc_bridge(each["VpcId"]): set() for each in subnets}
    for each in subnets:
        network = IPv4Network(each["CidrBlock"])
        bridges[lab.vpc_bridge(each["VpcId"])].add(f"{network.network_address + 1}/{network.prefixlen}")
    if (found := links.vpc_bridges(lab)) != bridges:
        wrong.append(f"bridges {found}, subnets {bridges}")
    for name in running.keys() & spaces:
        inside = ["nsenter", f"--net=/run/netns/{lab.namespace(name)}"]
        address = json.loads(subprocess.run([*inside, "ip", "-json", "-4", "address", "show", "eth0"], capture_output=True, text=True).stdout or "[{}]")
        if [each["local"] for each in address[0].get("addr_info", [])] != [running[name]["PrivateIpAddress"]]:
            wrong.append(f"{name} has {address}, and should have {running[name]['PrivateIpAddress']}")
        if (has := listed(inside)) != (should := listed(["unshare", "--net"], fence(account.lab, running[name], machines))):
            wrong.append(f"{name}'s fence lacks {should - has}, and has besides {has - should}")
    return wrong


@settings(max_examples=max(5, settings().max_examples // 14), deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # to shrink takes minutes
@given(st.lists(calls, min_size=4, max_size=24))
def test_after_any_calls_machines_wires_and_fences_are_what_the_api_says(lab, sequence):
    account = Account(lab)
    try:
        for first in (("vpc", RANGE), ("subnet", 0, SUBNETS[0]), ("group", 0, "web"), ("run", 0, [0], 1, 1), *sequence):
            account.do(first)
        passing = {"pending", "stopping", "shutting-down"}
        eventually(lambda: not passing & {each["State"]["Name"] for each in account.machines().values()}, "the machines to come to rest", 120)
        with suppress(AssertionError):
            eventually(lambda: not differences(account), "everything to be as the API says")
        assert not differences(account)
        eventually(lambda: not json.loads(lab.lab.trouble_file.read_text()), "no trouble to be left")
    finally:
        account.clear()


def test_a_machine_whose_fence_cannot_be_made_is_named_with_the_reason_and_the_others_go_on(lab, net, launch):
    broken, sound = launch(30).wait("running"), launch(31).wait("running")
    space = Path("/run/netns", lab.lab.namespace(broken.id))
    subprocess.run(["mount", "--bind", "/dev/null", str(space)], check=True)  # its rules can no longer be loaded
    try:
        lab.allow(net.group, 81)
        found = eventually(lambda: [each for each in status.status(lab.lab)["machines"] if each["trouble"]], "status to name the machine")
        assert [each["id"] for each in found] == [broken.id] and "nsenter" in found[0]["trouble"]
        assert f"{broken.id}: not as the API says" in status.status_table(status.status(lab.lab))
        inside = ["nsenter", f"--net=/run/netns/{lab.lab.namespace(sound.id)}"]
        eventually(lambda: any("dport 81" in line for line in listed(inside)), "the other machine's rules")
    finally:
        subprocess.run(["umount", str(space)], check=True)
    eventually(lambda: not any(each["trouble"] for each in status.status(lab.lab)["machines"]), "the next attempt to succeed")
    lab.revoke(net.group, 81)
