"""Chromium for the lab: knows the deployments' names and trusts their certificates, and touches no other profile."""

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
    """Open `url` (default: the first host); returns when the browser is closed."""
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
    """Chromium's flags: names resolved to the lab's addresses, and only the listed server keys trusted."""
    rules = ",".join(f"MAP {name} {address}" for name, address in names.items())
    return [
        f"--user-data-dir={profile}",
        f"--host-resolver-rules={rules}",
        f"--ignore-certificate-errors-spki-list={','.join(keys)}",
        *("--no-first-run", "--no-default-browser-check", "--no-proxy-server"),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]


def trusted_keys(names: dict[str, str], authority: str) -> list[str]:
    """The public keys of those servers whose certificate is right: by a deployment's CA, for the server's own name.

    Chromium gets exactly these keys (SHA-256 of the SubjectPublicKeyInfo, base64), so a wrong certificate still warns.
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
        except OSError:  # not listening, or not by our CA: the browser will say so
            continue
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        keys.append(base64.b64encode(hashlib.sha256(spki).digest()).decode())
    return keys
