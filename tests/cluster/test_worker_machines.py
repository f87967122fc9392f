"""A sweep on worker machines that the library makes: twelve deployments on a scheduler and two workers, one of which loses its power on the way.

Each deployment is chapter 01 of the smallest pattern, three real machines of its own: what takes seconds here and is work for each layer, from the
worker's credentials over locks and journals to SSH by pinned keys.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.aws.parameter_store import Vault
from runbook_lib.files import ROOT
from runbook_lib.headless.batch.on_dask import await_workers
from runbook_lib.headless.batch.sweep import Sweep, load_sweep
from runbook_lib.headless.batch.workers import Workers
from runbook_lib.waiting import wait_until
from tests.support.lab_fixtures import LabClient

pytestmark = [pytest.mark.full, pytest.mark.timeout(2700)]
DEPLOYMENTS, AT_ONCE = 12, 6
BLOCK = 160  # the third number of the sweep's VPC, a /20 of the lab's range


class Network:
    """A VPC as a company has it: a subnet for each deployment, whose machines get out through a NAT gateway."""

    def __init__(self, lab: LabClient):
        self.lab, self.first = lab, int(lab.lab.network.network_address) + 256 * BLOCK
        self.range = self._cidr(0, 20)
        self.vpc = str(lab.ec2.create_vpc(CidrBlock=self.range)["Vpc"]["VpcId"])
        public = self._subnet(15)
        lab.internet(self.vpc)
        address = lab.ec2.allocate_address(Domain="vpc")["AllocationId"]
        nat = lab.ec2.create_nat_gateway(SubnetId=public, AllocationId=address)["NatGateway"]["NatGatewayId"]
        assert wait_until(lambda: lab.ec2.describe_nat_gateways(NatGatewayIds=[nat])["NatGateways"][0]["State"] == "available", 60, pause=0.5)
        table = lab.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        lab.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
        self.subnets = {self._subnet(number): self._cidr(number, 24) for number in range(DEPLOYMENTS)}
        for subnet in self.subnets:
            lab.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)

    def _cidr(self, number: int, prefix: int) -> str:
        address = self.first + 256 * number
        return f"{'.'.join(str(address >> shift & 255) for shift in (24, 16, 8, 0))}/{prefix}"

    def _subnet(self, number: int) -> str:
        return str(self.lab.ec2.create_subnet(VpcId=self.vpc, CidrBlock=self._cidr(number, 24))["Subnet"]["SubnetId"])


class Swept:
    """The sweep and what the command line does with it."""

    def __init__(self, lab: LabClient, folder: Path):
        shutil.rmtree(ROOT / "runs/_batches/wm", ignore_errors=True)
        network = Network(lab)
        cloud = {"cloud.aws_config": str(lab.aws_config), "cloud.vpc": network.vpc, "cloud.network": network.range}
        rows = [{"name": f"n{number:02}", "cloud.subnets": {id_: cidr}} for number, (id_, cidr) in enumerate(network.subnets.items(), 1)]
        content = {"sweep": "wm", "params": ["params/greg-single.lab.yaml"], "workers": 2, "set": cloud, "include": rows, "chapters": "01"}
        self.file = self._written(folder / "wm.yaml", {**content, "max_parallel": AT_ONCE})
        self.ends = self._written(folder / "ends.yaml", {**content, "chapters": "", "do": "destroy"})

    def _written(self, file: Path, content: dict[str, Any]) -> Path:
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    @property
    def sweep(self) -> Sweep:
        return load_sweep(self.file)

    def begin(self, *words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "runbook_cli", *map(str, words)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *words: object) -> str:
        process = self.begin(*words)
        said, _ = process.communicate(timeout=1800)  # a lost worker's lock lasts ten minutes
        assert process.returncode == 0, f"{words}\n{said}"
        return said

    @property
    def folder(self) -> Path:
        return max((ROOT / "runs/_batches/wm").glob("2*Z*"), default=ROOT)

    def found(self) -> dict[str, dict[str, Any]]:
        """The rows of the newest batch by name."""
        return {row["name"]: row for row in json.loads((self.folder / "batch.json").read_text())["rows"]}


@pytest.fixture(scope="module")
def swept(lab: LabClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    made = Swept(lab, tmp_path_factory.mktemp("sweep"))
    try:
        made.run("workers", "up", made.file)
        yield made
    finally:
        made.run("batch", made.ends, "--yes")
        made.run("workers", "down", made.file)


@contextmanager
def opened(swept: Swept) -> Iterator[Workers]:
    workers = Workers(swept.sweep)
    yield workers
    workers.close()


def test_a_second_time_changes_nothing(swept: Swept) -> None:
    assert "0 changes on the machines" in swept.run("workers", "up", swept.file)


def test_nothing_is_open_but_ssh_and_dask_s_ports_to_those_who_need_them(swept: Swept, lab: LabClient) -> None:
    groups = lab.ec2.describe_security_groups(Filters=[{"Name": "tag:runbook:deployment", "Values": ["wm-workers"]}])["SecurityGroups"]
    names = {group["GroupId"]: group["GroupName"].removeprefix("wm-workers-") for group in groups}
    here = f"{lab.lab.gateway}/32"
    ways = {
        (names[group["GroupId"]], rule["FromPort"], rule["ToPort"], source.get("CidrIp") or names[source["GroupId"]])
        for group in groups
        for rule in group["IpPermissions"]
        for source in (*rule["IpRanges"], *rule["UserIdGroupPairs"])
    }
    assert ways == {
        *((role, 22, 22, here) for role in ("scheduler", "worker")),
        *(("scheduler", 8786, 8786, source) for source in (here, "worker")),
        ("worker", 8788, 8788, "scheduler"),
    }


def test_a_scheduler_hears_nobody_without_a_certificate_of_the_deployment(swept: Swept) -> None:
    with opened(swept) as workers:
        address = workers.topology.of("scheduler")[0].address
        trusting = ssl.create_default_context(cadata=workers.keys().ca)
        trusting.check_hostname = False
        with (
            socket.create_connection((address, 8786), timeout=10) as plain,
            trusting.wrap_socket(plain) as wrapped,
            pytest.raises(ssl.SSLError, match="certificate"),
        ):
            wrapped.recv(1)


def test_twelve_deployments_survive_a_worker_s_power_cut_and_are_what_this_machine_makes(swept: Swept, lab: LabClient) -> None:
    with opened(swept) as workers:
        batch = swept.begin("batch", swept.file, "--scheduler", workers.address)
        try:
            assert wait_until(lambda: ended_on(swept).count("worker-1") >= 2 and interrupted(workers), 400, pause=0.5), "worker-1 did some, and is at others"
            workers.cloud.power_cut("worker-1")
            before = set(ended(swept))
            said, _ = batch.communicate(timeout=1800)  # a lost worker's lock lasts ten minutes
        finally:
            batch.kill()
        assert batch.returncode == 0, said
        by_dask = swept.found()
        assert len(by_dask) == DEPLOYMENTS and {row["state"] for row in by_dask.values()} == {"verified"}, said
        assert {row["worker"].partition(":")[0] for name, row in by_dask.items() if name not in before} == {"worker-2"}
        assert sorted(ended(swept)) == sorted(by_dask), "each row ended once"
        machines = lab.ec2.describe_instances(Filters=[{"Name": "tag:runbook:deployment", "Values": list(by_dask)}])["Reservations"]
        assert len([one for each in machines for one in each["Instances"]]) == 3 * DEPLOYMENTS, "every machine was launched once"
        assert not [name for name in by_dask if "lock" in Vault(workers.cloud.aws.client("ssm"), name).names()], "every lock was given back"
        workers.cloud.start("worker-1")
        assert wait_until(lambda: workers.instances()["worker-1"].running, 60, pause=0.5)
        workers.wait_for_ssh(["worker-1"])
        lost = interrupted(workers)
        assert lost and not lost.keys() & before, "it had runs that did not end"
        for name, last in lost.items():
            assert last < journal_of(by_dask[name])[0]["utc"], f"{name} was gone on with when nobody was at it any more"
        await_workers(workers.address, workers.keys(), 2)
    swept.run("batch", swept.file)
    here = swept.found()
    assert {name: same(row) for name, row in here.items()} == {name: same(row) for name, row in by_dask.items()}
    assert all(row["checks"] > 5 for row in here.values())


def ended(swept: Swept) -> list[str]:
    """The rows that have ended, in order."""
    return [row["name"] for row in _lines(swept)]


def ended_on(swept: Swept) -> list[str]:
    """The machine of each row that has ended."""
    return [str(row["worker"]).partition(":")[0] for row in _lines(swept)]


def _lines(swept: Swept) -> list[dict[str, Any]]:
    file = swept.folder / "batch.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [row for row in rows if row["event"] == "outcome"]


def interrupted(workers: Workers) -> dict[str, str]:
    """The deployments whose newest run on worker-1 did not end, each with the time of its last line."""
    script = (
        "for one in /opt/runbook/source/runs/wm-n*/2*Z*; do [ -e $one/result.json ] || echo $(basename $(dirname $one)) $(tail -n 1 $one/journal.jsonl); done"
    )
    lines = workers.fleet()["worker-1"].run(f"sudo sh -c '{script}'").stdout.splitlines()
    return {name: json.loads(last)["utc"] for name, _, last in (line.partition(" ") for line in lines)}


def journal_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / row["report"]).with_name("journal.jsonl").read_text().splitlines()]


def same(row: dict[str, Any]) -> tuple[Any, ...]:
    """What must not depend on where a row was done."""
    return row["state"], row["ok"], row["words"], row["passed"], row["checks"]
