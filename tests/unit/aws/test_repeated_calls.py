"""Which refusals the client bears for some time: too many calls, and what it has just made and AWS does not know yet. Everything else is told at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runbook_lib.aws import client
from runbook_lib.aws.client import Api
from runbook_lib.errors import CloudError

VPC, SUBNET, GROUP = "vpc-0123456789abcdef0", "subnet-0123456789abcdef0", "sg-0123456789abcdef0"


class Ec2:
    """A botocore client that refuses the first calls of an operation with a code."""

    def __init__(self, **refusals: list[str]):
        self.refusals, self.calls = refusals, 0
        self.meta = SimpleNamespace(service_model=SimpleNamespace(service_name="ec2"))

    def _answer(self, operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if codes := self.refusals.get(operation):
            raise ClientError({"Error": {"Code": codes.pop(0), "Message": "no"}}, operation)
        return answer

    def create_vpc(self, **options: Any) -> dict[str, Any]:
        return self._answer("create_vpc", {"Vpc": {"VpcId": VPC}})

    def import_key_pair(self, **options: Any) -> dict[str, Any]:
        return self._answer("import_key_pair", {"KeyName": options["KeyName"], "KeyPairId": "key-0123456789abcdef0"})

    def create_subnet(self, **options: Any) -> dict[str, Any]:
        return self._answer("create_subnet", {"Subnet": {"SubnetId": SUBNET, "VpcId": options["VpcId"]}})

    def run_instances(self, **options: Any) -> dict[str, Any]:
        return self._answer("run_instances", {"Instances": []})

    def delete_vpc(self, **options: Any) -> dict[str, Any]:
        return self._answer("delete_vpc", {})

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=lambda **options: [self._answer(operation, {"Vpcs": [VPC]})])


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST_PAUSE": 0.01, "LONGEST_PAUSE": 0.01, "NEW": 0.3, "THROTTLED_FOR": 0.3}.items():
        monkeypatch.setattr(client, name, value)


BORNE = (
    ("create_vpc", {}, ["RequestLimitExceeded"] * 3),
    ("create_vpc", {}, ["ThrottlingException"]),
    ("create_vpc", {}, ["TooManyUpdates"] * 3),
    ("create_vpc", {}, ["ConcurrentModification", "OperationAborted"]),
    ("create_subnet", {"VpcId": VPC}, ["InvalidVpcID.NotFound"] * 3),
    ("create_subnet", {"VpcId": VPC}, ["InvalidVpcID.NotFound", "RequestLimitExceeded"]),
    ("run_instances", {"KeyName": "mine"}, ["InvalidKeyPair.NotFound"]),
    ("delete_vpc", {"VpcId": VPC}, ["InvalidVpcID.NotFound"]),
)
TOLD = (
    ("create_vpc", {}, "VpcLimitExceeded"),
    ("create_subnet", {"VpcId": VPC}, "InvalidSubnet.Range"),
    ("create_subnet", {"VpcId": VPC}, "InvalidGroup.NotFound"),
    ("create_subnet", {"VpcId": "vpc-0000000000000000f"}, "InvalidVpcID.NotFound"),
    ("run_instances", {"KeyName": "other"}, "InvalidKeyPair.NotFound"),
    ("run_instances", {"SecurityGroupIds": [GROUP]}, "InvalidGroup.NotFound"),
)


def prepared(operation: str, codes: list[str]) -> tuple[Api, Ec2]:
    """A client that has just made a VPC and a key pair."""
    ec2 = Ec2()
    api = Api(ec2, "AWS")
    api.create_vpc()
    api.import_key_pair(KeyName="mine")
    ec2.refusals, ec2.calls = {operation: codes}, 0
    return api, ec2


@pytest.mark.parametrize(("operation", "options", "codes"), BORNE)
def test_what_passes_is_borne(operation: str, options: dict[str, Any], codes: list[str]) -> None:
    expected = len(codes) + 1
    api, ec2 = prepared(operation, codes)
    getattr(api, operation)(**options)
    assert ec2.calls == expected


@pytest.mark.parametrize(("operation", "options", "code"), TOLD)
def test_what_does_not_pass_is_told_at_once(operation: str, options: dict[str, Any], code: str) -> None:
    api, ec2 = prepared(operation, [code] * 9)
    with pytest.raises(CloudError) as caught:
        getattr(api, operation)(**options)
    assert (caught.value.code, ec2.calls) == (code, 1)


@pytest.mark.parametrize(
    ("operation", "options", "code"), [("create_vpc", {}, "RequestLimitExceeded"), ("create_subnet", {"VpcId": VPC}, "InvalidVpcID.NotFound")]
)
def test_what_does_not_end_is_told_in_the_end(operation: str, options: dict[str, Any], code: str) -> None:
    api, ec2 = prepared(operation, [code] * 999)
    with pytest.raises(CloudError) as caught:
        getattr(api, operation)(**options)
    assert caught.value.code == code and ec2.calls > 5


def test_what_was_deleted_again_is_not_expected() -> None:
    api, _ = prepared("create_subnet", ["InvalidVpcID.NotFound"])
    api.delete_vpc(VpcId=VPC)
    with pytest.raises(CloudError):
        api.create_subnet(VpcId=VPC)


def test_pages_are_asked_for_again() -> None:
    api, ec2 = prepared("describe_vpcs", ["RequestLimitExceeded"])
    assert api.pages("describe_vpcs", "Vpcs") == [VPC] and ec2.calls == 2
