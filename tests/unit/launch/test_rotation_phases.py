"""A rotation that is killed before any of its writes to Parameter Store: the next run has one value, and the old one is known until it is refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib import pki
from runbook_lib.aws import rotation
from runbook_lib.aws.rotation import RETIRED
from runbook_lib.chapters.second_day import rotate
from runbook_lib.errors import RunbookError
from runbook_lib.launch import secrets
from runbook_lib.launch.cloud import Cloud
from runbook_lib.topology.model import topology_of

pytest_plugins = ["tests.support.aws_endpoint"]


class Killed(BaseException):
    """As `kill -9`: nothing in between catches it."""


class Cut:
    """SSM, which serves `left` more writes and then nobody any more."""

    def __init__(self, ssm: Any, left: int):
        self.ssm, self.left = ssm, left

    def __getattr__(self, name: str) -> Any:
        if name in ("put_parameter", "delete_parameter"):
            if self.left == 0:
                raise Killed
            self.left -= 1
        return getattr(self.ssm, name)


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud]) -> Cloud:
    found = make_cloud("as-cluster")
    list(secrets.ensure(found.vault, found.topology))
    return found


def begin(cloud: Cloud, *what: str) -> None:
    """The verb's part that concerns Parameter Store."""
    rotate._begin(SimpleNamespace(vault=cloud.vault, topology=cloud.topology), what)  # type: ignore[arg-type]


def killed(cloud: Cloud, *what: str) -> Iterator[int]:
    """Begin a rotation again and again, killed before its first write, its second, and so on; the values are put back in between."""
    vault = cloud.vault
    real, before, number = vault.ssm, vault.read_all(), 0
    while True:
        vault.ssm = Cut(real, number)
        try:
            begin(cloud, *what)
        except Killed:
            vault.ssm = real
            yield number
        else:
            vault.ssm = real
            return
        for name, value in vault.read_all().items():
            if name not in before:
                vault.delete(name)
            elif value != before[name]:
                vault.put(name, before[name])
        number += 1


# what is rotated, and how many writes it has at least: two to declare and promote a value, one to keep the old, one to take the declaration back
WRITES = {"administrator": 4, "databases": 8, "tier-keys": 4, "host-certificates": 8, "ca": 20}


@pytest.mark.parametrize("what", WRITES)
def test_killed_before_any_write_the_next_run_has_one_value_and_knows_the_old_one(cloud: Cloud, what: str) -> None:
    before, kills = cloud.vault.read_all(), 0
    for number in killed(cloud, what):
        kills = number + 1
        list(secrets.ensure(cloud.vault, cloud.topology))
        stored = cloud.vault.read_all()
        assert rotation.declared(stored) == () and not any(name.startswith(rotation.ROTATING) for name in stored)
        assert secrets.missing(cloud.topology, stored) == (), "the authority is whole, and every certificate is of it"
        pki.certificates(pki.issue(pki.Authority(stored["ca-key"], stored["ca.pem"]), ["x.test"])[0])[0].verify_directly_issued_by(
            pki.certificates(stored["ca.pem"])[0]
        )
        for name in secrets.names_of(cloud.topology, what):
            if stored[name] != before[name] and stored["ca.pem"] == before["ca.pem"]:
                assert stored[RETIRED + name] == before[name] or name.startswith("tls/"), name
        if stored["ca.pem"] != before["ca.pem"]:
            assert stored[f"{RETIRED}ca.pem"] == before["ca.pem"]
    assert kills >= WRITES[what]


@pytest.mark.parametrize("what", WRITES)
def test_begun_again_after_a_kill_it_ends_with_new_values_of_everything_and_each_old_one_kept(cloud: Cloud, what: str) -> None:
    before = cloud.vault.read_all()
    for _ in killed(cloud, what):
        begin(cloud, what)
        stored = cloud.vault.read_all()
        assert what in rotate.things(cloud, stored)  # type: ignore[arg-type]
        fresh = {name for name in secrets.names_of(cloud.topology, what) if stored[name] != before[name]}
        assert fresh == {*secrets.names_of(cloud.topology, what)}
        assert {stored[RETIRED + name] == before[name] for name in fresh if not name.startswith("tls/")} <= {True}


def test_what_is_half_rotated_is_finished_and_not_replaced_once_more(cloud: Cloud) -> None:
    begin(cloud, "databases")
    first = cloud.vault.read_all()
    begin(cloud, "databases", "administrator")
    second = cloud.vault.read_all()
    databases = secrets.names_of(cloud.topology, "databases")
    assert {name: second[name] for name in databases} == {name: first[name] for name in databases}
    assert second[secrets.ADMIN_PASSWORD] != first[secrets.ADMIN_PASSWORD]
    assert rotate.things(cloud, second) == ("administrator", "databases")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("ca.pem", lambda when: pki.make_ca("old", now=when)),
        ("tier-key/as", lambda when: pki.make_tier_key("as.lab.test", ["as.lab.test", "mgt.as.lab.test"], now=when)),
    ],
    ids=["authority", "tier key"],
)
@pytest.mark.parametrize(("days", "rotated"), [(pki.RENEW_DAYS - 1, True), (pki.RENEW_DAYS + 1, False)])
def test_what_ends_in_fewer_than_30_days_is_rotated_by_a_run(cloud: Cloud, name: str, make: Any, days: int, rotated: bool) -> None:
    when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=pki.CA_DAYS - days)
    old = make(when)
    if name == "ca.pem":
        cloud.vault.put("ca-key", old.key_pem)
        old = old.cert_pem
    cloud.vault.put(name, old)
    list(secrets.ensure(cloud.vault, cloud.topology))
    stored = cloud.vault.read_all()
    assert (stored[name] != old, RETIRED + name in stored) == (rotated, rotated)
    assert secrets.missing(cloud.topology, stored) == ()
    assert pki.days_left(stored[name]) == (pki.CA_DAYS - 1 if rotated else days - 1)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (("database",), "did you mean databases"),
        (("databases", "ssh"), "did you mean ssh-key"),
        (("certificates",), "did you mean host-certificates"),
        (("xyzzy",), "there is: administrator, databases"),
        ((), "there is: administrator"),
    ],
)
def test_an_unknown_thing_is_one_error_that_names_the_nearest(named: tuple[str, ...], words: str) -> None:
    with pytest.raises(RunbookError) as told:
        rotate.chosen(named)
    assert words in (told.value.next_step or "")


def test_all_is_everything_in_its_order() -> None:
    assert rotate.chosen(["all"]) == tuple(secrets.ROTATED) == rotate.chosen([*reversed(secrets.ROTATED)])


def test_the_key_after_a_hosts_new_name_has_that_name_and_one_by_which_nodes_are_known_that_show_the_key_before(cloud: Cloud) -> None:
    topology = topology_of(cloud.topology.spec.model_copy(update={"hosts": {"as": "apps.example.org", "mgt": "console.example.org"}}))
    before, after = cloud.vault.get("tier-key/as"), secrets.successors(topology, cloud.vault.read_all(), ["tier-keys"])["tier-key/as"]
    old, new = ({*pki.names_of(pki.certificates(bundle)[0])} for bundle in (before, after))
    assert {"apps.example.org", "console.example.org"} < new and old & new
