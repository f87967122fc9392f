"""How AWS lags behind itself and holds callers back: for a lab that is as slow as AWS (`lab up --as-slow-as-aws`).

- What was just made is not described, and calls that name it answer NotFound; what was just tagged is described with the tags that it had before
  ("Eventual consistency in the Amazon EC2 API").
- Each action has a bucket of tokens that fills at a rate ("Request throttling for the Amazon EC2 API"; for Parameter Store "AWS Systems
  Manager endpoints and quotas").
- Parameter Store takes one write at a time ("PutParameter": TooManyUpdates), and of what was just removed AWS may refuse what follows (`patches/conflicts.py`).
- The console shows nothing at first (GetConsoleOutput in the EC2 API reference; on AWS it takes minutes).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

INVISIBLE = 2.0  # seconds during which AWS may not know what it has just made or tagged; mostly less, sometimes more
SETTLED = 2.0  # seconds until AWS is done with a removal or with a bucket; of a parameter 30, of a bucket's name hours, which no test waits for
ONE_WRITE = 0.1  # seconds that a write of a parameter takes
CONSOLE = 90.0  # seconds from the launch until the console shows something
MAKERS = ("Create", "Run", "Import", "Allocate")
TAGGERS = ("CreateTags", "DeleteTags")
ID = re.compile(r"(?P<kind>[a-z]+)-[0-9a-f]{8,17}")

# By the first part of an id: what EC2 answers about one that it does not know ("Error codes for the Amazon EC2 API").
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
    "key": "InvalidKeyPair.NotFound",
}
# By what a description is told apart; what stands in a network that is not visible yet is not visible either.
DESCRIBED_BY = {
    "DescribeInstances": ("instanceId",),
    "DescribeVpcs": ("vpcId",),
    "DescribeSubnets": ("subnetId", "vpcId"),
    "DescribeSecurityGroups": ("groupId", "vpcId"),
    "DescribeInternetGateways": ("internetGatewayId",),
    "DescribeRouteTables": ("routeTableId", "vpcId"),
    "DescribeNetworkInterfaces": ("networkInterfaceId",),
    "DescribeVolumes": ("volumeId",),
    "DescribeAddresses": ("allocationId",),
    "DescribeNatGateways": ("natGatewayId",),
    "DescribeVpcEndpoints": ("vpcEndpointId",),
    "DescribeKeyPairs": ("keyName",),
}
# (tokens in a full bucket, tokens per second)
EC2_RATES = {"RunInstances": (5, 2), "StartInstances": (5, 2)}
READS, UNFILTERED_READS, CHANGES = (100, 20), (50, 10), (50, 5)
SSM_RATES = {"PutParameter": (3, 3), "GetParameter": (40, 40), "GetParameters": (40, 40), "GetParametersByPath": (40, 40)}


class Pace:
    """What was made when, and how many calls are left to each action. The API's handlers call it one at a time."""

    def __init__(
        self,
        console: float = CONSOLE,
        clock: Callable[[], float] = time.monotonic,
        tags: Callable[[str], Mapping[str, str]] = lambda name: {},
    ):
        """`tags`: returns the tags that something has now, by its id."""
        self.console, self.clock, self.tags = console, clock, tags
        self._born: dict[str, float] = {}
        self._former: dict[str, tuple[float, Mapping[str, str]]] = {}  # since when, and which tags, of what is tagged otherwise now
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens left, when
        self._changed: dict[str, float] = {}  # what was changed when
        self._written = float("-inf")  # when Parameter Store began to write

    def ec2_refusal(self, action: str, params: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return code and message of the error with which EC2 refuses the call now, or None."""
        reads = action.startswith(("Describe", "Get"))
        rate = (READS if params else UNFILTERED_READS) if reads else CHANGES
        if not self._take(f"ec2 {action}", *EC2_RATES.get(action, rate)):
            return "RequestLimitExceeded", "Request limit exceeded."
        for name in _words({key: value for key, value in params.items() if key != "Filters"}):
            if self._unseen(name):
                kind = ID.fullmatch(name)
                return NOT_FOUND[kind["kind"] if kind else "key"], f"'{name}' does not exist"
        if action in TAGGERS:
            self._former |= {name: (self.clock(), dict(self.tags(name))) for name in params.get("Resources", ())}
        return None

    def ssm_refusal(self, action: str) -> tuple[str, str] | None:
        """Return code and message of the error with which Parameter Store refuses the call now, or None."""
        if action in SSM_RATES and not self._take(f"ssm {action}", *SSM_RATES[action]):
            return "ThrottlingException", "Rate exceeded"
        if action == "PutParameter":
            if self.clock() < self._written + ONE_WRITE:
                return "TooManyUpdates", "There are concurrent updates for a resource that supports one update at a time."
            self._written = self.clock()
        return None

    def change(self, thing: str) -> None:
        """Note that this is changed now."""
        self._changed[thing] = self.clock()

    def changes(self, thing: str) -> bool:
        """Return whether AWS is not done yet with a change of this."""
        return self.clock() < self._changed.get(thing, float("-inf")) + SETTLED

    def answer(self, action: str, params: Mapping[str, Any], body: str | bytes) -> str:
        """Return the answer to a call as AWS gives it: what it made is noted, and what is too new is left out."""
        body = body.decode() if isinstance(body, bytes) else body
        if action.startswith(MAKERS):
            made = {found[0] for found in ID.finditer(body) if found["kind"] in NOT_FOUND} - set(_words(params))
            made |= {str(params["KeyName"])} if action in ("ImportKeyPair", "CreateKeyPair") else set()
            for name in made:
                self._born.setdefault(name, self.clock())
        former = {name: tags for name, (when, tags) in self._former.items() if self.clock() < when + INVISIBLE}
        if action not in DESCRIBED_BY or not (former or any(map(self._unseen, self._born))):
            return body
        return self._without_unseen(body, DESCRIBED_BY[action], former)

    def console_shows(self, instance_id: str) -> bool:
        """Return whether the console of an instance shows something by now."""
        return self.clock() >= self._born.get(instance_id, float("-inf")) + self.console

    def _unseen(self, name: str) -> bool:
        return self.clock() < self._born.get(name, float("-inf")) + INVISIBLE

    def _take(self, bucket: str, size: float, rate: float) -> bool:
        left, when = self._buckets.get(bucket, (size, self.clock()))
        left = min(size, left + rate * (self.clock() - when))
        self._buckets[bucket] = (left - 1 if left >= 1 else left, self.clock())
        return left >= 1

    def _without_unseen(self, body: str, names: tuple[str, ...], former: Mapping[str, Mapping[str, str]]) -> str:
        root = ElementTree.fromstring(body)
        space = root.tag.rpartition("}")[0] + "}" if "}" in root.tag else ""
        for parent in list(root.iter()):
            for item in parent.findall(f"{space}item"):
                if any(self._unseen(item.findtext(f"{space}{name}") or "") for name in names):
                    parent.remove(item)
                tags, before = item.find(f"{space}tagSet"), former.get(item.findtext(f"{space}{names[0]}") or "")
                if tags is not None and before is not None:
                    tags[:] = [_tag(space, *each) for each in before.items()]
        for parent in list(root.iter()):  # a reservation all of whose instances were left out
            for item in parent.findall(f"{space}item"):
                instances = item.find(f"{space}instancesSet")
                if instances is not None and not len(instances):
                    parent.remove(item)
        return ElementTree.tostring(root, encoding="unicode")


def _tag(space: str, key: str, value: str) -> ElementTree.Element:
    """Return a tag as a description shows it."""
    item = ElementTree.Element(f"{space}item")
    ElementTree.SubElement(item, f"{space}key").text = key
    ElementTree.SubElement(item, f"{space}value").text = value
    return item


def _words(value: Any) -> Iterator[str]:
    """All texts in a request."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _words(each)
    elif isinstance(value, str):
        yield value
