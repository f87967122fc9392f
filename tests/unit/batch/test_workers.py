"""The machines of a sweep's workers: which there are, who reaches them, what they may do, and what they are sent. tests/cluster has real ones."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

from runbook_lib.aws.client import Aws
from runbook_lib.converge.resources import File
from runbook_lib.errors import RunbookError
from runbook_lib.headless.batch import workers as made_of
from runbook_lib.headless.batch.sweep import load_sweep
from runbook_lib.headless.batch.workers import Workers
from runbook_lib.headless.terminal import Terminal
from runbook_lib.launch import teardown
from runbook_lib.pki import certificates, names_of
from runbook_lib.roles import worker
from runbook_lib.roles.context import Download
from runbook_lib.spec.sections import CloudSpec
from runbook_lib.topology.model import topology_of
from runbook_lib.topology.workers import workers_of
from tests.fakes import Placeholders
from tests.support.existing_network import Account

pytest_plugins = ["tests.support.aws_endpoint"]
IN_VPC = {"cloud.vpc": "vpc-0123456789abcdef0", "cloud.network": "10.50.0.0/16"}
ROWS = [{"name": f"n{n}", "cloud.subnets": {f"subnet-0123456789abcde{n:02}": f"10.50.{n}.0/24"}} for n in range(3)]
Sweeping = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, aws_config: Path) -> Sweeping:
    def written(**keys: Any) -> Path:
        file = tmp_path / "sweep.yaml"
        content = {"sweep": "wide", "params": ["greg-single.lab.yaml"], "workers": 2, **keys}
        content["set"] = {"cloud.aws_config": str(aws_config), "cloud.operator_cidr": "10.9.0.7/32", **content.get("set", {})}
        file.write_text(yaml.safe_dump(content))
        return file

    return written


@pytest.fixture
def workers(write: Sweeping, machines: None, aws_config: Path) -> Iterator[Workers]:
    network = Account(Aws(CloudSpec(aws_config=str(aws_config))).client("ec2"))
    subnets = {network.private: "10.50.1.0/24"}
    found = Workers(load_sweep(write(set={**IN_VPC, "cloud.vpc": network.vpc, "cloud.subnets": subnets}, include=[{"name": "one", "clustering": True}])))
    yield found
    teardown.destroy(found.cloud)


def test_without_dask_no_machine_is_made(write: Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(made_of, "Workers", lambda sweep: pytest.fail("the cloud is asked"))
    with pytest.raises(RunbookError, match="Dask is not installed here"):
        made_of.up(load_sweep(write(set=IN_VPC, include=ROWS)), Terminal())


def test_they_have_addresses_beside_a_deployment_s_own_and_rows_in_a_vpc_need_no_networks(write: Sweeping) -> None:
    beside = load_sweep(write(set=IN_VPC, include=ROWS))
    assert [row.spec.cloud.network for row in beside.rows] == ["10.50.0.0/16"] * 3 and not beside.networks
    first, most = beside.rows[0].spec, workers_of(beside.rows[0].spec, "wide-workers", 25)
    theirs = [node.address for node in topology_of(first.model_copy(update={"cloud": first.cloud.model_copy(update={"probe": True})})).nodes]
    ours = [node.address for node in most.nodes]
    assert len({*ours, *theirs}) == len(ours) + len(theirs)
    assert all(ipaddress.ip_address(address) in list(ipaddress.ip_network("10.50.0.0/25"))[4:-1] for address in ours), "also in the smallest subnet"


def test_a_sweep_without_workers_and_one_whose_machines_nobody_reaches_are_refused(write: Sweeping) -> None:
    with pytest.raises(RunbookError, match="workers: 2"):
        Workers(load_sweep(write(workers=None)))
    with pytest.raises(RunbookError, match=r"cloud\.connect_via"):
        Workers(load_sweep(write(set={"cloud.connect_via": "public"})))
    with pytest.raises(RunbookError, match=r"cloud\.vpc"):
        Workers(load_sweep(write()))


def test_their_life_in_the_cloud(workers: Workers) -> None:
    cloud, iam = workers.cloud, workers.cloud.aws.client("iam")
    cloud.apply()
    assert not cloud.plan() and cloud.verify().ok
    assert sorted(cloud.describe()) == ["scheduler-1", "worker-1", "worker-2"]
    stored = set(workers.vault.names())
    assert not {name for name in stored if name.startswith(("db/", "tier-key/", "carbon"))}, "nothing of the product"
    [certificate] = certificates(workers.keys().certificate)
    assert names_of(certificate) == ("operator",)
    policy = iam.get_role_policy(RoleName="runbook-wide-workers-us-east-1", PolicyName="operator")["PolicyDocument"]
    actions = {
        action for statement in policy["Statement"] for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert "ec2:RunInstances" in actions and not [action for action in actions if action.startswith("iam:")], "nobody makes himself more rights"
    assert teardown.destroy(cloud).ok
    assert not [role for role in iam.list_roles()["Roles"] if "wide-workers" in role["RoleName"]]


def test_the_role_has_the_pack_s_bucket_and_the_existing_network(write: Sweeping) -> None:
    from runbook_lib.launch.instance_profile import _policy

    found = Workers(load_sweep(write(set={**IN_VPC, "product.pack": "s3://mine/wso2greg-5.1.0.zip"}, include=ROWS)))
    text = json.dumps(_policy(found.cloud.inventory()))
    assert "arn:aws:s3:::mine/*" in text and "runbook-packs" not in text and "vpc/vpc-0123456789abcdef0" in text


def test_the_key_of_a_machine_is_its_service_s_and_no_aws_key_is_sent(workers: Workers, aws_config: Path) -> None:
    config = workers._aws_config()
    assert "endpoint_url" in config and "region" in config and "aws_access_key_id" not in config and "secret" not in config
    secrets = Placeholders(
        {"tls/worker-1": "-----BEGIN PRIVATE KEY-----\nPRIVATE\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nX\n-----END CERTIFICATE-----\n"}
    )
    stages = worker.desired(workers.topology.node("worker-1"), workers.topology, secrets, Download("a" * 64), Download("b" * 64), config)
    files = {each.path: each for stage in stages for each in stage.resources if isinstance(each, File)}
    holding = [path for path, file in files.items() if b"PRIVATE" in file.content]
    key = files["/etc/runbook/key.pem"]
    assert holding == [key.path] and (key.mode, key.owner, key.secret) == (0o400, "runbook:runbook", True)
    unit = files["/etc/systemd/system/runbook-dask.service"].content.decode()
    assert f"worker tls://{workers.topology.node('scheduler-1').address}:8786 --no-nanny" in unit
    assert f"install -D -m 644 /etc/runbook/aws-config {aws_config}" in unit, "where the deployments' parameters name it"


def test_the_same_files_are_the_same_archive_with_the_library_and_the_chapters_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = []
    for name in ("one", "two"):
        monkeypatch.setattr(made_of, "ARCHIVES", tmp_path / name)
        archives.append(made_of._source())
    assert archives[0].read_bytes() == archives[1].read_bytes()
    names = set(ZipFile(archives[0]).namelist())
    assert {"runbook_lib/headless/batch/job.py", "runbook_lib/spec/glossary.yaml", "notebooks/01_launch_ec2.ipynb", "docs/iam/operator.json"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_an_image_whose_python_is_not_known_is_refused() -> None:
    with pytest.raises(RunbookError, match=r"debian-12, debian-13, ubuntu-24\.04"):
        made_of._packages("debian-11")
