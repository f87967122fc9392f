"""Requests to an AWS endpoint as they go over the wire, signed or altered afterwards."""

from __future__ import annotations

import datetime
import http.client
import json
import re
import shlex
import time
from dataclasses import dataclass, replace
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from ec2lab import access_key
from ec2lab.access_key import AccessKey

ROOT = access_key.make()  # of the account at `verifying_endpoint`


@dataclass(frozen=True)
class Sent:
    """A request as it goes over the wire."""

    host: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    def send(self) -> tuple[int, str, bytes]:
        """Status, AWS's code, body."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        connection.request(self.method, self.path, self.body, self.headers)
        answer = connection.getresponse()
        body = answer.read()
        xml = re.search(rb"<Code>(.*?)</Code>", body)
        in_json = json.loads(body).get("__type", "") if body.startswith(b"{") else ""
        return answer.status, xml[1].decode() if xml else in_json, body

    def curl(self) -> str:
        """The command that sends it and prints what comes back, a blank and the status."""
        headers = " ".join(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in self.headers.items())
        body = f"--data-binary {shlex.quote(self.body.decode())}" if self.body else ""
        return f"curl -s -m 10 -X {self.method} {headers} {body} -w ' %{{http_code}}' {shlex.quote(f'http://{self.host}{self.path}')}"

    def header(self, name: str, value: str) -> Sent:
        return replace(self, headers={**self.headers, name: value})

    def without(self, name: str) -> Sent:
        return replace(self, headers={key: value for key, value in self.headers.items() if key != name})


CALLS = {  # the same harmless call in each form of AWS's services: method, path, headers, body
    "s3": ("GET", "/signed/private.txt", {}, b""),
    "ec2": ("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"Action=DescribeVpcs&Version=2016-11-15"),
    "sts": ("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"Action=GetCallerIdentity&Version=2011-06-15"),
    "ssm": ("POST", "/", {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.DescribeParameters"}, b"{}"),
}


def signed(host: str, service: str, key: AccessKey, token: str | None = None, at: float = 0, **more: Any) -> Sent:
    """The call of a service, signed `at` seconds from now. `headers` are signed too."""
    method, path, headers, body = CALLS[service]
    body = more.get("body", body)
    headers = {**headers, **more.get("headers", {})}
    request = AWSRequest(more.get("method", method), f"http://{host}{more.get('path', path)}", headers, body)
    kind = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    with pytest.MonkeyPatch.context() as patch:
        then = datetime.datetime.fromtimestamp(time.time() + at, datetime.UTC)
        patch.setattr(botocore.auth, "get_current_datetime", lambda: then)
        kind(Credentials(key.id, key.secret, token), service, "us-east-1").add_auth(request)
    return Sent(host, request.method, more.get("path", path), {**dict(request.headers), "Host": host}, body)
