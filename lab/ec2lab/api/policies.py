"""Whether identity policies allow what is asked, as IAM evaluates them: actions, resources and conditions.

Source: IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements". An element or operator that is not known here is an error, never
silently true: a policy that this module accepts, AWS reads the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Policy = Mapping[str, Any]  # a policy document


@dataclass(frozen=True)
class Question:
    """May `action` (`ec2:CreateVpc`) be done to `resource` (an ARN, or `*` where the action has none)? `context`: condition keys with their values."""

    action: str
    resource: str = "*"
    context: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        keys = ", ".join(f"{key}={value}" for key, value in self.context.items())
        return f"{self.action} on {self.resource}" + (f" ({keys})" if keys else "")


def allowed(policies: Iterable[Policy], question: Question) -> bool:
    """Return whether a statement allows it and none denies it. Raises ValueError for an element of a policy that is not known here."""
    effects = {statement["Effect"] for policy in policies for statement in statements(policy) if _applies(statement, question)}
    return "Allow" in effects and "Deny" not in effects


def statements(policy: Policy) -> list[Mapping[str, Any]]:
    """Return the statements of a policy; a single one need not stand in a list."""
    found = policy["Statement"]
    return [found] if isinstance(found, Mapping) else list(found)


def trusts(policy: Policy, account: str, arn: str, question: Question) -> bool:
    """Return whether the trust policy of a role allows what is asked to `arn`, whom its statements may name, or to whom they name `account` for."""
    ours, about_us = {"*", account, f"arn:aws:iam::{account}:root", arn}, []
    for statement in statements(policy):
        rest = {key: value for key, value in statement.items() if key != "Principal"}
        principal = statement["Principal"]
        named = principal.get("AWS", []) if isinstance(principal, Mapping) else principal
        if not ours.isdisjoint(as_list(named)):
            about_us.append({**rest, "Resource": "*"})
    return allowed([{"Statement": about_us}], question)


def as_list(value: Any) -> list[Any]:
    """Return an element of a policy, which may be one value or several, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _applies(statement: Mapping[str, Any], question: Question) -> bool:
    if unknown := set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}:
        raise ValueError(f"policy elements that are not evaluated: {', '.join(sorted(unknown))}")
    actions = any(_like(wanted.lower(), question.action.lower()) for wanted in as_list(statement["Action"]))
    return actions and any(_like(wanted, question.resource) for wanted in as_list(statement["Resource"])) and all(_conditions(statement, question))


def _conditions(statement: Mapping[str, Any], question: Question) -> Iterator[bool]:
    present = {key.lower(): value for key, value in question.context.items()}  # condition keys do not distinguish case
    for operator, keys in statement.get("Condition", {}).items():
        holds = _operator(operator)
        for key, wanted in keys.items():
            yield holds(present.get(key.lower()), [str(value) for value in as_list(wanted)])


def _operator(name: str) -> Callable[[Any, list[str]], bool]:
    """Return what decides for an operator, given the value in the request (None: no such key) and the values of the policy."""
    if name == "Null":
        return lambda value, wanted: (value is None) == (wanted == ["true"])
    bare = name.removeprefix("ForAllValues:")
    match = OPERATORS.get(bare.replace("StringNot", "String"))
    if match is None:
        raise ValueError(f"a condition operator that is not evaluated: {name}")
    denied = bare.startswith("StringNot")
    if bare != name or denied:  # true also of a key that is absent
        return lambda value, wanted: all(any(match(one, each) for one in wanted) != denied for each in as_list(value or ()))
    return lambda value, wanted: value is not None and any(match(one, value) for one in wanted)


@cache
def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in wanted), re.DOTALL)


def _like(wanted: str, value: str) -> bool:
    return _pattern(wanted).fullmatch(value) is not None


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": str.__eq__,
    "StringLike": _like,
    "ArnLike": _like,
    "Bool": lambda a, b: a.lower() == b.lower(),
}
