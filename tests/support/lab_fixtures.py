"""A lab named `test` for all lab tests of a session, and what they need to make and reach its machines."""

from __future__ import annotations

import atexit
import base64
import fcntl
import io
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import boto3
import paramiko
import pytest
from botocore.config import Config
from ec2lab import access_key
from ec2lab.lifecycle import down
from ec2lab.lifecycle import up as up_bare
from ec2lab.machines.image import DEFAULT
from ec2lab.paths import Lab, find_lab
from ec2lab.status import console_host_keys

from runbook_cli import prerequisites
from runbook_cli.lab import up
from tests.conftest import need

IMAGE_PARAMETER = "/aws/service/debian/release/12/latest/amd64"
NAME, RANGE = os.environ.get("RUNBOOK_TEST_LAB", "test 10.214.0.0/16").split()


def eventually(condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError, EOFError, paramiko.SSHException):
            value = condition()
            if value:
                return value
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class Box:
    """One instance, as its user sees it."""

    client: LabClient
    id: str
    address: str
    key: paramiko.PKey
    _host_keys: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return self.client.ec2.describe_instances(InstanceIds=[self.id])["Reservations"][0]["Instances"][0]

    @property
    def state(self) -> str:
        return self.describe()["State"]["Name"]

    def wait(self, state: str, seconds: float = 240) -> Box:
        eventually(lambda: self.state == state, f"{self.id} {state}", seconds)
        return self

    def gone(self) -> Box:
        """Wait until nothing of the machine is left that a group, a subnet or an address waits for: its interface outlives it."""
        of_it = [{"Name": "attachment.instance-id", "Values": [self.id]}]
        eventually(lambda: not self.wait("terminated").client.ec2.describe_network_interfaces(Filters=of_it)["NetworkInterfaces"], f"{self.id} to be gone")
        return self

    def console(self) -> str:
        return self.client.ec2.get_console_output(InstanceId=self.id).get("Output", "")

    def host_keys(self) -> list[str]:
        """'type key comment' lines of the first boot's console; kept, because a later console has none."""
        self._host_keys = self._host_keys or eventually(lambda: console_host_keys(self.console()), "host keys")
        return self._host_keys

    def connect(self, key: paramiko.PKey | None = None, host_keys: list[str] | None = None) -> paramiko.SSHClient:
        """A session that refuses every host key but the ones from the console."""
        session = paramiko.SSHClient()
        session.set_missing_host_key_policy(paramiko.RejectPolicy())
        for line in host_keys or self.host_keys():
            kind, text = line.split()[:2]
            if kind == "ssh-ed25519":
                pinned = paramiko.Ed25519Key(data=base64.b64decode(text))
                session.get_host_keys().add(self.address, kind, pinned)
        session.connect(
            self.address, username="admin", pkey=key or self.key, look_for_keys=False, allow_agent=False,
            timeout=5, banner_timeout=20, auth_timeout=20,
        )  # fmt: skip
        return session

    def session(self, seconds: float = 240) -> paramiko.SSHClient:
        """The same, once the machine answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.connect()
            except paramiko.BadHostKeyException:
                raise
            except (OSError, EOFError, paramiko.SSHException):  # a refused key too: sshd lets nobody in until the boot has come so far
                assert time.monotonic() < deadline, f"no SSH to {self.id} within {seconds:.0f} s"
                time.sleep(0.1)

    def run(self, command: str, check: bool = True) -> str:
        """Output (both streams) of `command` as the login user."""
        with self.session() as session:
            _, out, _ = session.exec_command(f"exec 2>&1; {command}")
            text = out.read().decode()
            status = out.channel.recv_exit_status()
        assert status == 0 or not check, f"{command} on {self.id}: {status}\n{text}"
        return text

    def booted(self) -> Box:
        """The same, once cloud-init is through."""
        self.run("cloud-init status --wait")
        return self

    def terminate(self) -> None:
        self.client.ec2.terminate_instances(InstanceIds=[self.id])


@dataclass(frozen=True)
class Net:
    """A VPC with one subnet and a group that lets SSH in from everywhere."""

    vpc: str
    subnet: str
    group: str
    prefix: str  # the first three parts of its addresses

    def address(self, host: int) -> str:
        return f"{self.prefix}.{host}"


class LabClient:
    """The lab under test: clients, and verbs to make what tests need."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.aws_config: Path = lab.aws_config
        self.key_of_lab = access_key.read(lab)
        self._numbers = itertools.count(100)
        self.ec2, self.s3, self.ssm, self.sts = map(self.boto3_client, ("ec2", "s3", "ssm", "sts"))
        self.image: str = self.ssm.get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
        self.key_name = "test-key"
        made = self.ec2.create_key_pair(KeyName=self.key_name, KeyType="ed25519")
        self.key = paramiko.Ed25519Key.from_private_key(io.StringIO(made["KeyMaterial"]))

    def boto3_client(self, service: str, region: str = "us-east-1") -> Any:
        config = Config(proxies={}, retries={"total_max_attempts": 1}, signature_version="s3v4" if service == "s3" else None)
        credentials = {"aws_access_key_id": self.key_of_lab.id, "aws_secret_access_key": self.key_of_lab.secret}
        return boto3.client(service, endpoint_url=self.lab.endpoint, region_name=region, config=config, **credentials)

    def net(self) -> Net:
        prefix = f"{self.lab.network.network_address + 256 * next(self._numbers)}".removesuffix(".0")
        vpc = self.ec2.create_vpc(CidrBlock=f"{prefix}.0/24")["Vpc"]["VpcId"]
        subnet = self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"{prefix}.0/24")["Subnet"]["SubnetId"]
        group = self.group(vpc, "ssh")
        self.allow(group, 22)
        return Net(vpc, subnet, group, prefix)

    def internet(self, vpc: str) -> str:
        """Lead everything in a network that has no route of its own to an internet gateway."""
        gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        [table] = self.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}])["RouteTables"]
        self.ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        return gateway

    def elastic_ip(self, box: Box) -> str:
        """Give a machine an Elastic IP, once it runs."""
        made = self.ec2.allocate_address(Domain="vpc")
        self.ec2.associate_address(AllocationId=made["AllocationId"], InstanceId=box.wait("running").id)
        return str(made["PublicIp"])

    def group(self, vpc: str, name: str) -> str:
        return self.ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]

    def permission(self, port: int, source: str = "0.0.0.0/0", protocol: str = "tcp") -> dict[str, Any]:
        """One permission; `source` is a range of addresses or a group."""
        peer = {"UserIdGroupPairs": [{"GroupId": source}]} if source.startswith("sg-") else {"IpRanges": [{"CidrIp": source}]}
        return {"IpProtocol": protocol, "FromPort": port, "ToPort": port, **peer}

    def allow(self, group: str, port: int, source: str = "0.0.0.0/0", protocol: str = "tcp") -> None:
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[self.permission(port, source, protocol)])

    def revoke(self, group: str, port: int, source: str = "0.0.0.0/0", protocol: str = "tcp") -> None:
        self.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[self.permission(port, source, protocol)])

    def request(self, net: Net, host: int, **more: Any) -> dict[str, Any]:
        """The parameters of an ordinary RunInstances."""
        return {
            **{
                "ImageId": self.image,
                "MinCount": 1,
                "MaxCount": 1,
                "InstanceType": "t3.small",
                "KeyName": self.key_name,
            },
            **{"SubnetId": net.subnet, "PrivateIpAddress": net.address(host), "SecurityGroupIds": [net.group]},
            **more,
        }

    def launch(self, net: Net, host: int = 10, **more: Any) -> Box:
        """A new machine (not awaited); `more` goes to RunInstances."""
        made = self.ec2.run_instances(**self.request(net, host, **more))["Instances"][0]
        return Box(self, made["InstanceId"], made["PrivateIpAddress"], self.key)


def require_lab_machine() -> None:
    """Skip where no lab can run."""
    need(os.geteuid() == 0, "not root")
    missing = prerequisites.missing_packages()
    need(not missing, f"Debian packages are missing: {' '.join(missing)}")


def asked_images(items: Iterable[pytest.Item]) -> list[str]:
    """The images that the marks of these tests name; those of tests that are left out are not built."""
    running = [item for item in items if not item.get_closest_marker("skip")]
    return sorted({name for item in running for mark in item.iter_markers("image") for name in mark.args} - {DEFAULT})


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[LabClient]:
    """A lab named `test` (10.214.0.0/16), brought up once and taken down whatever happens; an old one goes first.

    Besides Debian 12 it has the images that the tests of this session ask for by the mark `image`.
    """
    require_lab_machine()
    here = find_lab(NAME, RANGE)
    turn = open(f"/run/lock/runbook-tests-{NAME}", "w")  # noqa: SIM115 (held for the session: one `test` lab on a machine)
    fcntl.flock(turn, fcntl.LOCK_EX)
    down(here, say=lambda text: None)
    atexit.register(down, here, say=lambda text: None)  # also when the session is broken off before the finalizer
    up(here, say=lambda text: None, images=(DEFAULT, *asked_images(request.session.items)))
    yield LabClient(here)
    down(here, say=lambda text: None)
    atexit.unregister(down)
    turn.close()


@pytest.fixture(scope="module")
def any_lab() -> Iterator[Lab]:
    """A lab that takes any networks, beside the one of other tests: its own range is small, and far from theirs."""
    require_lab_machine()
    here = find_lab(f"{NAME[:6]}j", f"{IPv4Address(int(IPv4Network(RANGE).network_address) ^ 0x00800000)}/22")
    down(here, say=lambda text: None)
    up_bare(here, say=lambda text: None, any_network=True)
    yield here
    down(here, say=lambda text: None)


@pytest.fixture(scope="module")
def net(lab: LabClient) -> Net:
    """A network of the module's own."""
    return lab.net()


@pytest.fixture
def launch(lab: LabClient, net: Net) -> Iterator[Callable[..., Box]]:
    """Makes machines in the module's network that go with the test."""
    boxes: list[Box] = []

    def make(host: int = 10, **more: Any) -> Box:
        boxes.append(lab.launch(net, host, **more))
        return boxes[-1]

    yield make
    for box in boxes:
        box.terminate()
    for box in boxes:
        box.gone()
