"""A deployment's life with real machines, as a user who has docs/iam/operator.json and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runbook_lib.aws.client import Aws
from runbook_lib.errors import CloudError
from runbook_lib.headless.batch import evidence
from runbook_lib.headless.doctor import account
from runbook_lib.launch import teardown
from runbook_lib.launch.cloud import Cloud
from runbook_lib.spec.loader import load_spec
from tests.conftest import ROOT
from tests.support.deployments import in_lab, made, network
from tests.support.iam_user import operator_policy, user_with


def test_a_deployment_lives_and_goes_with_the_operator_s_policy(lab: Any, tmp_path: Path) -> None:
    config = user_with(operator_policy(), lab.lab.endpoint, tmp_path, lab.key_of_lab)

    def cloud(**more: Any) -> Cloud:
        settings = {"deployment": "held", "cloud.aws_config": str(config), "cloud.network": network(lab, 60), "nodes.store": 1, "nodes.publisher": 1}
        return Cloud(load_spec(ROOT / "params/greg-separated.lab.yaml", settings | {key.replace("__", "."): value for key, value in more.items()}))

    cloud().apply()
    try:
        assert cloud().verify().ok
        before = {name: (machine.id, machine.state) for name, machine in cloud().describe().items()}
        lacking = [str(finding) for finding in account.findings(cloud()) if finding.needed and not finding.ok]
        assert not lacking, "\n".join(lacking)
        assert {name: (machine.id, machine.state) for name, machine in cloud().describe().items()} == before, "a dry run changes nothing"
        cloud(cloud__instance_type={"store": "t3.large"}, nodes__store=2).apply()
        assert cloud(cloud__instance_type={"store": "t3.large"}, nodes__store=2).verify().ok
        cloud().apply()
        cloud().power_cut("publisher-1")
        cloud().apply()
        assert cloud().verify().ok
        vpc = lab.ec2.create_vpc(CidrBlock="10.9.0.0/24")["Vpc"]["VpcId"]
        with pytest.raises(CloudError, match="UnauthorizedOperation"):
            cloud().aws.client("ec2").delete_vpc(VpcId=vpc)
    finally:
        gone = teardown.destroy(cloud())
    assert gone.ok, str(gone)


def test_a_batch_is_refused_before_it_begins_where_its_evidence_may_not_go(lab: Any, tmp_path: Path) -> None:
    lab.s3.create_bucket(Bucket="not-for-us")
    mine = user_with(operator_policy(), lab.lab.endpoint, tmp_path, lab.key_of_lab)
    spec = load_spec(ROOT / "params/greg-single.lab.yaml", {"cloud.aws_config": str(mine)})
    with pytest.raises(CloudError, match="evidence does not get into s3://not-for-us") as refused:
        evidence.announce("nightly", "s3://not-for-us/sweeps", Aws(spec.cloud))
    assert "AccessDenied" in str(refused.value)
    assert not lab.s3.list_objects_v2(Bucket="not-for-us").get("Contents")
    lab.s3.delete_bucket(Bucket="not-for-us")


@pytest.mark.full
def test_every_chapter_runs_with_the_operator_s_policy(lab: Any, tmp_path: Path) -> None:
    config = user_with(operator_policy(), lab.lab.endpoint, tmp_path, lab.key_of_lab)
    with made(in_lab(lab, "greg-single", "held-single", 61, cloud__aws_config=str(config)), "--yes") as deployed:
        assert deployed.result["ok"]
        assert deployed.cli("doctor").returncode == 0
        gone = deployed.cli("destroy", "--yes")
    assert gone.returncode == 0, gone.stdout + gone.stderr


def test_an_interface_carries_the_tags_of_its_launch(lab: Any, net: Any, launch: Any) -> None:
    tags = [{"Key": "runbook:deployment", "Value": "held"}]
    box = launch(46, TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}])
    [interface] = lab.ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [box.id]}])["NetworkInterfaces"]
    assert interface["TagSet"] == tags
