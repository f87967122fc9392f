"""Tell others that a batch is done: a POST to a webhook, a mail."""

from __future__ import annotations

import json
import os
import smtplib
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx2

SECONDS = 20.0
RELAY = "RUNBOOK_SMTP"  # HOST or HOST:PORT of the mail relay
WEBHOOK = "RUNBOOK_WEBHOOK"  # the address, where it should not stand in a file: most hold a token


def notify(found: Mapping[str, Any], folder: Path, webhook: str | None, mail: str | None) -> Iterator[str]:
    """Tell the webhook and the mail address, and yield a line for each that could not be told. Neither changes how the batch ended."""
    words = f"{found['sweep']}: {found['verified']} of {len(found['rows'])} {'done' if found['verb'] in ('plan', 'destroy') else 'verified'}"
    webhook = webhook or os.environ.get(WEBHOOK)
    if webhook:
        content = {"text": words, **{key: found[key] for key in ("sweep", "verb", "ok", "verified", "states", "started", "seconds")}}
        content["failed"] = [{"name": row["name"], "state": row["state"], "words": row["words"]} for row in found["rows"] if not row["ok"]]
        try:
            httpx2.post(webhook, json=content, timeout=SECONDS).raise_for_status()
        except httpx2.HTTPError as error:
            yield f"the webhook was not told: {type(error).__name__}"  # the error's own words have the address, which may hold a token
    if mail:
        host, _, port = os.environ.get(RELAY, "localhost").partition(":")
        try:
            with smtplib.SMTP(host, int(port or 25), timeout=SECONDS) as relay:
                relay.send_message(letter(words, found, folder, mail))
        except (OSError, smtplib.SMTPException, ValueError) as error:
            yield f"no mail was sent to {mail} by {host}: {error}; ${RELAY} names another relay"


def letter(words: str, found: Mapping[str, Any], folder: Path, mail: str) -> EmailMessage:
    """Return the mail: what was found in the subject, each failure in a line, the page attached."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = words, mail, mail
    failed = [f"{row['name']}: {row['state']}: {row['words']}" for row in found["rows"] if not row["ok"]]
    message.set_content("\n".join([words, f"{found['verb']}, begun {found['started']}, {found['seconds']} s", "", *failed]) + "\n")
    message.add_attachment((folder / "batch.html").read_text(encoding="utf-8"), subtype="html", filename="batch.html")
    message.add_attachment(json.dumps(found, indent=1, default=str), subtype="json", filename="batch.json")
    return message
