"""Other services that a launch asks: keys, quotas, Parameter Store."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms.responses import KmsResponse
from moto.servicequotas.models import ServiceQuotasBackend
from moto.ssm.exceptions import ValidationException
from moto.ssm.models import SimpleSystemManagerBackend

from ec2lab.api.patches import corrects

# those that a launch of ordinary machines meets, raised as in an account that is in use (AWS's defaults: 5 each)
QUOTAS = {"L-1216C47A": 256.0, "L-F678F1CE": 100.0, "L-0263D0A3": 20.0, "L-FE5A380F": 100.0}


@corrects(KmsResponse, "create_grant")
@corrects(KmsResponse, "encrypt")
@corrects(KmsResponse, "generate_data_key_without_plaintext")
def try_key(original: Callable[..., Any], self: Any) -> Any:
    """Do nothing in a dry run, and answer as KMS does (API reference, DryRun); moto does it all the same."""
    if not self._get_param("DryRun"):
        return original(self)
    self._validate_key_id(self._get_param("KeyId"))
    raise JsonRESTError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


@corrects(ServiceQuotasBackend, "get_service_quota")
def get_service_quota(original: Callable[..., Any], self: Any, service_code: str, quota_code: str) -> dict[str, Any]:
    """Return the quotas above (moto knows a few of VPC only)."""
    if quota_code in QUOTAS:
        return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": QUOTAS[quota_code]}
    return dict(original(self, service_code=service_code, quota_code=quota_code))


STANDARD, ADVANCED = 4096, 8192  # bytes of a value, by tier ("Managing parameter tiers")


@corrects(SimpleSystemManagerBackend, "put_parameter")
def put_parameter(original: Callable[..., Any], self: Any, *given: Any, **named: Any) -> Any:
    """Refuse a value that is too long for its tier (API reference, PutParameter: 4 KB, advanced 8 KB); moto takes any."""
    asked = inspect.signature(original).bind(self, *given, **named).arguments
    size, tier = len(str(asked["value"]).encode()), asked.get("tier") or "Standard"
    if size > ADVANCED or (size > STANDARD and tier == "Standard"):
        longest = STANDARD if tier == "Standard" else ADVANCED
        raise ValidationException(
            f"{tier} tier parameters support a maximum parameter value of {longest} characters. "
            "To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier."
        )
    return original(self, *given, **named)
