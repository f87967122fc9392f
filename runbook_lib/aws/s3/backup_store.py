"""Where backups are kept: the account's bucket `runbook-<account>-<region>-backups`, below the deployment's name one folder for each backup.

A folder is named by its time and never written again; its `manifest.json` is written last, so what has none is no backup. Machines send and
fetch by presigned URLs and have no credentials. Every object is encrypted by S3, with `cloud.kms_key` where there is one: the header that says
so is part of the signature, so nothing can be sent without it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from runbook_lib.aws.client import Aws
from runbook_lib.aws.s3.buckets import VALID, OwnBucket
from runbook_lib.errors import CloudError, RunbookError

MANIFEST = "manifest.json"
SCHEMA, BLIND = 2, 1  # of BLIND, a database's `rows` may be the same for other rows: those of MariaDB from 10.7 on were left out
WANTED = "backup"  # why most are made
BEFORE_WORK, DRILL = "before work on the database's machine", "by the disaster drill"
UNASKED = frozenset({WANTED, BEFORE_WORK, DRILL})  # of a cluster that went on: what a restore takes without `--at`. Each kind is pruned by itself
STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class BackupPart:
    """One file of a backup. `size`: bytes; `rows`: SHA-256 of a database's rows; `holds`: names of the archives in it.

    `rows` is "" for archives, and where the manifest is of a time whose checksum of rows proves nothing: then the file's `sha256` alone counts.
    """

    name: str
    file: str
    size: int
    sha256: str
    rows: str = ""
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backup:
    """What a manifest says. `time`: ISO 8601, UTC; `version`: what the product's own bin/version.txt says; `why`: what it was made for."""

    deployment: str
    pattern: str
    product: str
    version: str
    pack_sha256: str
    server: str
    time: str
    by: str
    why: str
    databases: tuple[BackupPart, ...]
    archives: BackupPart | None = None
    folder: str = ""

    @property
    def parts(self) -> tuple[BackupPart, ...]:
        return (*self.databases, *((self.archives,) if self.archives else ()))

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Way:
    """How a machine sends or fetches one object: the URL, which gives access to it and is never shown, and the headers that go with it."""

    url: str
    headers: dict[str, str]

    def wire(self) -> dict[str, Any]:
        return asdict(self)


class BackupStore:
    """The backups of one deployment."""

    def __init__(self, aws: Aws, deployment: str):
        self.deployment, self.prefix = deployment, f"{deployment}/"
        self.own = OwnBucket(aws, "backups", "backups go into no other")
        self.unreadable: dict[str, RunbookError] = {}  # by folder: what the last look at all backups could not read
        key = aws.cloud.kms_key
        self.encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {"ServerSideEncryption": "AES256"}

    @property
    def place(self) -> str:
        return f"s3://{self.own.name}/{self.prefix}"

    def new_folder(self) -> str:
        """Make the bucket where there is none, and return the name of a folder that nothing is in yet."""
        self.own.ensure()
        return f"{self.prefix}{datetime.now(UTC).strftime(STAMP)}-{secrets.token_hex(2)}"

    def way_in(self, folder: str, file: str) -> Way:
        """Return how a machine sends a file of a backup during the next six hours."""
        where = {**self.own.bucket, "Key": f"{folder}/{file}"}
        url = self.own.s3.generate_presigned_url("put_object", Params={**where, **self.encryption}, ExpiresIn=VALID)
        headers = {"x-amz-server-side-encryption": self.encryption["ServerSideEncryption"], "x-amz-expected-bucket-owner": where["ExpectedBucketOwner"]}
        if key := self.encryption.get("SSEKMSKeyId"):
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = key
        return Way(str(url), headers)

    def way_out(self, folder: str, file: str) -> Way:
        """Return how a machine fetches a file of a backup during the next six hours."""
        where = {**self.own.bucket, "Key": f"{folder}/{file}"}
        url = self.own.s3.generate_presigned_url("get_object", Params=where, ExpiresIn=VALID)
        return Way(str(url), {"x-amz-expected-bucket-owner": where["ExpectedBucketOwner"]})

    def complete(self, backup: Backup) -> None:
        """Write the manifest. Raises CloudError when S3 does not hold a file in the size that the manifest says; there is no backup then."""
        if wrong := self._not_held(backup):
            raise CloudError(f"the backup is not whole: {', '.join(wrong)}", f"s3://{self.own.name}/{backup.folder}", "make it again")
        said = {"schema": SCHEMA, **{name: value for name, value in asdict(backup).items() if name != "folder"}}
        body = json.dumps(said, indent=2, ensure_ascii=False).encode()
        self.own.s3.put_object(**self.own.bucket, Key=f"{backup.folder}/{MANIFEST}", Body=body, ContentType="application/json", **self.encryption)

    def backups(self) -> list[Backup]:
        """Return all backups, the newest first; none where there is no bucket. Those whose manifest cannot be read are in `unreadable`. Raises CloudError."""
        found, self.unreadable = [], {}
        for key in self.own.sizes(self.prefix) if self.own.exists() else ():
            folder, _, file = key.rpartition("/")
            if file == MANIFEST:
                try:
                    found.append(self._read(folder))
                except CloudError:
                    raise
                except RunbookError as error:
                    self.unreadable[folder] = error
        return sorted(found, key=lambda backup: backup.time, reverse=True)

    def begun(self) -> datetime | None:
        """Return when the newest backup of any kind was begun, by the folders' names: no manifest is read. None where there is none. Raises CloudError."""
        keys = self.own.sizes(self.prefix) if self.own.exists() else ()
        times = [_begun(key.rpartition("/")[0]) for key in keys if key.endswith(f"/{MANIFEST}")]
        return max((at for at in times if at.year < datetime.max.year), default=None)

    def newest(self, until: datetime | None = None) -> Backup | None:
        """Return the newest backup that is taken unasked, or the newest of any kind of the time `until` or before; None when there is none.

        So the ones that were made because something was about to be dropped are restored only when they are asked for. Raises
        RunbookError when a later one of then or before cannot be read: then, too, an older one must be asked for.
        """
        every = self.backups()
        found = next((backup for backup in every if (backup.why in UNASKED if until is None else datetime.fromisoformat(backup.time) <= until)), None)
        for folder, error in self.unreadable.items():
            at = _begun(folder)
            if (until is None or at <= until) and (found is None or at > datetime.fromisoformat(found.time)):
                raise error
        return found

    def in_folder(self, folder: str) -> Backup:
        """Return the backup of this folder. Raises RunbookError when it is not there any more, or cannot be read."""
        found = next((backup for backup in self.backups() if backup.folder == folder), None)
        if found:
            return found
        step = "./runbook restore PARAMS --at TIME takes another one: ./runbook backups PARAMS lists them"
        raise self.unreadable.get(folder) or RunbookError("the backup whose restore was begun is gone", f"s3://{self.own.name}/{folder}", step)

    def refuse_incomplete(self, backup: Backup) -> None:
        """Raise RunbookError when a file of the backup is not there or has another size than its manifest says."""
        if wrong := self._not_held(backup):
            raise damaged(backup, f"{', '.join(wrong)}: not there, or of another size than the manifest says")

    def _not_held(self, backup: Backup) -> list[str]:
        """Return the files of the backup that S3 does not hold, or holds in another size."""
        held = self.own.sizes(f"{backup.folder}/")
        return [part.file for part in backup.parts if held.get(f"{backup.folder}/{part.file}") != part.size]

    def _read(self, folder: str) -> Backup:
        where = f"s3://{self.own.name}/{folder}/{MANIFEST}"
        try:
            said = json.loads(b"".join(self.own.s3.content(**self.own.bucket, Key=f"{folder}/{MANIFEST}")))
            if (schema := said.pop("schema")) not in (BLIND, SCHEMA):
                raise RunbookError("the backup was made by a newer runbook, or by none", where, "use that version; or look who wrote it")
            blind = {"rows": ""} if schema == BLIND else {}
            databases = tuple(_part({**part, **blind}) for part in said.pop("databases"))
            archives = said.pop("archives")
            return Backup(**said, databases=databases, archives=_part(archives) if archives else None, folder=folder)
        except (ValueError, KeyError, TypeError, AttributeError):
            step = "it is damaged: restore an earlier one, --at with an earlier time; or delete that folder"
            raise RunbookError("the manifest of a backup cannot be read", where, step) from None

    def prune(self, keep: int) -> list[str]:
        """Delete what is older than the newest `keep` backups of each kind (`why`), and folders without a manifest; return the folders' names.

        What cannot be read stays: a newer runbook may have made it.
        """
        kept: dict[str, int] = {}
        spare = set()
        for backup in self.backups():
            kept[backup.why] = kept.get(backup.why, 0) + 1
            if kept[backup.why] <= keep:
                spare.add(backup.folder)
        spare |= {*self.unreadable}
        return self._delete({key for key in self.own.sizes(self.prefix) if key.rpartition("/")[0] not in spare})

    def delete_all(self) -> list[str]:
        """Delete every backup of the deployment; return the folders' names. The bucket stays."""
        return self._delete(self.own.sizes(self.prefix)) if self.own.exists() else []

    def _delete(self, keys: Iterable[str]) -> list[str]:
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")):  # manifests first: what is half deleted is no backup
            self.own.delete(key)
        return sorted({key.rpartition("/")[0] for key in keys})


def _begun(folder: str) -> datetime:
    """Return the time in a folder's name. That of a folder that somebody else made is the end of time: it is never passed over silently."""
    try:
        return datetime.strptime(folder.rpartition("/")[2].partition("-")[0], STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _part(said: dict[str, Any]) -> BackupPart:
    return BackupPart(**{**said, "holds": tuple(said["holds"])})


def damaged(backup: Backup, why: str) -> RunbookError:
    """Return the error for a backup that cannot restore anything."""
    return RunbookError(
        f"the backup of {backup.time} is damaged: {why}. Nothing was dropped", backup.folder, "restore an earlier one: --at with an earlier time"
    )
