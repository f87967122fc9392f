"""The SSH host keys of a new machine, read from its console output before anything connects to it.

cloud-init prints them between two markers at the first boot. AWS returns the console output through an authenticated
call, so nobody on the network between can forge them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib import pki
from runbook_lib.aws.instances import refuse_stopped
from runbook_lib.errors import CloudError
from runbook_lib.waiting import wait_until

BLOCK = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
KEY = re.compile(r"\b(ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) (AAAA[0-9A-Za-z+/]+={0,3})")
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds between two looks, growing


@dataclass(frozen=True)
class Pinned:
    """The host keys of a node (`type base64` each) and the id of the machine whose console showed them."""

    instance: str
    keys: tuple[str, ...]

    def text(self) -> str:
        """The text that the vault stores."""
        return json.dumps({"instance": self.instance, "keys": self.keys})

    @classmethod
    def read(cls, text: str) -> Pinned:
        """Return the host keys from the text in the vault. Raises CloudError when it is another text."""
        try:
            found = json.loads(text)
            return cls(found["instance"], tuple(found["keys"]))
        except (ValueError, KeyError, TypeError):
            step = "delete that parameter, then run chapter 01: it reads the machine's console again"
            raise CloudError(f"these are not host keys as the runbook pins them: {text[:40]!r}", "host-keys/… in SSM Parameter Store", step) from None


def pin_name(node: str) -> str:
    """Return the vault name of a node's host keys."""
    return f"host-keys/{node}"


def pinned_in(stored: Mapping[str, str]) -> dict[str, Pinned]:
    """Return the pinned host keys by node, out of everything that the vault holds."""
    prefix = pin_name("")
    return {name.removeprefix(prefix): Pinned.read(text) for name, text in stored.items() if name.startswith(prefix)}


def keys_in(console: str) -> tuple[str, ...]:
    """Return the host keys (`type base64`) in the last complete block of a console's text; empty when there is none.

    The kernel writes to the console as well, also into the middle of a key: what is not a whole key of its type is left out.
    """
    blocks = BLOCK.findall(console)
    found = dict.fromkeys(f"{kind} {key}" for kind, key in KEY.findall(blocks[-1])) if blocks else {}
    return tuple(key for key in found if pki.is_ssh_public_key(key))


def read_console(ec2: Any, instance_id: str) -> str:
    """Return the present console output; older machine types (t2) have only the copy of their last boot."""
    try:
        return str(ec2.get_console_output(InstanceId=instance_id, Latest=True).get("Output", ""))
    except CloudError as error:
        if error.code not in ("UnsupportedOperation", "InvalidParameterCombination"):
            raise
    return str(ec2.get_console_output(InstanceId=instance_id).get("Output", ""))


def wait_for_keys(ec2: Any, name: str, instance_id: str, seconds: float) -> tuple[str, ...]:
    """Wait until the console of a booting machine shows its host keys, `seconds` at most (AWS may take minutes), and return them.

    Raises CloudError with the last line of the console when they do not come, and at once when the machine has stopped.
    """

    def look() -> str:
        text = read_console(ec2, instance_id)
        if not keys_in(text):
            refuse_stopped(ec2, {name: instance_id})
        return text

    text = wait_until(look, seconds, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=keys_in)
    if keys := keys_in(text):
        return keys
    if BLOCK.search(text):
        raise CloudError(
            f"the console of {name} shows its SSH host keys with other lines in the middle of them, and shows them only once",
            f"{instance_id} at {ec2.about}",
            "terminate this machine in EC2, then run chapter 01: it launches another one",
        )
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "nothing yet")
    raise CloudError(
        f"no SSH host keys on the console of {name} within {seconds:.0f} s; last line: {last.strip()[:200]}",
        f"{instance_id} at {ec2.about}",
        "run chapter 01 again: it goes on waiting (timeouts.console); without cloud-init they never come",
    )
