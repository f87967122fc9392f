"""The keys that requests are signed with: the lab's own, those that IAM issued to users, and those of sessions that STS made (moto's are constants)."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.iam.access_control import AssumedRoleAccessKey, IAMUserAccessKey
from moto.iam.models import iam_backends
from moto.sts.models import STSBackend, sts_backends
from moto.sts.responses import TokenResponse

from ec2lab import access_key
from ec2lab.api.policies import Question, trusts

PARTITION = "aws"
SESSION_SECONDS = (900, 43200, 129600)  # of GetSessionToken: least, default, most (STS API reference)


@dataclass(frozen=True)
class Key:
    """An access key. `owner`: the user or the role, which has an ARN and policies; None for the account's root, which may do everything.

    Of a session: `token`, which must be sent too, and `expires`, in UTC.
    """

    id: str
    secret: str = field(repr=False)
    owner: Any = None
    token: str = field(default="", repr=False)
    expires: datetime | None = None


class Refusal(ServiceException):
    """A call that is refused. (moto looks for the error's service by its class, and finds none for its own.)"""

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code = code


_root: access_key.AccessKey | None = None
sessions: dict[str, tuple[Key, str]] = {}  # sessions of users and of root, by id; with the id of the lasting key that asked for each


def install(root: access_key.AccessKey) -> None:
    """Make `root` the key of the account's root, and sessions real, from now on in this process."""
    global _root
    _root = root
    for name in ("get_federation_token", "assume_role_with_web_identity", "assume_role_with_saml"):
        setattr(TokenResponse, name, _no_identity_provider)
    TokenResponse.assume_role = _assume_role  # type: ignore[method-assign]
    TokenResponse.get_session_token = _get_session_token  # type: ignore[method-assign]
    STSBackend.get_caller_identity = _get_caller_identity  # type: ignore[method-assign]


def find(key_id: str) -> Key | None:
    """Return the key of this id, or None where there is none or it is not active. A session's may have expired."""
    if _root and key_id == _root.id:
        return Key(_root.id, _root.secret)
    if key_id in sessions:
        session, lasting = sessions[key_id]
        return session if find(lasting) else None
    for role in sts_backends[ACCOUNT][PARTITION].assumed_roles:
        if role.access_key_id == key_id:
            owner = AssumedRoleAccessKey(ACCOUNT, PARTITION, key_id, {"X-Amz-Security-Token": role.session_token})
            return Key(key_id, role.secret_access_key, owner, role.session_token, role.expiration)
    for user in iam_backends[ACCOUNT][PARTITION].users.values():
        for each in user.access_keys:
            if each.access_key_id == key_id and each.status == "Active":
                return Key(key_id, each.secret_access_key, IAMUserAccessKey(ACCOUNT, PARTITION, key_id, {}))
    return None


def signer(headers: Mapping[str, str], uri: str) -> Key | None:
    """Return the key that a request names, in its header or, presigned, in its query; None where it names none that is known."""
    credential = re.search(r"Credential=([^/]+)/", headers.get("Authorization", ""))
    return find(credential[1] if credential else parse_qs(urlsplit(uri).query).get("X-Amz-Credential", [""])[0].partition("/")[0])


def _no_identity_provider(self: Any) -> ActionResult:
    """Refuse what moto grants without looking: the lab knows nobody who could vouch for somebody else."""
    raise Refusal("AccessDenied", "The lab has no identity providers, and no federated users")


_moto_s_assume_role = TokenResponse.assume_role


def _assume_role(self: Any) -> ActionResult:
    """Make a session of a role that exists and trusts the caller; moto makes one of any. An MFA code is taken for good with a device of the user's."""
    asker, arn = signer(self.headers, self.uri), str(self._get_param("RoleArn"))
    who = asker.owner.arn if asker and asker.owner else f"arn:{PARTITION}:iam::{ACCOUNT}:root"
    context = {"sts:ExternalId": self._get_param("ExternalId") or "", "aws:MultiFactorAuthPresent": str(_with_mfa(self, asker)).lower()}
    role = next((role for role in iam_backends[ACCOUNT][PARTITION].roles.values() if role.arn == arn), None)
    if role is None or not trusts(json.loads(role.assume_role_policy_document), ACCOUNT, who, Question("sts:AssumeRole", "*", context)):
        raise Refusal("AccessDenied", f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {arn}")
    return _moto_s_assume_role(self)


def _with_mfa(self: Any, asker: Key | None) -> bool:
    user = iam_backends[ACCOUNT][PARTITION].users.get(getattr(asker.owner, "_owner_user_name", "")) if asker else None
    return bool(user and self._get_param("SerialNumber") in user.mfa_devices and re.fullmatch(r"\d{6}", self._get_param("TokenCode") or ""))


def _get_session_token(self: Any) -> ActionResult:
    """Answer with a key of a session, which may do what its user may."""
    least, default, most = SESSION_SECONDS
    asker, seconds = signer(self.headers, self.uri), self._get_int_param("DurationSeconds", default)
    if asker is None or asker.token:
        raise Refusal("AccessDenied", "Cannot call GetSessionToken with session credentials")
    if not least <= seconds <= most:
        raise Refusal("ValidationError", f"durationSeconds must be from {least} to {most}")
    made = access_key.make()
    session = Key("ASIA" + made.id[4:], made.secret, asker.owner, secrets.token_urlsafe(64), utcnow() + timedelta(seconds=seconds))
    sessions[session.id] = session, asker.id
    words = {"AccessKeyId": session.id, "SecretAccessKey": session.secret, "SessionToken": session.token, "Expiration": session.expires}
    return ActionResult({"Credentials": words})


_moto_s_identity = STSBackend.get_caller_identity


def _get_caller_identity(self: Any, access_key_id: str, region: str) -> tuple[str, str, str]:
    lasting = sessions[access_key_id][1] if access_key_id in sessions else access_key_id
    if _root and lasting == _root.id:
        return ACCOUNT, f"arn:{PARTITION}:iam::{ACCOUNT}:root", ACCOUNT
    return _moto_s_identity(self, lasting, region)
