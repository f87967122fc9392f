"""What runs out, as tables: disks by the answer of df, certificates by their end, backups and prices by their date."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from runbook_lib.aws.s3.backup_store import STAMP, BackupStore
from runbook_lib.checks.running_out import backup_age, certificate, checks_of, file_systems, price_age, support
from runbook_lib.launch.cloud import Cloud
from runbook_lib.topology.prices import OLD, prices
from tests.conftest import ROOT

pytest_plugins = ["tests.support.aws_endpoint"]

HEAD = "      Avail         Size  IFree  Inodes Mounted on\n"
DISKS = {  # a line of df: (whether its check passes, whether it is worth a word), None for none
    "5000 10000 900 1000 /": (True, False),
    "1499 10000 900 1000 /": (True, True),
    "499 10000 900 1000 /": (False, False),
    "0 10000 900 1000 /": (False, False),
    "5000 10000 40 1000 /var/lib/a folder": (False, False),
    "5000 10000 0 0 /btrfs": (True, False),
    "5000 10000 - - /boot/efi": (True, False),
    "- 10000 - - /strange": None,
    "0 0 0 0 /proc/fs": None,
}


@pytest.mark.parametrize("line", DISKS)
def test_a_disk_is_as_full_as_its_bytes_or_its_inodes(line: str) -> None:
    found = list(file_systems("db-1", f"{HEAD}{line}\n"))
    assert [(level.check().ok, level.low) for level in found] == ([DISKS[line]] if DISKS[line] else [])
    assert [level.place for level in found] == ([f"db-1:{line.split(maxsplit=4)[4]}"] if DISKS[line] else [])


@pytest.mark.parametrize("days, passes, low", [(31, True, False), (29, True, True), (8, True, True), (6.9, False, False), (-1, False, False)])
def test_a_certificate_is_worth_a_word_for_a_month_and_fails_in_its_last_week(days: float, passes: bool, low: bool) -> None:
    level = certificate("ca.pem", datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))
    assert (level.check().ok, level.low) == (passes, low)


@pytest.mark.parametrize(
    ("folders", "days", "low"),
    [
        ({}, None, False),
        ({1.5: "manifest.json", 9: "manifest.json"}, 1.5, False),
        ({2.5: "manifest.json"}, 2.5, True),
        ({0.1: "WSO2_USER_DB.sql.gz", 3: "manifest.json"}, 3, True),  # one that was cut short is none
    ],
)
def test_an_old_backup_is_worth_a_word_and_no_alarm_and_without_any_nothing_is_said(
    make_cloud: Callable[..., Cloud], folders: dict[float, str], days: float | None, low: bool
) -> None:
    deployment: Any = make_cloud()
    store, now = BackupStore(deployment.aws, deployment.spec.deployment), datetime.datetime.now(datetime.UTC)
    for age, file in folders.items():
        store.own.ensure()
        at = (now - datetime.timedelta(days=age)).strftime(STAMP)
        store.own.s3.put_object(**store.own.bucket, Key=f"{store.prefix}{at}-abcd/{file}", Body=b"{}")
    found = list(backup_age(SimpleNamespace(cloud=deployment, spec=deployment.spec)))  # type: ignore[arg-type]
    assert [level.low for level in found] == ([] if days is None else [low]) and checks_of(found) == []
    assert not found or abs(now.timestamp() - days * 86400 - found[0].measured["begun"]) < 5


@pytest.mark.parametrize("late, low", [(0, False), (1, True)])
def test_old_prices_are_worth_a_word_and_are_no_check_of_the_deployment(late: int, low: bool) -> None:
    today = datetime.date.fromisoformat(prices()["as_of"]) + OLD + datetime.timedelta(days=late)
    level = price_age("us-east-1", today)
    assert level.low is low and level.measured == {"days": OLD.days + late} and checks_of([level]) == []


SUPPORTED = (  # the image, the day: (whether its check passes, whether it is worth a word), None where no end is known
    ("ubuntu-24.04", (2026, 11, 28), (True, False)),
    ("ubuntu-22.04", (2026, 10, 28), (True, False)),
    ("ubuntu-22.04", (2026, 11, 28), (True, True)),
    ("ubuntu-22.04", (2027, 4, 30), (True, True)),
    ("ubuntu-22.04", (2027, 5, 1), (False, False)),
    ("debian-11", (2026, 11, 28), (False, False)),
    ("debian-sid", (2026, 11, 28), None),
    ("ami-0123456789abcdef0", (2026, 11, 28), None),
)


@pytest.mark.parametrize(("image", "day", "expected"), SUPPORTED, ids=[f"{row[0]} {'-'.join(map(str, row[1]))}" for row in SUPPORTED])
def test_an_operating_system_is_worth_a_word_for_half_a_year_and_fails_after_its_end(
    image: str, day: tuple[int, int, int], expected: tuple[bool, bool] | None
) -> None:
    found = list(support(image, datetime.date(*day)))
    assert [(level.check().ok, level.low) for level in found] == ([expected] if expected else [])


def test_the_params_name_a_system_that_is_supported_for_years() -> None:
    images = {yaml.safe_load(path.read_text())["cloud"].get("image", "debian-12") for path in (ROOT / "params").glob("*.yaml")}
    assert images and min(level.left for image in images for level in support(image, datetime.date(2026, 11, 28))) > 365
