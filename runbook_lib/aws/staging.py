"""How the machines get a pack: by a presigned URL of an object in S3, and where a pack is not in S3, by the account's own staging bucket.

The bucket `runbook-<account>-<region>` serves all deployments of the account. Each that put a pack there has a mark, an empty object; the
tear-down of the last one removes the bucket, unless it holds something that the runbook did not put there. Every call on it names the
account that must own it: somebody else may have taken the bucket's name.
"""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import Any

from runbook_lib.aws.client import DENIED, Aws
from runbook_lib.aws.packs import ABSENT, Pack, bucket_and_key
from runbook_lib.errors import CloudError

VALID = 6 * 3600  # seconds that a presigned URL works: longer than any run
MARKS = "used-by/"  # below it one empty object for each deployment
OURS = re.compile(rf"[0-9a-f]{{64}}/[^/]+|{MARKS}[^/]+")


def stage(pack: Pack, aws: Aws, deployment: str) -> str:
    """Return a URL by which the machines get the pack during the next six hours.

    It gives access to the pack, so never show it. An object in S3 is presigned where it is; anything else is put into the staging
    bucket once. Raises CloudError.
    """
    if pack.url.startswith("s3://"):
        bucket, key = bucket_and_key(pack.url)
    else:
        staging = _Staging(aws)
        staging.ensure()
        bucket = staging.bucket["Bucket"]
        key = f"{pack.sha256}/{pack.path.name if pack.path.suffix else Path(urllib.parse.urlsplit(pack.url).path).name}"
        if not staging.holds(MARKS + deployment):  # first: a pack without a mark could be taken for nobody's
            staging.s3.put_object(**staging.bucket, Key=MARKS + deployment, Body=b"")
        if not staging.holds(key):
            with pack.path.open("rb") as body:
                staging.s3.put_object(**staging.bucket, Key=key, Body=body)
    return str(aws.client("s3").generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=VALID))


def unstage(aws: Aws, deployment: str) -> str:
    """Remove the deployment's mark from the staging bucket, and with the last mark the bucket; return what was removed, empty when nothing was."""
    staging = _Staging(aws)
    try:
        if not staging.exists():
            return ""
    except CloudError as error:
        if error.code in DENIED:  # these credentials never staged anything
            return ""
        raise
    keys, mine = set(staging.keys()), MARKS + deployment
    if keys and mine not in keys:
        return ""
    others = any(key.startswith(MARKS) and key != mine for key in keys)
    if others or not all(OURS.fullmatch(key) for key in keys):
        staging.delete(mine)
        return f"the mark {mine} in {staging.bucket['Bucket']}, which holds what others put there"
    for key in sorted(keys, key=lambda key: key == mine):  # the mark last: a removal that is cut short is found again by it
        staging.delete(key)
    staging.s3.delete_bucket(**staging.bucket)
    return f"the bucket {staging.bucket['Bucket']}"


class _Staging:
    """The account's staging bucket in this region."""

    def __init__(self, aws: Aws):
        self.s3, self.region = aws.client("s3"), aws.cloud.region
        account = str(aws.client("sts").get_caller_identity()["Account"])
        self.bucket = {"Bucket": f"runbook-{account}-{self.region}", "ExpectedBucketOwner": account}

    def ensure(self) -> None:
        """Create the bucket, private, where there is none. Raises CloudError where the name is another account's."""
        try:
            if self.exists():
                return
        except CloudError as error:
            if error.code in DENIED:
                error.what = f"{self.bucket['Bucket']} belongs to another account, or may not be looked at with these credentials: {error.what}"
                error.next_step = "ask for s3:ListBucket on it; where it is another account's, put the pack into a bucket of yours: product.pack: s3://…"
            raise
        place: dict[str, Any] = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.s3.create_bucket(Bucket=self.bucket["Bucket"], **place)
        blocked = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
        self.s3.put_public_access_block(**self.bucket, PublicAccessBlockConfiguration=blocked)

    def exists(self) -> bool:
        return self._found(self.s3.head_bucket)

    def holds(self, key: str) -> bool:
        return self._found(self.s3.head_object, Key=key)

    def _found(self, call: Any, **options: Any) -> bool:
        try:
            call(**self.bucket, **options)
        except CloudError as error:
            if error.code in ABSENT:
                return False
            raise
        return True

    def keys(self) -> list[str]:
        return [item["Key"] for item in self.s3.pages("list_objects_v2", "Contents", **self.bucket)]

    def delete(self, key: str) -> None:
        self.s3.delete_object(**self.bucket, Key=key)
