"""The EC2 key pair: the public half of the SSH key that the vault holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from runbook_lib import pki
from runbook_lib.aws.rotation import RETIRED
from runbook_lib.changes import Pending
from runbook_lib.errors import CloudError
from runbook_lib.launch.inventory import PUBLIC_KEY, Inventory, Question, by_tag, pending, tags_of, unless_gone


def name_of(inventory: Inventory) -> str:
    """The deployment's key pair."""
    return f"runbook-{inventory.deployment}"


def observe(inventory: Inventory) -> None:
    inventory.key_pair = inventory.only(_found(inventory), "KeyPairId")


def _found(inventory: Inventory) -> list[dict[str, Any]]:
    """EC2 tells all key pairs at once: this call has no pages."""
    return list(inventory.ec2.describe_key_pairs(Filters=by_tag(inventory.deployment))["KeyPairs"])


def plan(inventory: Inventory) -> Iterator[Pending]:
    """Raises `CloudError` when the key that live machines know is lost: another one would lock the operator out of them."""
    private_key = inventory.stored.get("ssh-private-key")
    known = {machine.node: machine.key_name for machine in inventory.instances if machine.key_name == name_of(inventory)}
    if known and (private_key is None or (_another(inventory, private_key) and not _rotated(inventory))):
        what = "is not in Parameter Store any more" if private_key is None else "in Parameter Store is not the one that the machines were launched with"
        raise CloudError(
            f"the SSH key of {inventory.deployment} {what}: {', '.join(sorted(known))} would refuse any other",
            f"{inventory.vault.prefix}ssh-private-key",
            f'put the key back, or give the machines a new one, which restarts them: deployment.launch.new_ssh_key(confirm="{inventory.deployment}")',
        )
    if inventory.key_pair is None:
        yield pending("create", "key pair", name_of(inventory), "public half of ssh-private-key")
    elif private_key is None or _another(inventory, private_key):
        why = "the SSH key was rotated: the machines know the new one" if known else "not the public half of the stored key; no machine was launched with it"
        yield pending("replace", "key pair", name_of(inventory), why)


def _another(inventory: Inventory, private_key: str) -> bool:
    """Return whether EC2's key pair is of another key. False when there is no key pair, which tells nothing."""
    return inventory.key_pair is not None and tags_of(inventory.key_pair).get(PUBLIC_KEY) != pki.ssh_fingerprint(private_key)


def _rotated(inventory: Inventory) -> bool:
    """Return whether EC2's key pair is of the key that a rotation retired: the machines were given the stored one before."""
    old = inventory.stored.get(f"{RETIRED}ssh-private-key")
    return old is not None and not _another(inventory, old)


def apply(inventory: Inventory) -> None:
    for _due in list(plan(inventory)):
        _import(inventory)


def renew(inventory: Inventory, private_key: str) -> None:
    """Store another key and its public half, whatever machines know. They must have been told it: see `known_by_user_data`."""
    inventory.stored["ssh-private-key"] = inventory.vault.put("ssh-private-key", private_key)
    _import(inventory)


def known_by_user_data(user: str, private_key: str) -> str:
    """Return lines of a machine's user data by which `user` can sign in with this key as well, from the next boot on: bootcmd runs at each.

    A key that a rotation took away again lies in `retired_keys` (`operations/rotated.py`).
    """
    command = f'cd ~{user}/.ssh && if ! grep -qsxF "$0" authorized_keys retired_keys; then echo "$0" >> authorized_keys; fi'
    return f"bootcmd:\n- {json.dumps(['sh', '-c', command, pki.ssh_public_key(private_key)])}\n"


def _import(inventory: Inventory) -> None:
    inventory.say(name_of(inventory), "importing the public key")
    if inventory.key_pair:
        inventory.ec2.delete_key_pair(KeyName=name_of(inventory))
    private_key = inventory.stored["ssh-private-key"]
    inventory.key_pair = inventory.ec2.import_key_pair(
        KeyName=name_of(inventory),
        PublicKeyMaterial=pki.ssh_public_key(private_key).encode(),
        TagSpecifications=[inventory.tags("key-pair", **{PUBLIC_KEY: pki.ssh_fingerprint(private_key)})],
    )


def remove(inventory: Inventory) -> None:
    for name in (item["KeyName"] for item in _found(inventory)):
        inventory.say(name, "deleting the key pair")
        unless_gone(inventory.ec2.delete_key_pair, KeyName=name)


GONE: tuple[Question, ...] = (("gone-key-pairs", "Key pairs", lambda inventory: (item["KeyPairId"] for item in _found(inventory))),)
