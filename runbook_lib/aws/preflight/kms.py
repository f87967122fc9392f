"""The customer managed key of `cloud.kms_key`: whether disks and secrets can be encrypted with it, asked before anything is created."""

from __future__ import annotations

from typing import Any

from runbook_lib.aws.client import Aws
from runbook_lib.errors import CloudError

TRIAL = "DryRunOperationException"  # what KMS answers to a dry run that would have succeeded (API reference, DryRun)


def refuse_unusable_key(aws: Aws) -> None:
    """Raise `CloudError` when `cloud.kms_key` does not exist, is disabled, cannot encrypt, or may not be used by this identity.

    EC2 tells of a key without a grant only after the launch: the machine ends at once. So what EC2 and Parameter Store will do with the key
    is tried as a dry run: GenerateDataKeyWithoutPlaintext for volumes, Encrypt for parameters (EBS user guide, "Amazon EBS encryption"). CreateGrant
    cannot be tried: whoever may do no more than he needs may do it by way of EC2 only (condition kms:GrantIsForAWSResource).
    """
    name = aws.cloud.kms_key
    if not name:
        return
    kms = aws.client("kms")
    try:
        key = kms.describe_key(KeyId=name)["KeyMetadata"]
    except CloudError as error:
        raise _unusable(name, error.what, f"a symmetric key of {aws.cloud.region}, and kms:DescribeKey for this identity in the key's policy") from None
    if key["KeyState"] != "Enabled":
        raise _unusable(name, f"the key is {key['KeyState']}", "enable it, or name another key")
    if key.get("KeySpec", "SYMMETRIC_DEFAULT") != "SYMMETRIC_DEFAULT" or (key.get("KeyUsage") or "ENCRYPT_DECRYPT") != "ENCRYPT_DECRYPT":
        what = f"a key of kind {key.get('KeySpec')} for {key.get('KeyUsage')}, with which no volume can be encrypted"
        raise _unusable(name, what, "a symmetric key for encryption (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT)")
    _try(kms, name, "generate_data_key_without_plaintext", KeySpec="AES_256")
    _try(kms, name, "encrypt", Plaintext=b"runbook")


def _try(kms: Any, name: str, call: str, **options: Any) -> None:
    try:
        getattr(kms, call)(KeyId=name, DryRun=True, **options)
    except CloudError as error:
        if error.code != TRIAL:
            action = "".join(word.capitalize() for word in call.split("_"))
            raise _unusable(name, f"kms:{action}: {error.what}", f"allow kms:{action} to this identity in the key's policy, or by a grant") from None


def _unusable(name: str, what: str, step: str) -> CloudError:
    return CloudError(f"cloud.kms_key {name}: {what}", "cloud.kms_key", step)
