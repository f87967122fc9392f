"""What EC2 does with a ClientToken that it has seen before (EC2 API reference: "Ensuring idempotency", and its list of error codes).

The same request gives the same reservation, another request is refused, and so is every request once the instances have ended. A token is
known for a day after that, much longer than DescribeInstances shows the instances; here it is known as long as the lab is up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moto.ec2.exceptions import EC2ClientError

ENDED = ("shutting-down", "terminated")


class SeenTokens:
    """The tokens with which instances were launched. It keeps the reservations itself, and never asks what is still described."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, Any]] = {}

    def recall(self, token: str | None, request: Mapping[str, Any]) -> Any | None:
        """Return the reservation that the token made, or None for a token not seen before. Raises EC2ClientError where EC2 refuses it."""
        if token and (len(token) > 64 or not token.isascii()):
            raise EC2ClientError("InvalidParameterValue", "The client token must be at most 64 ASCII characters.")
        if not token or token not in self.seen:
            return None
        seen, reservation = self.seen[token]
        if seen != _text(request):
            raise EC2ClientError("IdempotentParameterMismatch", f"The client token '{token}' was used with different parameters.")
        if all(instance.state in ENDED for instance in reservation.instances):
            raise EC2ClientError("IdempotentInstanceTerminated", f"The instance launched with the client token '{token}' has been terminated.")
        return reservation

    def note(self, token: str | None, request: Mapping[str, Any], reservation: Any) -> None:
        """Remember that this request made this reservation."""
        if token:
            self.seen[token] = (_text(request), reservation)


def _text(request: Mapping[str, Any]) -> str:
    """Return the request as text. Its number of instances may be written back into it by then, so that it is left out."""
    return json.dumps({name: value for name, value in request.items() if name != "MinCount"}, sort_keys=True, default=str)
