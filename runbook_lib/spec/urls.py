"""The URLs that packs and archives may have, and how a rule refuses a value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from pydantic_core import PydanticCustomError

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
PACK_URL = re.compile(r"(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+|https://[^/]+/.+|file:///.+)")


def refuse(key: str, value: object, why: str, allowed: str | Iterable[str] = ()) -> NoReturn:
    """Raise the validation error that the loader turns into a `ParamsError` with the line of `key`."""
    names = [allowed] if isinstance(allowed, str) else list(allowed)
    raise PydanticCustomError("together", "{why}", {"key": key, "value": value, "why": why, "allowed": names})


def check_source(url_key: str, url: str, sha_key: str, sha256: str | None) -> None:
    """Check a URL of a pack; https needs a checksum, because nothing else verifies what is received."""
    if not PACK_URL.fullmatch(url):
        refuse(url_key, url, "not a URL that can be fetched", ("s3://bucket/key", "https://host/path", "file:///path"))
    if sha256 is not None and not SHA256.fullmatch(sha256):
        refuse(sha_key, sha256, "not a SHA-256 checksum", "64 hexadecimal digits")
    if url.startswith("https:") and sha256 is None:
        refuse(sha_key, None, f"{url_key} comes by https and has no checksum", "64 hexadecimal digits (sha256sum FILE)")
