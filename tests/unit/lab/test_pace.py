"""How a lab lags that is as slow as AWS: what is invisible for how long, which calls are throttled, when a console shows something."""

from __future__ import annotations

import pytest
from ec2lab.api.pace import INVISIBLE, NOT_FOUND, ONE_WRITE, SETTLED, Pace

from runbook_lib.aws import client

VPC, OLD = "vpc-0123456789abcdef0", "vpc-0000000000000000f"
MADE = f"<CreateVpcResponse><vpc><vpcId>{VPC}</vpcId></vpc></CreateVpcResponse>"
VPCS = f'<D xmlns="urn:ec2"><vpcSet><item><cidr/><vpcId>{VPC}</vpcId></item><item><vpcId>{OLD}</vpcId></item></vpcSet></D>'
TABLES = f"<D><routeTableSet><item><routeTableId>rtb-00000000</routeTableId><vpcId>{VPC}</vpcId></item></routeTableSet></D>"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    """A VPC was made just now."""
    pace = Pace(90, clock)
    pace.answer("CreateVpc", {"CidrBlock": "10.0.0.0/24"}, MADE)
    return pace


CALLS = (
    ("CreateSubnet", {"VpcId": VPC}, "InvalidVpcID.NotFound"),
    ("DescribeVpcs", {"VpcIds": [VPC]}, "InvalidVpcID.NotFound"),
    ("CreateTags", {"Resources": [OLD, VPC]}, "InvalidVpcID.NotFound"),
    ("DescribeRouteTables", {"Filters": [{"Name": "vpc-id", "Values": [VPC]}]}, None),
    ("CreateSubnet", {"VpcId": OLD}, None),
)


@pytest.mark.parametrize(("action", "params", "code"), CALLS)
def test_what_is_new_is_not_found_at_first(pace: Pace, clock: Clock, action: str, params: dict[str, object], code: str | None) -> None:
    assert (pace.ec2_refusal(action, params) or (None,))[0] == code
    clock.now += INVISIBLE
    assert pace.ec2_refusal(action, params) is None


@pytest.mark.parametrize(("action", "body"), [("DescribeVpcs", VPCS), ("DescribeRouteTables", TABLES)])
def test_what_is_new_is_not_described_at_first(pace: Pace, clock: Clock, action: str, body: str) -> None:
    shown = pace.answer(action, {}, body)
    assert VPC not in shown and (OLD in shown) == (OLD in body)
    clock.now += INVISIBLE
    assert pace.answer(action, {}, body) == body


@pytest.mark.parametrize("action", ["CreateTags", "DeleteTags"])
def test_what_was_tagged_is_described_with_its_former_tags_at_first(clock: Clock, action: str) -> None:
    pace = Pace(90, clock, {OLD: {"Name": "former"}}.__getitem__)
    vpcs = "<D><vpcSet><item><tagSet>{}</tagSet><vpcId>{}</vpcId></item></vpcSet></D>"
    former, new = (vpcs.format(f"<item><key>{key}</key><value>{value}</value></item>", OLD) for key, value in (("Name", "former"), ("New", "x")))
    assert pace.ec2_refusal(action, {"Resources": [OLD]}) is None
    assert pace.answer("DescribeVpcs", {}, new) == former
    assert pace.answer("DescribeVpcs", {}, new.replace(OLD, VPC)) == new.replace(OLD, VPC)
    clock.now += INVISIBLE
    assert pace.answer("DescribeVpcs", {}, new) == new


def test_a_reservation_goes_with_its_last_instance(pace: Pace) -> None:
    pace.answer("RunInstances", {}, "<R><instanceId>i-0123456789abcdef0</instanceId></R>")
    item = "<item><instancesSet><item><instanceId>i-0123456789abcdef0</instanceId></item></instancesSet></item>"
    shown = pace.answer("DescribeInstances", {}, f"<D><reservationSet>{item}</reservationSet></D>")
    assert "item" not in shown


def test_a_key_pair_is_new_by_its_name(pace: Pace) -> None:
    pace.answer("ImportKeyPair", {"KeyName": "mine"}, "<R><keyPairId>key-0123456789abcdef0</keyPairId></R>")
    assert (pace.ec2_refusal("RunInstances", {"KeyName": "mine"}) or ("",))[0] == "InvalidKeyPair.NotFound"


RATES = (("RunInstances", 5, 2), ("CreateTags", 50, 5), ("DescribeVpcs", 100, 20))


@pytest.mark.parametrize(("action", "bucket", "rate"), RATES)
def test_calls_are_throttled_by_a_bucket_of_tokens(clock: Clock, action: str, bucket: int, rate: int) -> None:
    pace = Pace(90, clock)
    answers = [pace.ec2_refusal(action, {"MaxResults": 5}) for _ in range(bucket + 1)]
    assert answers[:-1] == [None] * bucket and (answers[-1] or ("",))[0] == "RequestLimitExceeded"
    clock.now += 1
    assert [pace.ec2_refusal(action, {"MaxResults": 5}) is None for _ in range(rate + 1)] == [True] * rate + [False]


def test_parameter_store_takes_three_writes_a_second(clock: Clock) -> None:
    pace = Pace(90, clock)
    codes = []
    for _ in range(4):
        codes.append((pace.ssm_refusal("PutParameter") or ("",))[0])
        clock.now += ONE_WRITE
    assert codes == ["", "", "", "ThrottlingException"]
    clock.now += 1
    assert not pace.ssm_refusal("PutParameter")


def test_parameter_store_takes_one_write_at_a_time(clock: Clock) -> None:
    pace = Pace(90, clock)
    assert pace.ssm_refusal("PutParameter") is None
    assert (pace.ssm_refusal("PutParameter") or ("",))[0] == "TooManyUpdates" and pace.ssm_refusal("GetParameter") is None
    clock.now += ONE_WRITE
    assert pace.ssm_refusal("PutParameter") is None


def test_a_change_is_done_after_some_time(clock: Clock) -> None:
    pace = Pace(90, clock)
    pace.change("role x")
    assert pace.changes("role x") and not pace.changes("role y")
    clock.now += SETTLED
    assert not pace.changes("role x")


def test_a_console_is_empty_at_first(pace: Pace, clock: Clock) -> None:
    pace.answer("RunInstances", {}, "<R><instanceId>i-0123456789abcdef0</instanceId></R>")
    clock.now += 89
    assert not pace.console_shows("i-0123456789abcdef0") and pace.console_shows("i-00000000")
    clock.now += 1
    assert pace.console_shows("i-0123456789abcdef0")


def test_lab_and_library_know_the_same_codes() -> None:
    assert {**client.NOT_FOUND, "key": client.KEY_NOT_FOUND} == NOT_FOUND
