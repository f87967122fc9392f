"""TLS of the classroom: an authority of its own, which signs one certificate and whose key is then forgotten."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from ec2lab.shell import run

from runbook_cli.classroom.room import AUTHORITY, CERTIFICATE, KEY
from runbook_lib import pki


def hosts(given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names and addresses by which this machine is reached: those that were given first, then its own."""
    addresses = [
        entry["local"] for link in json.loads(run("ip", "-json", "-4", "address")) if not link["ifname"].startswith("ec-") for entry in link["addr_info"]
    ]
    public = [address for address in addresses if not ipaddress.ip_address(address).is_loopback]
    return tuple(dict.fromkeys([*given, socket.gethostname(), *public, "localhost", "127.0.0.1"]))


def make(names: Sequence[str]) -> str:
    """Write certificate, key and the authority's certificate, and return the certificate's fingerprint, as a browser shows it."""
    authority = pki.make_ca("Classroom authority")
    certificate, key = pki.issue(authority, names)
    for path, text in ((CERTIFICATE, certificate), (KEY, key), (AUTHORITY, authority.cert_pem)):
        _write(path, text)
    return fingerprint(certificate)


def fingerprint(pem: str) -> str:
    """Return the SHA-256 fingerprint of a certificate: pairs of hexadecimal digits with colons."""
    return pki.certificates(pem)[0].fingerprint(hashes.SHA256()).hex(":").upper()


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
