"""What the lab costs: image, machines, memory, down, and resuming from an image.

Brings up a lab of its own (name `bench`, 10.219.0.0/16), measures, takes it down, and prints a section of
docs/performance.md; with --write it puts it there. SSH-ready means: host key read from the console, session opened with
a strict policy, a command answered.

    sudo .venv/bin/python benchmarks/lab.py [--write] [--image] [--machines 20]
"""

from __future__ import annotations

import argparse
import io
import os
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import page  # noqa: E402
from ec2lab import lifecycle, status  # noqa: E402
from ec2lab.machines import image  # noqa: E402
from ec2lab.paths import CACHE, Lab, find_lab  # noqa: E402

PARAMETER = "/aws/service/debian/release/12/latest/amd64"


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


class Bench:
    """A lab with one network whose machines are measured."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.ec2 = lab, lifecycle.client(lab, "ec2")
        self.image = lifecycle.client(lab, "ssm").get_parameter(Name=PARAMETER)["Parameter"]["Value"]
        vpc = self.ec2.create_vpc(CidrBlock="10.219.1.0/24")["Vpc"]["VpcId"]
        self.subnet = self.ec2.create_subnet(VpcId=vpc, CidrBlock="10.219.1.0/24")["Subnet"]["SubnetId"]
        self.group = self.ec2.create_security_group(GroupName="ssh", Description="ssh", VpcId=vpc)["GroupId"]
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[ssh])
        material = self.ec2.create_key_pair(KeyName="bench", KeyType="ed25519")["KeyMaterial"]
        self.key = paramiko.Ed25519Key.from_private_key(io.StringIO(material))

    def launch(self, count: int, image_id: str | None = None) -> dict[str, str]:
        """Instance ids and addresses of `count` new machines, one RunInstances each."""
        made = {}
        for number in range(count):
            answer = self.ec2.run_instances(
                ImageId=image_id or self.image, MinCount=1, MaxCount=1, InstanceType="t3.small", KeyName="bench",
                SubnetId=self.subnet, SecurityGroupIds=[self.group], PrivateIpAddress=f"10.219.1.{10 + number}",
            )["Instances"][0]  # fmt: skip
            made[answer["InstanceId"]] = answer["PrivateIpAddress"]
        return made

    def await_ssh(self, machines: dict[str, str]) -> None:
        """Until every machine has answered a command over SSH with its published key."""
        threads = [threading.Thread(target=self._await_one, args=each) for each in machines.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _await_one(self, instance_id: str, address: str) -> None:
        while not (keys := status.console_host_keys(self._console(instance_id))):
            time.sleep(0.1)
        with tempfile.NamedTemporaryFile("w") as known:
            known.writelines(f"{address} {line}\n" for line in keys)
            known.flush()
            while True:
                with paramiko.SSHClient() as session:
                    session.load_host_keys(known.name)
                    session.set_missing_host_key_policy(paramiko.RejectPolicy())
                    try:
                        session.connect(address, username="admin", pkey=self.key, look_for_keys=False, allow_agent=False)
                    except (OSError, EOFError, paramiko.SSHException):
                        time.sleep(0.1)
                        continue
                    session.exec_command("true")[1].channel.recv_exit_status()
                    return

    def _console(self, instance_id: str) -> str:
        return str(self.ec2.get_console_output(InstanceId=instance_id).get("Output", ""))

    def terminate(self, machines: dict[str, str]) -> None:
        self.ec2.terminate_instances(InstanceIds=list(machines))
        of_them = [{"Name": "attachment.instance-id", "Values": list(machines)}]  # which hold the addresses a moment longer
        while self.ec2.describe_network_interfaces(Filters=of_them)["NetworkInterfaces"]:
            time.sleep(0.05)

    def idle_memory(self, machines: dict[str, str]) -> float:
        return statistics.mean(status.memory_mb(self.lab, each) or 0 for each in machines)

    def rule_seconds(self, address: str) -> float:
        """From the answer to a permission until the machine refuses (no longer drops) a connection to that port."""
        rule = {"IpProtocol": "tcp", "FromPort": 81, "ToPort": 81, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[rule])
        began = time.perf_counter()
        while True:
            try:
                socket.create_connection((address, 81), timeout=0.02)
            except ConnectionRefusedError:
                return time.perf_counter() - began
            except OSError:
                continue


def build_image() -> float:
    """Seconds to build the image from nothing, in a temporary cache."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        image.CACHE = Path(folder)
        return timed(lambda: image.ensure(lambda text: None))


def measure(lab: Lab, many: int) -> list[tuple[str, str]]:
    rows = [("`lab up`, image and packs cached", f"{timed(lambda: lifecycle.up(lab, say=lambda text: None)):.1f} s")]
    bench = Bench(lab)

    def launch_and_wait(count: int) -> dict[str, str]:
        machines = bench.launch(count)
        bench.await_ssh(machines)
        return machines

    def measured(count: int) -> tuple[float, dict[str, str]]:
        began = time.perf_counter()
        machines = launch_and_wait(count)
        return time.perf_counter() - began, machines

    bench.terminate(launch_and_wait(1))  # the image's files are now in memory, as they are for any second machine
    one, machines = measured(1)
    rows.append(("one machine, RunInstances to SSH-ready", f"{one:.1f} s"))
    rows.append(("a security group's new rule in force", f"{bench.rule_seconds(next(iter(machines.values()))):.2f} s"))
    bench.terminate(machines)
    six, shares, costs = [], [], []
    for _ in range(3):
        free = available_mb()
        seconds, machines = measured(6)
        six.append(seconds)
        time.sleep(5)
        shares.append(bench.idle_memory(machines))
        costs.append((free - available_mb()) / 6)
        bench.terminate(machines)
    rows.append(("six machines, RunInstances to SSH-ready (median of three; target 5 s)", f"{statistics.median(six):.1f} s"))
    rows.append(("memory of an idle machine: what six take of the host's, each", f"{statistics.median(costs):.0f} MB"))
    rows.append(("the same, as `lab status` shows it (proportional set size)", f"{statistics.median(shares):.0f} MB"))
    seconds, machines = measured(many)
    rows.append((f"{many} machines, RunInstances to SSH-ready", f"{seconds:.1f} s"))
    bench.terminate(machines)
    rows += resume(bench)
    bench.await_ssh(bench.launch(6))
    rows.append(("`lab down` with six machines", f"{timed(lambda: lifecycle.down(lab, say=lambda text: None)):.1f} s"))
    return rows


def resume(bench: Bench) -> list[tuple[str, str]]:
    """CreateImage of a stopped machine, and a new machine from it."""
    (source, address), *_ = bench.launch(1).items()
    bench.await_ssh({source: address})
    bench.ec2.stop_instances(InstanceIds=[source])
    bench.ec2.get_waiter("instance_stopped").wait(InstanceIds=[source], WaiterConfig={"Delay": 1})
    made: dict[str, str] = {}

    def create() -> None:
        made["image"] = bench.ec2.create_image(InstanceId=source, Name="bench")["ImageId"]
        bench.ec2.get_waiter("image_available").wait(ImageIds=[made["image"]], WaiterConfig={"Delay": 1})

    creation = timed(create)
    bench.terminate({source: address})
    machines: dict[str, str] = {}

    def start() -> None:
        machines.update(bench.launch(1, made["image"]))
        bench.await_ssh(machines)

    seconds = timed(start)
    bench.terminate(machines)
    return [
        ("CreateImage of a stopped machine", f"{creation:.2f} s"),
        ("a machine from that image, to SSH-ready", f"{seconds:.1f} s"),
    ]


def available_mb() -> float:
    return int(re.findall(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[0]) / 1024


def table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the section into docs/performance.md")
    parser.add_argument("--image", action="store_true", help="also build the image from nothing")
    parser.add_argument("--machines", type=int, default=20, help="how many machines at once (20)")
    options = parser.parse_args()
    lab, load = find_lab("bench", "10.219.0.0/16"), os.getloadavg()[0]
    try:
        rows = measure(lab, options.machines)
    finally:
        lifecycle.down(lab, say=lambda text: None)
    if options.image:
        rows.insert(0, ("first build of the machines' image", f"{build_image():.0f} s"))
    text = page.section("lab", "The lab", table(rows), load)
    print(text)
    if options.write:
        page.write(text)


if __name__ == "__main__":
    main()
