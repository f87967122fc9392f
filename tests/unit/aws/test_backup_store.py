"""Backups in S3: how machines send and fetch, what counts as a backup, how many are kept, and what the end of a deployment does to them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runbook_lib.aws.s3.backup_store import BEFORE_WORK, DRILL, Backup, BackupPart, BackupStore, Way
from runbook_lib.errors import CloudError, RunbookError
from runbook_lib.launch import teardown
from runbook_lib.launch.cloud import Cloud
from runbook_lib.redaction import redactor

pytest_plugins = ["tests.support.aws_endpoint"]
BUCKET = "runbook-123456789012-us-east-1-backups"
ROWS = b"rows, compressed"


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud]) -> Iterator[Cloud]:
    cloud = make_cloud()
    yield cloud
    BackupStore(cloud.aws, cloud.spec.deployment).delete_all()


@pytest.fixture
def store(cloud: Cloud) -> BackupStore:
    return BackupStore(cloud.aws, cloud.spec.deployment)


def send(way: Way, body: bytes = ROWS, **headers: str) -> None:
    """What a machine does: it has the URL and the headers, and nothing else."""
    urllib.request.urlopen(urllib.request.Request(way.url, body, {**way.headers, "Content-Type": "application/gzip", **headers}, method="PUT")).close()


def made(store: BackupStore, time: str = "2026-11-26T15:00:00Z", why: str = "backup") -> Backup:
    folder = store.new_folder()
    send(store.way_in(folder, "X.sql.gz"))
    part = BackupPart("X", "X.sql.gz", len(ROWS), "ab" * 32, "cd" * 32)
    backup = Backup(store.deployment, "greg-single", "greg", "5.1.0", "ef" * 32, "MariaDB", time, "somebody", why, (part,), None, folder)
    store.complete(backup)
    return backup


def test_what_was_made_is_read_back_as_it_was_and_a_machine_fetches_it_by_its_url_alone(store: BackupStore) -> None:
    backup = made(store)
    assert store.backups() == [backup]
    way = store.way_out(backup.folder, "X.sql.gz")
    assert urllib.request.urlopen(urllib.request.Request(way.url, headers=way.headers)).read() == ROWS
    assert "X-Amz-Signature=[signature]" in redactor.redact(way.url)


def test_of_an_older_manifest_the_checksum_of_rows_is_not_believed(cloud: Cloud, store: BackupStore) -> None:
    """It left out the rows of MariaDB from 10.7 on, and a server of another version found another one: the file's SHA-256 stays."""
    backup, s3 = made(store), cloud.aws.client("s3")
    where = {"Bucket": BUCKET, "Key": f"{backup.folder}/manifest.json"}
    said = json.loads(s3.get_object(**where)["Body"].read())
    s3.put_object(**where, Body=json.dumps({**said, "schema": 1}).encode())
    assert store.backups() == [replace(backup, databases=tuple(replace(part, rows="") for part in backup.databases))]


def test_everything_is_encrypted_and_the_bucket_is_closed_to_the_public(cloud: Cloud, store: BackupStore) -> None:
    folder, s3 = made(store).folder, cloud.aws.client("s3")
    for file in ("X.sql.gz", "manifest.json"):
        assert s3.head_object(Bucket=BUCKET, Key=f"{folder}/{file}")["ServerSideEncryption"] == "AES256"
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())


def test_with_a_key_of_the_account_s_own_that_key_encrypts(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(overrides={"cloud.kms_key": "alias/backups"})
    store = BackupStore(cloud.aws, cloud.spec.deployment)
    found = cloud.aws.client("s3").head_object(Bucket=BUCKET, Key=f"{made(store).folder}/X.sql.gz")
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"].rpartition("/")[2]) == ("aws:kms", "backups")
    store.delete_all()


def test_the_headers_of_the_encryption_are_signed(store: BackupStore) -> None:
    way = store.way_in(store.new_folder(), "X.sql.gz")
    [signed] = [value for name, _, value in (pair.partition("=") for pair in way.url.split("?")[1].split("&")) if name == "X-Amz-SignedHeaders"]
    assert {*way.headers} <= {*urllib.request.unquote(signed).split(";")}


@pytest.mark.parametrize("left", ["nothing was sent", "half was sent"])
def test_a_backup_that_is_not_whole_gets_no_manifest_and_is_none(store: BackupStore, left: str) -> None:
    whole = made(store)
    folder = store.new_folder()
    if left == "half was sent":
        send(store.way_in(folder, "X.sql.gz"), ROWS[:4])
    with pytest.raises(CloudError, match=r"not whole: X\.sql\.gz"):
        store.complete(replace(whole, folder=folder))
    assert store.backups() == [whole]


def test_the_newest_of_each_kind_are_kept_and_what_has_no_manifest_goes(store: BackupStore) -> None:
    backups = [made(store, f"2026-11-26T15:0{minute}:00Z", why) for minute, why in enumerate(("backup", "before a restore", "backup", "backup"))]
    send(store.way_in(half := store.new_folder(), "X.sql.gz"))
    assert set(store.prune(2)) == {backups[0].folder, half}
    assert store.backups() == [backups[3], backups[2], backups[1]]
    assert store.prune(2) == []


def test_what_was_kept_before_something_was_dropped_is_taken_only_when_it_is_asked_for(store: BackupStore) -> None:
    wanted, kept = made(store, "2026-11-26T15:00:00Z"), made(store, "2026-11-26T16:00:00Z", "before a restore")
    assert store.newest() == wanted
    assert store.newest(datetime(2026, 11, 26, 16, tzinfo=UTC)) == kept and store.newest(datetime(2026, 11, 26, 14, tzinfo=UTC)) is None


@pytest.mark.parametrize("why", [BEFORE_WORK, DRILL])
def test_what_work_and_drills_made_is_taken_unasked_and_takes_no_place_of_those_that_somebody_wanted(store: BackupStore, why: str) -> None:
    wanted, more = made(store, "2026-11-26T15:00:00Z"), [made(store, f"2026-11-26T16:0{minute}:00Z", why) for minute in range(2)]
    assert store.newest() == more[1]
    assert store.prune(1) == [more[0].folder] and store.backups() == [more[1], wanted]


def test_the_backups_of_a_deployment_whose_name_begins_alike_are_others(cloud: Cloud, store: BackupStore) -> None:
    other = BackupStore(cloud.aws, f"{store.deployment}-2")
    mine, others = made(store), made(other)
    assert store.backups() == [mine] and other.backups() == [others]
    store.delete_all()
    assert other.backups() == [others]
    other.delete_all()
    assert store.own.exists() and store.own.sizes() == {}


@pytest.mark.parametrize("spoil", [lambda said: "{", lambda said: json.dumps({**said, "schema": 99}), lambda said: json.dumps({**said, "parts": []})])
def test_a_manifest_that_cannot_be_read_is_named_and_an_older_backup_is_taken_only_when_it_is_asked_for(
    cloud: Cloud, store: BackupStore, spoil: Callable[[dict[str, Any]], str]
) -> None:
    older = made(store, "2001-01-01T00:00:00Z")
    key = f"{made(store).folder}/manifest.json"
    said = json.loads(cloud.aws.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())
    cloud.aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=spoil(said).encode())
    with pytest.raises(RunbookError) as caught:
        store.newest()
    assert key in str(caught.value.where)
    assert store.backups() == [older] and store.newest(datetime(2001, 1, 2, tzinfo=UTC)) == older
    assert store.prune(1) == [] and [*store.unreadable] == [key.rpartition("/")[0]]


def test_a_tear_down_keeps_the_backups_and_says_so_unless_they_are_to_go(cloud: Cloud, store: BackupStore) -> None:
    made(store)

    def row(backups: bool) -> tuple[str, str]:
        [check] = [check for check in teardown.destroy(cloud, backups=backups) if check.id == "kept-backups"]
        return check.status, check.observed

    status, words = row(False)
    assert status == "pass" and words.startswith("1 backup left, the newest of 2026-11-26T15:00:00Z")
    assert row(True) == ("pass", "nothing")
    assert store.backups() == []


def test_what_was_to_go_and_is_still_there_fails_the_proof(cloud: Cloud, store: BackupStore) -> None:
    made(store)
    [check] = [check for check in teardown.prove_gone(cloud, backups=True) if check.id == "kept-backups"]
    assert check.status == "fail"


def test_a_bucket_that_may_not_be_looked_at_is_one_error_and_no_row_of_the_proof_lies(
    cloud: Cloud, store: BackupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: Any) -> None:
        error = CloudError("the credentials may not do this (403: Forbidden)")
        error.code = "403"
        raise error

    monkeypatch.setattr(cloud.aws.client("s3"), "head_bucket", refuse, raising=False)
    for call in (store.backups, store.new_folder):
        with pytest.raises(CloudError, match="may not be looked at"):
            call()
    assert "kept-backups" not in {check.id for check in teardown.prove_gone(cloud)}
    assert {check.id: check.status for check in teardown.prove_gone(cloud, backups=True)}["kept-backups"] == "fail"
