"""Where machines are launched, and what other parameters do to machines that live: grow the disk, or a refusal with the reason; nothing is ignored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.aws.preflight import zones
from runbook_lib.errors import CloudError
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.inventory import by_tag

pytest_plugins = ["tests.support.aws_endpoint"]
MakeCloud = Callable[..., Cloud]
REFUSED = yaml.safe_load(Path(__file__).with_name("launch_errors.yaml").read_text())


def described(cloud: Cloud, call: str, key: str) -> list[dict[str, Any]]:
    return list(cloud.aws.client("ec2").pages(call, key, Filters=by_tag(cloud.spec.deployment)))


@pytest.mark.parametrize("case", REFUSED, ids=[case["it"] for case in REFUSED])
def test_a_launch_that_cannot_be_is_one_error_before_anything_is_created(make_cloud: MakeCloud, case: dict[str, Any]) -> None:
    cloud = make_cloud(overrides=case["with"])
    for call in (cloud.plan, cloud.apply):
        with pytest.raises(CloudError) as caught:
            call()
        assert case["what"] in caught.value.what and case["next"] in (caught.value.next_step or "")
    assert not described(cloud, "describe_vpcs", "Vpcs") and not cloud.vault.names()


def test_without_a_zone_one_is_chosen_that_offers_every_type_and_is_no_local_zone(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = {"t3.small": {"us-east-1-bos-1a", "us-east-1a", "us-east-1b", "us-east-1c"}, "t3.medium": {"us-east-1-bos-1a", "us-east-1c", "us-east-1b"}}
    monkeypatch.setattr(zones, "zones_by_type", lambda ec2, types: {type_: offers[type_] for type_ in types})
    cloud = make_cloud(overrides={"cloud.instance_type": {"default": "t3.small", "greg": "t3.medium"}})
    planned = [p.change.summary for p in cloud.plan().pending if p.change.key.startswith("network subnet")]
    assert planned and all("in us-east-1b" in summary for summary in planned)
    cloud.apply()
    assert {subnet["AvailabilityZone"] for subnet in described(cloud, "describe_subnets", "Subnets")} == {"us-east-1b"}
    assert not Cloud(cloud.spec).plan()


def test_types_that_no_zone_offers_together_are_told(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = {"t3.small": {"us-east-1a"}, "t3.medium": {"us-east-1b"}}
    monkeypatch.setattr(zones, "zones_by_type", lambda ec2, types: {type_: offers[type_] for type_ in types})
    cloud = make_cloud(overrides={"cloud.instance_type": {"default": "t3.small", "greg": "t3.medium"}})
    with pytest.raises(CloudError, match=r"no zone offers all of these types \(t3.medium: us-east-1b; t3.small: us-east-1a\)"):
        cloud.plan()


def test_a_type_that_the_second_zone_does_not_offer_is_told(make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = {"t3.small": {"us-east-1a", "us-east-1b"}, "t3.medium": {"us-east-1a"}}
    monkeypatch.setattr(zones, "zones_by_type", lambda ec2, types: {type_: offers[type_] for type_ in types})
    two = {"cloud.network": "10.213.2.0/23", "cloud.availability_zone": "us-east-1a", "cloud.second_zone": "us-east-1b", "nodes.greg": 2}
    cloud = make_cloud("greg-original", overrides=two | {"cloud.instance_type": {"default": "t3.small", "greg": "t3.medium"}})
    with pytest.raises(CloudError, match=r"cloud\.second_zone: us-east-1b does not offer t3.medium"):
        cloud.plan()
    database = make_cloud("greg-original", overrides=two | {"cloud.instance_type": {"default": "t3.small", "db": "t3.medium"}})
    assert database.plan().of("network"), "the database stands in the first zone, which offers its type"


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return {"cloud.availability_zone": "us-east-1b", "cloud.disk_gb": 20}


LIVE = (
    ({"cloud.availability_zone": "us-east-1c"}, "cloud.availability_zone of the live deployment", "us-east-1b"),
    ({"cloud.image": "ubuntu-22.04"}, "cloud.image of the live deployment", "debian-12"),
    ({"cloud.image": "ami-0123456789abcdef1", "cloud.login_user": "ec2-user"}, "cloud.image of the live deployment", "debian-12"),
    ({"product.home": "/srv/wso2"}, "product.home of the live deployment", "/opt/wso2"),
    ({"product.user": "greg"}, "product.user of the live deployment", "wso2carbon"),
    ({"cloud.disk_gb": 10}, "cloud.disk_gb is 10, and lb-1 has 20 GiB", "never shrinks"),
    ({"cloud.instance_type": {"greg": "t3.colossal"}}, "t3.colossal is not offered", ""),
)


def test_what_a_live_deployment_cannot_become_is_refused_with_the_reason(make_cloud: MakeCloud, settings: dict[str, Any]) -> None:
    cloud = make_cloud(overrides=settings)
    cloud.apply()
    for changed, what, reason in LIVE:
        other = make_cloud(overrides=settings | changed)
        for call in (other.plan, other.apply):
            with pytest.raises(CloudError) as caught:
                call()
            assert what in caught.value.what and reason in caught.value.what, changed
    assert not make_cloud(overrides={"cloud.disk_gb": 20}).plan(), "without a zone the live one stays"


@pytest.fixture
def addresses_become_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in EC2, the address of a machine is free when it has ended; moto keeps it."""
    from moto.ec2.models.instances import Instance

    original = Instance.terminate

    def terminate(self: Any) -> Any:
        ended = original(self)
        self.ec2_backend.get_subnet(self.subnet_id).del_subnet_ip(self.private_ip)
        return ended

    monkeypatch.setattr(Instance, "terminate", terminate)


@pytest.mark.usefixtures("addresses_become_free")
def test_another_image_is_another_machine_at_the_same_address_one_after_the_other(make_cloud: MakeCloud) -> None:
    cloud, newer = make_cloud(), make_cloud(overrides={"cloud.image": "debian-13"})
    cloud.apply()
    before, pinned, seen = cloud.describe(), {name: cloud.host_keys(name) for name in cloud.describe()}, list[str]()
    plan = newer.plan()
    assert {(p.host, p.change.verb) for p in plan.pending} == {(name, "renew") for name in before}
    assert "image debian-12 → debian-13" in plan.pending[0].change.summary

    def one_by_one(names: Sequence[str], change: Callable[[str], None]) -> None:
        for name in names:
            change(name)
            seen.append(name)
            now = newer.describe()
            assert {each for each in now if now[each].id != before[each].id} == set(seen)
            assert all(machine.running and machine.address == before[each].address for each, machine in now.items())

    newer.apply(plan, roll=one_by_one)
    fresh = Cloud(newer.spec)
    assert sorted(seen) == sorted(before) and not fresh.plan() and fresh.verify().ok
    assert not {fresh.host_keys(name) for name in before} & set(pinned.values())


@pytest.mark.usefixtures("addresses_become_free")
def test_a_machine_is_replaced_when_a_person_asks_for_it(make_cloud: MakeCloud) -> None:
    cloud = make_cloud()
    cloud.apply()
    before = {name: machine.id for name, machine in cloud.describe().items()}
    plan = cloud.plan(["lb-1"])
    assert [(p.host, p.change.verb) for p in plan.pending] == [("lb-1", "renew")] and "as asked" in plan.pending[0].change.summary
    cloud.apply(plan, renew=["lb-1"])
    assert {name for name, machine in cloud.describe().items() if machine.id != before[name]} == {"lb-1"}
    assert not Cloud(cloud.spec).plan()


@pytest.mark.usefixtures("addresses_become_free")
def test_a_protected_database_is_not_replaced_by_another_image(make_cloud: MakeCloud) -> None:
    protected = {"cloud.termination_protection": True}
    make_cloud(overrides=protected).apply()
    with pytest.raises(CloudError, match="is protected from termination"):
        make_cloud(overrides=protected | {"cloud.image": "debian-13"}).plan()
    newer = make_cloud(overrides={"cloud.image": "debian-13"})
    newer.apply()
    assert not Cloud(newer.spec).plan()


def test_a_larger_disk_is_planned_and_grown_in_place(make_cloud: MakeCloud) -> None:
    cloud, larger = make_cloud(), make_cloud(overrides={"cloud.disk_gb": 40})
    cloud.apply()
    before = {name: machine.id for name, machine in cloud.describe().items()}
    plan = larger.plan()
    assert [p.change.verb for p in plan.pending] == ["grow"] * len(before)
    assert "disk 20 → 40 GiB in place" in plan.pending[0].change.summary
    larger.apply(plan)
    assert {volume["Size"] for volume in described(cloud, "describe_volumes", "Volumes")} == {40}
    assert {name: machine.id for name, machine in cloud.describe().items()} == before
    assert not larger.plan() and larger.verify().ok
