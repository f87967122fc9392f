"""docs/iam/operator.json is enough, and no more than is needed: the cloud side of a deployment's life, as a user who has just this policy."""

from __future__ import annotations

import itertools
import json
import re
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ec2lab.api.policies import Question, allowed, as_list, statements

from runbook_lib.aws import packs, session_manager
from runbook_lib.aws.lock import Lock
from runbook_lib.aws.s3 import staging
from runbook_lib.aws.s3.backup_store import Backup, BackupPart, BackupStore
from runbook_lib.errors import CloudError, HostError
from runbook_lib.headless.doctor.account import findings as examine_account
from runbook_lib.launch import instance_profile, teardown
from runbook_lib.launch.cloud import Cloud
from runbook_lib.spec.loader import load_spec
from tests.conftest import ROOT
from tests.support.existing_network import Account
from tests.support.iam_user import EVERYTHING, operator_policy, recorded, user_with, words_of
from tests.support.made_once import made_once
from tests.support.sessions import data_channels

pytest_plugins = ["tests.support.aws_endpoint", "tests.support.aws_account"]
OPERATOR = {"cloud.operator_cidr": "198.51.100.7/32"}
POLICY = operator_policy()
TAG = "runbook:deployment"
AGENT = {"url": "https://agents.example.com/agent.deb", "sha256": "AB" * 32}
NUMBERS = itertools.count(1)


def live_a_life(config: Path, name: str, root: Any, folder: Path) -> None:
    """What the chapters do in the cloud, from the first look to the tear-down. `root` is the account's: it causes drift and remains."""

    def cloud(pattern: str = "greg-separated", **more: Any) -> Cloud:
        settings = {"deployment": name, "cloud.aws_config": str(config), "cloud.connect_via": "public", "cloud.tags": {"team": "integration"}, **OPERATOR}
        return Cloud(load_spec(ROOT / f"params/{pattern}.lab.yaml", settings | {key.replace("__", "."): value for key, value in more.items()}))

    first = cloud()
    first.identity()
    _doctor(first)
    with Lock(first.vault, "somebody"):
        first.apply()
    assert cloud().verify().ok and not cloud().plan()
    _doctor(first)
    _packs(first, folder)
    _backups(first)
    _drift(cloud(), root)
    assert cloud().plan()
    cloud().apply()
    cloud(cloud__instance_type={"store": "t3.large"}).apply()
    cloud(nodes__store=3).apply()
    cloud(cloud__disk_gb=24).apply()
    cloud(cloud__disk_gb=24, cloud__connect_via="private").apply()
    scaled_in = cloud(cloud__disk_gb=24, cloud__termination_protection=True)
    scaled_in.apply()
    scaled_in.tag("store-1", "runbook:first-boot", "now")
    scaled_in.untag("store-1", "runbook:first-boot")
    scaled_in.power_cut("store-1")
    scaled_in.start("store-1")
    scaled_in.launch_probe()
    scaled_in.terminate_probe()
    _remains(scaled_in, root)
    assert teardown.destroy(scaled_in).ok
    _session_manager(lambda **more: cloud("greg-single", deployment=f"{name}-2", cloud__network="10.213.9.0/24", **more), root)


def live_in_an_existing_network(config: Path, name: str, network: Account) -> None:
    """What the chapters do in a VPC of somebody else, with subnets in two zones, from the first look to the tear-down."""

    def cloud(**more: Any) -> Cloud:
        settings = {"deployment": name, "cloud.aws_config": str(config), **network.parameters, "cloud.subnets": subnets_of(network)}
        return Cloud(load_spec(ROOT / "params/greg-separated.lab.yaml", settings | {key.replace("__", "."): value for key, value in more.items()}))

    first = cloud()
    _doctor(first)
    first.apply()
    assert cloud().verify().ok and not cloud().plan()
    _doctor(first)
    _drift_of_rules(first, network.ec2)
    assert cloud().plan()
    cloud(nodes__store=3).apply()
    scaled_in = cloud()
    scaled_in.apply()
    scaled_in.power_cut("store-1")
    scaled_in.start("store-1")
    scaled_in.launch_probe()
    scaled_in.terminate_probe()
    assert teardown.destroy(scaled_in).ok
    assert len(network.ec2.describe_subnets(SubnetIds=[*subnets_of(network), network.nginx])["Subnets"]) == 3


def subnets_of(network: Account) -> dict[str, str]:
    return {network.private: "10.50.1.0/24", network.second: "10.50.2.0/24"}


def _drift_of_rules(cloud: Cloud, ec2: Any) -> None:
    [group] = cloud.instance("store-1").groups
    door = {"IpProtocol": "tcp", "FromPort": 9763, "ToPort": 9763, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[door])


def _key(root: Any) -> str:
    """An alias of a key of the account, made by the account's owner: an operator uses keys."""
    alias = f"alias/operator-{next(NUMBERS)}"
    root["kms"].create_alias(AliasName=alias, TargetKeyId=root["kms"].create_key()["KeyMetadata"]["KeyId"])
    return alias


def _session_manager(cloud: Callable[..., Cloud], root: Any) -> None:
    """A deployment by Session Manager, with a key of the account's own; then by other ways, and back."""
    key = _key(root)
    sessions = {"cloud__connect_via": "session-manager", "cloud__ssm_agent": AGENT, "cloud__kms_key": key}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_profile, "states", _all_online(instance_profile.states))
        first = cloud(**sessions)
        first.apply()
        assert first.verify().ok and not first.plan()
        _doctor(first)
        _backups(first)
        with data_channels(), pytest.raises(HostError):  # admitted, to an end without an agent
            session_manager.connect(first.aws, "db-1", first.instance("db-1").dial, 22, 1)
        cloud(cloud__kms_key=key).apply()
        first.apply()
        _remains(first, root)
        assert teardown.destroy(first).ok


def _all_online(states: Callable[[Any], dict[str, str]]) -> Callable[[Any], dict[str, str]]:
    """Ask as ever, and say that every agent is online: moto has no agents, nor this question."""

    def told(inventory: Any) -> dict[str, str]:
        with suppress(CloudError):
            states(inventory)
        return dict.fromkeys(inventory.here, "Online")

    return told


def _doctor(cloud: Cloud) -> None:
    against = [str(finding) for finding in examine_account(cloud) if not finding.ok and finding.needed]
    assert not against, "\n".join(against)


def _packs(cloud: Cloud, folder: Path) -> None:
    staging.stage(packs.fetch("s3://runbook-packs/pack.zip", None, cloud.aws), cloud.aws, cloud.spec.deployment)
    path = folder / f"{cloud.spec.deployment}.zip"
    with zipfile.ZipFile(path, "w") as pack:
        pack.writestr("x", cloud.spec.deployment)
    staging.stage(packs.fetch(f"file://{path}", None, cloud.aws), cloud.aws, cloud.spec.deployment)


def _backups(cloud: Cloud) -> None:
    """What the commands backup, backups and restore ask S3 for, the machines by their URLs among it."""
    store = BackupStore(cloud.aws, cloud.spec.deployment)
    folder = store.new_folder()
    way = store.way_in(folder, "X.sql.gz")
    urllib.request.urlopen(urllib.request.Request(way.url, data=b"rows", method="PUT", headers={**way.headers, "Content-Type": "application/gzip"}))
    part = BackupPart("X", "X.sql.gz", 4, "0" * 64)
    store.complete(Backup(cloud.spec.deployment, "greg-single", "greg", "", "", "", "2026-11-26T15:00:00Z", "somebody", "backup", (part,), None, folder))
    [found] = store.backups()
    out = store.way_out(found.folder, "X.sql.gz")
    assert urllib.request.urlopen(urllib.request.Request(out.url, headers=out.headers)).read() == b"rows"
    assert not store.prune(1) and store.delete_all() == [folder]


def _drift(cloud: Cloud, root: Any) -> None:
    """Everything that chapter 01 repairs."""
    ec2, machine, other = root["ec2"], cloud.instance("store-1"), cloud.instance("db-1")
    [group], [other_group] = machine.groups, other.groups
    door = {"IpProtocol": "tcp", "FromPort": 9763, "ToPort": 9763, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[door])
    [found] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=found["IpPermissionsEgress"])
    ec2.create_tags(Resources=[machine.id], Tags=[{"Key": "runbook:role", "Value": "db"}])
    ec2.modify_instance_metadata_options(InstanceId=machine.id, HttpTokens="optional")
    ec2.modify_instance_attribute(InstanceId=machine.id, Groups=[group, other_group])
    ec2.stop_instances(InstanceIds=[other.id])
    tagged = [{"Name": f"tag:{TAG}", "Values": [cloud.spec.deployment]}]
    [gateway] = ec2.describe_internet_gateways(Filters=tagged)["InternetGateways"]
    for table in ec2.describe_route_tables(Filters=[*tagged, {"Name": "tag:runbook:routes", "Values": ["private"]}])["RouteTables"]:
        route = {"RouteTableId": table["RouteTableId"], "DestinationCidrBlock": "0.0.0.0/0"}
        ec2.replace_route(**route, GatewayId=gateway["InternetGatewayId"])


def _remains(cloud: Cloud, root: Any) -> None:
    """A disk and an interface that outlive their machines. moto gives interfaces no tags at a launch; AWS does as the launch says."""
    ec2, tags = root["ec2"], [{"Key": TAG, "Value": cloud.spec.deployment}]
    vpc = {"Name": f"tag:{TAG}", "Values": [cloud.spec.deployment]}
    subnet = ec2.describe_subnets(Filters=[vpc])["Subnets"][0]
    ec2.create_volume(AvailabilityZone=subnet["AvailabilityZone"], Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}])
    filters = [{"Name": "vpc-id", "Values": [subnet["VpcId"]]}]
    interfaces = ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    ec2.create_tags(Resources=[interface["NetworkInterfaceId"] for interface in interfaces], Tags=tags)
    ec2.create_network_interface(SubnetId=subnet["SubnetId"], TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}])


@pytest.fixture(scope="module")
def asked(account: Any, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    """What AWS asks of the policies in the course of a life, of a user who may do everything."""

    def lived() -> list[Question]:
        folder = tmp_path_factory.mktemp("recorded")
        with pytest.MonkeyPatch.context() as patch, recorded() as questions:
            patch.setenv("XDG_CACHE_HOME", str(folder))
            live_a_life(user_with(EVERYTHING, endpoint, folder), "recorded", account, folder)
        return list({str(question): question for question in questions}.values())

    return made_once(tmp_path_factory, "operator-policy", lived)


def test_everything_that_the_runbook_asks_for_is_allowed(asked: list[Question]) -> None:
    lacking = {f"{each.action} on {_kind(each.resource)}: {_hint(each)}" for each in asked if not allowed([POLICY], each)}
    assert not lacking, "docs/iam/operator.json lacks:\n" + "\n".join(sorted(lacking))


def _kind(arn: str) -> str:
    """The ARN with `*` for what comes after the kind of an EC2 resource, as a statement has it."""
    return re.sub(r"(?<=^arn:aws:ec2:)([^/]*):([^:/]*)/.*", r"*:*:\2/*", arn)


def _hint(question: Question) -> str:
    near = [statement["Sid"] for statement in statements(POLICY) if question.action in as_list(statement["Action"])]
    return f"named in {', '.join(near)}, whose resources or conditions do not fit" if near else "no statement names this action"


@pytest.mark.parametrize("less", [pytest.param(less, id=word) for word, less in words_of(POLICY)])
def test_no_word_of_the_policy_is_unused(asked: list[Question], less: dict[str, Any]) -> None:
    assert any(not allowed([less], question) for question in asked), "a run succeeds without it: take it out"


def test_what_does_not_carry_the_tag_is_out_of_reach(asked: list[Question]) -> None:
    stripped = [
        Question(each.action, each.resource, {key: value for key, value in each.context.items() if TAG not in key and key != "ec2:CreateAction"})
        for each in asked
    ]
    open_to_all = {each.action for each in stripped if allowed([POLICY], each) and each.action.startswith("ec2:") and each.resource != "*"}
    images = {each.resource for each in stripped if each.action == "ec2:RunInstances" and allowed([POLICY], each)}
    assert open_to_all == {"ec2:RunInstances"} and all("::image/" in resource for resource in images)


@pytest.mark.slow
def test_a_user_with_this_policy_lives_the_whole_life(account: Any, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    live_a_life(user_with(POLICY, endpoint, tmp_path), "held-to-policy", account, tmp_path)
    left = account["ec2"].describe_vpcs(Filters=[{"Name": f"tag:{TAG}", "Values": ["held-to-policy"]}])["Vpcs"]
    assert left == [], "the account's owner sees nothing of it either"


EXISTING_NETWORK: dict[str, Any] = json.loads((ROOT / "docs/iam/existing-network.json").read_text())


def with_network(network: Account, less: dict[str, Any] = EXISTING_NETWORK) -> dict[str, Any]:
    """The operator's policy, and the one for an existing network with this network's own ids in it."""
    [statement] = [dict(each) for each in statements(less)]
    subnets = (*subnets_of(network), network.nginx)
    filled = [arn.replace("vpc-0123456789abcdef0", network.vpc) for arn in as_list(statement["Resource"])]
    of_subnets = [arn.replace("subnet-0123456789abcdef0", subnet) for arn in filled if ":subnet/" in arn for subnet in subnets]
    statement["Resource"] = [*(arn for arn in filled if ":subnet/" not in arn), *of_subnets]
    return {**POLICY, "Statement": [*statements(POLICY), statement]}


@pytest.fixture(scope="module")
def network(account: Any) -> Account:
    return Account(account["ec2"])


@pytest.fixture(scope="module")
def asked_there(account: Any, network: Account, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    """What AWS asks of the policies in the course of a life in an existing network, of a user who may do everything."""
    with recorded() as questions:
        live_in_an_existing_network(user_with(EVERYTHING, endpoint, tmp_path_factory.mktemp("recorded")), "recorded-there", network)
    return list({str(question): question for question in questions}.values())


def test_in_an_existing_network_the_second_policy_allows_the_rest_and_no_more(asked_there: list[Question], network: Account) -> None:
    both, alone = [with_network(network)], [POLICY]
    assert not [str(each) for each in asked_there if not allowed(both, each)], "docs/iam/existing-network.json lacks these"
    rest = {(each.action, each.resource.rpartition("/")[2]) for each in asked_there if not allowed(alone, each)}
    assert rest == {("ec2:CreateSecurityGroup", network.vpc), *(("ec2:RunInstances", subnet) for subnet in (*subnets_of(network), network.nginx))}
    for action, resource in (("RunInstances", f"subnet/{network.stranger}"), ("CreateSecurityGroup", f"vpc/{network.other_vpc}")):
        assert not allowed(both, Question(f"ec2:{action}", f"arn:aws:ec2:us-east-1:123456789012:{resource}"))
    for action, resource in (("CreateSubnet", f"vpc/{network.vpc}"), ("DeleteVpc", f"vpc/{network.vpc}"), ("DeleteSubnet", f"subnet/{network.private}")):
        assert not allowed(both, Question(f"ec2:{action}", f"arn:aws:ec2:us-east-1:123456789012:{resource}")), "the network stays its owner's"


@pytest.mark.parametrize("less", [pytest.param(less, id=word) for word, less in words_of(EXISTING_NETWORK)])
def test_no_word_of_the_second_policy_is_unused(asked_there: list[Question], network: Account, less: dict[str, Any]) -> None:
    assert any(not allowed([with_network(network, less)], question) for question in asked_there), "a run succeeds without it: take it out"


@pytest.mark.slow
def test_a_user_with_both_policies_lives_in_an_existing_network_and_with_one_he_cannot(account: Any, endpoint: str, tmp_path: Path) -> None:
    network = Account(account["ec2"])
    live_in_an_existing_network(user_with(with_network(network), endpoint, tmp_path), "held-there", network)
    left = account["ec2"].describe_security_groups(Filters=[{"Name": f"tag:{TAG}", "Values": ["held-there"]}])["SecurityGroups"]
    assert left == []
    other = Account(account["ec2"])  # moto keeps the addresses of machines that are gone
    with pytest.raises(CloudError, match="ec2:CreateSecurityGroup on resource: .*vpc/" + other.vpc):
        live_in_an_existing_network(user_with(POLICY, endpoint, tmp_path), "held-there-by-one", other)


FOREIGN: tuple[tuple[str, str, Callable[[Any, str], Any]], ...] = (
    ("ec2", "ec2:DeleteVpc", lambda ec2, vpc: ec2.delete_vpc(VpcId=vpc)),
    ("ec2", "ec2:DeleteVpc", lambda ec2, vpc: ec2.delete_vpc(VpcId=vpc, DryRun=True)),
    ("ec2", "ec2:CreateSubnet", lambda ec2, vpc: ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24")),
    ("ec2", "ec2:CreateTags", lambda ec2, vpc: ec2.create_tags(Resources=[vpc], Tags=[{"Key": TAG, "Value": "mine"}])),
    ("ec2", "ec2:CreateVpc", lambda ec2, vpc: ec2.create_vpc(CidrBlock="10.9.0.0/16")),
    ("ec2", "ec2:RebootInstances", lambda ec2, vpc: ec2.reboot_instances(InstanceIds=["i-00000000"])),
    ("ec2", "no row StartVpcEndpointServicePrivateDnsVerification", lambda ec2, vpc: ec2.start_vpc_endpoint_service_private_dns_verification(ServiceId="x")),
    ("ssm", "ssm:GetParameter", lambda ssm, vpc: ssm.get_parameter(Name="/others/password")),
    ("ssm", "ssm:DeleteParameters", lambda ssm, vpc: ssm.delete_parameters(Names=["/runbook/mine/x", "/others/password"])),
    ("ssm", "ssm:StartSession on resource: arn:aws:ec2:us-east-1:123456789012:instance/i-1", lambda ssm, vpc: ssm.start_session(Target="i-1")),
    ("ssm", "ssm:ResumeSession on resource: arn:aws:ssm:us-east-1:123456789012:session/s-1", lambda ssm, vpc: ssm.resume_session(SessionId="s-1")),
    ("ssm", "ssm:AddTagsToResource", lambda ssm, vpc: ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId="/others/x", Tags=[])),
    ("kms", "kms:CreateGrant", lambda kms, vpc: kms.create_grant(KeyId=f"{ARN}:key/1", GranteePrincipal="arn:aws:iam::1:root", Operations=["Decrypt"])),
    ("iam", "iam:PutRolePolicy", lambda iam, vpc: iam.put_role_policy(RoleName="admins", PolicyName="x", PolicyDocument="{}")),
    ("iam", "iam:CreateRole", lambda iam, vpc: iam.create_role(RoleName="runbook-of-others", AssumeRolePolicyDocument="{}")),
    ("ssm", "ssm:DescribeParameters", lambda ssm, vpc: ssm.describe_parameters()),
    ("s3", "may not do this", lambda s3, vpc: s3.get_object(Bucket="others", Key="x")),
    ("s3", "may not do this", lambda s3, vpc: s3.create_bucket(Bucket="runbook-packs-too")),
)
ARN = "arn:aws:kms:us-east-1:123456789012"
REFUSED = ("UnauthorizedOperation", "AccessDeniedException", "AccessDenied")


@pytest.mark.parametrize(("service", "says", "call"), FOREIGN, ids=[f"{number} {says}" for number, (_, says, _) in enumerate(FOREIGN)])
def test_the_endpoint_refuses_what_the_policy_does_not_allow(
    account: Any, endpoint: str, tmp_path: Path, service: str, says: str, call: Callable[[Any, str], Any]
) -> None:
    vpc = account["ec2"].create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    settings = {"deployment": "mine", "cloud.aws_config": str(user_with(POLICY, endpoint, tmp_path)), **OPERATOR}
    cloud = Cloud(load_spec(ROOT / "params/greg-single.lab.yaml", settings))
    with pytest.raises(CloudError) as caught:
        call(cloud.aws.client(service), vpc)
    assert caught.value.code in REFUSED and says in str(caught.value)


OF_OTHER_SERVICES: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("ec2", "kms:CreateGrant on resource: arn:aws:kms:us-east-1:123456789012:key/1234", lambda ec2: ec2.run_instances(**LAUNCH, BlockDeviceMappings=DISK)),
    (
        "ec2",
        "iam:PassRole on resource: arn:aws:iam::123456789012:role/machines",
        lambda ec2: ec2.run_instances(**LAUNCH, IamInstanceProfile={"Name": "machines"}),
    ),
    ("ssm", "kms:Encrypt on resource: arn:aws:kms:us-east-1:123456789012:alias/mine", lambda ssm: ssm.put_parameter(**SECRET, KeyId="alias/mine")),
    (
        "ssm",
        "kms:Decrypt on resource: arn:aws:kms:us-east-1:123456789012:alias/mine",
        lambda ssm: ssm.get_parameter(Name="/others/secret", WithDecryption=True),
    ),
)
LAUNCH = {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1}
DISK = [{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "KmsKeyId": "1234"}}]
PROFILE = {"Name": "machines"}
SECRET = {"Name": "/runbook/x/y", "Value": "z", "Type": "SecureString"}


@pytest.mark.parametrize(("service", "says", "call"), OF_OTHER_SERVICES, ids=[says.partition(" ")[0] for _, says, _ in OF_OTHER_SERVICES])
def test_what_a_call_needs_of_another_service_is_asked_too(
    account: Any, endpoint: str, tmp_path: Path, service: str, says: str, call: Callable[[Any], Any]
) -> None:
    account["ssm"].put_parameter(Name="/others/secret", Value="z", Type="SecureString", KeyId="alias/mine", Overwrite=True)
    with suppress(account["iam"].exceptions.EntityAlreadyExistsException):
        account["iam"].create_role(RoleName="machines", AssumeRolePolicyDocument="{}")
        account["iam"].create_instance_profile(InstanceProfileName="machines")
        account["iam"].add_role_to_instance_profile(InstanceProfileName="machines", RoleName="machines")
    both = {"Statement": [{"Effect": "Allow", "Action": ["ec2:*", "ssm:*"], "Resource": "*"}], "Version": "2012-10-17"}
    settings = {"deployment": "mine", "cloud.aws_config": str(user_with(both, endpoint, tmp_path)), **OPERATOR}
    with pytest.raises(CloudError) as caught:
        call(Cloud(load_spec(ROOT / "params/greg-single.lab.yaml", settings)).aws.client(service))
    assert caught.value.code in REFUSED and says in str(caught.value)


def test_the_tag_by_which_everything_is_limited_cannot_be_changed() -> None:
    tagged = {f"aws:ResourceTag/{TAG}": "mine"}
    for action, keys, expected in (("CreateTags", ("runbook:role",), True), ("CreateTags", (TAG,), False), ("DeleteTags", ("Name", TAG), False)):
        question = Question(f"ec2:{action}", "arn:aws:ec2:us-east-1:123456789012:instance/i-1", {**tagged, "aws:TagKeys": keys})
        assert allowed([POLICY], question) == expected, question


def test_each_statement_has_its_reason() -> None:
    rows = [line.split("|")[1].strip() for line in (ROOT / "docs/iam/README.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"`{statement['Sid']}`" for statement in (*statements(POLICY), *statements(EXISTING_NETWORK))]
