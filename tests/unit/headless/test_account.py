"""What the doctor asks an AWS account before a launch: each question with what turns it red, and the rights one by one."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ec2lab.api.policies import Policy, as_list, statements

from runbook_lib.errors import CloudError
from runbook_lib.headless.doctor import account as questions
from runbook_lib.headless.doctor import permissions
from runbook_lib.headless.doctor.finding import Finding
from runbook_lib.launch import teardown
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.inventory import DEPLOYMENT, by_tag
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology import prices
from runbook_lib.topology.cost import monthly_cost
from tests.conftest import ROOT
from tests.support.iam_user import EVERYTHING, operator_policy, recorded, user_with

pytest_plugins = ["tests.support.aws_endpoint", "tests.support.aws_account"]
MakeCloud = Callable[..., Cloud]


@pytest.fixture
def cloud_of(account: Any, endpoint: str, tmp_path: Path) -> MakeCloud:
    """`cloud_of(policy, cloud__region="eu-west-1")`: greg-single, seen by a user who has the policy."""

    def make(policy: Policy = EVERYTHING, **overrides: Any) -> Cloud:
        own = {"deployment": "examined", "cloud.aws_config": str(user_with(policy, endpoint, tmp_path)), "cloud.connect_via": "public"}
        own["cloud.operator_cidr"] = "198.51.100.7/32"
        return Cloud(load_spec(ROOT / "params/greg-single.lab.yaml", own | {key.replace("__", "."): value for key, value in overrides.items()}))

    return make


def found(cloud: Cloud) -> dict[str, Finding]:
    return {finding.what: finding for finding in questions.findings(cloud)}


def test_an_account_that_has_everything_is_told_so(cloud_of: MakeCloud) -> None:
    answers = found(cloud_of())
    assert list(answers) == [
        "image",
        "security updates of the image",
        "instance types",
        "vCPUs of running machines",
        "VPCs",
        "Elastic IPs",
        "NAT gateways in one zone",
        "operator's address",
        "rights",
        "prices",
    ]
    assert not [str(finding) for finding in answers.values() if finding.needed and not finding.ok]
    assert "can be asked for only when chapter 01 has made" in answers["rights"].words
    assert "1 more to come" in answers["VPCs"].words
    assert "2 more to come" in answers["Elastic IPs"].words, "Nginx and the NAT gateway"
    assert answers["prices"].words.startswith(f"on AWS about US$ {monthly_cost(cloud_of().topology).total:,.2f} per month")


def test_a_launch_without_public_addresses_takes_one_for_the_nat_gateway_and_none_in_an_existing_network(cloud_of: MakeCloud) -> None:
    assert "1 more to come" in found(cloud_of(cloud__connect_via="private"))["Elastic IPs"].words
    existing = {"cloud__vpc": "vpc-0123456789abcdef0", "cloud__subnets": {"subnet-0123456789abcdef0": "10.213.2.0/24"}}
    answers = found(cloud_of(cloud__connect_via="private", **existing))
    assert "0 more to come" in answers["Elastic IPs"].words and "0 more to come" in answers["VPCs"].words


def test_a_key_is_tried(account: Any, cloud_of: MakeCloud) -> None:
    kms = cloud_of().aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    assert found(cloud_of(operator_policy(), cloud__kms_key=key))["KMS key"].ok
    assert "kms:DescribeKey" in found(cloud_of(without("kms:DescribeKey"), cloud__kms_key=key))["KMS key"].fix
    kms.disable_key(KeyId=key)
    assert "the key is Disabled" in found(cloud_of(cloud__kms_key=key))["KMS key"].words


BREAKS: dict[str, tuple[str, dict[str, Any], str, str]] = {  # what is wrong: the finding, parameters, its words, its fix
    "an image that is not there": (
        "image",
        {"cloud__image": "ami-0123456789abcdef0", "cloud__login_user": "admin"},
        "ami-0123456789abcdef0",
        "see the message",
    ),
    "a type that no zone offers": ("instance types", {"cloud__instance_type": {"greg": "z9.huge"}}, "z9.huge is not offered", "another type"),
    "a zone that does not exist": ("instance types", {"cloud__availability_zone": "us-east-1z"}, "us-east-1z is not a zone", "one of us-east-1a"),
}


@pytest.mark.parametrize("case", BREAKS.values(), ids=BREAKS)
def test_what_is_missing_is_told_with_the_next_step(cloud_of: MakeCloud, case: tuple[str, dict[str, Any], str, str]) -> None:
    what, overrides, words, fix = case
    finding = found(cloud_of(**overrides))[what]
    assert not finding.ok and finding.needed and words in finding.words and fix in finding.fix, str(finding)


@pytest.mark.parametrize(
    ("what", "code"),
    [("vCPUs of running machines", "L-1216C47A"), ("VPCs", "L-F678F1CE"), ("Elastic IPs", "L-0263D0A3"), ("NAT gateways in one zone", "L-FE5A380F")],
)
def test_a_quota_that_a_launch_would_exceed_is_told(cloud_of: MakeCloud, monkeypatch: pytest.MonkeyPatch, what: str, code: str) -> None:
    from ec2lab.api.patches import account as corrected

    cloud = cloud_of()
    used = int(found(cloud)[what].words.split()[0])
    monkeypatch.setitem(corrected.QUOTAS, code, float(used))
    finding = found(cloud)[what]
    assert not finding.ok and finding.needed and code in finding.fix


def test_quotas_that_cannot_be_read_are_no_obstacle(cloud_of: MakeCloud) -> None:
    finding = found(cloud_of(without("servicequotas:GetServiceQuota")))["Elastic IPs"]
    assert not finding.ok and not finding.needed and "cannot be read" in finding.words


@pytest.mark.slow
def test_the_vcpus_of_what_runs_already_are_not_counted_twice(cloud_of: MakeCloud) -> None:
    cloud = cloud_of()
    cloud.apply()
    assert ", 0 more to come" in found(cloud)["vCPUs of running machines"].words and ", 0 more to come" in found(cloud)["VPCs"].words
    assert ", 0 more to come" in found(cloud)["Elastic IPs"].words and ", 0 more to come" in found(cloud)["NAT gateways in one zone"].words
    assert teardown.destroy(cloud).ok


def without(*actions: str) -> dict[str, Any]:
    """The operator's policy without these actions."""
    policy = json.loads(json.dumps(operator_policy()))
    for statement in policy["Statement"]:
        statement["Action"] = [each for each in as_list(statement["Action"]) if each not in actions] or ["none:nothing"]
    return dict(policy)


LACKING = ("ec2:CreateVpc", "ec2:DescribeVolumes", "ec2:TerminateInstances", "ec2:RunInstances", "ec2:DeleteTags", "ssm:PutParameter", "ssm:DeleteParameters")


@pytest.mark.slow
def test_a_right_that_is_lacking_is_named_and_the_others_are_not(cloud_of: MakeCloud) -> None:
    cloud_of().apply()
    for action in LACKING:
        cloud = cloud_of(without(action))
        lacking = [finding for finding in permissions.findings(cloud) if not finding.ok]
        assert [finding.what for finding in lacking] == [f"right {action}", "rights"], [str(each) for each in lacking]
        assert action in lacking[0].words and "docs/iam/operator.json" in lacking[0].fix
    assert teardown.destroy(cloud_of()).ok


@pytest.mark.slow
def test_every_right_of_the_policy_is_asked_for_once_the_deployment_is_there_and_nothing_is_changed(account: Any, cloud_of: MakeCloud) -> None:
    cloud = cloud_of()
    cloud.apply()
    [vpc] = account["ec2"].describe_vpcs(Filters=by_tag("examined"))["Vpcs"]
    interfaces = account["ec2"].describe_network_interfaces(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["NetworkInterfaces"]
    tags = [{"Key": DEPLOYMENT, "Value": "examined"}]  # moto gives interfaces no tags at a launch
    account["ec2"].create_tags(Resources=[interface["NetworkInterfaceId"] for interface in interfaces], Tags=tags)
    before = cloud.vault.names(), cloud.describe()
    with recorded() as asked:
        [told] = permissions.findings(cloud)
    count = len(permissions.table()["dry_runs"]) + len(permissions.table()["calls"])
    assert told.words == f"{count} of {count} that were tried are there"
    assert (cloud.vault.names(), cloud.describe()) == before and not cloud.plan()
    in_policy = {action for statement in statements(operator_policy()) for action in as_list(statement["Action"])}
    excused = {action for action in in_policy if action in permissions.table()["not_asked"] or action.partition(":")[0] in permissions.table()["not_asked"]}
    assert {question.action for question in asked} == in_policy - excused
    assert teardown.destroy(cloud).ok


def test_prices_are_told_when_they_are_old_or_of_another_region(monkeypatch: pytest.MonkeyPatch) -> None:
    of = datetime.date.fromisoformat(prices.prices()["as_of"])
    assert prices.stale("us-east-1", of + datetime.timedelta(days=180)) == ""
    assert "181 days old" in prices.stale("us-east-1", of + datetime.timedelta(days=181))
    assert "xx-nowhere-1" in prices.stale("xx-nowhere-1", of)


def test_a_question_that_the_account_does_not_answer_is_a_finding(cloud_of: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(cloud: Cloud) -> str:
        raise CloudError("cannot find out this machine's public address", None, "give cloud.operator_cidr")

    monkeypatch.setattr(Cloud, "operator_cidr", refuse)
    finding = found(cloud_of())["operator's address"]
    assert not finding.ok and "give cloud.operator_cidr" in str(finding)
