"""How the machines get a pack: by a presigned URL of an object in S3, and where a pack is not in S3, by the account's own staging bucket.

The bucket `runbook-<account>-<region>` serves all deployments of the account. Each that put a pack there has a mark, an empty object; the
tear-down of the last one removes the packs. The bucket stays, and in it what the runbook did not put there.
"""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

from runbook_lib.aws.client import DENIED, Aws
from runbook_lib.aws.packs import Pack, bucket_and_key
from runbook_lib.aws.s3.buckets import VALID, OwnBucket
from runbook_lib.errors import CloudError

MARKS = "used-by/"  # below it one empty object for each deployment
OURS = re.compile(rf"[0-9a-f]{{64}}/[^/]+|{MARKS}[^/]+")


def stage(pack: Pack, aws: Aws, deployment: str) -> str:
    """Return a URL by which the machines get the pack during the next six hours.

    It gives access to the pack, so never show it. An object in S3 is presigned where it is; anything else is put into the staging
    bucket once. Raises CloudError.
    """
    region = aws.cloud.region
    if pack.url.startswith("s3://"):
        bucket, key = bucket_and_key(pack.url)
        region = _region_of(bucket, aws)
    else:
        staging = _staging(aws)
        staging.ensure()
        bucket = staging.name
        key = f"{pack.sha256}/{pack.path.name if pack.path.suffix else Path(urllib.parse.urlsplit(pack.url).path).name}"
        if not staging.holds(MARKS + deployment):  # first: a pack without a mark could be taken for nobody's
            staging.s3.put_object(**staging.bucket, Key=MARKS + deployment, Body=b"")
        if not staging.holds(key):
            with pack.path.open("rb") as body:
                staging.s3.put_object(**staging.bucket, Key=key, Body=body)
    return str(aws.client("s3", region).generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=VALID))


def _region_of(bucket: str, aws: Aws) -> str:
    """Return the region that a bucket lies in: a URL must be signed for that one. Raises CloudError where there is no such bucket.

    Who may read the object only is refused, and told the region in the refusal (HeadBucket in the S3 API reference).
    """
    try:
        found = aws.client("s3").head_bucket(Bucket=bucket).get("BucketRegion")
    except CloudError as error:
        if error.code not in DENIED:
            raise
        found = error.region
    return found or aws.cloud.region


def unstage(aws: Aws, deployment: str) -> str:
    """Remove the deployment's mark from the staging bucket, and with the last mark the packs; return what was removed, empty when nothing was."""
    staging = _staging(aws)
    try:
        if not staging.exists():
            return ""
    except CloudError as error:
        if error.code in DENIED:  # these credentials never staged anything
            return ""
        raise
    keys, mine = set(staging.sizes()), MARKS + deployment
    if mine not in keys:
        return ""
    if any(key.startswith(MARKS) and key != mine for key in keys):
        staging.delete(mine)
        return f"the mark {mine} in {staging.name}, whose packs others use"
    for key in sorted(filter(OURS.fullmatch, keys), key=lambda key: key == mine):  # the mark last: a removal that is cut short is found again by it
        staging.delete(key)
    return f"the packs in {staging.name}; the bucket stays"


def _staging(aws: Aws) -> OwnBucket:
    return OwnBucket(aws, advice="where it is another account's, put the pack into a bucket of yours: product.pack: s3://…")
