"""Machines of several operating systems in one lab: their names, their users, and what a lab says that lacks one."""

from __future__ import annotations

from pathlib import Path

import pytest
from ec2lab import lifecycle
from ec2lab.errors import LabError
from ec2lab.machines import image

from runbook_lib.aws.client import Api
from runbook_lib.aws.images import RELEASES, find_image
from tests.support.lab_fixtures import LabClient, Net

MIRRORS = {"debian": "https://one.test/debian", "debian-security": "http://two.test/security", "ubuntu": "http://three.test/ubuntu"}


@pytest.mark.parametrize("name", list(RELEASES))
def test_every_image_of_the_runbook_can_be_built_under_the_name_and_user_of_its_publisher(name: str) -> None:
    recipe, release = image.RECIPES[name], RELEASES[name]
    assert recipe.published.format("amd64", "*") == release.name
    assert recipe.parameter.format("amd64") == release.parameter
    assert (recipe.owner, recipe.user) == (release.owners["aws"], release.user)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "debian-13",
            ["https://one.test/debian trixie main", "https://one.test/debian trixie-updates main", "http://two.test/security trixie-security main"],
        ),
        ("debian-sid", ["https://one.test/debian sid main"]),
        ("ubuntu-22.04", [f"http://three.test/ubuntu jammy{pocket} main universe" for pocket in ("", "-updates", "-security")]),
    ],
)
def test_where_an_images_packages_come_from(monkeypatch: pytest.MonkeyPatch, name: str, expected: list[str]) -> None:
    monkeypatch.setattr(image, "mirrors", lambda: MIRRORS)
    assert image.sources(image.RECIPES[name], on_machine=False).splitlines() == [f"deb {line}" for line in expected]
    assert "https:" not in image.sources(image.RECIPES[name], on_machine=True), "machines reach the archive by the lab's proxy"


def test_an_ubuntu_image_needs_a_mirror_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(image.UBUNTU.variable, raising=False)
    with pytest.raises(LabError, match="no mirror of Ubuntu jammy is known") as caught:
        image.wanted("ubuntu-22.04")
    assert "EC2LAB_UBUNTU_MIRROR=http://<mirror>/ubuntu" in str(caught.value)
    monkeypatch.setenv(image.UBUNTU.variable, "http://three.test/ubuntu/")
    assert "http://three.test/ubuntu jammy-security" in image.sources(image.RECIPES["ubuntu-22.04"], on_machine=True)


@pytest.mark.parametrize(("text", "names"), [("debian-13", ("debian-13",)), ("debian-12, debian-11,debian-12", ("debian-12", "debian-11"))])
def test_images_are_named_in_a_list(text: str, names: tuple[str, ...]) -> None:
    assert image.parse_names(text) == names


@pytest.mark.parametrize("text", ["debian-14", "debian-12;debian-13", ",", ""])
def test_an_image_that_cannot_be_built_is_refused_with_those_that_can(text: str) -> None:
    with pytest.raises(LabError, match="debian-12, debian-13"):
        image.parse_names(text)


def test_an_image_of_another_system_stays_when_one_is_built_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(image, "CACHE", tmp_path)
    monkeypatch.setattr(image, "_furnish", lambda recipe, tree: None)
    monkeypatch.setattr(image, "_mmdebstrap", lambda recipe, target: target.mkdir(parents=True))
    former = tmp_path / "images/debian-12-000000000000"
    former.mkdir(parents=True)
    other = image.ensure(lambda text: None, "debian-13")
    assert image.ensure(lambda text: None, "debian-12").tree.is_dir()
    assert other.tree.is_dir() and not former.exists()


def test_a_lab_that_lacks_an_image_says_how_to_get_it(lab: LabClient) -> None:
    has = image.parse_names((lab.lab.run / "images").read_text())
    lifecycle.up(lab.lab, say=lambda text: None, images=has)
    with pytest.raises(LabError, match=r"without the image ubuntu-24\.04") as caught:
        lifecycle.up(lab.lab, say=lambda text: None, images=("debian-12", "ubuntu-24.04"))
    assert f"up --images {','.join(has)},ubuntu-24.04" in str(caught.value)


@pytest.fixture(scope="module")
def way_out(lab: LabClient, net: Net) -> None:
    """The module's network leads to the package proxy, for machines with a public address."""
    lab.internet(net.vpc)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("debian-11", 'VERSION_ID="11"', marks=[pytest.mark.full, pytest.mark.image("debian-11")]),
        ("debian-12", 'VERSION_ID="12"'),
        pytest.param("debian-13", 'VERSION_ID="13"', marks=[pytest.mark.full, pytest.mark.image("debian-13")]),
        pytest.param("debian-sid", "sid", marks=[pytest.mark.full, pytest.mark.image("debian-sid")]),
    ],
)
def test_a_machine_runs_the_system_that_its_image_is_named_for(lab: LabClient, way_out: None, launch, name: str, says: str) -> None:
    found = find_image(name, None, Api(lab.ec2, "the lab"), Api(lab.ssm, "the lab"))
    box = launch(60, ImageId=found.id).booted()
    assert says in box.run("cat /etc/os-release")
    assert box.run("whoami").strip() == found.user
    assert "0::/" in box.run("cat /proc/self/cgroup"), "control groups of version 2, as on EC2"
    lab.elastic_ip(box)
    assert "Err" not in box.run("sudo apt-get update 2>&1"), "its packages come by the lab's proxy, however old the archive"
