"""The EC2 key pair: the public half of the SSH key that the vault holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib import pki
from runbook_lib.changes import Pending
from runbook_lib.launch.inventory import PUBLIC_KEY, Question, Site, by_tag, pending, tags_of, unless_gone


def name_of(site: Site) -> str:
    """The deployment's key pair."""
    return f"runbook-{site.deployment}"


def observe(site: Site) -> None:
    site.key_pair = site.only(_found(site), "KeyPairId")


def _found(site: Site) -> list[dict[str, Any]]:
    """EC2 tells all key pairs at once: this call has no pages."""
    return list(site.ec2.describe_key_pairs(Filters=by_tag(site.deployment))["KeyPairs"])


def plan(site: Site) -> Iterator[Pending]:
    private_key = site.stored.get("ssh-private-key")
    if site.key_pair is None:
        yield pending("create", "key pair", name_of(site), "public half of ssh-private-key")
    elif private_key is None or tags_of(site.key_pair).get(PUBLIC_KEY) != pki.ssh_fingerprint(private_key):
        yield pending("replace", "key pair", name_of(site), "not the public half of the stored key; machines launched with it are lost to SSH")


def apply(site: Site) -> None:
    for due in list(plan(site)):
        site.say(name_of(site), "importing the public key")
        if due.change.verb == "replace":
            site.ec2.delete_key_pair(KeyName=name_of(site))
        private_key = site.stored["ssh-private-key"]
        site.key_pair = site.ec2.import_key_pair(
            KeyName=name_of(site),
            PublicKeyMaterial=pki.ssh_public_key(private_key).encode(),
            TagSpecifications=[site.tags("key-pair", **{PUBLIC_KEY: pki.ssh_fingerprint(private_key)})],
        )


def remove(site: Site) -> None:
    for name in (item["KeyName"] for item in _found(site)):
        site.say(name, "deleting the key pair")
        unless_gone(site.ec2.delete_key_pair, KeyName=name)


GONE: tuple[Question, ...] = (("gone-key-pairs", "Key pairs", lambda site: (item["KeyPairId"] for item in _found(site))),)
