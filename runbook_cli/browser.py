"""Chromium for the lab, in a temporary profile: it resolves the deployments' host names and trusts their certificates."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ec2lab.paths import Lab

from runbook_cli.machines import authorities, hosts
from runbook_lib.errors import RunbookError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def open_browser(lab: Lab, url: str | None = None) -> int:
    """Open `url` (default: the first host) and return the browser's exit status when it is closed.

    Raises RunbookError when there is no host name, no Chromium or no display.
    """
    names = hosts(lab)
    if not names:
        raise RunbookError("no deployment in the lab has a host name yet", f"lab {lab.name}", "run chapters 01 to 05 first")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise RunbookError("there is no Chromium here", next_step="sudo apt-get install chromium")
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise RunbookError(
            "there is no display to open a browser on",
            next_step="./runbook lab hosts prints the lines for /etc/hosts of a machine that has one and a route here",
        )
    keys = trusted_keys(names, authorities(lab))
    with tempfile.TemporaryDirectory(prefix="runbook-browser-", ignore_cleanup_errors=True) as profile:
        return subprocess.call([program, *flags(names, keys, profile), url or f"https://{next(iter(names))}/"])


def flags(names: dict[str, str], keys: list[str], profile: str) -> list[str]:
    """Return Chromium's flags: `names` are resolved to their addresses, and the server keys `keys` are trusted."""
    rules = ",".join(f"MAP {name} {address}" for name, address in names.items())
    return [
        f"--user-data-dir={profile}",
        f"--host-resolver-rules={rules}",
        f"--ignore-certificate-errors-spki-list={','.join(keys)}",
        *("--no-first-run", "--no-default-browser-check", "--no-proxy-server"),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]


def trusted_keys(names: dict[str, str], authority: str) -> list[str]:
    """Return the public keys of the servers whose certificate is valid: signed by a CA in `authority` (PEM), for the server's name.

    A key is the SHA-256 of the SubjectPublicKeyInfo in base64. Chromium trusts only these keys, so it still warns of a wrong certificate.
    """
    if not authority:
        return []
    context = ssl.create_default_context(cadata=authority)
    keys = []
    for name, address in names.items():
        try:
            with (
                socket.create_connection((address, 443), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname=name) as secure,
            ):
                certificate = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
        except OSError:  # not listening, or not signed by the CA: the browser shows it
            continue
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        keys.append(base64.b64encode(hashlib.sha256(spki).digest()).decode())
    return keys
