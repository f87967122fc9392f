"""The replacement of a value in Parameter Store, in two phases: whoever is killed in between, the next one goes on from what is stored.

| stored | means |
|---|---|
| `rotating/<name>` | the new value is declared; `<name>` holds the old one |
| `retired/<name>` | `<name>` holds the new value; this is the old one, kept until it is proven that it is refused |

At any moment `<name>` is the one value that everything is brought to. An authority is two values that belong together: its key is declared
and promoted before its certificate, so that a key that is declared alone tells of a declaration that was cut short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from runbook_lib.aws.parameter_store import Vault

ROTATING, RETIRED = "rotating/", "retired/"
CA_KEY, CA = "ca-key", "ca.pem"


def declared(stored: Iterable[str]) -> tuple[str, ...]:
    """Return the names whose new value is declared, the authority's last, in the order in which they are promoted."""
    names = {name.removeprefix(ROTATING) for name in stored if name.startswith(ROTATING)}
    whole = names if CA in names else names - {CA_KEY}
    return tuple(sorted(whole, key=lambda name: (name == CA, name == CA_KEY, name)))


def retired(stored: Iterable[str]) -> tuple[str, ...]:
    """Return the names whose old value is still kept."""
    return tuple(sorted(name.removeprefix(RETIRED) for name in stored if name.startswith(RETIRED)))


def former(stored: Mapping[str, str]) -> dict[str, str]:
    """Return the old values that are still kept, by their names."""
    return {name: stored[RETIRED + name] for name in retired(stored)}


def unfinished(stored: Iterable[str]) -> tuple[str, ...]:
    """Return the names of which a rotation was begun and is not at its end."""
    names = tuple(stored)
    return tuple(sorted({*declared(names), *retired(names)}))


def without_old(stored: Mapping[str, str]) -> dict[str, str]:
    """Return the values as they are once no rotation is under way: neither declared nor retired ones."""
    return {name: value for name, value in stored.items() if not name.startswith((ROTATING, RETIRED))}


def declare(vault: Vault, values: Mapping[str, str]) -> None:
    """Store new values beside the present ones, in this order. One that is declared already stays what it is."""
    for name, value in values.items():
        vault.create(ROTATING + name, value)


def drop_half_an_authority(vault: Vault, stored: Iterable[str]) -> None:
    """Forget the declared key of an authority whose certificate was not declared any more: nobody saw it. `stored`: the names that are there."""
    names = set(stored)
    if ROTATING + CA_KEY in names and ROTATING + CA not in names:
        vault.delete(ROTATING + CA_KEY)


def promote(vault: Vault, name: str) -> None:
    """Make the declared value of `name` its value, and keep the old one as retired. Done twice, it does no harm."""
    new, old = vault.get(ROTATING + name), vault.find(name, fresh=True)
    if old != new:
        if old is not None:
            vault.put(RETIRED + name, old)
        vault.put(name, new)
    vault.delete(ROTATING + name)


def forget(vault: Vault, names: Iterable[str]) -> None:
    """Delete the retired values of these names."""
    for name in names:
        vault.delete(RETIRED + name)
