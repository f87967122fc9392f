"""A pytest plugin for moto's own tests against a lab: it is copied beside them, and speaks to the lab as they do.

Their instances are running, stopped and terminated at once; those of a lab when its machines are. So the plugin waits after each such call. And
it removes the machines and images that a test leaves: moto's tests reset the server instead, which the lab has no page for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.core.config import default_user_config

default_user_config["core"]["mock_credentials"] = False  # the lab's own are in the environment
_client, _call = boto3.client, BaseClient._make_api_call  # as they are before moto's decorator changes them
PASSING = ("pending", "stopping", "shutting-down")
CHANGES = ("StartInstances", "StopInstances", "TerminateInstances", "RebootInstances")
machines: set[str] = set()  # made by the test that runs
images: set[str] = set()


@cache
def ec2() -> Any:
    """Return the lab's client for waiting and clearing up."""
    return _client("ec2", endpoint_url=os.environ["TEST_SERVER_MODE_ENDPOINT"], config=Config(proxies={}))


def settle(ids: list[str]) -> None:
    """Wait until none of these instances is on its way to another state."""
    deadline = time.monotonic() + 60
    while ids and time.monotonic() < deadline:
        with suppress(ClientError):
            found = _call(ec2(), "DescribeInstances", {"InstanceIds": ids})["Reservations"]
            if not any(each["State"]["Name"] in PASSING for one in found for each in one["Instances"]):
                return
        time.sleep(0.1)


def call_and_wait(self: Any, operation: str, parameters: Any) -> Any:
    answer = _call(self, operation, parameters)
    if operation == "RunInstances":
        made = [instance["InstanceId"] for instance in answer["Instances"]]
        machines.update(made)
        settle(made)
    elif operation in CHANGES:
        settle(parameters["InstanceIds"])
    elif operation == "CreateImage":
        images.add(answer["ImageId"])
    return answer


BaseClient._make_api_call = call_and_wait  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Remove what the test leaves, also machines that may not be terminated."""
    yield
    for instance in machines:
        with suppress(ClientError):
            _call(ec2(), "ModifyInstanceAttribute", {"InstanceId": instance, "DisableApiTermination": {"Value": False}})
            _call(ec2(), "TerminateInstances", {"InstanceIds": [instance]})
    for image in images:
        with suppress(ClientError):
            _call(ec2(), "DeregisterImage", {"ImageId": image})
    machines.clear()
    images.clear()
