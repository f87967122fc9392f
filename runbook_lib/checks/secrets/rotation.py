"""The proof of a rotation: what was replaced is in use, and the old value is refused wherever it was accepted.

Both halves are asked of the running system in the way in which the value is used: signing in, shaking hands. A refusal counts only as the
answer that a wrong value gets; no answer at all proves nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from runbook_lib import pki
from runbook_lib.check import Check, answered
from runbook_lib.checks.database import refusal, untrusted
from runbook_lib.checks.product_nodes import HTTPS_PORT, signs_in
from runbook_lib.checks.secrets.user_store import WRONG_PASSWORD
from runbook_lib.errors import KeyRefused, RunbookError
from runbook_lib.launch.secrets import ADMIN_PASSWORD, SSH_KEY
from runbook_lib.ssh import Host, as_socket
from runbook_lib.topology.databases import databases_of
from runbook_lib.webclient.transport import tls_context

if TYPE_CHECKING:
    from runbook_lib.session import Session

CHAPTER = "05_configure_nginx"  # the last that changes machines: a run ends a rotation there
ACCESS_DENIED = 1045  # MySQL and MariaDB: a name or a password that is wrong
SECONDS = 10.0
NO_ANSWER = "no answer"
Wires = Mapping[str, Callable[[], socket.socket]]  # by the name that is asked for: how to connect
Values = Mapping[str, str]


def proofs(d: Session, what: str, old: Values, new: Values) -> Iterator[Check]:
    """Yield the rows of one row of `secrets.ROTATED`: the values of `new` are in use, those of `old` are refused. Both by their names in the vault."""
    yield from PROOFS[what](d, old, new)


def _rows(what: str, title: str, place: str, taken: Values, refused: Values, wanted: tuple[str, str] = ("taken", "refused")) -> Iterator[Check]:
    """Yield the two rows of a value. `taken`, `refused`: by place what speaks against it, "" where nothing does."""
    said = {name: words for name, words in taken.items() if words}
    yield answered(f"rotated-{what}-in-use", f"The new {title}", not said and bool(taken), wanted[0], _words(taken, wanted[0]), place, CHAPTER)
    said = {name: words for name, words in refused.items() if words}
    yield answered(f"rotated-{what}-refused", f"The old {title}", not said and bool(refused), wanted[1], _words(refused, wanted[1]), place, CHAPTER)


def _words(found: Values, wanted: str) -> str:
    against = [f"{name}: {words}" for name, words in found.items() if words]
    return "; ".join(against) or (f"{wanted}: {len(found)} of {len(found)}" if found else "nobody was asked")


def _administrator(d: Session, old: Values, new: Values) -> Iterator[Check]:
    nodes = {node.name: node.address for node in d.topology.wso2_nodes if node.role != "as-worker"}

    def asked(values: Values, wanted: int) -> Values:
        said = d.fleet().each(lambda host: signs_in(host, nodes[host.name], values[ADMIN_PASSWORD], d.spec.design.product), list(nodes))
        return {name: "" if code == wanted else f"status {code}" if code else NO_ANSWER for name, code in said.items()}

    yield from _rows("administrator", "password of the administrator signs in at every node", ", ".join(nodes), asked(new, 200), asked(old, WRONG_PASSWORD))


def _databases(d: Session, old: Values, new: Values) -> Iterator[Check]:
    databases = [database for database in databases_of(d.spec.pattern) if database.secret in old]
    context, address = tls_context(d.vault.get("ca.pem")), d.topology.db.address

    def asked(values: Values, wanted: int) -> Values:
        def from_here(host: Host) -> dict[str, str]:
            said = {db.account: refusal(host, address, db, values[db.secret], context) for db in databases}
            return {account: "" if code == wanted and (wanted or words == "in") else words for account, (code, words) in said.items()}

        found = d.fleet().each(from_here, [node.name for node in d.topology.wso2_nodes])
        return {f"{account} from {name}": words for name, each in found.items() for account, words in each.items()}

    yield from _rows("databases", "password of each database account signs in from its nodes", d.topology.db.name, asked(new, 0), asked(old, ACCESS_DENIED))


def _ssh_key(d: Session, old: Values, new: Values) -> Iterator[Check]:
    def asked(key: str, refused: bool) -> Values:
        def knock(host: Host) -> str:
            other = host.with_key(key)
            try:
                other.transport()
            except KeyRefused:
                return "" if refused else "refused"
            except RunbookError as error:
                return error.what
            finally:
                other.close()
            return "let in" if refused else ""

        return d.fleet().each(knock)

    yield from _rows("ssh-key", "SSH key opens every machine", "every machine", asked(new[SSH_KEY], False), asked(old[SSH_KEY], True))


def _tier_keys(d: Session, old: Values, new: Values) -> Iterator[Check]:
    """Ask the nodes, which show the certificate of the key that they sign with."""
    hosts = d.fleet()
    taken: dict[str, str] = {}
    refused: dict[str, str] = {}
    for node in d.topology.wso2_nodes:
        if (key := f"tier-key/{d.topology.key_of(node.tier or '')}") in old:
            wire = {node.name: lambda node=node: as_socket(hosts[node.name].tunnel(node.address, HTTPS_PORT, SECONDS))}
            taken |= _trusted(wire, new[key], new[key])
            refused |= _distrusted(wire, old[key], old[key])
    yield from _rows("tier-keys", "key's certificate is shown by the nodes of its tier, to who trusts it alone", "on the nodes", taken, refused)


def _host_certificates(d: Session, old: Values, new: Values) -> Iterator[Check]:
    wires, authority = _public(d), d.vault.get("ca.pem")
    taken: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name, connect in wires.items():
        if f"tls/{name}" in old:
            shown = _shown(connect, name, authority)
            taken[name] = "" if shown == pki.certificates(new[f"tls/{name}"])[0] else "another one is shown" if shown else NO_ANSWER
            refused[name] = "it is shown" if shown == pki.certificates(old[f"tls/{name}"])[0] else "" if shown else NO_ANSWER
    words = ("shown", "not shown")
    yield from _rows("host-certificates", "certificate is the one that Nginx shows", "outside", taken, refused, words)


def _ca(d: Session, old: Values, new: Values) -> Iterator[Check]:
    """Ask as visitors who trust one authority alone, and as a node does of the database server."""
    wires, database = _public(d), databases_of(d.spec.pattern)[0]
    taken = {name: words for name, connect in wires.items() for words in _trusted({name: connect}, new["ca.pem"]).values()}
    refused = {name: words for name, connect in wires.items() for words in _distrusted({name: connect}, old["ca.pem"]).values()}
    host, address, password = d.fleet()[d.topology.wso2_nodes[0].name], d.topology.db.address, d.vault.get(database.secret)
    code, said = refusal(host, address, database, password, tls_context(new["ca.pem"]))
    taken[d.topology.db.name] = "" if (code, said) == (0, "in") else said
    refused[d.topology.db.name] = "" if untrusted(host, address, database, password, old["ca.pem"]) else "trusted, or no answer"
    yield from _rows(
        "ca", "authority alone, as a client trusts it: hosts and database server", "outside, and on a node", taken, refused, ("trusted", "not trusted")
    )


PROOFS: dict[str, Callable[[Session, Values, Values], Iterable[Check]]] = {
    "administrator": _administrator,
    "databases": _databases,
    "ssh-key": _ssh_key,
    "tier-keys": _tier_keys,
    "host-certificates": _host_certificates,
    "ca": _ca,
}


def _public(d: Session) -> Wires:
    """Return how to connect to each public host from here, as visitors do."""
    found = d.public_addresses()
    places = {host: found[d.topology.lb_for(host).name] for host in d.spec.hosts.values()}
    return {host: lambda place=place: socket.create_connection((place, 443), SECONDS) for host, place in places.items()}  # type: ignore[misc]


def _trusted(wires: Wires, authority: str, bundle: str = "") -> Values:
    """Return by name what a client that trusts `authority` alone says against it. `bundle`: the certificate is for its first name."""
    return {name: "" if verdict == "" else verdict or NO_ANSWER for name, verdict in _verdicts(wires, authority, bundle).items()}


def _distrusted(wires: Wires, authority: str, bundle: str = "") -> Values:
    """Return by name what speaks against a client that trusts `authority` alone being refused: it is not, or there was no answer."""
    said = _verdicts(wires, authority, bundle)
    return {name: NO_ANSWER if verdict is None else "" if verdict else "trusted" for name, verdict in said.items()}


def _verdicts(wires: Wires, authority: str, bundle: str) -> dict[str, str | None]:
    """Return by name why the certificate is not trusted: "" where it is, None where there was no answer."""
    found: dict[str, str | None] = {}
    for name, connect in wires.items():
        asked_for = pki.names_of(pki.certificates(bundle)[0])[0] if bundle else name
        try:
            with connect() as wire, tls_context(pki.certificate_of(authority)).wrap_socket(wire, server_hostname=asked_for):
                found[name] = ""
        except ssl.SSLCertVerificationError as error:
            found[name] = error.verify_message or "not trusted"
        except (OSError, RunbookError):
            found[name] = None
    return found


def _shown(connect: Callable[[], socket.socket], name: str, authority: str) -> object:
    """Return the certificate that is shown; None when there is none that `authority` signed."""
    try:
        with connect() as wire, tls_context(authority).wrap_socket(wire, server_hostname=name) as safe:
            return pki.certificates(ssl.DER_cert_to_PEM_cert(safe.getpeercert(binary_form=True) or b""))[0]
    except OSError:
        return None
