"""How the evidence of a run gets from the worker that made it to who asked for it: back with the result, or into a bucket."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from runbook_lib.aws.client import Aws
from runbook_lib.errors import CloudError, RunbookError
from runbook_lib.evidence.journal import point_latest
from runbook_lib.evidence.runs import runs_folder

BACK = "back"  # with the result


def packed(run: Path) -> bytes:
    """Return a run's folder as a compressed archive."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        archive.add(run, f"{run.parent.name}/{run.name}")
    return whole.getvalue()


def unpack(archive: bytes) -> Path:
    """Put a packed run among the runs of this machine, as its deployment's newest, and return its folder."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as found:
        inner = Path(found.getnames()[0])
        found.extractall(runs_folder(), filter="data")
    folder = runs_folder() / inner
    point_latest(folder)
    return folder


def upload(run: Path, to: str, aws: Aws) -> str:
    """Put each file of a run below `to` (s3://bucket/prefix) and return the address of its report. Raises CloudError where that is refused."""
    bucket, prefix = place(to)
    top = "/".join(filter(None, (prefix, run.parent.name, run.name)))
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        _put(aws, bucket, f"{top}/{file.relative_to(run).as_posix()}", file.read_bytes())
    return f"s3://{bucket}/{top}/report.html"


def announce(sweep: str, to: str, aws: Aws) -> None:
    """Note below `to` that the sweep begins. Raises RunbookError for what is no address in S3, CloudError for a bucket that refuses."""
    bucket, prefix = place(to)
    words = f"{sweep} begun {datetime.now(UTC).isoformat(timespec='seconds')}\n"
    _put(aws, bucket, "/".join(filter(None, (prefix, "_batches", sweep, "begun.txt"))), words.encode())


def _put(aws: Aws, bucket: str, key: str, content: bytes) -> None:
    try:
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=content)
    except CloudError as error:
        error.what = f"evidence does not get into s3://{bucket}: {error.what}"
        raise


def place(to: str) -> tuple[str, str]:
    """Return bucket and prefix of an s3:// address. Raises RunbookError for another address."""
    parts = urlsplit(to)
    if parts.scheme != "s3" or not parts.netloc:
        raise RunbookError(f"evidence = {to}: no address in S3", "--evidence", f"write s3://BUCKET/PREFIX, or {BACK}: with the result")
    return parts.netloc, parts.path.strip("/")
