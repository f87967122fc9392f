"""Tell others that a batch is done: a POST to a webhook, a mail."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

from runbook_lib.headless.watch.messages import WEBHOOK, mail_to, post, send


def notify(found: Mapping[str, Any], folder: Path, webhook: str | None, mail: str | None) -> Iterator[str]:
    """Tell the webhook and the mail address, and yield a line for each that could not be told. Neither changes how the batch ended."""
    words = f"{found['sweep']}: {found['verified']} of {len(found['rows'])} {'done' if found['verb'] in ('plan', 'destroy') else 'verified'}"
    webhook = webhook or os.environ.get(WEBHOOK)
    if webhook:
        content = {"text": words, **{key: found[key] for key in ("sweep", "verb", "ok", "verified", "states", "started", "seconds")}}
        content["failed"] = [{"name": row["name"], "state": row["state"], "words": row["words"]} for row in found["rows"] if not row["ok"]]
        if why := post(webhook, content):
            yield why
    if mail and (why := send(partial(letter, words, found, folder, mail))):
        yield why


def letter(words: str, found: Mapping[str, Any], folder: Path, mail: str) -> EmailMessage:
    """Return the mail: what was found in the subject, each failure in a line, the page attached."""
    failed = [f"{row['name']}: {row['state']}: {row['words']}" for row in found["rows"] if not row["ok"]]
    message = mail_to(mail, words, "\n".join([words, f"{found['verb']}, begun {found['started']}, {found['seconds']} s", "", *failed]) + "\n")
    message.add_attachment((folder / "batch.html").read_text(encoding="utf-8"), subtype="html", filename="batch.html")
    message.add_attachment(json.dumps(found, indent=1, default=str), subtype="json", filename="batch.json")
    return message
