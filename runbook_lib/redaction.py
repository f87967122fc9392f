"""Redaction of secrets in everything that is shown or written: each known value, in every common encoding, is replaced by its label."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shlex
import threading
import urllib.parse
from collections.abc import Iterable, Iterator

SHORTEST = 6  # characters; a shorter value would also match in ordinary words
SHORT = 10_000  # characters; in a shorter text all values are looked for one by one sooner than their pattern is compiled
START = 16  # characters of a value that the pattern holds; what follows is compared where these stand
PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?(-----END \1-----|\Z)", re.DOTALL)
# anyone who reads a presigned URL in a log can use it, so its signature is redacted
PRESIGNED = re.compile(r"(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"'<>]+", re.IGNORECASE)


class Redactor:
    """The known secret values and their labels. The process has one instance (`redactor`); it is safe to use from several threads."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._starting: dict[str, list[str]] = {}  # the forms that may stand where their first characters were found, the longest first
        self._lock = threading.Lock()

    def add(self, label: str, value: str) -> None:
        """Replace `value` by `[label]` from now on, and each line of a PEM text too. Values of fewer than 6 characters are ignored."""
        with self._lock:
            for form in _forms(value):
                if form not in self._forms:
                    self._forms[form] = label
                    self._pattern = None

    def redact(self, text: str) -> str:
        """Return `text` with all known values, private keys and signatures of presigned URLs replaced."""
        with self._lock:
            if self._pattern is None and len(text) < SHORT and not any(form in text for form in self._forms):
                return _without_keys(text)
            if self._pattern is None:
                self._starting = _by_start(self._forms)
                self._pattern = re.compile(any_of(self._starting) if self._forms else r"(?!)")
            pattern, starting, forms = self._pattern, self._starting, self._forms
        shown, done, at = "", 0, 0
        while found := pattern.search(text, at):
            at = found.start()
            if form := next((form for form in starting[found[0]] if text.startswith(form, at)), ""):
                shown += f"{text[done:at]}[{forms[form]}]"
                done = at = at + len(form)
            else:
                at += 1
        return _without_keys(shown + text[done:])


def _without_keys(text: str) -> str:
    """Return `text` without private keys and signatures, whoever's they are."""
    return PRESIGNED.sub(r"\1[signature]", PRIVATE_KEY.sub("[private key]", text))


def _by_start(forms: Iterable[str]) -> dict[str, list[str]]:
    """Return by their first `START` characters the forms that begin with these, and those that are only the beginning of these, the longest first.

    The whole values as one pattern take the third of a second to compile, again with every new value; their starts a fifth of that.
    """
    known = set(forms)
    found: dict[str, list[str]] = {}
    for form in known:
        found.setdefault(form[:START], []).append(form)
    for start, starting in found.items():
        starting += [start[:length] for length in range(1, len(start)) if start[:length] in known]
        starting.sort(key=len, reverse=True)
    return found


def any_of(words: Iterable[str]) -> str:
    """Return a regular expression that matches the longest of the words at a position, as a tree with common prefixes shared.

    A plain alternation would try hundreds of values at every character of a page with embedded pictures; the tree tries a few dozen.
    """
    found = set(words)
    start = os.path.commonprefix(list(found))  # noqa: RUF071 (of letters, not of folders)
    rests: dict[str, list[str]] = {}
    for word in found - {start}:
        rests.setdefault(word[len(start)], []).append(word[len(start) :])
    if not rests:
        return re.escape(start)
    branches = "|".join(any_of(rest) for rest in rests.values())
    return f"{re.escape(start)}(?:{branches}){'?' if start in found else ''}"


def _forms(value: str) -> Iterator[str]:
    """Yield the value as it is and as encoded in JSON, a URL, HTML, a shell word and base64."""
    pieces = [value]
    if "-----BEGIN" in value:
        pieces += [line for line in value.splitlines() if len(line) >= 40 and not line.startswith("-----")]
        pieces += [value.strip()]
    for piece in pieces:
        if len(piece.strip()) < SHORTEST:
            continue
        quoted = urllib.parse.quote(piece, safe="")
        yield from dict.fromkeys(
            (piece, json.dumps(piece)[1:-1], json.dumps(piece, ensure_ascii=False)[1:-1], quoted, quoted.lower(),
             urllib.parse.quote(piece), urllib.parse.quote_plus(piece), html.escape(piece),
             html.escape(piece, quote=False), shlex.quote(piece), *_base64(piece.encode()))
        )  # fmt: skip


def _base64(value: bytes) -> Iterator[str]:
    """Yield the base64 forms of the value within a longer encoded text (`user:password`).

    There is one form for each of the three alignments. Characters at the edges also depend on neighbouring bytes and are left out.
    """
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + value).decode().rstrip("=")
        start = (0, 2, 3)[shift]
        end = len(whole) - (1 if (shift + len(value)) % 3 else 0)
        core = whole[start:end]
        if len(core) >= 8:
            yield core
            yield core.translate(str.maketrans("+/", "-_"))


redactor = Redactor()
