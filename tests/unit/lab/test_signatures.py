"""What a request must be signed with, how, and when: each difference from what was signed is refused with AWS's code, in the form of its service."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import re
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from ec2lab import access_key
from ec2lab.access_key import AccessKey
from ec2lab.api import credentials, signatures
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sts.models import sts_backends

from tests.support.signed_requests import CALLS, ROOT, Sent
from tests.support.signed_requests import signed as signed_by

pytest_plugins = ["tests.support.verifying_endpoint"]


@pytest.fixture(scope="module")
def host(verifying: str) -> str:
    """The endpoint's address, with a bucket in which one object is public, and another bucket in Ireland."""
    address = verifying.removeprefix("http://")
    s3 = client(address, "s3")
    s3.create_bucket(Bucket="signed")
    s3.put_object(Bucket="signed", Key="public.txt", Body=b"everybody", ACL="public-read")
    s3.put_object(Bucket="signed", Key="private.txt", Body=b"nobody")
    s3.create_bucket(Bucket="irish", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="irish", Key="private.txt", Body=b"nobody")
    return address


def client(host: str, service: str, key: AccessKey = ROOT, token: str | None = None, **more: Any) -> Any:
    config = Config(proxies={}, retries={"total_max_attempts": 1}, signature_version="s3v4" if service == "s3" else None)
    keys = {"aws_access_key_id": key.id, "aws_secret_access_key": key.secret, "aws_session_token": token}
    return boto3.client(service, endpoint_url=f"http://{host}", region_name="us-east-1", config=config, **keys, **more)  # type: ignore[call-overload]


def signed(host: str, service: str, key: AccessKey = ROOT, token: str | None = None, **more: Any) -> Sent:
    return signed_by(host, service, key, token, **more)


ALTERED: dict[str, tuple[Callable[[str, str], Sent], tuple[str, str, str, str]]] = {
    "not signed": (
        lambda host, of: signed(host, of).without("Authorization"),
        ("AccessDenied", "MissingAuthenticationToken", "MissingAuthenticationToken", "MissingAuthenticationTokenException"),
    ),
    "a key that nobody has": (
        lambda host, of: signed(host, of, AccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")),
        ("InvalidAccessKeyId", "AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException"),
    ),
    "the right key with another secret": (
        lambda host, of: signed(host, of, AccessKey(ROOT.id, "guessed")),
        ("SignatureDoesNotMatch", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "a token where the key has none": (
        lambda host, of: signed(host, of, token="invented"),
        ("InvalidToken", "AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException"),
    ),
    "16 minutes old": (
        lambda host, of: signed(host, of, at=-960),
        ("RequestTimeTooSkewed", "RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "16 minutes early": (
        lambda host, of: signed(host, of, at=960),
        ("RequestTimeTooSkewed", "RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "another path": (
        lambda host, of: replace(signed(host, of), path="/signed/other.txt"),
        ("SignatureDoesNotMatch", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "another query": (
        lambda host, of: replace(signed(host, of), path=CALLS[of][1] + "?acl"),
        ("SignatureDoesNotMatch", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "another method": (
        lambda host, of: replace(signed(host, of), method="PUT"),
        ("SignatureDoesNotMatch", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "another body": (
        lambda host, of: replace(signed(host, of), body=CALLS[of][3] + b" "),
        ("XAmzContentSHA256Mismatch", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "a body that says it need not be signed": (
        lambda host, of: signed(host, of, headers={} if of == "s3" else {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, path="/signed/x?" if of == "s3" else "/"),
        ("NoSuchKey", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "another host": (
        lambda host, of: signed(host, of).header("Host", "s3.us-east-1.amazonaws.com"),
        ("SignatureDoesNotMatch", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "another date": (
        lambda host, of: signed(host, of, at=-60).header("X-Amz-Date", signed(host, of).headers["X-Amz-Date"]),
        ("SignatureDoesNotMatch", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "a header of AWS's that was not signed": (
        lambda host, of: signed(host, of).header("X-Amz-Expected-Bucket-Owner", "1"),
        ("AccessDenied", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
    "half an Authorization": (
        lambda host, of: signed(host, of).header("Authorization", f"AWS4-HMAC-SHA256 Credential={ROOT.id}/20260101/us-east-1/{of}/aws4_request"),
        ("AuthorizationHeaderMalformed", "IncompleteSignature", "IncompleteSignature", "IncompleteSignatureException"),
    ),
}


@pytest.mark.parametrize("form", CALLS)
@pytest.mark.parametrize("what", ALTERED)
def test_what_differs_from_what_was_signed_is_refused_with_the_code_of_aws(host: str, what: str, form: str) -> None:
    alter, codes = ALTERED[what]
    status, code, body = alter(host, form).send()
    assert code == codes[list(CALLS).index(form)] and 400 <= status < 500, body


@pytest.mark.parametrize("form", CALLS)
def test_what_was_signed_is_served(host: str, form: str) -> None:
    assert signed(host, form).send()[0] == 200
    assert signed(host, form, at=-840).send()[0] == signed(host, form, at=840).send()[0] == 200, "14 minutes"


NAMES = ["plain.txt", "with spaces & more?.txt", "slash/../dots//x", "ünïcode", "plus+percent%41~", "a=b;c,d"]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_an_object_verifies_in_header_and_query(host: str, name: str) -> None:
    s3 = client(host, "s3")
    s3.put_object(Bucket="signed", Key=name, Body=name.encode(), Metadata={"of_mine": "two  words"})
    assert s3.get_object(Bucket="signed", Key=name)["Body"].read() == name.encode()
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "signed", "Key": name})
    assert fetch(host, url)[2] == name.encode()
    assert name in [each["Key"] for each in s3.list_objects_v2(Bucket="signed", Prefix=name)["Contents"]]
    s3.delete_object(Bucket="signed", Key=name)


def test_uploads_verify_in_parts_as_streams_and_without_a_hash(host: str) -> None:
    s3, data = client(host, "s3"), bytes(range(256)) * 4096 * 6
    s3.upload_fileobj(io.BytesIO(data), "signed", "parts.bin")
    assert s3.get_object(Bucket="signed", Key="parts.bin")["Body"].read() == data
    chunks = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
    ways = [
        ("UNSIGNED-PAYLOAD", b"hello", {}),
        (hashlib.sha256(b"hello").hexdigest(), b"hello", {}),
        (
            signatures.TRAILER,
            chunks,
            {"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "5", "X-Amz-Trailer": "x-amz-checksum-crc32"},
        ),
    ]
    for said, body, more in ways:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(botocore.auth.S3SigV4Auth, "payload", lambda self, request, said=said: said)
            sent = signed(host, "s3", method="PUT", path="/signed/stream.txt", body=body, headers=more)
        assert sent.send()[0] == 200, said
        assert s3.get_object(Bucket="signed", Key="stream.txt")["Body"].read() == b"hello"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth.S3SigV4Auth, "payload", lambda self, request: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        assert signed(host, "s3", method="PUT", path="/signed/stream.txt", body=b"bye").send()[:2] == (501, "NotImplemented")


# --- presigned addresses


def fetch(host: str, url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b"") -> tuple[int, str, bytes]:
    parts = urllib.parse.urlsplit(url)
    return Sent(host, method, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers or {}, body).send()


def presigned(
    host: str, at: float = 0, seconds: int = 60, call: str = "get_object", key: AccessKey = ROOT, token: str | None = None, bucket: str = "signed"
) -> str:
    with pytest.MonkeyPatch.context() as patch:
        then = datetime.datetime.fromtimestamp(time.time() + at, datetime.UTC)
        patch.setattr(botocore.auth, "get_current_datetime", lambda: then)
        params = {"Bucket": bucket, "Key": "private.txt"}
        return str(client(host, "s3", key, token).generate_presigned_url(call, Params=params, ExpiresIn=seconds))


ADDRESSES: dict[str, tuple[Callable[[str], tuple[int, str, bytes]], tuple[int, str]]] = {
    "as it is": (lambda host: fetch(host, presigned(host)), (200, "")),
    "of yesterday, for a week": (lambda host: fetch(host, presigned(host, -86400, 604800)), (200, "")),
    "expired": (lambda host: fetch(host, presigned(host, -61, 60)), (403, "AccessDenied")),
    "for longer than a week": (lambda host: fetch(host, presigned(host, 0, 604801)), (400, "AuthorizationQueryParametersError")),
    "made longer": (lambda host: fetch(host, presigned(host, -61, 60).replace("Expires=60", "Expires=3600")), (403, "SignatureDoesNotMatch")),
    "for the future": (lambda host: fetch(host, presigned(host, 960)), (403, "RequestTimeTooSkewed")),
    "of another object": (lambda host: fetch(host, presigned(host).replace("private.txt", "parts.bin")), (403, "SignatureDoesNotMatch")),
    "with one more word": (lambda host: fetch(host, presigned(host) + "&acl"), (403, "SignatureDoesNotMatch")),
    "for another verb": (lambda host: fetch(host, presigned(host), "DELETE"), (403, "SignatureDoesNotMatch")),
    "with a header besides": (lambda host: fetch(host, presigned(host), "GET", {"X-Amz-Copy-Source": "/signed/x"}), (403, "AccessDenied")),
    "with another signature besides": (lambda host: fetch(host, presigned(host), headers=signed(host, "ssm").headers), (400, "IncompleteSignatureException")),
    "with a date twice": (lambda host: fetch(host, presigned(host) + "&X-Amz-Date=20260101T000000Z"), (400, "AuthorizationQueryParametersError")),
    "without its signature": (lambda host: fetch(host, presigned(host).partition("&X-Amz-Signature")[0]), (403, "AccessDenied")),
    "as another service's": (lambda host: fetch(host, presigned(host).replace("%2Fs3%2F", "%2Fssm%2F")), (403, "SignatureDoesNotMatch")),
    "by Signature Version 2": (lambda host: fetch(host, f"/signed/private.txt?AWSAccessKeyId={ROOT.id}&Signature=x&Expires=1"), (400, "InvalidRequest")),
}


@pytest.mark.parametrize("what", ADDRESSES)
def test_a_presigned_address_is_good_for_what_it_was_made_for(host: str, what: str) -> None:
    call, expected = ADDRESSES[what]
    status, code, body = call(host)
    assert (status, code) == expected, body
    assert status != 200 or body == b"nobody"


def test_a_bucket_takes_what_is_signed_for_its_own_region(host: str) -> None:
    said = "the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region>"
    url, path = presigned(host, bucket="irish"), "/irish/private.txt"
    for answer, code in ((fetch(host, url), "AuthorizationQueryParametersError"), (signed(host, "s3", path=path).send(), "AuthorizationHeaderMalformed")):
        assert answer[:2] == (400, code) and said in answer[2].decode()
    assert client(host, "s3").get_object(Bucket="irish", Key="private.txt")["Body"].read() == b"nobody", "a client goes there by itself"


def test_the_region_of_a_bucket_is_told_also_to_who_may_not_look_at_it(host: str) -> None:
    stranger = client(host, "s3", made_user(host, "stranger", allow("s3:GetObject")))
    with pytest.raises(ClientError) as caught:
        stranger.head_bucket(Bucket="irish")
    answer = caught.value.response["ResponseMetadata"]
    assert (answer["HTTPStatusCode"], answer["HTTPHeaders"]["x-amz-bucket-region"]) == (403, "eu-west-1")
    assert client(host, "s3").head_bucket(Bucket="signed")["BucketRegion"] == "us-east-1"
    answer = client(host, "s3").head_object(Bucket="signed", Key="private.txt")["ResponseMetadata"]
    assert "x-amz-bucket-region" not in answer["HTTPHeaders"]


def test_a_presigned_upload_is_for_its_object_only(host: str) -> None:
    url = presigned(host, call="put_object").replace("private.txt", "upload.txt")
    assert fetch(host, url, "PUT", body=b"x")[:2] == (403, "SignatureDoesNotMatch")
    assert fetch(host, presigned(host, call="put_object"), "PUT", body=b"nobody")[0] == 200


# --- without a signature


PUBLIC: dict[str, tuple[Callable[[str], tuple[int, str, bytes]], int]] = {
    "a public object": (lambda host: fetch(host, "/signed/public.txt"), 200),
    "another object": (lambda host: fetch(host, "/signed/private.txt"), 403),
    "an object that is not there": (lambda host: fetch(host, "/signed/nothing.txt"), 403),
    "the bucket": (lambda host: fetch(host, "/signed"), 403),
    "the buckets": (lambda host: fetch(host, "/"), 403),
    "the ACL of a public object": (lambda host: fetch(host, "/signed/public.txt?acl"), 403),
    "writing a public object": (lambda host: fetch(host, "/signed/public.txt", "PUT", body=b"x"), 403),
    "removing a public object": (lambda host: fetch(host, "/signed/public.txt", "DELETE"), 403),
    "another bucket by its host": (lambda host: fetch(host, "/signed/public.txt", headers={"Host": "private.s3.amazonaws.com"}), 200),
    "another service": (lambda host: fetch(host, "/signed/public.txt", headers={"X-Amz-Target": "AWSCognitoIdentityService.GetId"}), 200),
    "a role by nobody's word": (
        lambda host: fetch(host, "/", "POST", {"Content-Type": "application/x-www-form-urlencoded"}, b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15"),
        403,
    ),
    "users": (lambda host: fetch(host, "/", "POST", {"X-Amz-Target": "AWSCognitoIdentityProviderService.SignUp"}, b"{}"), 400),
    "machines' credentials": (lambda host: fetch(host, "/latest/meta-data/iam/security-credentials/"), 403),
}


@pytest.mark.parametrize("what", PUBLIC)
def test_without_a_signature_public_objects_are_read_and_nothing_else(host: str, what: str) -> None:
    call, expected = PUBLIC[what]
    status, _, body = call(host)
    assert status == expected, body
    assert status != 200 or body == b"everybody"


# --- keys of users, sessions and roles


def made_user(host: str, name: str, *statements: dict[str, Any]) -> AccessKey:
    iam = client(host, "iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return AccessKey(made["AccessKeyId"], made["SecretAccessKey"])


def allow(action: str, resource: str = "*") -> dict[str, str]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def code_of(call: Callable[..., Any], **options: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**options)
    return str(caught.value.response["Error"]["Code"])


def session_of(answer: dict[str, Any]) -> tuple[AccessKey, str]:
    made = answer["Credentials"]
    return AccessKey(made["AccessKeyId"], made["SecretAccessKey"]), made["SessionToken"]


def test_a_user_s_key_verifies_until_it_is_inactive_or_deleted(host: str) -> None:
    key, iam = made_user(host, "reader", allow("ec2:DescribeVpcs")), client(host, "iam")
    ec2 = client(host, "ec2", key)
    assert "Vpcs" in ec2.describe_vpcs()
    assert code_of(ec2.describe_subnets) == "UnauthorizedOperation"
    assert code_of(client(host, "ec2", AccessKey(key.id, ROOT.secret)).describe_vpcs) == "AuthFailure"
    iam.update_access_key(UserName="reader", AccessKeyId=key.id, Status="Inactive")
    assert code_of(ec2.describe_vpcs) == "AuthFailure"
    iam.update_access_key(UserName="reader", AccessKeyId=key.id, Status="Active")
    assert "Vpcs" in ec2.describe_vpcs()
    iam.delete_access_key(UserName="reader", AccessKeyId=key.id)
    assert code_of(ec2.describe_vpcs) == "AuthFailure"


def test_a_session_may_do_what_its_user_may_and_needs_its_token(host: str) -> None:
    key = made_user(host, "traveller", allow("ec2:DescribeVpcs"))
    session, token = session_of(client(host, "sts", key).get_session_token(DurationSeconds=900))
    assert client(host, "sts", session, token).get_caller_identity()["Arn"].endswith("user/traveller")
    assert "Vpcs" in client(host, "ec2", session, token).describe_vpcs()
    assert code_of(client(host, "ec2", session, token).describe_subnets) == "UnauthorizedOperation"
    assert code_of(client(host, "ec2", session).describe_vpcs) == "AuthFailure"
    assert code_of(client(host, "ec2", session, token + "x").describe_vpcs) == "AuthFailure"
    assert code_of(client(host, "sts", session, token).get_session_token) == "AccessDenied"
    assert code_of(client(host, "sts", key).get_session_token, DurationSeconds=129601) == "ValidationError"
    client(host, "iam").delete_access_key(UserName="traveller", AccessKeyId=key.id)
    assert code_of(client(host, "ec2", session, token).describe_vpcs) == "AuthFailure"


def test_a_session_of_the_lab_s_own_key_may_do_everything_and_expires(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session, token = session_of(client(host, "sts").get_session_token())
    sts = client(host, "sts", session, token)
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:root"
    found, asker = credentials.sessions[session.id]
    monkeypatch.setitem(credentials.sessions, session.id, (replace(found, expires=datetime.datetime(2026, 1, 1)), asker))
    assert code_of(sts.get_caller_identity) == "ExpiredToken"


def trust(principal: Any, **condition: Any) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, **condition}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_role_is_assumed_by_whom_it_trusts_and_has_its_own_rights_in_header_and_query(host: str) -> None:
    iam = client(host, "iam")
    user = made_user(host, "visitor", allow("sts:AssumeRole", f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/trusting*"))
    with_mfa = {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}
    roles = {
        "trusting": trust({"AWS": DEFAULT_ACCOUNT_ID}),
        "trusting-others": trust({"Service": "ec2.amazonaws.com"}),
        "trusting-with-mfa": trust({"AWS": f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:user/visitor"}, **with_mfa),
        "elsewhere": trust({"AWS": "*"}),
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow("s3:GetObject", "arn:aws:s3:::signed/*")]})
    arns = {}
    for name, document in roles.items():
        arns[name] = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy)
    sts = client(host, "sts", user)
    device = iam.create_virtual_mfa_device(VirtualMFADeviceName="phone")["VirtualMFADevice"]["SerialNumber"]
    iam.enable_mfa_device(UserName="visitor", SerialNumber=device, AuthenticationCode1="123456", AuthenticationCode2="654321")
    refused = [
        {"RoleArn": arns["trusting-others"]},
        {"RoleArn": arns["trusting-with-mfa"]},
        {"RoleArn": arns["trusting-with-mfa"], "SerialNumber": "of-others", "TokenCode": "123456"},
        {"RoleArn": arns["elsewhere"]},
        {"RoleArn": arns["trusting"] + "-not-there"},
    ]
    for options in refused:
        assert code_of(sts.assume_role, RoleSessionName="session", **options) == "AccessDenied", options
    assert sts.assume_role(RoleSessionName="session", RoleArn=arns["trusting-with-mfa"], SerialNumber=device, TokenCode="123456")["Credentials"]
    session, token = session_of(sts.assume_role(RoleSessionName="session", RoleArn=arns["trusting"]))
    assert client(host, "s3", session, token).get_object(Bucket="signed", Key="private.txt")["Body"].read() == b"nobody"
    assert code_of(client(host, "s3", session, token).list_objects_v2, Bucket="signed") == "AccessDenied"
    assert code_of(client(host, "s3", session).list_objects_v2, Bucket="signed") == "InvalidToken"
    assert fetch(host, presigned(host, key=session, token=token))[2] == b"nobody"
    assert fetch(host, presigned(host, key=session))[:2] == (400, "InvalidToken")
    assert fetch(host, presigned(host, call="delete_object", key=session, token=token), "DELETE")[:2] == (403, "AccessDenied")
    [role] = [each for each in sts_backends[DEFAULT_ACCOUNT_ID]["aws"].assumed_roles if each.access_key_id == session.id]
    role.expiration = datetime.datetime(2026, 1, 1)
    assert code_of(client(host, "s3", session, token).list_objects_v2, Bucket="signed") == "ExpiredToken"


def test_a_user_cannot_copy_what_he_may_not_read(host: str) -> None:
    writer = made_user(host, "writer", allow("s3:PutObject"), allow("s3:GetObject", "arn:aws:s3:::signed/mine*"))
    s3 = client(host, "s3", writer)
    s3.put_object(Bucket="signed", Key="mine.txt", Body=b"mine")
    s3.copy_object(Bucket="signed", Key="mine-too.txt", CopySource="signed/mine.txt")
    assert code_of(s3.copy_object, Bucket="signed", Key="mine-too.txt", CopySource="signed/private.txt") == "AccessDenied"


def test_no_other_account_is_served_whatever_a_header_says(host: str) -> None:
    status, _, body = signed(host, "s3", path="/").header("X-Moto-Account-Id", "210987654321").send()
    assert status == 200 and b"<Name>signed</Name>" in body


def test_a_key_of_the_lab_is_new_each_time_and_shows_no_secret() -> None:
    one, other = access_key.make(), access_key.make()
    assert one.id != other.id and one.secret != other.secret and re.fullmatch(r"AKIA[A-Z2-7]{16}", one.id)
    assert one.secret not in repr(one) and len(one.secret) == 40
