"""Keys and certificates of a deployment: the CA that visitors trust, a certificate for each host, a signing key for each tier.

Each is a text that fits into SSM (4 KB): EC P-256 for what Nginx serves, RSA 2048 for the tiers, because Carbon 4.4.1 signs
SAML with RSA (facts 1.1: the shipped key has 1024 bits, is public and the same everywhere). Validity and names are read from
the certificate itself, so that every machine comes to the same result.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
HOST_DAYS = 365
TIER_DAYS = 3650  # long, because a new signing key ends all sessions and makes old registry values unreadable
RENEW_DAYS = 30  # a host certificate that is valid for fewer days is renewed by the next run
BACKDATED = datetime.timedelta(hours=1)  # so that a machine whose clock is slow accepts the certificate
ORGANISATION = "WSO2 cluster runbook"


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its private key and its certificate, both PEM."""

    key_pem: str
    cert_pem: str


def make_ca(name: str, now: datetime.datetime | None = None) -> Authority:
    """Return a new authority called `name`, valid for ten years, that may sign host certificates only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = (
        _builder(subject, subject, key.public_key(), CA_DAYS, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return Authority(_pem(key), _cert_pem(builder.sign(key, hashes.SHA256())))


def issue(ca: Authority, hosts: Sequence[str], now: datetime.datetime | None = None, peer: bool = False) -> tuple[str, str]:
    """Return (certificate, key) as PEM for a TLS server with the names or addresses `hosts`, valid for a year.

    `peer`: it may also be shown by a client, as where two servers prove themselves to each other.
    """
    ca_key, ca_cert = _signing_key(ca), x509.load_pem_x509_certificate(ca.cert_pem.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_id = ca_cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name(hosts[0]), ca_cert.subject, key.public_key(), HOST_DAYS, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_alternatives(hosts), critical=False)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if peer else [])]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    return _cert_pem(builder.sign(ca_key, hashes.SHA256())), _pem(key)


def make_tier_key(common_name: str, sans: Sequence[str], now: datetime.datetime | None = None) -> str:
    """Return a new signing key of a tier as one PEM text, key first: self-signed, RSA 2048, SHA-256.

    Carbon uses it for SAML and for TLS on 9443, so `sans` are the public names that Nginx checks there (golden-run 5). Its subject is its own: of
    two self-signed certificates of one subject, OpenSSL finds the one that is valid for longer only, and Nginx refuses nodes that show the other.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([*_name(common_name), x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{x509.random_serial_number():x}"[:16])])
    builder = (
        _builder(subject, subject, key.public_key(), TIER_DAYS, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_alternatives(sans), critical=False)
    )
    return _pem(key) + _cert_pem(builder.sign(key, hashes.SHA256()))


def make_ssh_key() -> str:
    """Return a new ED25519 private key in the format of OpenSSH."""
    key = ed25519.Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def ssh_public_key(private_key: str) -> str:
    """Return the line for authorized_keys that belongs to `private_key`."""
    key = serialization.load_ssh_private_key(private_key.encode(), None)
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def ssh_fingerprint(private_key: str) -> str:
    """Return the SHA-256 fingerprint of the public key as `ssh-keygen -l` prints it; it identifies a key without showing it."""
    return ssh_fingerprint_of_public(ssh_public_key(private_key))


def sign(private_key: str, data: bytes) -> str:
    """Return the Ed25519 signature of `data` in base64. `private_key`: as `make_ssh_key` makes it."""
    key = serialization.load_ssh_private_key(private_key.encode(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    return base64.b64encode(key.sign(data)).decode()


def signed_by(public_key: str, data: bytes, signature: str) -> bool:
    """Return whether `signature` (base64 as `sign` writes it, in no other spelling) is one of `data` by this key."""
    try:
        key, raw = serialization.load_ssh_public_key(public_key.encode()), base64.b64decode(signature, validate=True)
        assert isinstance(key, ed25519.Ed25519PublicKey)
        key.verify(raw, data)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, AssertionError):
        return False
    return base64.b64encode(raw).decode() == signature


def ssh_fingerprint_of_public(public_key: str) -> str:
    """Return the SHA-256 fingerprint of a public key's line, as `ssh-keygen -l` prints it."""
    blob = base64.b64decode(public_key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def is_ssh_public_key(line: str) -> bool:
    """Return whether `type base64` is a whole public key of the type that it says: its parts fill it exactly (RFC 4253, 5656, 8709)."""
    try:
        serialization.load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def certificates(pem: str) -> list[x509.Certificate]:
    """Return every certificate in a PEM text, in order; a private key in it is ignored."""
    found = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    return [x509.load_pem_x509_certificate(text.encode()) for text in found]


def certificate_of(bundle: str) -> str:
    """Return the certificates of a PEM bundle without its key: the part that may be shown and trusted."""
    return "".join(_cert_pem(certificate) for certificate in certificates(bundle))


def split(bundle: str) -> tuple[bytes, bytes]:
    """Return (certificates, private key) of a PEM bundle.

    Before the launch the bundle is a name in brackets; then both are that name.
    """
    start = bundle.find("-----BEGIN CERTIFICATE-----")
    return (bundle[start:].encode(), bundle[:start].encode()) if start >= 0 else (bundle.encode(), bundle.encode())


def days_left(pem: str, now: datetime.datetime | None = None) -> int:
    """Return the whole days until the first certificate in `pem` expires; negative when it has expired."""
    return (certificates(pem)[0].not_valid_after_utc - (now or _now())).days


def needs_renewal(pem: str, ca_pem: str, hosts: Sequence[str], now: datetime.datetime | None = None) -> str | None:
    """Return why the host certificate in `pem` must be renewed (expires soon, other names, another issuer), or None."""
    try:
        certificate, authority = certificates(pem)[0], certificates(ca_pem)[0]
    except (IndexError, ValueError):
        return "not a certificate"
    if days_left(pem, now) < RENEW_DAYS:
        return f"valid for {days_left(pem, now)} more days"
    if names_of(certificate) != tuple(sorted(hosts)):
        return f"made for {', '.join(names_of(certificate))}"
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return "signed by another authority"
    return None


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses that a certificate is valid for, sorted."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(sorted(str(name.value) for name in names))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    days: int,
    now: datetime.datetime | None,
) -> x509.CertificateBuilder:
    moment = (now or _now()).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - BACKDATED)
        .not_valid_after(moment + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _signing_key(ca: Authority) -> CertificateIssuerPrivateKeyTypes:
    key = serialization.load_pem_private_key(ca.key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _alternatives(hosts: Iterable[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(host) for host in hosts])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    """Return the subject for a common name, cut to the 64 characters allowed. Clients check the alternative names, which have the full host name."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _usage(**granted: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: granted.get(name, False) for name in every})


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def _cert_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
