"""Java keystores and truststores as resources, in the format JKS, which Carbon 4.4.1 reads (facts 1.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from runbook_lib.changes import Change
from runbook_lib.converge.resources import Fact, Resource, Wire, attributes, pack


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Store(Resource):
    path: str
    password: str = field(repr=False)
    owner: str
    mode: int = 0o640
    keytool: str = "keytool"

    @property
    def key(self) -> str:
        return f"{self.kind} {self.path}"

    @cached_property
    def _made_of(self) -> str:
        """The digest of everything the store is made from; the agent records it beside the store."""
        raise TypeError(f"{type(self).__name__} has no content")

    def question(self) -> Wire:
        return {**super().question(), "path": self.path}

    def change(self, fact: Fact) -> Change | None:
        if fact["made_of"] == self._made_of and fact["intact"]:
            wrong = attributes(fact, self.mode, self.owner)
            return Change(self.key, "change", ", ".join(wrong)) if wrong else None
        why = "changed by another hand" if fact["made_of"] == self._made_of else "other content"
        return Change(self.key, "replace" if fact["exists"] else "create", why if fact["exists"] else "is absent")

    def order(self, fact: Fact) -> Wire:
        wish = {"password": self.password, "owner": self.owner, "mode": self.mode, "keytool": self.keytool, "made_of": self._made_of}
        return {**self.question(), **wish}


@dataclass(frozen=True)
class Keystore(_Store):
    """A JKS keystore with one private key and its certificate (`pem` holds both) under `alias`. Key and store have the same password."""

    kind = "keystore"
    pem: str = field(default="", repr=False)
    alias: str = "wso2carbon"

    @cached_property
    def _made_of(self) -> str:
        return _digest(self.pem, self.alias, self.password)

    def order(self, fact: Fact) -> Wire:
        key = serialization.load_pem_private_key(self.pem.encode(), None)
        certificate = x509.load_pem_x509_certificates(self.pem.encode())[0]
        # JDK 7 and 8 read only these old algorithms. The file exists only briefly, in a directory of root with mode 0700.
        sealed = (
            serialization.PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(50000)
            .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(hashes.SHA1())
            .build(self.password.encode())
        )
        data = pkcs12.serialize_key_and_certificates(self.alias.encode(), key, certificate, None, sealed)  # type: ignore[arg-type]
        return {**super().order(fact), "alias": self.alias, "pkcs12": pack(data)}


@dataclass(frozen=True)
class Truststore(_Store):
    """A JKS truststore that holds these PEM certificates by alias. Other aliases of the shipped store stay, unless it is `whole`: nothing else then."""

    kind = "truststore"
    certificates: Mapping[str, str] = field(default_factory=dict, repr=False)
    whole: bool = False

    @cached_property
    def _made_of(self) -> str:
        return _digest(sorted(self.certificates.items()), self.password)

    def order(self, fact: Fact) -> Wire:
        return {**super().order(fact), "certificates": dict(self.certificates), "whole": self.whole}
