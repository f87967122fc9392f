"""Forged assertions: with another name, or without the signature."""

from __future__ import annotations

import base64
from dataclasses import replace

from lxml import etree

from runbook_lib.webclient.response import Form

NAMESPACES = {"saml": "urn:oasis:names:tc:SAML:2.0:assertion", "ds": "http://www.w3.org/2000/09/xmldsig#"}


def tampered(form: Form, what: str) -> Form:
    """Return the form with its SAMLResponse altered. `what`: `name` (replaced by admin, signature kept) or `signature` (removed)."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    message = etree.fromstring(base64.b64decode(form.fields["SAMLResponse"]), parser)
    if what == "name":
        for name in message.iterfind(".//saml:NameID", NAMESPACES):
            name.text = "admin"
    else:
        for signature in list(message.iterfind(".//ds:Signature", NAMESPACES)):
            parent = signature.getparent()
            assert parent is not None
            parent.remove(signature)
    return replace(form, fields=form.fields | {"SAMLResponse": base64.b64encode(etree.tostring(message)).decode()})
