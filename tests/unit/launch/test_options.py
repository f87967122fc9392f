"""Options of an AWS account: an existing network, two zones, tags, a KMS key, termination protection. Each wrong value is told before anything is created."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.changes import Event
from runbook_lib.errors import CloudError
from runbook_lib.launch import teardown
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.inventory import by_tag, tags_of
from runbook_lib.spec.loader import load_spec
from tests.support.existing_network import Account

pytest_plugins = ["tests.support.aws_endpoint"]
CASES = yaml.safe_load(Path(__file__).with_name("existing_network.yaml").read_text())
Make = Callable[..., Cloud]


@pytest.fixture
def account(make_cloud: Make) -> Account:
    return Account(make_cloud().aws.client("ec2"))


def everything(cloud: Cloud) -> list[Any]:
    """What the account holds of the deployment, by every kind of thing."""
    ec2, mine = cloud.aws.client("ec2"), by_tag(cloud.spec.deployment)
    kinds = (
        ("describe_security_groups", "SecurityGroups"),
        ("describe_vpcs", "Vpcs"),
        ("describe_instances", "Reservations"),
        ("describe_addresses", "Addresses"),
    )
    return [*cloud.vault.names(), *(item for call, key in kinds for item in getattr(ec2, call)(Filters=mine)[key])]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "-"))
def test_an_existing_network_that_cannot_be_used_is_told_before_anything_is_created(make_cloud: Make, account: Account, case: dict[str, Any]) -> None:
    if world := case.get("world"):
        getattr(account, world)()
    cloud = make_cloud(overrides=account.parameters | account.fill(case.get("change", {})))
    for call in (cloud.plan, cloud.apply):
        with pytest.raises(CloudError) as caught:
            call()
        for piece in account.fill(case["what"]):
            assert piece in caught.value.what
        assert caught.value.where and caught.value.next_step
    assert not everything(cloud)


def test_a_network_outside_of_the_labs_range_is_refused_by_the_plan(make_cloud: Make, aws_config: Path, tmp_path: Path) -> None:
    config = tmp_path / "aws-config"
    config.write_text(aws_config.read_text() + "ec2_network = 10.213.0.0/16\n")
    with pytest.raises(CloudError, match=r"cloud.network: 10.99.2.0/24 is not in 10.213.0.0/16") as caught:
        make_cloud(overrides={"cloud.aws_config": str(config), "cloud.network": "10.99.2.0/24"}).plan()
    assert "--range" in (caught.value.next_step or "")
    assert make_cloud(overrides={"cloud.aws_config": str(config), "cloud.network": "10.213.9.0/24"}).plan()


def test_in_an_existing_network_machines_are_launched_and_a_tear_down_leaves_it_alone(make_cloud: Make, account: Account) -> None:
    cloud = make_cloud("greg-separated", account.parameters | {"cloud.subnets": {account.private: "10.50.1.0/24", account.second: "10.50.2.0/24"}})
    assert not [p for p in cloud.plan().pending if p.stage == "network"], "nothing of the network is ours to make"
    cloud.apply()
    assert not cloud.plan() and cloud.verify().ok, str(cloud.verify())
    machines = cloud.describe()
    assert {name: machine.address for name, machine in machines.items()} == {
        "lb-1": "10.50.9.10", "db-1": "10.50.1.20", "store-1": "10.50.1.61", "store-2": "10.50.2.62", "publisher-1": "10.50.1.71", "publisher-2": "10.50.2.72",
    }  # fmt: skip
    assert [name for name, machine in machines.items() if machine.public_address] == ["lb-1"]
    ours = account.ec2.describe_subnets(SubnetIds=[account.private])["Subnets"][0]
    assert not [key for key in tags_of(ours) if key.startswith("runbook:")], "what is not ours is not tagged"
    with pytest.raises(CloudError, match="hardening of the live deployment"):
        make_cloud("greg-separated", account.parameters | {"hardening": "hosts"}).plan()
    assert teardown.destroy(cloud).ok
    assert len(account.ec2.describe_subnets(SubnetIds=[account.private, account.second, account.nginx])["Subnets"]) == 3
    assert account.ec2.describe_nat_gateways(Filter=[{"Name": "vpc-id", "Values": [account.vpc]}])["NatGateways"][0]["State"] == "available"


ZONES = {"cloud.network": "10.213.2.0/23", "cloud.availability_zone": "us-east-1a", "cloud.second_zone": "us-east-1b"}


def test_nodes_of_a_tier_are_spread_over_two_zones(make_cloud: Make) -> None:
    cloud = make_cloud("greg-separated", ZONES)
    [said] = [p.change.summary for p in cloud.plan().pending if p.change.key == "network subnet private-2"]
    assert "every other node of a tier" in said and "the database stay in us-east-1a" in said
    cloud.apply()
    assert not cloud.plan() and cloud.verify().ok
    found = cloud.aws.client("ec2").pages("describe_instances", "Reservations", Filters=by_tag(cloud.spec.deployment))
    zones = {tags_of(m)["runbook:node"]: m["Placement"]["AvailabilityZone"][-1] for r in found for m in r["Instances"]}
    assert zones == {"lb-1": "a", "db-1": "a", "store-1": "a", "store-2": "b", "publisher-1": "a", "publisher-2": "b"}
    for other in ({"cloud.second_zone": "us-east-1c"}, {"cloud.second_zone": None}):
        with pytest.raises(CloudError, match=r"cloud.second_zone of the live deployment greg-separated-\d+ is"):
            make_cloud("greg-separated", ZONES | other).plan()
    assert teardown.destroy(cloud).ok


def test_a_zone_that_does_not_exist_is_told(make_cloud: Make) -> None:
    cloud = make_cloud(overrides={"cloud.availability_zone": "us-east-1z"})
    with pytest.raises(CloudError, match="us-east-1z"):
        cloud.apply()


TAGS = {"cloud.tags": {"cost centre": "42", "team": "integration"}, "cloud.connect_via": "public", "cloud.operator_cidr": "198.51.100.7/32"}


def test_everything_made_carries_the_users_own_tags(make_cloud: Make) -> None:
    cloud = make_cloud(overrides=TAGS)
    cloud.apply()
    ec2, ssm, mine = cloud.aws.client("ec2"), cloud.aws.client("ssm"), by_tag(cloud.spec.deployment)
    kinds = (
        ("describe_vpcs", "Vpcs"), ("describe_subnets", "Subnets"), ("describe_internet_gateways", "InternetGateways"),
        ("describe_route_tables", "RouteTables"),
        ("describe_addresses", "Addresses"), ("describe_security_groups", "SecurityGroups"), ("describe_key_pairs", "KeyPairs"),
        ("describe_volumes", "Volumes"),
    )  # fmt: skip
    things = [thing for call, key in kinds for thing in getattr(ec2, call)(Filters=mine)[key]]
    things += [m for r in ec2.pages("describe_instances", "Reservations", Filters=mine) for m in r["Instances"]]
    assert len(things) > len(kinds) and [thing for thing in things if tags_of(thing).get("cost centre") != "42"] == []
    for name in cloud.vault.names():
        found = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=cloud.vault.prefix + name)["TagList"]
        assert {tag["Key"]: tag["Value"] for tag in found} == TAGS["cloud.tags"], name


def test_a_tag_that_is_wanted_later_is_put_on_the_machines(make_cloud: Make) -> None:
    make_cloud().apply()
    tagged = make_cloud(overrides={"cloud.tags": {"team": "integration"}})
    assert {p.change.summary for p in tagged.plan().pending} == {"tags team"}
    tagged.apply()
    assert not tagged.plan() and {machine.tags["team"] for machine in tagged.describe().values()} == {"integration"}


@pytest.fixture
def key(make_cloud: Make) -> Iterator[Any]:
    kms = make_cloud().aws.client("kms")
    yield kms.create_key()["KeyMetadata"]


def test_disks_and_secrets_are_encrypted_with_the_users_key(make_cloud: Make, key: Any) -> None:
    cloud = make_cloud(overrides={"cloud.kms_key": key["Arn"]})
    cloud.apply()
    volumes = cloud.aws.client("ec2").describe_volumes(Filters=by_tag(cloud.spec.deployment))["Volumes"]
    assert {volume["KmsKeyId"] for volume in volumes} == {key["Arn"]}
    found = cloud.aws.client("ssm").describe_parameters(ParameterFilters=[{"Key": "Name", "Option": "BeginsWith", "Values": [cloud.vault.prefix]}])[
        "Parameters"
    ]
    assert {(each["Type"], each.get("KeyId")) for each in found} <= {("SecureString", key["Arn"]), ("String", None)} and len(found) > 3


def test_a_key_that_does_not_exist_or_is_off_is_told_before_anything_is_created(make_cloud: Make, key: Any) -> None:
    kms = make_cloud().aws.client("kms")
    absent = "1234abcd-12ab-34cd-56ef-1234567890ab"
    hmac = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key["KeyId"])
    for name, words in ((absent, absent), (key["KeyId"], "the key is Disabled"), (hmac, "no volume can be encrypted")):
        cloud = make_cloud(overrides={"cloud.kms_key": name})
        with pytest.raises(CloudError, match=words) as caught:
            cloud.apply()
        assert caught.value.what.startswith(f"cloud.kms_key {name}") and caught.value.next_step
        assert not everything(cloud)


@pytest.mark.parametrize("call", ["generate_data_key_without_plaintext", "encrypt"])
def test_a_key_without_a_grant_is_told_before_anything_is_created(make_cloud: Make, key: Any, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    cloud = make_cloud(overrides={"cloud.kms_key": key["KeyId"]})
    refusal = CloudError("the credentials may not do this (AccessDeniedException: no)")
    refusal.code = "AccessDeniedException"

    def denied(**options: Any) -> None:
        assert options["DryRun"]
        raise refusal

    monkeypatch.setattr(cloud.aws.client("kms").client, call, denied)
    with pytest.raises(CloudError, match="AccessDenied") as caught:
        cloud.apply()
    assert "kms:" in caught.value.what and "in the key's policy" in (caught.value.next_step or "")
    assert not everything(cloud)


PROTECTED = {"cloud.termination_protection": True}


def protection(cloud: Cloud) -> dict[str, bool]:
    ask = cloud.aws.client("ec2").describe_instance_attribute
    return {name: ask(InstanceId=m.id, Attribute="disableApiTermination")["DisableApiTermination"]["Value"] for name, m in cloud.describe().items()}


def test_the_databases_machine_alone_is_protected_and_a_tear_down_says_that_it_ends_that(make_cloud: Make) -> None:
    cloud = make_cloud(overrides=PROTECTED)
    cloud.apply()
    assert not cloud.plan()
    assert protection(cloud) == {"lb-1": False, "db-1": True, "greg-1": False}
    with pytest.raises(CloudError, match="OperationNotPermitted"):
        cloud.aws.client("ec2").terminate_instances(InstanceIds=[cloud.instance("db-1").id])
    told: list[Event] = []
    assert teardown.destroy(cloud, told.append).ok
    assert [step.doing for step in told if "termination protection" in step.doing] == ["switching its termination protection off: this is a tear-down"]


@pytest.mark.parametrize("going", [("db-1",), ("lb-1", "db-1", "greg-1")])
def test_a_drill_loses_exactly_the_named_machines_protected_or_not(make_cloud: Make, going: tuple[str, ...]) -> None:
    cloud = make_cloud(overrides=PROTECTED)
    cloud.apply()
    before = set(cloud.describe())
    cloud.lose(going)
    assert set(cloud.describe()) == before - {*going}
    cloud.lose(going)  # what is gone already is no error
    due = [p for p in cloud.plan().pending if p.stage == "machine"]
    assert {p.host for p in due} == {*going}, "chapter 01 would launch them again"


def test_protection_is_switched_on_and_off_as_planned(make_cloud: Make) -> None:
    plain, protected = make_cloud(), make_cloud(overrides=PROTECTED)
    plain.apply()
    for cloud, word in ((protected, "on"), (plain, "off")):
        [due] = cloud.plan().pending
        assert (due.host, due.change.summary) == ("db-1", f"termination protection {word}")
        cloud.apply()
        assert not cloud.plan() and protection(cloud)["db-1"] == (word == "on")


def test_a_protected_database_is_not_replaced(make_cloud: Make, aws_config: Path) -> None:
    cloud = make_cloud(overrides=PROTECTED)
    cloud.apply()
    moved = Cloud(
        load_spec(
            "params/greg-single.lab.yaml",
            {"deployment": cloud.spec.deployment, "cloud.aws_config": str(aws_config), "cloud.operator_cidr": "10.213.0.1/32", **PROTECTED},
        )
    )
    node = moved.topology.db
    object.__setattr__(node, "address", node.address.rpartition(".")[0] + ".21")
    with pytest.raises(CloudError, match="db-1 would be replaced") as caught:
        moved.plan()
    assert caught.value.where == "cloud.termination_protection"
