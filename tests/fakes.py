"""What stands in for a part of the runbook in tests that need no machine: parameters with placeholders for secrets, a scene, an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from runbook_lib import pki
from runbook_lib.checks.sso.attempts import Attempt
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.roles.context import Context
from runbook_lib.spec.model import Spec
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.topology.databases import databases_of
from runbook_lib.topology.model import topology_of

HOSTS = {
    "as": {"as": "as.lab.test", "mgt": "mgt.lab.test"},
    "greg": {"store": "store.lab.test", "publisher": "publisher.lab.test"},
}
authority = cache(lambda: pki.make_ca("test").cert_pem)
tier_key = cache(lambda name: pki.make_tier_key(name, [name]))


class Placeholders(dict):
    """Secrets by name: `[name]` for each that is asked for."""

    def __missing__(self, name: str) -> str:
        return f"[{name}]"


def context(pattern: str, hardening: str | None = None, secrets: Mapping[str, str] | None = None, **settings: Any) -> Context:
    """What the roles of a pattern are given, with `settings` as parameters; secrets are placeholders unless they are given."""
    values = {"deployment": "test", "pattern": pattern, "hosts": HOSTS[PATTERNS[pattern].product], "product": {"pack": "s3://packs/product.zip"}}
    spec = Spec.model_validate(values | settings | ({"hardening": hardening} if hardening else {}))
    return Context(spec, topology_of(spec), Placeholders() if secrets is None else secrets)


def context_with_keys(pattern: str, **settings: Any) -> Context:
    """The same with a pack whose hash is known, the tiers' signing keys, and a password of its own for each account."""
    ctx = context(pattern, **{"product": {"pack": "file:///pack.zip", "sha256": "ab" * 32}, **settings})
    secrets = {"carbon-admin-password": "the-admin-password", "ca.pem": authority()}
    secrets |= {database.secret: f"password-of-{database.account}" for database in databases_of(pattern)}
    secrets |= {f"tier-key/{name}": tier_key(name) for name in ctx.topology.tier_keys}
    return replace(ctx, secrets=secrets)


def scene(configuration: str = "full", expect: str = "separated", **more: Any) -> Scene:
    """Where a proof is made: two hosts, no node behind them."""
    hosts = {"store": "store.test", "publisher": "publisher.test"}
    return Scene(configuration, expect, hosts, {}, {"store": (), "publisher": ()}, Login("admin", "x"), **more)


def attempt(**changes: Any) -> Attempt:
    """A row of the proof's matrix, with these fields changed."""
    plain = Attempt("a", "A title", "no one", "outside", (), frozenset(["refusal"]), frozenset(["opening"]), "because")
    return replace(plain, **changes)
