"""What a deployment keeps in its vault, by name, and how each value is made. Chapter 01 makes all; later chapters read.

| name | what |
|---|---|
| `ssh-private-key` | ED25519 key of the operator; its public half is the deployment's EC2 key pair |
| `ca-key`, `ca.pem` | the authority that visitors trust |
| `tls/<public host>` | key and certificate that Nginx serves under that name |
| `tls/<database node>` | key and certificate of the database server |
| `tls/<scheduler or worker>`, `tls/operator` | keys and certificates of a sweep's workers, and of whose batches they do |
| `tier-key/<name>` | signing key and certificate of a tier |
| `db/<account>` | password of a database account |
| `carbon-admin-password` | of the product |
| `rotating/<name>`, `retired/<name>` | a value that is being replaced (`aws/rotation.py`) |
| `evidence-key`, `evidence-key.pub` | ED25519 key that signs the manifest of every run (`evidence/manifest.py`), and its public half in clear |
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from runbook_lib import pki
from runbook_lib.aws import rotation
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.changes import Pending
from runbook_lib.check import Check
from runbook_lib.launch.inventory import Inventory, Question, pending, row
from runbook_lib.topology.model import Topology
from runbook_lib.topology.workers import SCHEDULER, WORKER, WORKERS

# letters and digits only: a password stands in XML, JSON, SQL, a JDBC URL and a shell file, unescaped and the same
PASSWORD_CHARACTERS = string.ascii_letters + string.digits
PASSWORD_LENGTH = 24
ADMIN_PASSWORD = "carbon-admin-password"
OPERATOR_TLS = "tls/operator"
SSH_KEY = "ssh-private-key"
EVIDENCE_KEY, EVIDENCE_KEY_PUBLIC = "evidence-key", "evidence-key.pub"

# What `./runbook rotate` takes, in the order in which it is done, and what each is.
ROTATED = {
    "administrator": "the product's administrator: his password",
    "databases": "the database accounts: their passwords",
    "ssh-key": "the key by which the operator signs in to the machines",
    "tier-keys": "the tiers' signing keys",
    "host-certificates": "the certificates that Nginx serves",
    "ca": "the authority that visitors trust, and every certificate that it signed",
}


@dataclass(frozen=True)
class Missing:
    """A value that is not there yet, or must be made anew; `why` says which."""

    name: str
    why: str = ""


def make_password() -> str:
    """24 letters and digits with at least one of each kind: 142 bits."""
    while True:
        word = "".join(secrets.choice(PASSWORD_CHARACTERS) for _ in range(PASSWORD_LENGTH))
        if any(c.islower() for c in word) and any(c.isupper() for c in word) and any(c.isdigit() for c in word):
            return word


def own_passwords(topology: Topology) -> tuple[str, ...]:
    """The secrets that a person may choose instead (`chapters/forms/passwords.py`): nothing else depends on how they came about."""
    return () if topology.spec.pattern == WORKERS else (ADMIN_PASSWORD, *(f"db/{name}" for name in topology.db_accounts))


def makers(topology: Topology, stored: Mapping[str, str] = MappingProxyType({})) -> dict[str, Callable[[], str]]:
    """How each value that depends on no other is made. `stored`: what there is already, of which a tier's key takes over a name."""
    found: dict[str, Callable[[], str]] = {SSH_KEY: pki.make_ssh_key, EVIDENCE_KEY: pki.make_ssh_key}
    found |= dict.fromkeys(own_passwords(topology), make_password)
    return found | {f"tier-key/{name}": _tier_key_maker(topology, name, stored.get(f"tier-key/{name}", "")) for name in topology.tier_keys}


def missing(topology: Topology, stored: dict[str, str]) -> tuple[Missing, ...]:
    """What `ensure` would make, given what the vault holds. An authority is whole or it is not there."""
    names = [Missing(name) for name in makers(topology) if name not in stored]
    has_ca = "ca-key" in stored and "ca.pem" in stored
    names += [] if EVIDENCE_KEY_PUBLIC in stored else [Missing(EVIDENCE_KEY_PUBLIC)]
    names += [] if has_ca else [Missing("ca-key"), Missing("ca.pem")]
    for name, subjects in certificates(topology).items():
        why = pki.needs_renewal(stored[name], stored["ca.pem"], subjects) if has_ca and name in stored else ""
        if why is not None:
            names.append(Missing(name, why))
    known = {item.name for item in names}
    names += [Missing(name, "its rotation was begun") for name in rotation.declared(stored) if name not in {SSH_KEY, *known}]
    return tuple(names) + tuple(Missing(name, f"valid for {pki.days_left(stored[name])} more days") for name in expiring(topology, stored))


def expiring(topology: Topology, stored: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the tiers' keys and of the authority that end soon: a run rotates them. What the authority signs is `certificates`."""
    if topology.spec.pattern == WORKERS:  # which live for a sweep
        return ()
    names = [name for name in (rotation.CA, *(f"tier-key/{key}" for key in topology.tier_keys)) if name in stored]
    under_way = rotation.unfinished(stored)
    return tuple(name for name in names if name not in under_way and pki.certificates(stored[name]) and pki.days_left(stored[name]) < pki.RENEW_DAYS)


def successors(topology: Topology, stored: dict[str, str], what: Sequence[str]) -> dict[str, str]:
    """Return new values for these rows of `ROTATED`, by name in the vault, in the order in which they are to be declared."""
    found: dict[str, str] = {}
    for row_ in ROTATED:
        if row_ in what:
            found |= {name: makers(topology, stored)[name]() for name in names_of(topology, row_) if name in makers(topology)}
    authority = pki.Authority(stored["ca-key"], stored["ca.pem"])
    if "ca" in what:
        authority = pki.make_ca(f"{topology.spec.deployment} runbook CA")
    for name, subjects in certificates(topology).items():
        if any(name in names_of(topology, row_) for row_ in what):
            found[name] = _issued(authority, topology, subjects)
    return found | ({rotation.CA_KEY: authority.key_pem, rotation.CA: authority.cert_pem} if "ca" in what else {})


def names_of(topology: Topology, what: str) -> tuple[str, ...]:
    """Return the names in the vault of what a row of `ROTATED` replaces."""
    if what == "ca":
        return (*certificates(topology), rotation.CA_KEY, rotation.CA)
    named = {
        "administrator": (ADMIN_PASSWORD,),
        "databases": tuple(f"db/{name}" for name in topology.db_accounts),
        "ssh-key": (SSH_KEY,),
        "tier-keys": tuple(f"tier-key/{name}" for name in topology.tier_keys),
        "host-certificates": tuple(f"tls/{host}" for host in topology.spec.hosts.values()),
    }
    return named[what]


def ensure(vault: Vault, topology: Topology) -> Iterator[Missing]:
    """Make what is missing, one after the other, telling each when it is stored. Killed anywhere, it goes on there.

    A rotation that was declared is promoted first, and one is declared for what ends soon. The SSH key is another matter: machines must
    know the new one before (`chapters/rotation`).
    """
    stored = vault.read_all()
    rotation.drop_half_an_authority(vault, stored)
    due = expiring(topology, stored)
    ending = [what for what, there in (("tier-keys", any(name != rotation.CA for name in due)), ("ca", rotation.CA in due)) if there]
    new = successors(topology, stored, ending) if ending else {}
    rotation.declare(vault, new)
    for name in rotation.declared([*stored, *(rotation.ROTATING + name for name in new)]):
        if name != SSH_KEY:
            rotation.promote(vault, name)
            yield Missing(name, "rotated")
    lacking = missing(topology, vault.read_all())
    for item in lacking:
        if item.name in makers(topology):
            vault.create(item.name, makers(topology)[item.name]())  # where somebody was first, theirs stays
            yield item
    if any(item.name == EVIDENCE_KEY_PUBLIC for item in lacking):
        vault.put(EVIDENCE_KEY_PUBLIC, pki.ssh_public_key(vault.get(EVIDENCE_KEY)).strip(), secure=False)
        yield Missing(EVIDENCE_KEY_PUBLIC)
    if any(item.name == "ca-key" for item in lacking):
        authority = pki.make_ca(f"{topology.spec.deployment} runbook CA")
        vault.put("ca-key", authority.key_pem)
        vault.put("ca.pem", authority.cert_pem, secure=False)  # second: with it the authority is whole
        yield Missing("ca-key")
        yield Missing("ca.pem")
    for name, subjects in certificates(topology).items():
        reason = next((item for item in lacking if item.name == name), None)
        if reason:
            authority = pki.Authority(vault.get("ca-key"), vault.get("ca.pem"))
            vault.put(name, _issued(authority, topology, subjects))
            yield reason


def _issued(authority: pki.Authority, topology: Topology, subjects: list[str]) -> str:
    certificate, key = pki.issue(authority, subjects, peer=topology.spec.pattern == WORKERS)
    return key + certificate


def certificates(topology: Topology) -> dict[str, list[str]]:
    """The certificates that the deployment's authority signs, by name in the vault: for which host names and addresses each is.

    Nginx has one for each public host; the database server, which has no public name, one for its node's name and private address. Of a
    sweep's workers each machine has one, and so has the operator: they prove themselves to each other.
    """
    public = {f"tls/{host}": [host] for host in topology.spec.hosts.values()}
    own = {f"tls/{node.name}": [node.name, node.address] for node in topology.of("db", SCHEDULER, WORKER)}
    return public | own | ({OPERATOR_TLS: ["operator"]} if topology.of(SCHEDULER) else {})


def _tier_key_maker(topology: Topology, name: str, before: str) -> Callable[[], str]:
    """Nginx checks the backend's certificate by a name in it: every name the tier serves, and one of the key before, which nodes show until their turn."""
    tiers = [tier for tier in topology.tiers if topology.key_of(tier) == name]
    nodes = [node for tier in tiers for node in topology.tier(tier)]
    hosts = sorted({host for host in topology.spec.hosts.values() if set(topology.upstream(host)) & set(nodes)})
    kept = [names[0] for certificate in pki.certificates(before) if (names := pki.names_of(certificate))]
    return lambda: pki.make_tier_key(hosts[0], sorted({*hosts, *kept}))


def observe(inventory: Inventory) -> None:
    inventory.stored = inventory.vault.read_all()


def plan(inventory: Inventory) -> Iterator[Pending]:
    """Values to make, and certificates to renew."""
    for item in missing(inventory.topology, inventory.stored):
        yield pending("replace" if item.why else "create", "secret", item.name, item.why)


def apply(inventory: Inventory) -> None:
    for made in ensure(inventory.vault, inventory.topology):
        inventory.say(made.name, "made and stored")
    observe(inventory)


def check(inventory: Inventory) -> Iterator[Check]:
    lacking = [f"{item.name} {item.why}".strip() for item in missing(inventory.topology, inventory.stored)]
    yield row("launch-secrets", "Every secret that later chapters read is stored", lacking, "all stored", "all stored")


def remove(inventory: Inventory) -> None:
    """Everything below the deployment's path, the pinned host keys too."""
    if removed := inventory.vault.delete_all():
        inventory.say("SSM", f"{len(removed)} parameters deleted")


GONE: tuple[Question, ...] = (("gone-secrets", "Parameters below the deployment's SSM path", lambda inventory: inventory.vault.names()),)
