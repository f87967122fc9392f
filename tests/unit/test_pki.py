"""Certificates that browsers and Carbon take, and when they are made anew."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509

from runbook_lib import pki

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def days(count: float) -> datetime.datetime:
    return NOW + datetime.timedelta(days=count)


def handshake(tmp_path: Path, bundle: str, ca_pem: str, name: str) -> str | None:
    """A real TLS handshake on loopback, verified as a browser would: the protocol. Raises ssl.SSLError."""
    path = tmp_path / "server.pem"
    path.write_text(bundle)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=ca_pem)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except (ssl.SSLError, OSError):
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as secured:
            return secured.version()
    finally:
        here.close()
        thread.join()


def test_a_strict_client_that_trusts_the_authority_accepts_the_host(tmp_path: Path) -> None:
    ca = pki.make_ca("demo CA")
    certificate, key = pki.issue(ca, ["store.lab.test", "10.0.0.1"])
    assert handshake(tmp_path, key + certificate, ca.cert_pem, "store.lab.test") == "TLSv1.3"
    assert handshake(tmp_path, key + certificate, ca.cert_pem, "10.0.0.1") == "TLSv1.3"


def test_another_name_or_another_authority_is_refused(tmp_path: Path) -> None:
    ca, other = pki.make_ca("demo CA"), pki.make_ca("demo CA")
    certificate, key = pki.issue(ca, ["store.lab.test"])
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(tmp_path, key + certificate, ca.cert_pem, "publisher.lab.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, key + certificate, other.cert_pem, "store.lab.test")


def test_a_clock_a_little_behind_accepts_it_too() -> None:
    [certificate] = pki.certificates(pki.make_ca("x", now=NOW).cert_pem)
    assert certificate.not_valid_before_utc < NOW - datetime.timedelta(minutes=30)


@pytest.mark.parametrize(
    ("after", "hosts", "reason"),
    [
        (0, ["a.example.com"], None),
        (334, ["a.example.com"], None),
        (336, ["a.example.com"], "more days"),
        (400, ["a.example.com"], "more days"),
        (0, ["b.example.com"], "made for a.example.com"),
        (0, ["a.example.com", "b.example.com"], "made for a.example.com"),
    ],
)
def test_when_a_host_certificate_is_made_anew(after: int, hosts: list[str], reason: str | None) -> None:
    ca = pki.make_ca("x", now=NOW)
    certificate, key = pki.issue(ca, ["a.example.com"], now=NOW)
    found = pki.needs_renewal(key + certificate, ca.cert_pem, hosts, now=days(after))
    assert found == reason if reason is None else reason in (found or "")


def test_a_certificate_of_another_authority_or_none_at_all_is_made_anew() -> None:
    ca, other = pki.make_ca("x"), pki.make_ca("x")
    certificate, _ = pki.issue(other, ["a.example.com"])
    assert pki.needs_renewal(certificate, ca.cert_pem, ["a.example.com"]) == "signed by another authority"
    assert pki.needs_renewal("garbage", ca.cert_pem, ["a.example.com"]) == "not a certificate"


def test_the_authority_may_sign_hosts_and_nothing_that_signs() -> None:
    [certificate] = pki.certificates(pki.make_ca("x").cert_pem)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0


def test_who_trusts_two_keys_of_one_tier_takes_either(tmp_path: Path) -> None:
    """As Nginx does while one replaces the other: of two certificates of one subject OpenSSL finds the newer one only."""
    when = [datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age) for age in (100, 0)]
    before, after = (pki.make_tier_key("store.lab.test", ["store.lab.test"], now=moment) for moment in when)
    both = pki.certificate_of(after) + pki.certificate_of(before)
    for bundle in (before, after):
        assert handshake(tmp_path, bundle, both, "store.lab.test")


def test_a_tier_key_is_one_text_with_its_certificate_and_never_the_same_twice() -> None:
    first, second = (pki.make_tier_key("store", ["store.lab.test"]) for _ in range(2))
    assert first != second
    assert first.index("PRIVATE KEY") < first.index("CERTIFICATE")
    assert "PRIVATE" not in pki.certificate_of(first)
    assert pki.days_left(first) > 3600
    [certificate] = pki.certificates(first)
    certificate.verify_directly_issued_by(certificate)


def test_openssh_reads_the_key_and_agrees_on_its_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.touch(mode=0o600)
    path.write_text(private := pki.make_ssh_key())
    printed = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert printed.split()[:2] == pki.ssh_public_key(private).split()[:2]
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert shown.split()[1] == pki.ssh_fingerprint(private)
