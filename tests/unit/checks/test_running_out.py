"""What runs out, as tables: disks by the answer of df, certificates by their end, backups and prices by their date."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.aws.s3.backup_store import STAMP, BackupStore
from runbook_lib.checks.running_out import backup_age, certificate, checks_of, file_systems, price_age
from runbook_lib.launch.cloud import Cloud
from runbook_lib.topology.prices import OLD, prices

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
