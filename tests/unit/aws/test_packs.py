"""Packs by URL: verified, kept once, told apart when wrong, handed to the machines without showing the way."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest
from botocore.response import StreamingBody, URLLib3ProtocolError, URLLib3ReadTimeoutError

from runbook_lib.aws import packs
from runbook_lib.errors import CloudError, PackError
from runbook_lib.launch.cloud import Cloud

pytest_plugins = ["tests.support.aws_endpoint"]


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_cloud()


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "wso2greg-5.1.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("wso2greg-5.1.0/", "")
        archive.writestr("wso2greg-5.1.0/dbscripts/mysql.sql", "CREATE TABLE X;")
        archive.writestr("wso2greg-5.1.0/bin/version.txt", "5.1.0")
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def upload(cloud: Cloud, pack: Path, bucket: str) -> str:
    s3 = cloud.aws.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=f"in/{pack.name}", Body=pack.read_bytes())
    return f"s3://{bucket}/in/{pack.name}"


def kept() -> list[str]:
    return sorted(path.name for path in packs.cache().iterdir())


def test_a_file_is_verified_and_kept(cloud: Cloud, pack: Path) -> None:
    found = packs.fetch(pack.as_uri(), sha(pack).upper(), cloud.aws)
    assert found.sha256 == sha(pack) and found.path.read_bytes() == pack.read_bytes()
    pack.unlink()
    assert packs.fetch(found.url, found.sha256, cloud.aws).path == found.path


def test_without_a_checksum_the_computed_one_is_told(cloud: Cloud, pack: Path) -> None:
    assert packs.fetch(pack.as_uri(), None, cloud.aws).sha256 == sha(pack)


def test_what_does_not_have_the_checksum_is_refused_and_not_kept(cloud: Cloud, pack: Path) -> None:
    with pytest.raises(PackError, match=sha(pack)) as caught:
        packs.fetch(pack.as_uri(), "0" * 64, cloud.aws)
    assert "0" * 64 in caught.value.what and caught.value.where == pack.as_uri()
    assert kept() == []


def test_a_kept_copy_that_was_changed_is_fetched_again(cloud: Cloud, pack: Path) -> None:
    found = packs.fetch(pack.as_uri(), sha(pack), cloud.aws)
    found.path.write_bytes(b"somebody else's bytes")
    assert packs.fetch(pack.as_uri(), sha(pack), cloud.aws).path.read_bytes() == pack.read_bytes()


def test_a_copy_that_was_cut_short_leaves_nothing(cloud: Cloud, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(blocks: Iterator[bytes], out: Any) -> str:
        out.write(next(blocks)[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packs, "_copy", cut)
        with pytest.raises(KeyboardInterrupt):
            packs.fetch(pack.as_uri(), sha(pack), cloud.aws)
    assert kept() == []


def test_a_full_disk_is_told_and_leaves_nothing(cloud: Cloud, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(blocks: Iterator[bytes], out: Any) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(packs, "_copy", full)
        with pytest.raises(PackError, match="No space left"):
            packs.fetch(pack.as_uri(), sha(pack), cloud.aws)
    assert kept() == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (b"", "cut short"),
        (URLLib3ProtocolError("Connection broken"), "cut short"),
        (URLLib3ReadTimeoutError(None, None, "Read timed out."), "cannot be reached"),
    ],
    ids=["ends early", "breaks", "stalls"],
)
def test_an_object_whose_connection_breaks_is_the_clouds_fault_and_may_be_tried_again(
    cloud: Cloud, pack: Path, monkeypatch: pytest.MonkeyPatch, fault: bytes | Exception, says: str
) -> None:
    url, read = upload(cloud, pack, "packs-cut"), iter([b"PK", fault])

    class Wire:
        def read(self, amount: int) -> bytes:
            found = next(read)
            if isinstance(found, Exception):
                raise found
            return found

    monkeypatch.setattr(cloud.aws.client("s3").client, "get_object", lambda **options: {"Body": StreamingBody(Wire(), 100)})
    with pytest.raises(CloudError, match=says) as caught:
        packs.fetch(url, None, cloud.aws)
    assert caught.value.transient and kept() == []


def test_an_object_is_fetched_once_as_long_as_it_is_the_same(cloud: Cloud, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = upload(cloud, pack, "packs-once")
    first = packs.fetch(url, None, cloud.aws)
    monkeypatch.setattr(packs, "_copy_s3", lambda *args: pytest.fail("fetched again"))
    assert packs.fetch(url, None, cloud.aws) == first
    monkeypatch.undo()


def test_an_object_that_was_replaced_is_fetched_again(cloud: Cloud, pack: Path) -> None:
    url = upload(cloud, pack, "packs-new")
    first = packs.fetch(url, None, cloud.aws)
    with zipfile.ZipFile(pack, "a") as archive:
        archive.writestr("wso2greg-5.1.0/more", "more")
    cloud.aws.client("s3").put_object(Bucket="packs-new", Key=f"in/{pack.name}", Body=pack.read_bytes())
    assert packs.fetch(url, None, cloud.aws).sha256 == sha(pack) != first.sha256


@pytest.mark.parametrize(
    ("url", "sha256", "says"),
    [
        ("s3://packs-absent/p.zip", None, "nothing at s3://packs-absent/p.zip"),
        ("file:///nowhere/p.zip", None, "no file /nowhere/p.zip"),
        ("file:///", None, "cannot be read"),
        ("https://127.0.0.1:9/p.zip", None, "needs its checksum"),
        ("https://127.0.0.1:9/p.zip", "0" * 64, "cannot be fetched"),
        ("ftp://example.com/p.zip", "0" * 64, "not a URL that can be fetched"),
    ],
)
def test_what_cannot_be_had_is_told_with_its_url(cloud: Cloud, url: str, sha256: str | None, says: str) -> None:
    with pytest.raises(PackError, match=says) as caught:
        packs.fetch(url, sha256, cloud.aws)
    assert caught.value.next_step
    assert kept() == []


def test_a_key_that_is_not_in_the_bucket_is_told(cloud: Cloud, pack: Path) -> None:
    upload(cloud, pack, "packs-there")
    with pytest.raises(PackError, match="nothing at s3://packs-there/other"):
        packs.fetch("s3://packs-there/other.zip", None, cloud.aws)


def test_an_endpoint_that_is_down_is_no_fault_of_the_pack(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(**options: Any) -> None:
        raise CloudError("the endpoint cannot be reached")

    s3 = cloud.aws.client("s3")
    monkeypatch.setattr(s3, "head_object", down, raising=False)
    with pytest.raises(CloudError, match="cannot be reached"):
        packs.fetch("s3://any/p.zip", None, cloud.aws)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server on loopback; the client believes that it speaks TLS."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    stream = httpx2.stream
    monkeypatch.setattr(httpx2, "stream", lambda verb, url, **o: stream(verb, url.replace("https:", "http:"), **o))
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pack_comes_from_the_web(cloud: Cloud, pack: Path, web: str) -> None:
    assert packs.fetch(f"{web}/{pack.name}", sha(pack), cloud.aws).path.read_bytes() == pack.read_bytes()


def test_a_404_is_told_as_such(cloud: Cloud, web: str) -> None:
    with pytest.raises(PackError, match="404"):
        packs.fetch(f"{web}/absent.zip", "0" * 64, cloud.aws)
    assert kept() == []


def test_files_inside_are_named_without_the_top_folder(cloud: Cloud, pack: Path) -> None:
    found = packs.fetch(pack.as_uri(), None, cloud.aws)
    assert found.member("dbscripts/mysql.sql") == b"CREATE TABLE X;"
    assert found.members() == ("dbscripts/mysql.sql", "bin/version.txt")
    for kind in (KeyError, PackError):
        with pytest.raises(kind, match=r"dbscripts/oracle\.sql"):
            found.member("dbscripts/oracle.sql")


def test_what_is_no_zip_is_told_when_it_is_opened(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>")
    with pytest.raises(PackError, match="not a zip"):
        packs.fetch((tmp_path / "page.zip").as_uri(), None, cloud.aws).member("x")


def test_the_cache_is_the_users_own(cloud: Cloud) -> None:
    assert packs.cache().stat().st_mode & 0o077 == 0
