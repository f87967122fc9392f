"""How the lab reads a policy: as IAM does, and what it cannot read it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from ec2lab.api.policies import Question, allowed

ARN = "arn:aws:ec2:us-east-1:123456789012:vpc/vpc-1"
MINE = {"aws:ResourceTag/runbook:deployment": "greg"}
KEYS = {"aws:TagKeys": ("Name", "runbook:role")}


def condition(operator: str, key: str, value: Any) -> dict[str, Any]:
    return {"Condition": {operator: {key: value}}}


TAGGED = condition("StringLike", "aws:ResourceTag/runbook:deployment", "*")
CASES: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [  # what, the statement's own part, the request's context, allowed
    ("the same action", {}, {}, True),
    ("another action", {"Action": "ec2:DeleteVpn"}, {}, False),
    ("one of several actions", {"Action": ["ec2:X", "ec2:DeleteVpc"]}, {}, True),
    ("an action in other letters", {"Action": "EC2:deletevpc"}, {}, True),
    ("a pattern of actions", {"Action": "ec2:Delete*"}, {}, True),
    ("the resource", {"Resource": ARN}, {}, True),
    ("a pattern of resources", {"Resource": "arn:aws:ec2:*:????????????:vpc/*"}, {}, True),
    ("another kind of resource", {"Resource": "arn:aws:ec2:*:*:subnet/*"}, {}, False),
    ("a resource in other letters", {"Resource": ARN.upper()}, {}, False),
    ("a dot is a dot", {"Resource": "arn.aws:ec2:*"}, {}, False),
    ("the tag is there", TAGGED, MINE, True),
    ("the tag is absent", TAGGED, {}, False),
    ("a condition key in other letters", condition("StringEquals", "AWS:resourcetag/runbook:deployment", "greg"), MINE, True),
    ("a value in other letters", condition("StringEquals", "aws:ResourceTag/runbook:deployment", "GREG"), MINE, False),
    ("one of several values", condition("StringEquals", "aws:ResourceTag/runbook:deployment", ["as", "greg"]), MINE, True),
    ("two conditions, one of which fails", {"Condition": {"StringLike": {"aws:ResourceTag/runbook:deployment": "*", "ec2:CreateAction": "*"}}}, MINE, False),
    ("every key is one of these", condition("ForAllValues:StringLike", "aws:TagKeys", ["Name", "runbook:*"]), KEYS, True),
    ("one key is none of these", condition("ForAllValues:StringLike", "aws:TagKeys", "runbook:*"), KEYS, False),
    ("no key is this", condition("ForAllValues:StringNotEquals", "aws:TagKeys", "runbook:deployment"), KEYS, True),
    ("a key is this", condition("ForAllValues:StringNotEquals", "aws:TagKeys", "Name"), KEYS, False),
    ("a negation of an absent key", condition("StringNotEquals", "aws:TagKeys", "Name"), {}, True),
    ("Null: false wants the key", condition("Null", "ec2:CreateAction", "false"), {}, False),
    ("Null: true wants none", condition("Null", "ec2:CreateAction", "true"), {}, True),
]


@pytest.mark.parametrize(("own", "context", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_a_statement_applies_as_iam_says(own: dict[str, Any], context: dict[str, Any], expected: bool) -> None:
    statement = {"Effect": "Allow", "Action": "ec2:DeleteVpc", "Resource": "*", **own}
    assert allowed([{"Statement": [statement]}], Question("ec2:DeleteVpc", ARN, context)) == expected


def test_a_denial_wins_over_every_permission_and_nothing_is_allowed_by_default() -> None:
    anything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    question = Question("ec2:DeleteVpc", ARN)
    assert allowed([{"Statement": anything}], question) and not allowed([], question)
    assert not allowed([{"Statement": anything}, {"Statement": [{**anything, "Effect": "Deny"}]}], question)


@pytest.mark.parametrize("own", [{"NotResource": "*"}, condition("IpAddress", "aws:SourceIp", "10.0.0.0/8"), condition("StringEqualsIfExists", "x", "y")])
def test_what_cannot_be_read_is_never_taken_for_allowed(own: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not evaluated"):
        allowed([{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", **own}]}], Question("ec2:DeleteVpc", ARN, {"x": "y"}))
