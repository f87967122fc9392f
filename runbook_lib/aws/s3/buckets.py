"""The account's own buckets in a region, `runbook-<account>-<region>` and one with a purpose in its name. Made when first used, and private.

They stay when they are empty: S3 gives away the name of a deleted bucket, to any account, and may refuse it to its owner for hours (re:Post, "conflicting
conditional operation"). Every call on one names the account that must own it: somebody else may have taken the bucket's name.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.aws.client import DENIED, Aws
from runbook_lib.aws.packs import ABSENT
from runbook_lib.errors import CloudError

VALID = 6 * 3600  # seconds that a presigned URL works: longer than any run


class OwnBucket:
    """One bucket of the account. `purpose`: the end of its name, "" for the one without; `advice`: what to do when it is another account's."""

    def __init__(self, aws: Aws, purpose: str = "", advice: str = ""):
        self.s3, self.region, self.advice = aws.client("s3"), aws.cloud.region, advice
        account = str(aws.client("sts").get_caller_identity()["Account"])
        self.name = "-".join(filter(None, ("runbook", account, self.region, purpose)))
        self.bucket = {"Bucket": self.name, "ExpectedBucketOwner": account}

    def ensure(self) -> None:
        """Create the bucket, private, where there is none. Raises CloudError where the name is another account's."""
        if self.exists():
            return
        place: dict[str, Any] = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        try:
            self.s3.create_bucket(Bucket=self.name, **place)
        except CloudError as error:
            if error.code != "BucketAlreadyOwnedByYou":  # another run made it meanwhile
                raise
        blocked = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
        self.s3.put_public_access_block(**self.bucket, PublicAccessBlockConfiguration=blocked)

    def exists(self) -> bool:
        """Return whether there is such a bucket of this account. Raises CloudError where it is another account's, or may not be looked at."""
        try:
            return self._found(self.s3.head_bucket)
        except CloudError as error:
            if error.code in DENIED:
                error.what = f"{self.name} belongs to another account, or may not be looked at with these credentials: {error.what}"
                error.next_step = f"ask for s3:ListBucket on it; {self.advice}"
            raise

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

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the size in bytes of every object below `prefix` ("" for all), by key."""
        below = {"Prefix": prefix} if prefix else {}
        return {item["Key"]: int(item["Size"]) for item in self.s3.pages("list_objects_v2", "Contents", **self.bucket, **below)}

    def delete(self, key: str) -> None:
        self.s3.delete_object(**self.bucket, Key=key)
