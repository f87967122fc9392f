"""What sshd and systemd answer, read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.checks.machine import exposure, sshd_differences, verify_machines
from runbook_lib.roles.machine import SSHD
from runbook_lib.ssh import Completed, Fleet
from tests.conftest import ROOT

# `sshd -T` of OpenSSH 9.2 on Debian 12 with the planned file, only the settings that it names
GOOD = """\
permitrootlogin no
passwordauthentication no
kbdinteractiveauthentication no
maxauthtries 3
logingracetime 30
x11forwarding no
allowagentforwarding no
allowtcpforwarding local
permituserenvironment no
compression no
loglevel VERBOSE
tcpkeepalive no
clientaliveinterval 60
clientalivecountmax 2
ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-gcm@openssh.com,aes128-ctr
macs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,umac-128-etm@openssh.com
kexalgorithms sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com,curve25519-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512
hostkeyalgorithms ssh-ed25519-cert-v01@openssh.com,sk-ssh-ed25519-cert-v01@openssh.com,ssh-ed25519,sk-ssh-ed25519@openssh.com
"""


def test_what_was_planned_is_no_difference() -> None:
    assert sshd_differences(GOOD) == []


def test_newer_servers_answer_in_other_words() -> None:
    """As OpenSSH 10.6 does: KexAlgorithms, Macs, and TCPKeepAlive false."""
    mixed = "\n".join(line[0].upper() + line[1:] for line in GOOD.splitlines()).replace("Tcpkeepalive no", "TCPKeepAlive false")
    assert sshd_differences(mixed) == []
    assert sshd_differences(mixed.replace("TCPKeepAlive false", "TCPKeepAlive true")) == ["TCPKeepAlive true"]


@pytest.mark.parametrize(
    ("there", "instead", "found"),
    [
        ("passwordauthentication no", "passwordauthentication yes", "PasswordAuthentication yes"),
        ("permitrootlogin no", "permitrootlogin without-password", "PermitRootLogin without-password"),
        ("x11forwarding no\n", "", "X11Forwarding absent"),
        ("kexalgorithms ", "kexalgorithms ecdh-sha2-nistp256,", "KexAlgorithms ecdh-sha2-nistp256"),
        ("kexalgorithms ", "kexalgorithms diffie-hellman-group14-sha256,", "KexAlgorithms diffie-hellman-group14-sha256"),
        ("hostkeyalgorithms ", "hostkeyalgorithms ecdsa-sha2-nistp256,", "HostKeyAlgorithms ecdsa-sha2-nistp256"),
        ("hostkeyalgorithms ", "hostkeyalgorithms rsa-sha2-512,", "HostKeyAlgorithms rsa-sha2-512"),
        ("macs ", "macs hmac-sha1,", "MACs hmac-sha1"),
        ("ciphers ", "ciphers 3des-cbc,", "Ciphers 3des-cbc"),
    ],
)
def test_a_setting_that_somebody_weakened_is_named(there: str, instead: str, found: str) -> None:
    assert GOOD.count(there) == 1
    (difference,) = sshd_differences(GOOD.replace(there, instead))
    assert difference.startswith(found)


def test_no_answer_is_everything_different() -> None:
    assert len(sshd_differences("")) == len(SSHD.strip().splitlines()) - 1  # but its comment


@pytest.mark.parametrize(
    ("said", "points"),
    [
        ("→ Overall exposure level for nginx.service: 2.7 OK :-)", 2.7),
        ("→ Overall exposure level for nginx.service: 9.6 UNSAFE :-{", 9.6),
        ("Failed to get unit nginx.service", None),
        ("→ Overall exposure level for other.service: 1.0 OK", None),
    ],
)
def test_the_exposure_is_read(said: str, points: float | None) -> None:
    assert exposure(said, "nginx.service") == points


@pytest.mark.parametrize(
    ("said", "status", "observed"),
    [
        ("yes\n", "pass", "synchronized"),
        ("no\n", "fail", "169.254.169.123"),  # where to look, and the time server that every machine in EC2 can reach
        ("Failed to connect to bus: Host is down\n", "undecided", "Host is down"),
        ("", "undecided", "no answer"),
        ("container\n", None, ""),  # its clock is its host's
    ],
)
def test_a_machine_whose_clock_no_time_server_sets_is_named(said: str, status: str | None, observed: str) -> None:
    host = SimpleNamespace(name="db-1", run=lambda *_, **__: Completed(0, f"{GOOD}--\n→ Overall exposure level for nginx.service: 2.7 OK\n--\n{said}", ""))
    deployment: Any = SimpleNamespace(fleet=lambda: Fleet({"db-1": host}))  # type: ignore[dict-item]
    node: Any = SimpleNamespace(name="db-1")
    rows = {row.id: row for row in verify_machines(deployment, [node], ("nginx.service",), "02_install_mysql")}
    assert [row.status for id, row in rows.items() if id != "machine-clock-db-1"] == ["pass", "pass"]
    clock = rows.get("machine-clock-db-1")
    assert (clock.status if clock else None) == status and observed in (clock.observed if clock else "")


def test_every_check_of_a_machine_is_described() -> None:
    text = (ROOT / "docs/checks.md").read_text(encoding="utf-8")
    assert [name for name in ("sshd", "confined", "clock") if f"| `machine-{name}-<node>` |" not in text] == []
