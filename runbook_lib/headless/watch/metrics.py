"""What Prometheus reads of the passes: a text file for node_exporter's textfile collector, replaced in one step.

Its format is Prometheus's text format 0.0.4. node_exporter reads `*.prom` in its folder, as another user.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from runbook_lib.checks.running_out import BACKUP, CERTIFICATE, DISK, PRICES, SUPPORT
from runbook_lib.errors import RunbookError
from runbook_lib.files import write_whole
from runbook_lib.headless.watch.look import BUSY, OK, UNREACHABLE

ENDING = ".prom"
READABLE = 0o644
HELP = {  # every one is a gauge
    "runbook_watch_ok": "1 when the last pass that was not busy found everything as the parameters say",
    "runbook_watch_busy": "1 when somebody had the deployment's lock at the last pass",
    "runbook_watch_unreachable": "1 when a machine or the cloud did not answer, looked at twice",
    "runbook_watch_drifted": "Changes that a run would make",
    "runbook_watch_failed_checks": "Checks that failed",
    "runbook_watch_checks": "Checks that were made",
    "runbook_watch_seconds": "Seconds that the last pass took",
    "runbook_watch_last_pass_timestamp_seconds": "When the last pass began",
    "runbook_watch_state_since_timestamp_seconds": "Since when it is as it is",
    "runbook_certificate_expiry_timestamp_seconds": "When a certificate ends",
    "runbook_disk_free_bytes": "Room on a file system for users other than root",
    "runbook_disk_size_bytes": "Size of a file system",
    "runbook_backup_timestamp_seconds": "When the newest backup was begun",
    "runbook_image_support_end_timestamp_seconds": "When the security updates of the operating system end",
    "runbook_price_age_days": "Age of the prices that costs are computed with",
}
Sample = tuple[str, Mapping[str, str], float]


def writable(file: str) -> Path:
    """Return the path of the file. Raises RunbookError for one that node_exporter would not read, or whose folder is none or not ours to write."""
    path = Path(file).resolve()
    if path.suffix != ENDING:
        raise RunbookError(f"node_exporter reads files that end with {ENDING}", f"--metrics {file}", f"name it {path.stem or 'runbook'}{ENDING}")
    if not path.parent.is_dir():
        raise RunbookError("there is no such folder", f"--metrics {file}", "give the folder of node_exporter's --collector.textfile.directory")
    if not os.access(path.parent, os.W_OK):
        raise RunbookError("its folder cannot be written by this user", f"--metrics {file}", f"let this user write into {path.parent}, or name another folder")
    return path


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file by the present figures of these records."""
    write_whole(path, as_text(records), READABLE)


def as_text(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the figures of the records in Prometheus's text format: each metric once, with all of its samples below it."""
    samples = [sample for record in records for sample in _samples(record)]
    lines = []
    for name, words in HELP.items():
        mine = [(labels, value) for of, labels, value in samples if of == name]
        lines += (
            [f"# HELP {name} {words}", f"# TYPE {name} gauge", *(f"{name}{{{_labels(labels)}}} {_number(value)}" for labels, value in mine)] if mine else []
        )
    return "\n".join(lines) + "\n"


def _samples(record: Mapping[str, Any]) -> Iterator[Sample]:
    newest, decided, label = record["newest"], record["decided"], {"deployment": record["deployment"]}
    yield "runbook_watch_busy", label, float(newest["state"] == BUSY)
    yield "runbook_watch_seconds", label, newest["seconds"]
    yield "runbook_watch_last_pass_timestamp_seconds", label, _moment(newest["when"])
    if not decided:
        return
    yield "runbook_watch_ok", label, float(decided["state"] == OK)
    yield "runbook_watch_unreachable", label, float(bool(decided[UNREACHABLE]))
    yield "runbook_watch_drifted", label, decided["changes"]
    yield "runbook_watch_failed_checks", label, decided["checks_failed"]
    yield "runbook_watch_checks", label, decided["checks"]
    yield "runbook_watch_state_since_timestamp_seconds", label, _moment(decided["since"])
    for level in decided["levels"]:
        yield from _of_level(level, label)


def _of_level(level: Mapping[str, Any], label: Mapping[str, str]) -> Iterator[Sample]:
    place, measured = level["place"], level["measured"]
    if level["kind"] == CERTIFICATE:
        yield "runbook_certificate_expiry_timestamp_seconds", {**label, "certificate": place}, measured["ends"]
    elif level["kind"] == DISK:
        node, _, folder = place.partition(":")
        there = {**label, "node": node, "mountpoint": folder}
        yield "runbook_disk_free_bytes", there, measured["free"]
        yield "runbook_disk_size_bytes", there, measured["size"]
    elif level["kind"] == BACKUP:
        yield "runbook_backup_timestamp_seconds", label, measured["begun"]
    elif level["kind"] == SUPPORT:
        yield "runbook_image_support_end_timestamp_seconds", {**label, "image": place}, measured["ends"]
    elif level["kind"] == PRICES:
        yield "runbook_price_age_days", {**label, "region": place}, measured["days"]


def _labels(labels: Mapping[str, str]) -> str:
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for name, value in labels.items()}
    return ",".join(f'{name}="{value}"' for name, value in escaped.items())


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
