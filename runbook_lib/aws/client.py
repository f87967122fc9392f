"""AWS clients from the parameters; every failure of a call is one `CloudError` with a next step."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.loaders
import botocore.session
from botocore import exceptions as aws_errors
from botocore.config import Config
from botocore.parsers import ResponseParserError

from runbook_lib.aws.profile import settings_of, share_sessions
from runbook_lib.errors import CloudError
from runbook_lib.spec.sections import CloudSpec
from runbook_lib.waiting import wait_until

TIMEOUTS: dict[str, Any] = {"connect_timeout": 5, "read_timeout": 60, "retries": {"mode": "standard", "total_max_attempts": 4}}
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
WRONG = (
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
    "IncompleteSignature",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "IncompleteSignatureException",
    "RequestTimeTooSkewed",
    "InvalidToken",
)
DENIED = (
    "UnauthorizedOperation",
    "AccessDenied",
    "AccessDeniedException",
    "OptInRequired",
    "Blocked",
    "403",
    "Forbidden",
)
QUOTA = (
    "VcpuLimitExceeded",
    "InstanceLimitExceeded",
    "VpcLimitExceeded",
    "SecurityGroupLimitExceeded",
    "AddressLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "ParameterLimitExceeded",
    "RulesPerSecurityGroupLimitExceeded",
    "VolumeLimitExceeded",
    "InternetGatewayLimitExceeded",
    "NatGatewayLimitExceeded",
    "TooManyBuckets",
)
SHORT = ("InsufficientInstanceCapacity", "Unsupported", "InsufficientFreeAddressesInSubnet")
THROTTLED = ("RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown")
# an earlier change is not done yet: of Parameter Store, which does one at a time, of the same thing in IAM, of a bucket in S3
BUSY = ("TooManyUpdates", "ConcurrentModification", "OperationAborted")
INVALID = re.compile(r"for parameter (\S+) is invalid")  # as EC2 words it
# the same of values that passed when this was asked for, and pass a moment later: by EC2's words, which name no parameter
NOT_YET = {"has no associated IAM Roles": "iamInstanceProfile", "LaunchPlan instance type does not match": "instanceType"}
# What EC2 answers of an id that it does not know, by the first part of the id; of what it has just made it may say so for some seconds
# ("Eventual consistency in the Amazon EC2 API").
NOT_FOUND = {
    "i": "InvalidInstanceID.NotFound",
    "vpc": "InvalidVpcID.NotFound",
    "subnet": "InvalidSubnetID.NotFound",
    "sg": "InvalidGroup.NotFound",
    "igw": "InvalidInternetGatewayID.NotFound",
    "rtb": "InvalidRouteTableID.NotFound",
    "eni": "InvalidNetworkInterfaceID.NotFound",
    "vol": "InvalidVolume.NotFound",
    "eipalloc": "InvalidAllocationID.NotFound",
    "nat": "NatGatewayNotFound",
    "vpce": "InvalidVpcEndpointId.NotFound",
}
KEY_NOT_FOUND = "InvalidKeyPair.NotFound"
NEW = 60.0  # seconds after which what was made must be known
THROTTLED_FOR = 120.0  # seconds that a call is repeated which AWS refuses as one too many (Parameter Store takes three writes a second), or as too early
FIRST_PAUSE, LONGEST_PAUSE = 0.3, 5.0  # seconds between two tries, growing
MAKERS, ENDERS = ("create_", "run_", "import_", "allocate_"), ("delete_", "terminate_", "release_")

# the last two: botocore met an answer that is not AWS's (a login page of the network, another server)
FAILURES = (aws_errors.ClientError, aws_errors.BotoCoreError, ResponseParserError, KeyError)
UNREACHED = (aws_errors.HTTPClientError, aws_errors.ConnectionError, aws_errors.EndpointConnectionError, aws_errors.IncompleteReadError)


class Api:
    """A botocore client whose calls raise `CloudError` (with AWS's error code as `.code`) instead of botocore's exceptions.

    A call is repeated for some time where AWS refuses it as one too many, or does not know yet what was just made by this client.
    """

    def __init__(self, client: Any, about: str):
        self.client, self.about = client, about
        self._made: dict[str, tuple[str, float]] = {}  # what was made lately: the code of AWS when it does not know it, and until when to bear that

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        call = getattr(self.client, operation)
        service = self.client.meta.service_model.service_name

        def guarded(*args: Any, **options: Any) -> Any:
            answer = self._patiently(lambda: call(*args, **options), f"{service}:{operation}", options)
            if operation.startswith(MAKERS):
                given = set(_words(options))
                until = time.monotonic() + NEW
                self._made.update((name, (code, until)) for name, code in _names_in(answer) if name not in given or code == KEY_NOT_FOUND)
            elif operation.startswith(ENDERS):
                for name in set(_words(options)) & set(self._made):
                    del self._made[name]
            return answer

        return guarded

    def _patiently(self, call: Callable[[], Any], name: str, options: dict[str, Any]) -> Any:
        """Return the answer of `call`, the client's operation `name` with `options`. Raises `CloudError`."""
        began = time.monotonic()

        def attempt() -> Any:
            try:
                return call()
            except FAILURES as error:
                raise translate(error, name, self.about) from None

        def passes(error: BaseException) -> bool:
            code = getattr(error, "code", "")
            known = (self._made[word] for word in _words(options) if word in self._made)
            return (code in (*THROTTLED, *BUSY) and time.monotonic() < began + THROTTLED_FOR) or any(
                code == unknown and time.monotonic() < until for unknown, until in known
            )

        seconds = max(NEW, THROTTLED_FOR)
        return wait_until(attempt, seconds, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda answer: True, again_after=passes)

    @property
    def endpoint(self) -> str:
        """The URL that the client calls."""
        return str(self.client.meta.endpoint_url)

    @property
    def partition(self) -> str:
        """The part of AWS that the client's region belongs to: aws, aws-us-gov or aws-cn."""
        return str(self.client.meta.partition)

    def wait(self, waiter: str, **options: Any) -> None:
        """Wait with one of the waiters of EC2, which asks every second for a minute."""
        try:
            self.client.get_waiter(waiter).wait(**options, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        except FAILURES as error:
            raise translate(error, waiter, self.about) from None

    def pages(self, operation: str, key: str, **options: Any) -> list[Any]:
        """Return all items below `key` of a paginated call."""
        paginator = self.client.get_paginator(operation)
        found = self._patiently(lambda: [item for page in paginator.paginate(**options) for item in page.get(key, [])], operation, options)
        return list(found)

    def content(self, **options: Any) -> Iterator[bytes]:
        """Yield the content of an S3 object in blocks. Raises CloudError, also when the connection breaks before its end."""
        body = self.get_object(**options)["Body"]
        try:
            yield from body.iter_chunks(1 << 20)
        except FAILURES as error:
            raise translate(error, "s3:get_object", self.about) from None


def _words(value: Any) -> Iterator[str]:
    """All texts in a request."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set):
        for each in value:
            yield from _words(each)
    elif isinstance(value, str):
        yield value


def _names_in(answer: Any) -> Iterator[tuple[str, str]]:
    """The ids in the answer to a call that makes something, each with the code of AWS when it does not know that id; a key pair goes by its name."""
    for word in _words(answer):
        if code := NOT_FOUND.get(word.partition("-")[0] if "-" in word else ""):
            yield word, code
    if isinstance(answer, Mapping) and "KeyPairId" in answer:
        yield answer["KeyName"], KEY_NOT_FOUND


class Aws:
    """The clients for one deployment's cloud, created when first used. Safe to use from several threads."""

    def __init__(self, cloud: CloudSpec):
        self.cloud = cloud
        self.settings: dict[str, Any] = {}  # of the profile in the file that the parameters name, keys among them
        self.session = self._session()
        self._clients: dict[tuple[str, str], Api] = {}  # by service and region
        self._lock = threading.Lock()

    def client(self, service: str, region: str = "") -> Api:
        """Return the client of `service` (ec2, ssm, s3, sts, iam). `region`: another one than that of the parameters."""
        key = service, region or self.cloud.region
        with self._lock:
            if key not in self._clients:
                self._clients[key] = Api(self._make(*key), self.about)
            return self._clients[key]

    @property
    def endpoint(self) -> str | None:
        """The endpoint that replaces AWS's own address, or None."""
        return self.settings.get("endpoint_url")

    @property
    def network(self) -> IPv4Network | None:
        """The range that every network must lie in, where the profile has an `ec2_network`: a lab's address range. None: AWS."""
        found = self.settings.get("ec2_network")
        return IPv4Network(found) if found else None

    @property
    def partition(self) -> str:
        """The part of AWS that the region belongs to, as ARNs name it: aws, aws-cn or aws-us-gov."""
        return str(self.session.get_partition_for_region(self.cloud.region))

    @property
    def about(self) -> str:
        """The name of this cloud in error messages."""
        given = {"cloud.aws_config": self.cloud.aws_config, "cloud.profile": self.cloud.profile}
        keys = ", ".join(f"{key}: {value}" for key, value in given.items() if value)
        return (self.endpoint or f"AWS {self.cloud.region}") + (f" ({keys})" if keys else "")

    def _session(self) -> botocore.session.Session:
        """Return a session. A config file that the parameters name replaces the environment, so that no exported key or endpoint is used by mistake."""
        session = botocore.session.Session()
        session.register_component("data_loader", _descriptions())
        session.set_config_variable("region", self.cloud.region)  # also for the calls by which a profile gets its role
        if self.cloud.aws_config:
            path = Path(self.cloud.aws_config).expanduser()
            self.settings = settings_of(path, self.cloud.profile or "default")
            session.set_config_variable("config_file", str(path))
            session.set_config_variable("profile", self.cloud.profile or "default")
            key, secret = (self.settings.get(name, "") for name in ("aws_access_key_id", "aws_secret_access_key"))
            if key and secret:  # before any in ~/.aws/credentials
                session.set_credentials(key, secret, self.settings.get("aws_session_token"))
        elif self.cloud.profile:
            session.set_config_variable("profile", self.cloud.profile)
        try:
            share_sessions(session, self.about)
        except aws_errors.ProfileNotFound as error:
            raise translate(error, "credentials", self.about) from None
        return session

    def _make(self, service: str, region: str) -> Any:
        # A presigned URL must name the bucket's own region: the address without one redirects, and the signature is void there.
        style: Any = {"addressing_style": "path"} if self.endpoint else {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"}
        config = Config(
            **TIMEOUTS,
            signature_version="s3v4" if service == "s3" else None,
            s3=style,
            proxies={} if _is_plain_http(self.endpoint) else None,
        )
        try:
            return self.session.create_client(service, region_name=region, config=config, endpoint_url=self.endpoint)
        except (aws_errors.BotoCoreError, ValueError) as error:
            raise translate(error, f"{service} client", self.about) from None


class _Json(botocore.loaders.JSONFileLoader):
    """Reads botocore's files into dictionaries, which keep their order too: OrderedDict takes three times as long to fill."""

    def load_file(self, file_path: str) -> Any:
        """Return what the file holds; None where there is none. `file_path`: without its ending."""
        for ending, opened in ((".json", open), (".json.gz", gzip.open)):
            with suppress(FileNotFoundError), opened(file_path + ending, "rb") as file:
                return json.loads(file.read())
        return None


@cache
def _descriptions() -> botocore.loaders.Loader:
    """Return the loader of AWS's service descriptions (megabytes of JSON for EC2 alone), one per process and not one per session."""
    loader = botocore.loaders.create_loader()
    loader.file_loader = _Json()
    return loader


def read_descriptions() -> None:
    """Read the descriptions of the services that every run calls, and keep them. Processes that are forked afterwards need not."""
    loader = _descriptions()
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    for service in ("ec2", "ssm", "sts", "s3"):
        for kind in ("service-2", "endpoint-rule-set-1", "paginators-1"):
            loader.load_service_model(service, kind)


def _is_plain_http(endpoint: str | None) -> bool:
    """Return whether the endpoint is asked by plain HTTP. Only an endpoint near this machine is, so no proxy of the environment is used for it."""
    return endpoint is not None and urlsplit(endpoint).scheme == "http"


def translate(error: Exception, call: str, about: str) -> CloudError:
    """Return botocore's exception as a `CloudError`: what failed, at which call, what to do. `.code` is AWS's code, or empty."""
    if isinstance(error, aws_errors.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = str(error.response.get("Error", {}).get("Message", ""))
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        what, step = _refused(code, message)
    else:
        code, message, headers, (what, step) = "", "", {}, _not_reached(error)
    found = CloudError(what, f"{call} at {about}", step)
    found.code, found.region, named = code, str(headers.get("x-amz-bucket-region", "")), INVALID.search(message)
    found.parameter = named[1] if named else next((parameter for words, parameter in NOT_YET.items() if words in message), "")
    unreached = isinstance(error, UNREACHED)
    found.transient = unreached or code in (*THROTTLED, *BUSY, *SHORT[:1]) or code.startswith(("Internal", "ServiceUnavailable", "Unavailable"))
    return found


def _refused(code: str, message: str) -> tuple[str, str]:
    """Return (what went wrong, what to do) for an error code of AWS."""
    answer = f"{code}: {message}"
    if "MultiFactorAuthentication" in message:
        return f"the MFA code is not accepted ({answer})", "run this step again with the next code of the device: each works once"
    if code in EXPIRED:
        return (
            f"the credentials have expired ({answer})",
            "sign in again (aws sso login, or fresh keys), or name another cloud.profile; then run this step again",
        )
    if code in WRONG:
        return f"the credentials are not valid ({answer})", "check them with: aws sts get-caller-identity; another profile is named by cloud.profile"
    if code in DENIED:
        return (
            f"the credentials may not do this ({answer})",
            "ask for the permission named; docs/iam/operator.json is a policy with all that are needed",
        )
    if code in QUOTA:
        return (
            f"a quota of the account is used up ({answer})",
            "raise it in AWS Service Quotas, or free what is not needed",
        )
    if code in SHORT:
        return (
            f"AWS cannot give this machine here now ({answer})",
            "another cloud.availability_zone or cloud.instance_type, or later",
        )
    if code in BUSY:
        step = "wait a minute and run this step again; it goes on where it stopped. The name of a bucket that was deleted can take S3 hours"
        return f"AWS is not done with an earlier change of this ({answer})", step
    if code in THROTTLED:
        return f"too many calls ({answer})", "wait a minute and run this step again; it goes on where it stopped"
    return f"the cloud refused ({answer})", "see the message; run this step again when its cause is gone"


def _not_reached(error: Exception) -> tuple[str, str]:
    """Return (what went wrong, what to do) for a call that got no answer from AWS."""
    here = "is the lab up (./runbook lab status), is the network there, are cloud.region and the endpoint right?"
    if isinstance(error, aws_errors.NoCredentialsError | aws_errors.PartialCredentialsError | aws_errors.CredentialRetrievalError):
        return (
            f"no usable AWS credentials ({error})",
            "aws configure, aws sso login, cloud.profile or AWS_PROFILE; in the lab: cloud.aws_config",
        )
    if isinstance(error, aws_errors.TokenRetrievalError | aws_errors.SSOTokenLoadError | aws_errors.UnauthorizedSSOTokenError):
        return f"the sign-in of AWS SSO has run out ({error})", "aws sso login, then run this step again"
    if isinstance(error, aws_errors.RefreshWithMFAUnsupportedError):  # botocore asks for a code once in a session's life
        return (
            "the session of this AWS profile, which needs an MFA code, has ended or never began",
            "sign in in a terminal (./runbook doctor PARAMS), then open the deployment again: the first cell, or the command",
        )
    if isinstance(error, aws_errors.ProfileNotFound):
        return f"{error}", "cloud.profile must be one of: aws configure list-profiles"
    if isinstance(error, aws_errors.ResponseStreamingError | aws_errors.IncompleteReadError):
        return f"the answer was cut short ({_one_line(error)})", "run this step again; does it happen again: " + here
    if isinstance(error, UNREACHED):
        return f"the endpoint cannot be reached ({_one_line(error)})", here
    if isinstance(error, ResponseParserError | KeyError):
        return (
            "what answers there does not speak as AWS does",
            "is the endpoint right? in the lab: its log, ./runbook lab status",
        )
    return _one_line(error), "check region, endpoint and credentials"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
