"""Recognises a page by what only this page has: form fields, the target of a redirect, words of the body.

The status alone is not enough: the product answers 302 to every request it does not know (facts 10.1). The pages and their
conditions are data, in `attempts.yaml`; this module defines what the conditions mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from runbook_lib.webclient.response import Answer


@dataclass(frozen=True)
class Seen:
    """The page or finding that a step ended at. `page`: its name in `attempts.yaml`, or `unknown`; `says`: its word in the golden table."""

    page: str
    says: str
    means: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.means} ({self.detail})" if self.detail else self.means


@dataclass(frozen=True)
class PageSignature:
    """One page of the catalogue: its name, its word in the golden table, its meaning in a sentence, and its conditions."""

    name: str
    says: str
    means: str
    when: Mapping[str, Any]

    def fits(self, answer: Answer, hops: Sequence[Answer], words: Mapping[str, str]) -> bool:
        """Return whether every condition holds. `words` fill the placeholders; `hops` are the responses before this one."""
        return all(CONDITIONS[key](wanted, answer, hops, words) for key, wanted in self.when.items())


def _fill(pattern: str, words: Mapping[str, str]) -> str:
    """Return the regular expression with its placeholders filled; other braces in it are kept."""
    return re.sub(r"\{(\w+)\}", lambda match: re.escape(words.get(match[1], match[0])), pattern)


def _matches(pattern: str, text: str, words: Mapping[str, str]) -> bool:
    return re.fullmatch(_fill(pattern, words), text) is not None


def _contains(pattern: str, text: str, words: Mapping[str, str]) -> bool:
    return re.search(_fill(pattern, words), text, re.IGNORECASE) is not None


def _statuses(wanted: int | list[int]) -> list[int]:
    return wanted if isinstance(wanted, list) else [wanted]


def _location(answer: Answer) -> str:
    return urljoin(answer.url, answer.header("location")) if answer.header("location") else ""


def _without_parameters(path: str) -> str:
    """Return the path as the application sees it: `/sso/login` for `/sso/login;jsessionid=…`."""
    return path.split(";")[0]


CONDITIONS = {
    "status": lambda wanted, a, hops, words: a.status in _statuses(wanted),
    "scheme": lambda wanted, a, hops, words: urlsplit(a.url).scheme == wanted,
    "path": lambda wanted, a, hops, words: _matches(wanted, _without_parameters(urlsplit(a.url).path), words),
    "location": lambda wanted, a, hops, words: _matches(wanted, urlsplit(_location(a)).path, words),
    "location_host": lambda wanted, a, hops, words: _matches(wanted, urlsplit(_location(a)).hostname or "", words),
    "location_scheme": lambda wanted, a, hops, words: urlsplit(_location(a)).scheme == wanted,
    "body": lambda wanted, a, hops, words: all(_contains(one, a.text, words) for one in wanted),
    "without": lambda wanted, a, hops, words: not any(_contains(one, a.text, words) for one in wanted),
    "inputs": lambda wanted, a, hops, words: any(set(wanted) <= set(form.fields) for form in a.forms),
    "action": lambda wanted, a, hops, words: any(_contains(wanted, form.action, words) for form in a.forms),
    "hop": lambda wanted, a, hops, words: any(_matches(wanted, urlsplit(_location(hop)).path, words) for hop in (*hops, a)),
    "empty": lambda wanted, a, hops, words: (not a.text.strip()) is wanted,
}


class Catalogue:
    """The known pages, in the order in which they are compared: the first that fits is used.

    Raises `ValueError` when a page has an unknown condition.
    """

    def __init__(self, table: Mapping[str, Mapping[str, Any]], findings: Mapping[str, Mapping[str, str]] | None = None):
        self._findings = findings or {}
        self.pages = [
            PageSignature(name, row["says"], row["means"], {k: v for k, v in row.items() if k not in ("says", "means")}) for name, row in table.items()
        ]
        if unknown := {key for page in self.pages for key in page.when} - set(CONDITIONS):
            raise ValueError(f"conditions that nobody understands: {', '.join(sorted(unknown))}")

    @property
    def names(self) -> set[str]:
        """Names of all pages and findings."""
        return {page.name for page in self.pages} | set(self._findings)

    def finding(self, name: str, detail: str) -> Seen:
        """Return the finding `name` of a step that does not end at a page. Raises `KeyError` when it is unknown."""
        row = self._findings[name]
        return Seen(name, row["says"], row["means"], detail)

    def recognise(self, answer: Answer, hops: Sequence[Answer], words: Mapping[str, str]) -> Seen:
        """Return the first page that fits `answer`, else one named `unknown`. `{host}` in a condition is the host of the page itself."""
        filled = {**words, "host": urlsplit(answer.url).netloc}
        detail = described(answer)
        for page in self.pages:
            if page.fits(answer, hops, filled):
                return Seen(page.name, page.says, page.means, detail)
        return Seen("unknown", str(answer.status), "a page that is none of those expected", detail)


def described(answer: Answer) -> str:
    """Return the status and the URL or redirect target, without query and session id."""
    if location := answer.header("location"):
        return f"{answer.status} to {_shown(location)}"
    return f"{answer.status} at {_shown(answer.url)}"


def _shown(url: str) -> str:
    return re.sub(r";jsessionid=[^?]*", "", url.split("?")[0], flags=re.IGNORECASE)
