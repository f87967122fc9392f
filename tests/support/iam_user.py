"""A user of an AWS endpoint who has exactly one policy: what the endpoint refuses to him, AWS refuses too."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from ec2lab.access_key import AccessKey
from ec2lab.api import authorization
from ec2lab.api.policies import Policy, Question, allowed, as_list, statements

from tests.conftest import ROOT

POLICY = ROOT / "docs/iam/operator.json"
EVERYTHING: Policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
ANY = AccessKey("root", "root")
# Of a bucket of packs only the region is asked (HeadBucket), which S3 tells also to those whom it refuses the rest: no right is needed.
TOLD_ANYWAY = "s3:ListBucket", "arn:aws:s3:::runbook-packs"
NUMBERS = itertools.count(1)


def operator_policy() -> dict[str, Any]:
    """The policy that the documents give to an operator."""
    return dict(json.loads(POLICY.read_text()))


def user_with(policy: Policy, endpoint: str, folder: Path, key: AccessKey = ANY) -> Path:
    """An AWS config file with the key of a new user of the endpoint who has this policy and no other. `key`: the account's; moto alone takes any."""
    root = {"aws_access_key_id": key.id, "aws_secret_access_key": key.secret, "region_name": "us-east-1", "config": Config(proxies={})}
    iam = boto3.client("iam", endpoint_url=endpoint, **root)  # type: ignore[call-overload]
    name = f"operator-{next(NUMBERS)}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=json.dumps(policy))
    made = iam.create_access_key(UserName=name)["AccessKey"]
    path = folder / f"{name}.ini"
    path.write_text(
        f"[default]\nregion = us-east-1\nendpoint_url = {endpoint}\n"
        f"aws_access_key_id = {made['AccessKeyId']}\naws_secret_access_key = {made['SecretAccessKey']}\n"
    )
    return path


@contextmanager
def recorded() -> Iterator[list[Question]]:
    """Every question that an endpoint in this process decides for a user meanwhile, and that has an effect."""
    found: list[Question] = []

    def decide(policies: Iterable[Policy], question: Question) -> bool:
        if (question.action, question.resource) != TOLD_ANYWAY:
            found.append(question)
        return allowed(policies, question)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(authorization, "allowed", decide)
        yield found


def words_of(policy: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each single word that allows something (action, resource, value of a condition), as `Sid: word`, with the policy that lacks just that."""
    for number, statement in enumerate(statements(policy)):
        conditions = [(operator, key) for operator, keys in statement.get("Condition", {}).items() if "Not" not in operator for key in keys]
        for path in (("Action",), ("Resource",), *(("Condition", *place) for place in conditions)):
            for word in _values(statement, path):
                less = json.loads(json.dumps(policy))
                holder = less["Statement"][number]
                for step in path[:-1]:
                    holder = holder[step]
                rest = [each for each in as_list(holder[path[-1]]) if each != word]
                holder[path[-1]] = rest or ["no such thing"]
                yield f"{statement['Sid']}: {word}", less


def _values(statement: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    found: Any = statement
    for step in path:
        found = found[step]
    return as_list(found)
