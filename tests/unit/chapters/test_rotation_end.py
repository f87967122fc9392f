"""The end of a rotation, killed at any of its steps: what is proven and forgotten when, and that the next one comes to the same end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.aws import rotation
from runbook_lib.aws.rotation import RETIRED
from runbook_lib.chapters.second_day import rotate
from runbook_lib.check import Check
from runbook_lib.checks.secrets import rotation as proving
from runbook_lib.errors import ChecksFailed
from runbook_lib.launch import secrets
from runbook_lib.launch.cloud import Cloud
from runbook_lib.roles.context import Context

pytest_plugins = ["tests.support.aws_endpoint"]


class Killed(BaseException):
    """As `kill -9`: nothing in between catches it."""


class Steps:
    """The steps on machines, in the order in which they are done, each with the names whose old value is known then. `left`: how many until the kill."""

    def __init__(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
        self.cloud, self.left, self.done, self.refused = cloud, 1000, list[tuple[str, set[str]]](), True
        self.deployment: Any = SimpleNamespace(
            vault=cloud.vault, topology=cloud.topology, spec=cloud.spec, fleet=dict,
            mysql=SimpleNamespace(name="database"), product=SimpleNamespace(name="nodes"), nginx=SimpleNamespace(name="nginx"),
            cloud=SimpleNamespace(login_user="admin", apply=lambda: self.step("key pair")), close=lambda: None,
            journal=SimpleNamespace(checked=lambda *_: None), context=self.context,
        )  # fmt: skip
        monkeypatch.setattr(rotate, "_settle", lambda d, chapter, ctx: self.step(chapter.name))
        monkeypatch.setattr(rotate.rotated, "admit", lambda *_: self.step("new SSH key"))
        monkeypatch.setattr(rotate.rotated, "expel", lambda *_: self.step("old SSH key"))
        monkeypatch.setattr(proving, "proofs", self.proofs)

    def context(self) -> Context:
        stored = self.cloud.vault.read_all()
        return Context(self.cloud.spec, self.cloud.topology, stored, former=rotation.former(stored))

    def step(self, what: str) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        self.done.append((what, set(rotation.retired(self.cloud.vault.names()))))

    def proofs(self, d: Any, what: str, old: dict[str, str], new: dict[str, str]) -> Iterator[Check]:
        self.step(f"proof of {what}")
        assert all(new[name] != value and self.cloud.vault.get(name) == new[name] for name, value in old.items())
        yield Check(f"rotated-{what}-refused", what, "pass" if self.refused else "fail", "", "", "")


@pytest.fixture
def steps(make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> Steps:
    cloud = make_cloud("as-cluster")
    list(secrets.ensure(cloud.vault, cloud.topology))
    return Steps(cloud, monkeypatch)


def test_killed_before_any_step_the_next_one_ends_with_the_same_values_and_nothing_kept(steps: Steps) -> None:
    vault, what = steps.cloud.vault, tuple(secrets.ROTATED)
    for number in range(30):
        rotate._begin(steps.deployment, what)
        values = {name: value for name, value in vault.read_all().items() if not name.startswith(RETIRED)}
        steps.left = number
        try:
            rotate.finish(steps.deployment)
        except Killed:
            pass
        else:
            break
        steps.left = 1000
        assert rotate.finish(steps.deployment).ok
        stored = vault.read_all()
        assert rotation.unfinished(stored) == () and rotation.retired(stored) == ()
        assert stored == values
    assert number == 1 + len(("old SSH key", "database", "nodes", "nginx")) + len(what) - 1, "every step was the one that was killed"


def test_old_values_are_known_until_all_is_proven_but_the_database_servers_certificate(steps: Steps) -> None:
    names = {name for what in secrets.ROTATED for name in secrets.names_of(steps.cloud.topology, what)}
    rotate._begin(steps.deployment, tuple(secrets.ROTATED))
    assert set(rotation.retired(steps.cloud.vault.names())) == names
    rotate.finish(steps.deployment)
    known = dict(steps.done)
    assert known["database"] == names and known["nodes"] == known["proof of ca"] == names - {"tls/db-1"}
    order = [step for step, _ in steps.done]
    assert order.index("database") < order.index("nodes") < order.index("nginx") < order.index("proof of administrator")


def test_a_key_that_was_declared_and_no_machine_knew_is_let_in_first(steps: Steps) -> None:
    vault = steps.cloud.vault
    rotation.declare(vault, secrets.successors(steps.cloud.topology, vault.read_all(), ["ssh-key"]))
    assert "ssh-private-key" not in {item.name for item in secrets.missing(steps.cloud.topology, vault.read_all())}, "chapter 01 leaves it alone"
    new = vault.get(rotation.ROTATING + secrets.SSH_KEY)
    assert rotate.finish(steps.deployment).ok
    assert [step for step, _ in steps.done][:3] == ["new SSH key", "key pair", "old SSH key"]
    assert vault.get(secrets.SSH_KEY) == new and rotation.unfinished(vault.names()) == ()


def test_a_proof_that_fails_forgets_nothing(steps: Steps) -> None:
    rotate._begin(steps.deployment, ["databases"])
    kept, steps.refused = steps.cloud.vault.read_all(), False
    with pytest.raises(ChecksFailed, match="the old values stay known"):
        rotate.finish(steps.deployment)
    assert steps.cloud.vault.read_all() == kept


def test_where_nothing_is_rotated_nothing_is_done(steps: Steps) -> None:
    assert rotate.finish(steps.deployment) == [] and steps.done == []
    assert rotate.due(steps.deployment, steps.cloud.vault.names()) == ()
