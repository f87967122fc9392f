"""How the machines get packs: URLs that need no credentials, the account's own bucket, and what becomes of it in the end."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.aws import packs
from runbook_lib.aws.client import Aws
from runbook_lib.aws.packs import Pack
from runbook_lib.aws.s3 import staging
from runbook_lib.errors import CloudError
from runbook_lib.launch import teardown
from runbook_lib.launch.cloud import Cloud
from runbook_lib.redaction import redactor
from runbook_lib.spec.sections import CloudSpec
from tests.support.iam_user import EVERYTHING, user_with
from tests.support.signed_requests import ROOT

pytest_plugins = ["tests.support.aws_endpoint", "tests.support.verifying_endpoint"]
BUCKET = "runbook-123456789012-us-east-1"


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cloud = make_cloud()
    yield cloud
    s3 = cloud.aws.client("s3")
    if BUCKET in buckets(cloud):
        for key in objects(cloud):
            s3.delete_object(Bucket=BUCKET, Key=key)
        s3.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def pack(cloud: Cloud, tmp_path: Path) -> Pack:
    path = tmp_path / "wso2greg-5.1.0.zip"
    path.write_bytes(b"a pack")
    return packs.fetch(path.as_uri(), None, cloud.aws)


def buckets(cloud: Cloud) -> list[str]:
    return [bucket["Name"] for bucket in cloud.aws.client("s3").list_buckets()["Buckets"]]


def objects(cloud: Cloud) -> list[str]:
    return [item["Key"] for item in cloud.aws.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])]


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_the_machines_get_it_by_a_url_that_needs_no_credentials(cloud: Cloud, pack: Pack, kind: str) -> None:
    if kind == "s3":
        cloud.aws.client("s3").create_bucket(Bucket="packs-staged")
        cloud.aws.client("s3").put_object(Bucket="packs-staged", Key="x.zip", Body=b"a pack")
        pack = packs.fetch("s3://packs-staged/x.zip", None, cloud.aws)
    handed = staging.stage(pack, cloud.aws, "one")
    with urllib.request.urlopen(handed) as answer:
        assert answer.read() == b"a pack"
    assert "X-Amz-Signature=[signature]" in redactor.redact(handed)
    assert (BUCKET in buckets(cloud)) == (kind == "file")


def test_a_file_is_put_up_once_into_a_private_bucket(cloud: Cloud, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    staging.stage(pack, cloud.aws, "one")
    s3 = cloud.aws.client("s3")
    monkeypatch.setattr(s3, "put_object", lambda **options: pytest.fail("put up again"), raising=False)
    assert f"{pack.sha256}/wso2greg-5.1.0.zip" in staging.stage(pack, cloud.aws, "one")
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())


def test_the_packs_go_with_the_last_deployment_that_used_them_and_the_bucket_stays(cloud: Cloud, pack: Pack) -> None:
    staging.stage(pack, cloud.aws, "one")
    staging.stage(pack, cloud.aws, "two")
    assert "whose packs others use" in staging.unstage(cloud.aws, "one")
    assert f"{pack.sha256}/wso2greg-5.1.0.zip" in objects(cloud) and "used-by/one" not in objects(cloud)
    assert staging.unstage(cloud.aws, "one") == "", "and again"
    assert staging.unstage(cloud.aws, "two") == f"the packs in {BUCKET}; the bucket stays"
    assert objects(cloud) == [] and staging.unstage(cloud.aws, "two") == ""


def test_what_somebody_else_put_there_stays(cloud: Cloud, pack: Pack) -> None:
    staging.stage(pack, cloud.aws, "one")
    cloud.aws.client("s3").put_object(Bucket=BUCKET, Key="thesis.pdf", Body=b"all my work")
    staging.unstage(cloud.aws, "one")
    assert objects(cloud) == ["thesis.pdf"]


def test_a_removal_that_was_cut_short_is_finished_by_the_next(cloud: Cloud, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    staging.stage(pack, cloud.aws, "one")
    s3 = cloud.aws.client("s3")
    delete = s3.delete_object

    def cut_short(**options: Any) -> None:
        delete(**options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s3, "delete_object", cut_short, raising=False)
        with pytest.raises(KeyboardInterrupt):
            staging.unstage(cloud.aws, "one")
    assert objects(cloud) == ["used-by/one"]
    assert "the packs" in staging.unstage(cloud.aws, "one") and objects(cloud) == []


def test_a_tear_down_removes_the_packs(cloud: Cloud, pack: Pack) -> None:
    staging.stage(pack, cloud.aws, cloud.spec.deployment)
    assert teardown.destroy(cloud).ok and objects(cloud) == []


def test_every_call_on_the_bucket_names_the_owner(cloud: Cloud, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, Any]] = []
    events = cloud.aws.client("s3").client.meta.events
    events.register("before-parameter-build.s3", lambda params, model, **rest: sent.append((model.name, params.get("ExpectedBucketOwner"))))
    staging.stage(pack, cloud.aws, "one")
    staging.unstage(cloud.aws, "one")
    assert {name for name, owner in sent if owner is None} == {"CreateBucket", "GetObject"}  # a new one is ours; a URL cannot carry it
    assert {name for name, owner in sent if owner == "123456789012"} >= {"HeadBucket", "HeadObject", "PutObject", "ListObjectsV2", "DeleteObject"}


def test_a_bucket_of_that_name_in_another_account_is_told(cloud: Cloud, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    def another(**options: Any) -> None:
        error = CloudError("the credentials may not do this (403: Forbidden)")
        error.code = "403"
        raise error

    monkeypatch.setattr(cloud.aws.client("s3"), "head_bucket", another, raising=False)
    with pytest.raises(CloudError, match="belongs to another account") as caught:
        staging.stage(pack, cloud.aws, "one")
    assert "product.pack: s3://" in (caught.value.next_step or "")
    assert staging.unstage(cloud.aws, "one") == ""


READS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::*/x.zip"}]}
READERS = (
    pytest.param("packs-abroad-1", EVERYTHING, id="by who may do everything"),
    pytest.param("packs-abroad-2", READS, id="by who may read the pack and nothing else"),
)


@pytest.mark.parametrize(("bucket", "policy"), READERS)
def test_a_pack_in_another_region_is_fetched_from_there(
    verifying: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str, policy: dict[str, Any]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    owner = Aws(CloudSpec(aws_config=str(user_with(EVERYTHING, verifying, tmp_path, ROOT)))).client("s3", "eu-west-1")
    owner.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    owner.put_object(Bucket=bucket, Key="x.zip", Body=b"a pack")
    aws = Aws(CloudSpec(region="us-east-1", aws_config=str(user_with(policy, verifying, tmp_path, ROOT))))
    handed = staging.stage(packs.fetch(f"s3://{bucket}/x.zip", None, aws), aws, "one")
    with urllib.request.urlopen(handed) as answer:
        assert answer.read() == b"a pack"


def test_a_pack_whose_bucket_is_gone_is_told_before_anything_is_launched(cloud: Cloud) -> None:
    with pytest.raises(CloudError) as caught:
        staging.stage(Pack("s3://packs-gone/x.zip", Path("x.zip"), "0" * 64), cloud.aws, "one")
    assert caught.value.code == "404"


def test_a_bucket_with_dots_stands_in_the_path_where_the_certificate_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    given = {"Bucket": "packs.example.org", "Key": "x.zip"}
    url = Aws(CloudSpec(region="eu-central-1")).client("s3").generate_presigned_url("get_object", Params=given)
    assert url.startswith("https://s3.eu-central-1.amazonaws.com/packs.example.org/x.zip?")
