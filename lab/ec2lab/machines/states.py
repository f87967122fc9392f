"""The states of an instance as EC2 numbers them, and why an instance is not running."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
# EC2's codes with its words (API reference, "StateReason"); a fault has words of its own
BY_USER, BY_ITSELF, FAULT = "Client.UserInitiatedShutdown", "Client.InstanceInitiatedShutdown", "Server.InternalError"
REASONS = {BY_USER: "User initiated shutdown", BY_ITSELF: "Instance initiated shutdown"}


def set_state(instance: Any, name: str, code: str = "", fault: str = "") -> None:
    """Set the state of an instance in moto, and why it is in it. `fault`: the words of a `FAULT`."""
    instance._state.name, instance._state.code = name, STATES[name]
    instance._reason = f"User initiated ({datetime.now(UTC):%Y-%m-%d %H:%M:%S} GMT)" if code == BY_USER else ""
    instance.state_reason.code, instance.state_reason.message = code, f"{code}: {REASONS.get(code, fault)}" if code else ""
