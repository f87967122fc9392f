"""Packs and archives by URL: fetched once, verified, kept by checksum. `staging` gives them to the machines.

A pack of many hundred megabytes is transferred over the operator's connection twice at most (down to be read here, up to
the staging bucket); the machines fetch it from S3.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import urllib.parse
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from runbook_lib.aws.client import Api, Aws
from runbook_lib.errors import CloudError, PackError

BLOCK = 1 << 20
ABSENT = ("404", "NoSuchKey", "NoSuchBucket", "NotFound")


class MemberMissing(PackError, KeyError):
    """The pack has no file of that name."""

    __str__ = PackError.__str__


@dataclass(frozen=True)
class Pack:
    """A verified local copy of the file at `url`."""

    url: str
    path: Path
    sha256: str

    def members(self) -> tuple[str, ...]:
        """Return the names of the files inside, without the pack's top folder."""
        archive, top = self._opened()
        return tuple(name.removeprefix(top) for name in archive.namelist() if not name.endswith("/"))

    def listing(self) -> dict[str, tuple[int, int, int]]:
        """Return size, CRC-32 and mode of everything inside by name below the pack's top folder, itself `./`; names of folders end in a slash."""
        archive, top = self._opened()
        return {e.filename.removeprefix(top) or "./": (e.file_size, e.CRC, e.external_attr >> 16 & 0o777) for e in archive.infolist()}

    def member(self, name: str) -> bytes:
        """Return the content of one file; `name` is without the top folder. Raises MemberMissing, which is a KeyError too."""
        try:
            return _read(self.path, name)
        except KeyError:
            raise MemberMissing(f"the pack has no {name}", self.url, "is it the product and version that the pattern needs?") from None
        except zipfile.BadZipFile:
            raise PackError("the pack is not a zip", self.url, "name the product's own .zip") from None

    def _opened(self) -> tuple[zipfile.ZipFile, str]:
        try:
            return _archive(self.path)
        except zipfile.BadZipFile:
            raise PackError("the pack is not a zip", self.url, "name the product's own .zip") from None


@lru_cache(maxsize=4)
def _archive(path: Path) -> tuple[zipfile.ZipFile, str]:
    """Return an archive, opened once (a real pack lists ten thousand files), and the name of its top folder."""
    archive = zipfile.ZipFile(path)
    tops = {name.split("/", 1)[0] for name in archive.namelist()}
    return archive, f"{tops.pop()}/" if len(tops) == 1 else ""


@lru_cache(maxsize=256)
def _read(path: Path, name: str) -> bytes:
    """Return one member. Cached: every plan of every node reads the same few settings."""
    archive, top = _archive(path)
    return archive.read(top + name)


def fetch(url: str, sha256: str | None, aws: Aws) -> Pack:
    """Return the verified local copy of `url` (s3://, https://, file://). Raises PackError with the reason.

    Without `sha256` a file from s3 or file is accepted and its checksum is in the result; https is refused.
    """
    scheme, _, rest = url.partition("://")
    wanted = sha256.lower() if sha256 else None
    if scheme == "https" and not wanted:
        raise PackError("a pack by https needs its checksum", url, "give sha256 beside it (sha256sum FILE)")
    if wanted and (kept := _kept(wanted)):
        return Pack(url, kept, wanted)
    if scheme == "file":
        return _take(url, wanted, lambda out: _copy_file(url, Path(urllib.parse.unquote(rest)), out))
    if scheme == "https":
        return _take(url, wanted, lambda out: _copy_https(url, out))
    if scheme != "s3":
        raise PackError(f"not a URL that can be fetched: {url}", None, "s3://bucket/key, https://host/path or file:///path")
    return _fetch_s3(url, wanted, aws.client("s3"))


def cache() -> Path:
    """Return the folder of the verified copies, by checksum. Only the user can read it."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runbook" / "packs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _fetch_s3(url: str, wanted: str | None, s3: Api) -> Pack:
    """Return the pack of an S3 object: the copy of an earlier fetch where the object is the same, else a new copy."""
    bucket, key = bucket_and_key(url)
    with _as_pack_error(url):
        head = s3.head_object(Bucket=bucket, Key=key)
    if wanted is None and (kept := _remembered(url, head)):
        return kept
    pack = _take(url, wanted, lambda out: _copy_s3(s3, bucket, key, out))
    _remember(url, head, pack)
    return pack


def _take(url: str, wanted: str | None, copy: Any) -> Pack:
    """Copy into a temporary file, compare the checksum, then rename: no partial or wrong file is kept. Return the pack."""
    folder = cache()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".coming-", delete=False) as out:
        try:
            digest = copy(out)
            out.flush()
            os.fsync(out.fileno())
            if wanted and digest != wanted:
                raise PackError(
                    f"the checksum of what was fetched is {digest}, the parameters say {wanted}",
                    url,
                    "a damaged or exchanged file: fetch it from its publisher, compare, then correct sha256",
                )
            os.replace(out.name, folder / digest)
        except OSError as error:
            Path(out.name).unlink(missing_ok=True)
            raise PackError(f"the pack cannot be kept: {error.strerror or error}", str(folder), "make room there") from None
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise
    _mark(folder / digest)
    return Pack(url, folder / digest, digest)


def _copy_file(url: str, path: Path, out: IO[bytes]) -> str:
    try:
        with path.open("rb") as source:
            return _copy(iter(lambda: source.read(BLOCK), b""), out)
    except FileNotFoundError:
        raise PackError(f"there is no file {path}", url, "correct the path, three slashes and all: file:///home/me/pack.zip") from None
    except (PermissionError, IsADirectoryError) as error:
        raise PackError(f"{path} cannot be read: {error.strerror}", url, "name a file that you may read") from None


def _copy_https(url: str, out: IO[bytes]) -> str:
    import httpx2  # here, because most commands fetch no pack

    try:
        with httpx2.stream("GET", url, follow_redirects=True, timeout=60) as answer:
            if answer.status_code != 200:
                raise PackError(
                    f"the server answered {answer.status_code} {answer.reason_phrase}",
                    url,
                    "open it in a browser; correct the URL",
                )
            return _copy(answer.iter_bytes(BLOCK), out)
    except httpx2.HTTPError as error:
        raise PackError(f"cannot be fetched: {error}", url, "is the host reachable from here? a copy in S3 or file:// does too") from None


def _copy_s3(s3: Api, bucket: str, key: str, out: IO[bytes]) -> str:
    url = f"s3://{bucket}/{key}"
    with _as_pack_error(url):
        return _copy(s3.content(Bucket=bucket, Key=key), out)


def _copy(blocks: Iterator[bytes], out: IO[bytes]) -> str:
    """Write all blocks and return their SHA-256."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        out.write(block)
    return digest.hexdigest()


def _kept(sha256: str) -> Path | None:
    """Return a copy that is unchanged since it was verified, or None. Size and time are compared, so that half a gigabyte is not read again."""
    path = cache() / sha256
    try:
        return path if _stamp(path) == _mark_of(path).read_text() else None
    except OSError:
        return None


def _mark(path: Path) -> None:
    """Record that the copy is verified."""
    _mark_of(path).write_text(_stamp(path))


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _stamp(path: Path) -> str:
    """Return size and modification time of a file as text."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _note(url: str) -> Path:
    """Return the file that records what an S3 URL gave when it was last fetched."""
    return cache() / f"{hashlib.sha256(url.encode()).hexdigest()}.seen"


def _remember(url: str, head: dict[str, Any], pack: Pack) -> None:
    _note(url).write_text(json.dumps({"etag": head["ETag"], "size": head["ContentLength"], "sha256": pack.sha256}))


def _remembered(url: str, head: dict[str, Any]) -> Pack | None:
    """Return the copy of an object that was fetched before, or None when S3 reports another ETag or size."""
    try:
        seen = json.loads(_note(url).read_text())
        same = seen["etag"] == head["ETag"] and seen["size"] == head["ContentLength"]
    except (OSError, ValueError, KeyError):
        return None
    kept = _kept(seen["sha256"]) if same else None
    return Pack(url, kept, seen["sha256"]) if kept else None


def bucket_and_key(url: str) -> tuple[str, str]:
    """Return the two parts of an s3:// URL."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


@contextmanager
def _as_pack_error(url: str) -> Iterator[None]:
    """Turn refusals of S3 about a pack into a PackError of its URL; an endpoint that is down stays a CloudError."""
    try:
        yield
    except CloudError as error:
        if error.code in ABSENT:
            raise PackError(f"there is nothing at {url}", url, "look with aws s3 ls; correct the URL") from None
        if error.code in ("403", "AccessDenied", "Forbidden"):
            raise PackError(f"{url} may not be read with these credentials", url, "ask for s3:GetObject on it") from None
        raise
