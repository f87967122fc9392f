"""One machine per request, however often it is repeated, and another one once that machine has ended. The endpoint keeps EC2's rules of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ec2lab.api.client_tokens import SeenTokens

from runbook_lib.aws import client_tokens
from runbook_lib.aws.client_tokens import ClientTokens
from runbook_lib.errors import CloudError
from runbook_lib.launch import machines
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.instances import described, launching
from runbook_lib.launch.inventory import by_tag

pytest_plugins = ["tests.support.aws_endpoint"]
MakeCloud = Callable[..., Cloud]
Forget = Callable[[str], None]


class Killed(BaseException):
    """What kill -9 is to the code: nothing below gets to act on it."""


def dies(*args: Any) -> None:
    raise Killed


def launched(cloud: Cloud) -> dict[str, str]:
    """Every machine that EC2 knows of the deployment, by node; fails where a node has two."""
    answer = cloud.aws.client("ec2").pages("describe_instances", "Reservations", Filters=by_tag(cloud.spec.deployment))
    found = [(tag["Value"], one["InstanceId"]) for each in answer for one in each["Instances"] for tag in one["Tags"] if tag["Key"] == "runbook:node"]
    assert len(dict(found)) == len(found), f"a machine was launched twice: {found}"
    return dict(found)


def again(cloud: Cloud) -> Cloud:
    """The same deployment seen by another process."""
    return Cloud(cloud.spec)


def hide_until_asked_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machines of the killed run are not described before RunInstances is repeated."""
    shown, original, asked = described.instances_of, cloud.aws.client("ec2").client.run_instances, []

    def run_instances(**options: Any) -> Any:
        asked.append(options)
        return original(**options)

    monkeypatch.setattr(cloud.aws.client("ec2").client, "run_instances", run_instances)
    for module in (machines, launching):
        monkeypatch.setattr(module, "instances_of", lambda *args: shown(*args) if asked else [])


def kept(cloud: Cloud) -> str | None:
    return cloud.vault.find(client_tokens.NAME, fresh=True)


def test_the_tokens_go_once_their_machines_are_seen(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, seen = make_cloud(), []
    original = launching._await_shown
    monkeypatch.setattr(launching, "_await_shown", lambda *args: (seen.append(kept(cloud)), original(*args)))
    cloud.apply()
    assert seen and all(node.name in str(seen[0]) for node in cloud.topology.nodes), "before EC2 shows the machines the tokens are stored"
    assert kept(cloud) is None


def test_a_request_that_timed_out_and_was_done_gives_the_same_machine(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = make_cloud()
    original = launching._instance_id

    def times_out(answer: dict[str, Any]) -> str:
        raise CloudError(f"the endpoint cannot be reached, after it made {original(answer)}")

    with monkeypatch.context() as patch:
        patch.setattr(launching, "_instance_id", times_out)
        with pytest.raises(CloudError, match="cannot be reached"):
            cloud.apply()
    before = launched(cloud)
    next_one = again(cloud)
    hide_until_asked_again(next_one, monkeypatch)
    next_one.apply()
    assert launched(cloud).items() >= before.items() and not again(cloud).plan()


def test_a_killed_run_is_finished_with_the_machines_that_are_not_shown_yet(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = make_cloud()
    with monkeypatch.context() as patch:
        patch.setattr(launching, "_await_shown", dies)
        with pytest.raises(Killed):
            cloud.apply()
    before, next_one = launched(cloud), again(cloud)
    hide_until_asked_again(next_one, monkeypatch)
    next_one.apply()
    assert launched(cloud) == before and kept(cloud) is None


def test_a_killed_run_with_other_parameters_afterwards_keeps_its_machines(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, larger = make_cloud(), make_cloud(overrides={"cloud.instance_type": {"greg": "t3.large"}})
    with monkeypatch.context() as patch:
        patch.setattr(launching, "_await_shown", dies)
        with pytest.raises(Killed):
            cloud.apply()
    before = launched(cloud)
    hide_until_asked_again(larger, monkeypatch)
    larger.apply()
    assert launched(cloud) == before and not larger.plan()
    assert larger.instance("greg-1").instance_type == "t3.large", "what differs was changed on the machine that there was"


def test_a_machine_that_ended_before_it_was_seen_is_replaced(make_cloud: MakeCloud, forget: Forget, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = make_cloud()
    with monkeypatch.context() as patch:
        patch.setattr(launching, "_await_shown", dies)
        with pytest.raises(Killed):
            cloud.apply()
    ended = launched(cloud)["greg-1"]
    cloud.aws.client("ec2").terminate_instances(InstanceIds=[ended])
    forget(ended)
    again(cloud).apply()
    assert launched(cloud)["greg-1"] != ended and not again(cloud).plan() and kept(cloud) is None


def test_a_node_is_replaced_as_often_as_it_dies(make_cloud: MakeCloud, forget: Forget) -> None:
    cloud = make_cloud()
    cloud.apply()
    seen = [launched(cloud)["greg-1"]]
    for _ in range(2):
        cloud.aws.client("ec2").terminate_instances(InstanceIds=[seen[-1]])
        forget(seen[-1])
        again(cloud).apply()
        seen.append(launched(cloud)["greg-1"])
    assert len(set(seen)) == 3


def test_a_node_may_go_and_come_back(make_cloud: MakeCloud, forget: Forget) -> None:
    small, large = make_cloud("greg-separated"), make_cloud("greg-separated", {"nodes.store": 3})
    seen = set()
    for _ in range(2):
        large.apply()
        seen.add(launched(large)["store-3"])
        small.apply()
        for machine_id in seen & set(launched(large).values()):
            forget(machine_id)
    assert len(seen) == 2


@pytest.mark.parametrize("text", ["", "no tokens", "[]", "null"])
def test_another_text_in_the_place_of_the_tokens_is_replaced(make_cloud: MakeCloud, text: str) -> None:
    vault = make_cloud().vault
    if text:
        vault.put(client_tokens.NAME, text)
    tokens = ClientTokens(vault)
    token = tokens.keep(["greg-1"])["greg-1"]
    assert ClientTokens(vault).keep(["greg-1", "lb-1"])["greg-1"] == token
    tokens.forget(["greg-1"])
    assert "greg-1" not in str(kept(make_cloud())) and "lb-1" in str(kept(make_cloud()))


class Reservation:
    def __init__(self, *states: str):
        self.instances = [type("Instance", (), {"state": state}) for state in states]


RULES = (
    ("the same request", {"ImageId": "ami-1"}, ("running",), None),
    ("another request", {"ImageId": "ami-2"}, ("running",), "IdempotentParameterMismatch"),
    ("another request of what has ended", {"ImageId": "ami-2"}, ("terminated",), "IdempotentParameterMismatch"),
    ("what is ending", {"ImageId": "ami-1"}, ("shutting-down",), "IdempotentInstanceTerminated"),
    ("what has ended", {"ImageId": "ami-1"}, ("terminated", "terminated"), "IdempotentInstanceTerminated"),
    ("one of two has ended", {"ImageId": "ami-1"}, ("terminated", "running"), None),
)


@pytest.mark.parametrize(("about", "request_", "states", "code"), RULES, ids=[rule[0] for rule in RULES])
def test_the_labs_rules_of_tokens(about: str, request_: dict[str, str], states: tuple[str, ...], code: str | None) -> None:
    tokens, made = SeenTokens(), Reservation(*states)
    assert tokens.recall("a", {"ImageId": "ami-1"}) is None
    tokens.note("a", {"ImageId": "ami-1"}, made)
    if code is None:
        assert tokens.recall("a", request_) is made
        return
    with pytest.raises(Exception) as caught:
        tokens.recall("a", request_)
    assert getattr(caught.value, "code", "") == code


def test_a_token_that_is_too_long_is_refused() -> None:
    with pytest.raises(Exception, match="64 ASCII"):
        SeenTokens().recall("a" * 65, {})
