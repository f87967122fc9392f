"""What an opened deployment tells about its machines, without a cloud."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib import pki, session
from runbook_lib.aws.packs import Pack
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.notebook import progress as progress_
from runbook_lib.session import Session
from runbook_lib.spec.loader import load_spec
from runbook_lib.ssh import Address, fleet
from runbook_lib.topology.model import topology_of
from tests.fakes import context


def test_over_the_internet_a_machine_without_a_public_address_is_reached_through_the_first_nginx() -> None:
    topology = context("greg-original", cloud={"connect_via": "public"}).topology
    machines = {
        node.name: SimpleNamespace(id=node.name, address=node.address, dial="198.51.100.7" if node in topology.lbs else node.address) for node in topology.nodes
    }
    cloud = SimpleNamespace(bastion=lambda: None, login_user="admin", host_keys=lambda name, instance: (f"ssh-ed25519 {name}",))
    opened = SimpleNamespace(topology=topology, cloud=cloud)
    found = {name: Session._address(opened, name, machine) for name, machine in machines.items()}  # type: ignore[arg-type]
    assert {name: at.via for name, at in found.items() if at.via} == dict.fromkeys(("db-1", "greg-1", "greg-2", "greg-3"), "lb-store-1")
    hosts = fleet(found, pki.make_ssh_key())
    assert hosts["db-1"].via is hosts["lb-store-1"] and hosts["lb-publisher-1"].via is None
    assert hosts["db-1"].at.host_keys == ("ssh-ed25519 db-1",), "each by its own key"


def test_the_world_meets_a_machine_at_its_public_address_and_where_it_has_none_at_its_private_one() -> None:
    topology = topology_of(load_spec("params/greg-single.lab.yaml"))
    machines = {"lb-1": SimpleNamespace(public_address="198.51.100.7"), "db-1": SimpleNamespace(public_address="")}
    opened = SimpleNamespace(topology=topology, instances=lambda: machines)
    found = Session.public_addresses(opened)  # type: ignore[arg-type]
    assert found == {node.name: node.address for node in topology.nodes} | {"lb-1": "198.51.100.7"}


def test_when_the_lock_is_lost_the_apply_in_its_block_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(vault: object, owner: str, wait: float, lost: Callable[[], None]) -> Any:
        losing.append(lost)
        return nullcontext()

    losing: list[Callable[[], None]] = []
    monkeypatch.setattr(session, "Lock", lock)
    with Session.writing(SimpleNamespace(vault=None, owner="anna")), progress_.progress("MySQL", ["db-1"]) as shown:  # type: ignore[arg-type]
        losing[0]()
        assert shown.stop.is_set()


LAUNCHED, THROUGH = "the machine is not launched", "it is reached through lb-1, which is not launched"
EVERY = {"lb-1", "db-1", "greg-1"}


@pytest.mark.parametrize(
    ("machines", "public", "key", "expected"),
    [
        (EVERY, False, True, {}),
        (set(), False, False, dict.fromkeys(EVERY, LAUNCHED)),
        ({"lb-1", "db-1"}, False, True, {"greg-1": LAUNCHED}),
        ({"db-1", "greg-1"}, False, True, {"lb-1": LAUNCHED}),
        ({"db-1", "greg-1"}, True, True, {"lb-1": LAUNCHED, "db-1": THROUGH, "greg-1": THROUGH}),
        (EVERY, False, False, dict.fromkeys(EVERY, "the deployment has no SSH key")),
        (EVERY | {"probe-1"}, False, True, {}),  # left by a proof that was killed before its key was pinned
    ],
)
def test_a_machine_out_of_reach_has_its_reason(machines: set[str], public: bool, key: bool, expected: dict[str, str]) -> None:
    topology = topology_of(load_spec("params/greg-single.lab.yaml"))
    opened = SimpleNamespace(
        topology=topology,
        instances=lambda: {name: SimpleNamespace(state="running") for name in machines},
        vault=SimpleNamespace(names=lambda: ["ssh-private-key"] if key else []),
        _address=lambda name, _: {node: SimpleNamespace(via="lb-1" if public and node != "lb-1" else "") for node in EVERY}[name],
    )
    assert Session.out_of_reach(opened) == expected  # type: ignore[arg-type]


def test_a_machine_that_goes_is_connected_to_where_its_key_is_pinned_and_a_probe_never_is() -> None:
    topology = topology_of(load_spec("params/greg-single.lab.yaml"))
    roles = {"db-1": "db", "lb-1": "lb", "greg-1": "greg", "greg-2": "greg", "greg-3": "greg", "probe-1": "probe"}
    opened = SimpleNamespace(
        topology=topology,
        instances=lambda: {name: SimpleNamespace(state="running", role=role) for name, role in roles.items()},
        vault=SimpleNamespace(names=lambda: ["host-keys/greg-2", "host-keys/probe-1"], get=lambda name: pki.make_ssh_key()),
        _address=lambda name, _: Address(name, "192.0.2.1", "admin", ("ssh-ed25519 AAAA",)),
        _bastion=lambda: None, _dial=lambda: None, _hosts=None,
    )  # fmt: skip
    assert {*Session.fleet(opened).hosts} == {"db-1", "lb-1", "greg-1", "greg-2"}  # type: ignore[arg-type]


def test_behind_a_machine_that_does_not_run_nobody_is_connected_to() -> None:
    topology = topology_of(load_spec("params/greg-single.lab.yaml"))
    opened = SimpleNamespace(
        topology=topology,
        instances=lambda: {name: SimpleNamespace(state="stopped" if name == "lb-1" else "running", role="") for name in EVERY},
        vault=SimpleNamespace(get=lambda name: pki.make_ssh_key()),
        _address=lambda name, _: Address(name, "192.0.2.1", "admin", ("ssh-ed25519 AAAA",), via="lb-1" if name == "greg-1" else ""),
        _bastion=lambda: None, _dial=lambda: None, _hosts=None,
    )  # fmt: skip
    assert {*Session.fleet(opened, without={"lb-1"}).hosts} == {"db-1"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("down", "public", "there"),
    [
        (set(), False, EVERY),
        ({"lb-1"}, False, {"db-1", "greg-1"}),
        ({"lb-1"}, True, set()),
        ({"greg-1"}, True, {"lb-1", "db-1"}),
        (EVERY, False, set()),
    ],
)
def test_what_runs_is_connected_to_whatever_else_is_down_and_of_the_rest_it_is_told_that_it_does_not(down: set[str], public: bool, there: set[str]) -> None:
    topology = topology_of(load_spec("params/greg-single.lab.yaml"))
    opened: Any = SimpleNamespace(
        topology=topology,
        instances=lambda: {name: SimpleNamespace(state="stopped" if name in down else "running", role="") for name in EVERY},
        vault=SimpleNamespace(get=lambda name: pki.make_ssh_key()),
        _address=lambda name, _: Address(name, "192.0.2.1", "admin", ("ssh-ed25519 AAAA",), via="lb-1" if public and name != "lb-1" else ""),
        _bastion=lambda: None, _dial=lambda: None, _hosts=None, out_of_reach=lambda: {}, fleet=lambda without: Session.fleet(opened, without),
    )  # fmt: skip
    found = Session.running(opened)
    assert {*found.hosts} == there
    for name in EVERY - there:
        with pytest.raises(HostError, match=f"not running, or out of reach: {name}"):
            found[name]


def test_in_one_look_the_cloud_is_asked_once_for_its_machines_whatever_lies_inside_of_it() -> None:
    asked: list[str] = []

    def describe() -> dict[str, Any]:
        asked.append("machines")
        return {}

    opened = Session.__new__(Session)
    opened._looking, opened._answers = False, {}
    opened.cloud = SimpleNamespace(describe=describe, vault=SimpleNamespace(one_look=nullcontext))  # type: ignore[assignment]
    with opened.one_look():
        opened.instances()
        with opened.one_look():
            opened.instances()
        opened.instances()
    assert len(asked) == 1
    opened.instances()
    opened.instances()
    assert len(asked) == 3, "outside of it a change must be seen at once"


def test_the_url_by_which_machines_get_an_archive_is_signed_anew_before_the_session_that_signed_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now, signed = [1000.0], []
    monkeypatch.setattr(session.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(session, "stage", lambda found, *_: signed.append(found.url) or f"https://signed/{len(signed)}")
    opened: Any = Session.__new__(Session)
    opened._staged, opened.cloud, opened.spec = {}, SimpleNamespace(aws=None), SimpleNamespace(deployment="x")
    pack = Pack("s3://packs/greg.zip", Path("greg.zip"), "ab" * 32)
    first = opened._download(pack)
    now[0] += session.SIGNED_SECONDS - 1
    assert opened._download(pack).url == first.url == "https://signed/1"
    now[0] += 2
    assert opened._download(pack).url == "https://signed/2"


@pytest.mark.parametrize(
    ("settings", "is_aws"),
    [
        (None, True),
        ("profile", True),
        ("endpoint_url = https://ec2.eu-west-1.amazonaws.com", True),
        ("endpoint_url = http://10.99.0.1:5000", False),
        ("endpoint_url = https://amazonaws.com.example.org", False),
    ],
)
def test_a_deployment_is_on_aws_unless_another_endpoint_is_called(settings: str | None, is_aws: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config file of one's own is no lab: drills and exercises ask before they harm what is on AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    (tmp_path / "config").write_text("[default]\nregion = us-east-1\n" + (settings or "").replace("profile", "output = json") + "\n")
    chosen = {"cloud.aws_config": str(tmp_path / "config") if settings else None}
    deployment = Session(load_spec("params/greg-single.lab.yaml", chosen), SimpleNamespace())  # type: ignore[arg-type]
    assert deployment.on_aws == is_aws


def test_in_one_look_a_question_is_asked_once_by_whoever_comes_first_and_no_other_waits_for_its_answer() -> None:
    opened = Session.__new__(Session)
    opened._looking, opened._answers = False, {}
    opened.cloud = SimpleNamespace(vault=SimpleNamespace(one_look=nullcontext))  # type: ignore[assignment]
    asked, answered = list[str](), threading.Event()

    def slow() -> str:
        asked.append("slow")
        assert answered.wait(20)
        return "it"

    with opened.one_look(), ThreadPoolExecutor() as pool:
        both = [pool.submit(opened.answer, "slow", slow) for _ in range(2)]
        assert opened.answer("other", lambda: "at once") == "at once"
        answered.set()
        assert [one.result(20) for one in both] == ["it", "it"] and asked == ["slow"]
    assert opened.answer("other", lambda: "asked again") == "asked again"


def test_in_one_look_who_asks_later_gets_the_error_of_the_first() -> None:
    opened = Session.__new__(Session)
    opened._looking, opened._answers = False, {}
    opened.cloud = SimpleNamespace(vault=SimpleNamespace(one_look=nullcontext))  # type: ignore[assignment]

    def refused() -> str:
        raise HostError("no answer", "db-1")

    with opened.one_look():
        for _ in range(2):
            with pytest.raises(HostError):
                opened.answer("used", refused)


class Restored(Session):
    """A session whose records lie in a dictionary, which others look at too."""

    pack = jdk = driver = None  # type: ignore[assignment]

    def __init__(self, values: dict[str, str]):
        self.spec, self.topology = context("greg-single").spec, context("greg-single").topology
        self.__dict__["vault"] = SimpleNamespace(
            read_all=lambda: dict(values), delete=values.pop,
            put=lambda name, value, secure: values.update({name: value}), ensure=lambda name, make, secure: values.setdefault(name, make()),
        )  # fmt: skip

    def instances(self) -> dict[str, Any]:  # type: ignore[override]
        return {}


@pytest.mark.parametrize("fails", [False, True])
def test_while_a_backup_is_restored_its_own_session_goes_on_and_no_other(fails: bool) -> None:
    values: dict[str, str] = {}
    mine, other = Restored(values), Restored(values)

    def seen() -> list[str]:
        return [each.context().restoring for each in (mine, other)]

    with pytest.raises(RunbookError) if fails else nullcontext() as stopped, mine.restoring("shop/20261126T150000Z-abcd"):
        assert seen() == ["", "shop/20261126T150000Z-abcd"]
        if fails:
            raise RunbookError("greg-1 does not boot", "greg-1", "run the chapter again")
    assert seen() == (["shop/20261126T150000Z-abcd"] * 2 if fails else ["", ""])
    assert mine.context().in_use
    if stopped:
        assert str(stopped.value.next_step).startswith("the same restore again: before it has ended well nothing else goes on. Before that: run the chapter")
