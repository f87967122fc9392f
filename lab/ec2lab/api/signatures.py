"""Every request must be signed with a key that the lab knows, by Signature Version 4; whatever differs from what was signed is refused, with AWS's codes.

Sources: IAM User Guide, "AWS Signature Version 4 for API requests"; S3 API reference, "Authenticating Requests" and "Error responses"; the common errors
of the API references of EC2, STS and Systems Manager. botocore's signers compute what a signature should be.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.request import Request
from moto.core.utils import utcnow
from moto.s3.models import s3_backends
from werkzeug.wsgi import get_input_stream

from ec2lab.api.credentials import PARTITION, Key

Find = Callable[[str], Key | None]
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
SCOPE = r"([A-Za-z0-9]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request"
HEADER = re.compile(rf"AWS4-HMAC-SHA256 +Credential={SCOPE}, *SignedHeaders=([a-z0-9;_-]+), *Signature=([0-9a-f]{{64}})")
IN_QUERY = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")
STAMP = "%Y%m%dT%H%M%SZ"
SKEW = timedelta(minutes=15)
WEEK = 604800  # seconds: the longest that a presigned address is good for
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
UNSIGNED = ("UNSIGNED-PAYLOAD", TRAILER)  # what S3 takes in place of the body's hash
REGION = "x-amz-bucket-region"
DRAINED = 1 << 20  # bytes of a refused request that are read, so that its sender reads the answer

# code and status in the form of S3, of EC2, of other services with queries, of those with JSON
MISSING = ("AccessDenied", 403), ("MissingAuthenticationToken", 403), ("MissingAuthenticationToken", 403), ("MissingAuthenticationTokenException", 400)
MALFORMED = ("AuthorizationHeaderMalformed", 400), ("IncompleteSignature", 400), ("IncompleteSignature", 400), ("IncompleteSignatureException", 400)
MALFORMED_QUERY = ("AuthorizationQueryParametersError", 400), *MALFORMED[1:]
UNKNOWN = ("InvalidAccessKeyId", 403), ("AuthFailure", 401), ("InvalidClientTokenId", 403), ("UnrecognizedClientException", 400)
TOKEN = ("InvalidToken", 400), *UNKNOWN[1:]
ENDED = ("ExpiredToken", 400), ("RequestExpired", 400), ("ExpiredToken", 403), ("ExpiredTokenException", 400)
SKEWED = ("RequestTimeTooSkewed", 403), ("RequestExpired", 400), ("SignatureDoesNotMatch", 403), ("InvalidSignatureException", 400)
EXPIRED = ("AccessDenied", 403), *SKEWED[1:]  # a presigned address
WRONG = ("SignatureDoesNotMatch", 403), ("AuthFailure", 401), ("SignatureDoesNotMatch", 403), ("InvalidSignatureException", 400)
ALTERED = ("XAmzContentSHA256Mismatch", 400), *WRONG[1:]
NOT_SIGNED = ("AccessDenied", 403), *WRONG[1:]  # headers
TWICE = ("InvalidArgument", 400), *MALFORMED[1:]
IN_CHUNKS = ("NotImplemented", 501), *WRONG[1:]
VERSION_2 = ("InvalidRequest", 400), *MALFORMED[1:]


class Unverified(Exception):
    """A request that is not served: codes as above, and words. `region`: for which it should be signed, where that is what is wrong."""

    def __init__(self, codes: tuple[tuple[str, int], ...], message: str, region: str = ""):
        super().__init__(message)
        self.codes, self.message, self.region = codes, message, region


@dataclass(frozen=True)
class Claim:
    """What a request says of its signature."""

    key: str
    date: str
    region: str
    service: str
    signed: tuple[str, ...]  # names of headers
    signature: str
    stamp: str
    expires: int | None = None  # seconds; None: not presigned
    token: str = ""


def verifying(application: Application, find: Find) -> Application:
    """Return the application for verified requests only; `find` returns a key by its id. Public objects of S3 are read without a signature."""

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.pop("HTTP_X_MOTO_ACCOUNT_ID", None)  # moto would serve another account
        request, start_response = Request(environ), _telling_region(environ, start_response)
        try:
            _verify(request, find)
        except Unverified as refusal:
            if refusal.codes is MISSING and (public := _public_read(environ)):
                return application(public, start_response)
            with suppress(OSError):
                get_input_stream(environ).read(DRAINED)
            return _answer(refusal, request, start_response)
        return application(environ, start_response)

    return guarded


def signer_of(environ: dict[str, Any], find: Find, service: str) -> Key:
    """Return the key that the request is signed with, for this service. Raises Unverified where it is not."""
    request = Request(environ)
    if (scope := _claim(request).service) != service:
        raise Unverified(WRONG, f"Credential should be scoped to correct service: '{service}', not '{scope}'.")
    return _verify(request, find)


def _verify(request: Request, find: Find) -> Key:
    """Return the key that the request is signed with. Its body is read, and can be read again. Raises Unverified."""
    claim = _claim(request)
    key = find(claim.key)
    if key is None:
        s3 = "The AWS Access Key Id you provided does not exist in our records."
        raise Unverified(UNKNOWN, s3 if claim.service == "s3" else "The security token included in the request is invalid.")
    if not hmac.compare_digest(key.token.encode(), claim.token.encode()):
        raise Unverified(TOKEN, "The security token included in the request is invalid.")
    if key.expires and key.expires <= utcnow():
        raise Unverified(ENDED, "The security token included in the request is expired")
    _check_time(claim)
    _check_region(request, claim)
    _check_headers(request, claim)
    body = _read_whole(request.environ)
    _check_body(request, claim, body)
    if not hmac.compare_digest(_signature(request, claim, key, body), claim.signature):
        raise Unverified(WRONG, "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
    return key


def _read_whole(environ: dict[str, Any]) -> bytes:
    """Return the body, which can be read again."""
    body = get_input_stream(environ).read()
    for name in ("HTTP_TRANSFER_ENCODING", "wsgi.input_terminated"):
        environ.pop(name, None)
    environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return body


def _claim(request: Request) -> Claim:
    pairs = parse_qsl(_query(request), keep_blank_values=True)
    header, names = request.headers.get("Authorization", ""), [name for name, _ in pairs]
    if header and ("X-Amz-Signature" in names or "Signature" in names):
        raise Unverified(TWICE, "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the Authorization header should be specified")
    if header.startswith("AWS ") or "AWSAccessKeyId" in names:
        raise Unverified(VERSION_2, "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
    if header:
        match = HEADER.fullmatch(header)
        stamp = request.headers.get("X-Amz-Date", "")
        if not match or not stamp:
            raise Unverified(MALFORMED, "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters, and an 'X-Amz-Date' header.")
        key, date, region, service, signed, signature = match.groups()
        return Claim(key, date, region, service, tuple(signed.split(";")), signature, stamp, None, request.headers.get("X-Amz-Security-Token", ""))
    if "X-Amz-Signature" not in names:
        raise Unverified(MISSING, "Access Denied" if _form(request) == 0 else "Request is missing Authentication Token")
    return _claim_of_query(pairs)


def _claim_of_query(pairs: list[tuple[str, str]]) -> Claim:
    given = dict(pairs)
    scope = re.fullmatch(SCOPE, given.get("X-Amz-Credential", ""))
    once = all([name for name, _ in pairs].count(name) == 1 for name in IN_QUERY)
    expires = given.get("X-Amz-Expires", "")
    if not once or not scope or not re.fullmatch(r"\d{1,6}", expires) or not 1 <= int(expires) <= WEEK:
        raise Unverified(MALFORMED_QUERY, f"Query-string authentication needs {', '.join(IN_QUERY)}, each once")
    key, date, region, service = scope.groups()
    signed = tuple(given["X-Amz-SignedHeaders"].split(";"))
    return Claim(key, date, region, service, signed, given["X-Amz-Signature"], given["X-Amz-Date"], int(expires), given.get("X-Amz-Security-Token", ""))


def _check_time(claim: Claim) -> None:
    try:
        signed_at, now = datetime.strptime(claim.stamp, STAMP), utcnow()
    except ValueError:
        raise Unverified(MALFORMED, f"{claim.stamp!r} is not a date of the form YYYYMMDD'T'HHMMSS'Z'") from None
    if claim.date != claim.stamp[:8]:
        raise Unverified(MALFORMED, f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: {claim.stamp}")
    if claim.expires is not None and now > signed_at + timedelta(seconds=claim.expires):
        raise Unverified(EXPIRED, "Request has expired")
    if signed_at > now + SKEW or (claim.expires is None and signed_at < now - SKEW):
        if claim.service == "s3":
            raise Unverified(SKEWED, "The difference between the request time and the current time is too large.")
        late = f"Signature expired: {claim.stamp} is now earlier than {now - SKEW:{STAMP}} ({now:{STAMP}} - 15 min.)"
        early = f"Signature not yet current: {claim.stamp} is still later than {now + SKEW:{STAMP}} ({now:{STAMP}} + 15 min.)"
        raise Unverified(SKEWED, "Request has expired." if claim.service == "ec2" else early if signed_at > now else late)


def _check_region(request: Request, claim: Claim) -> None:
    """Refuse what is signed for another region than that of the bucket (S3: all regions are at one address here). A new bucket's is the caller's choice."""
    bucket, name = _addressed(request.environ)
    makes = request.method == "PUT" and not name and not _query(request)
    if claim.service != "s3" or bucket is None or makes or claim.region == bucket.region_name:
        return
    what = "The authorization header is malformed" if claim.expires is None else "Error parsing the X-Amz-Credential parameter"
    codes = MALFORMED if claim.expires is None else MALFORMED_QUERY
    raise Unverified(codes, f"{what}; the region '{claim.region}' is wrong; expecting '{bucket.region_name}'", bucket.region_name)


def _check_headers(request: Request, claim: Claim) -> None:
    """Refuse headers that change a request's meaning and are not signed: the host, and all of AWS's own."""
    needed = {"host", *(name.lower() for name, _ in request.headers if name.lower().startswith("x-amz-"))}
    if loose := sorted(needed - set(claim.signed)):
        raise Unverified(NOT_SIGNED, f"There were headers present in the request which were not signed: {', '.join(loose)}")


def _check_body(request: Request, claim: Claim, body: bytes) -> None:
    said = request.headers.get("X-Amz-Content-SHA256")
    if said is None or (claim.service == "s3" and said in UNSIGNED):
        return
    if said.startswith("STREAMING-"):
        raise Unverified(IN_CHUNKS, f"The lab does not check the signatures of chunks: send {TRAILER} or the body's hash")
    if said != hashlib.sha256(body).hexdigest():
        raise Unverified(ALTERED, "The provided 'x-amz-content-sha256' header does not match what was computed.")


def _signature(request: Request, claim: Claim, key: Key, body: bytes) -> str:
    """Return what the signature of this request must be."""
    path = urlsplit(request.environ["RAW_URI"])._replace(scheme="", netloc="").geturl() if "://" in request.environ["RAW_URI"] else request.environ["RAW_URI"]
    target, _, query = path.partition("?")
    query = "&".join(pair for pair in query.split("&") if pair and not pair.startswith("X-Amz-Signature="))
    received = AWSRequest(
        method=request.method,
        url=f"http://{request.headers['Host']}{target}" + (f"?{query}" if query else ""),
        data=body,
        headers={name: request.headers[name] for name in claim.signed if name in request.headers},
    )
    received.context["timestamp"] = claim.stamp
    kinds = {(True, False): S3SigV4Auth, (True, True): S3SigV4QueryAuth, (False, False): SigV4Auth, (False, True): SigV4QueryAuth}
    signer = kinds[claim.service == "s3", claim.expires is not None](Credentials(key.id, key.secret), claim.service, claim.region)
    return str(signer.signature(signer.string_to_sign(received, signer.canonical_request(received)), received))


def _query(request: Request) -> str:
    return str(request.environ.get("QUERY_STRING", ""))


def _addressed(environ: dict[str, Any]) -> tuple[Any, str]:
    """Return the bucket that a request of S3 names in its path, or None, and the key in it."""
    bucket, _, name = environ["PATH_INFO"].encode("latin1").decode(errors="replace").lstrip("/").partition("/")
    return s3_backends[ACCOUNT][PARTITION].buckets.get(bucket), name


def _telling_region(environ: dict[str, Any], start_response: Any) -> Any:
    """Return `start_response` that tells the region of a bucket to who asks with HEAD, allowed or not; of an object only when it refuses (HeadBucket)."""
    bucket, name = _addressed(environ)
    if bucket is None or environ["REQUEST_METHOD"] != "HEAD":
        return start_response

    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        others = [(key, value) for key, value in headers if key.lower() != REGION]
        told = [(REGION, bucket.region_name)] if not name or status[0] != "2" else []
        return start_response(status, [*others, *told], *more)

    return start


def _public_read(environ: dict[str, Any]) -> dict[str, Any] | None:
    """Return the request without whatever could make another of it, if it reads an object whose ACL lets everybody; None otherwise."""
    found, name = _addressed(environ)
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD") or environ.get("QUERY_STRING") or not found or name not in found.keys:
        return None
    acl = found.keys[name].acl
    if not acl or not acl.public_read:
        return None
    kept = {name: value for name, value in environ.items() if not name.startswith(("HTTP_", "CONTENT_"))}
    return kept | {name: environ[name] for name in ("HTTP_RANGE",) if name in environ} | {"HTTP_HOST": environ["SERVER_NAME"]}


def _form(request: Request) -> int:
    """Return the place of a request's form in the tables above."""
    scope = HEADER.match(request.headers.get("Authorization", ""))
    service = scope[4] if scope else ""
    if service == "ec2":
        return 1
    if "X-Amz-Target" in request.headers or "json" in request.headers.get("Content-Type", ""):
        return 3
    return 2 if service not in ("", "s3") or request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded") else 0


def _answer(refusal: Unverified, request: Request, start_response: Any) -> list[bytes]:
    form = _form(request)
    code, status = refusal.codes[form]
    words = f"<Code>{code}</Code><Message>{escape(refusal.message)}</Message>" + (f"<Region>{refusal.region}</Region>" if refusal.region else "")
    bodies = (
        f"<Error>{words}<RequestId>{uuid4()}</RequestId></Error>",
        f"<Response><Errors><Error>{words}</Error></Errors><RequestID>{uuid4()}</RequestID></Response>",
        f"<ErrorResponse><Error><Type>Sender</Type>{words}</Error><RequestId>{uuid4()}</RequestId></ErrorResponse>",
        json.dumps({"__type": code, "message": refusal.message}),
    )
    body = b"" if request.method == "HEAD" else bodies[form].encode()
    kind = "application/x-amz-json-1.1" if form == 3 else "application/xml"
    start_response(f"{status} {code}", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
