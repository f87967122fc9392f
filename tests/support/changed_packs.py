"""Another version of a practice pack in the lab's bucket: what an operator who upgrades has."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from tests.conftest import ROOT

Edits = Mapping[str, Callable[[bytes], bytes]]


def another_pack(lab: Any, params: str, version: str, edits: Edits | None = None) -> dict[str, str]:
    """Put a pack with another version, and with `edits` of its files, into the bucket; return the parameters that name it."""
    bucket, key = yaml.safe_load((ROOT / params).read_text())["product"]["pack"].removeprefix("s3://").split("/", 1)
    source = zipfile.ZipFile(io.BytesIO(lab.s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
    top, made = source.namelist()[0].split("/")[0], io.BytesIO()
    changes = {"bin/version.txt": lambda text: text.replace(b"-practice", f".{version}-practice".encode()), **(edits or {})}
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in source.infolist():
            change = changes.get(entry.filename.removeprefix(f"{top}/"), lambda data: data)
            out.writestr(entry, change(source.read(entry)))
    data, name = made.getvalue(), key.replace(".zip", f"-{version}.zip")
    lab.s3.put_object(Bucket=bucket, Key=name, Body=data)
    return {"product.pack": f"s3://{bucket}/{name}", "product.sha256": hashlib.sha256(data).hexdigest()}
