"""How the evidence of a run gets from the worker that made it to who asked for it: back with the result, or into a bucket."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

from runbook_lib.aws.client import Aws
from runbook_lib.errors import RunbookError
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
    s3 = aws.client("s3")
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        key = "/".join(filter(None, (prefix, run.parent.name, run.name, *file.relative_to(run).parts)))
        s3.put_object(Bucket=bucket, Key=key, Body=file.read_bytes())
    return "s3://" + "/".join(filter(None, (bucket, prefix, run.parent.name, run.name, "report.html")))


def place(to: str) -> tuple[str, str]:
    """Return bucket and prefix of an s3:// address. Raises RunbookError for another address."""
    parts = urlsplit(to)
    if parts.scheme != "s3" or not parts.netloc:
        raise RunbookError(f"evidence = {to}: no address in S3", "--evidence", f"write s3://BUCKET/PREFIX, or {BACK}: with the result")
    return parts.netloc, parts.path.strip("/")
