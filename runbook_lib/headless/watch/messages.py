"""A POST to a webhook, a mail by a relay: how a batch and a watch tell somebody. A failure is returned in words; it changes nothing else."""

from __future__ import annotations

import os
import re
import smtplib
import urllib.parse
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from typing import Any

import httpx2

from runbook_lib.errors import RunbookError

SECONDS = 20.0
RELAY = "RUNBOOK_SMTP"  # HOST or HOST:PORT of the mail relay
WEBHOOK = "RUNBOOK_WEBHOOK"  # the address, where it should not stand in a file: most hold a token

ADDRESS = re.compile(r"[^\s@<>(),:;\"\\\[\]]+@[\w-]+(\.[\w-]+)*")  # of one mailbox: what `mail_to` can write into a head


def post(address: str, content: Mapping[str, Any]) -> str:
    """Send the content as JSON; return "" once it was taken, else why not, without the address."""
    try:
        httpx2.post(address, json=content, timeout=SECONDS).raise_for_status()
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return f"the webhook was not told: {type(error).__name__}"  # the error's own words have the address, which may hold a token
    return ""


def send(letter: Callable[[], EmailMessage]) -> str:
    """Send what `letter` makes by the relay of $RUNBOOK_SMTP, or this machine's own; return "" once it was taken, else why not."""
    host, _, port = os.environ.get(RELAY, "localhost").partition(":")
    try:
        message = letter()
        with smtplib.SMTP(host, int(port or 25), timeout=SECONDS) as relay:
            relay.send_message(message)
    except (OSError, smtplib.SMTPException, ValueError, LookupError) as error:  # the last one: an address that cannot be read
        return f"no mail was sent by {host}: {error}; ${RELAY} names another relay"
    return ""


def mail_to(address: str, subject: str, text: str) -> EmailMessage:
    """Return a mail in plain text, from the address to itself."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, address, address
    message.set_content(text)
    return message


def webhook() -> str:
    """Return the address in $RUNBOOK_WEBHOOK, "" where there is none. Raises RunbookError, without the address, for one that is none."""
    address = os.environ.get(WEBHOOK, "").strip()
    try:
        parts = urllib.parse.urlsplit(address)
        wrong = bool(address) and (parts.scheme not in ("http", "https") or not parts.hostname)
    except ValueError:
        wrong = True
    if wrong:
        raise RunbookError("the webhook's address is none", f"${WEBHOOK}", "write it as https://HOST/PATH, or take it away")
    return address
