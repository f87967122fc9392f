"""A random ClientToken for each machine to make, kept in Parameter Store from before RunInstances until the machine is seen.

By its token a request that is repeated, after a timeout or by the process that follows a killed one, gives the same machine and not a
second. A token computed from the request would do that for too long: EC2 knows a token for at least a day after its machine has ended
("Ensuring idempotency in Amazon EC2 API requests"), shows that machine for an hour only, and refuses the token with
IdempotentInstanceTerminated; a node that died could not be made anew.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable

from runbook_lib.aws.parameter_store import Vault

NAME = "client-tokens"  # one parameter for all nodes: Parameter Store takes three writes a second


class ClientTokens:
    """The tokens of one deployment, by node name. Safe to use from several threads, not from several processes: these hold the lock."""

    def __init__(self, vault: Vault):
        self.vault = vault
        self._lock = threading.Lock()

    def keep(self, nodes: Iterable[str]) -> dict[str, str]:
        """Return a token for each node: the one that an earlier run kept and may have used, else a new one, stored before it is returned."""
        with self._lock:
            stored = self._stored()
            lacking = {node: uuid.uuid4().hex for node in nodes if node not in stored}
            if lacking:
                self._store(stored | lacking)
            return stored | lacking

    def renew(self, node: str) -> str:
        """Replace the token of a node, whose machine has ended, and return the new one."""
        with self._lock:
            token = uuid.uuid4().hex
            self._store(self._stored() | {node: token})
            return token

    def forget(self, nodes: Iterable[str]) -> None:
        """Delete the tokens of nodes whose machines were seen."""
        with self._lock:
            seen, stored = set(nodes), self._stored()
            if not seen & set(stored):
                return
            left = {node: token for node, token in stored.items() if node not in seen}
            self._store(left) if left else self.vault.delete(NAME)

    def _stored(self) -> dict[str, str]:
        """What is stored. A text that is not ours is like none: a new token is always safe where no machine is seen."""
        try:
            found = json.loads(self.vault.find(NAME, fresh=True) or "{}")
        except ValueError:
            return {}
        return {str(node): str(token) for node, token in found.items()} if isinstance(found, dict) else {}

    def _store(self, tokens: dict[str, str]) -> None:
        self.vault.put(NAME, json.dumps(tokens), secure=False)
