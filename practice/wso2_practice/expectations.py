"""The expectations that a row of the conformance table may have of a step's outcome.

Each function returns None when the expectation holds, else what was observed instead.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from runbook_lib.webclient.cookies import Cookie, moment, parse_set_cookie
from runbook_lib.webclient.response import Answer


@dataclass(frozen=True)
class StepAnswers:
    """The responses of one step; the last is the page at which the step ended. `asked`: whether a password was asked for during it."""

    hops: tuple[Answer, ...] = ()
    asked: bool = False

    @property
    def final(self) -> Answer:
        return self.hops[-1]

    @property
    def asked_or_asking(self) -> bool:
        """Return whether a password was asked for during the step or is asked for by its last page."""
        return self.asked or self.final.login_form is not None


def _path(url: str) -> str:
    """Return the path as an application sees it, without path parameters."""
    return urlsplit(url).path.split(";")[0]


def _location(outcome: StepAnswers) -> str:
    return urljoin(outcome.final.url, outcome.final.location) if outcome.final.location else ""


def status(outcome: StepAnswers, expected: int) -> object:
    return None if outcome.final.status == expected else outcome.final.status


def location(outcome: StepAnswers, expected: str) -> object:
    # not with urlsplit: `//publisher/login` is a path here, not a host
    path = re.sub(r"^https?://[^/]*", "", _location(outcome)).split("?")[0].split(";")[0]
    return None if re.fullmatch(expected, path) else path or "no Location"


def location_host(outcome: StepAnswers, expected: str) -> object:
    host = urlsplit(_location(outcome)).hostname
    return None if host == expected else host or "no Location"


def content_type(outcome: StepAnswers, expected: str) -> object:
    """Compare the content type without its parameters; an empty string expects none."""
    found = outcome.final.header("content-type").split(";")[0]
    return None if found == expected else found or "no content type"


def opens_session(outcome: StepAnswers, expected: bool) -> object:
    """Compare whether the last response sets a JSESSIONID: a script does at the first visit, a file does not."""
    opened = any(cookie.name == "JSESSIONID" for cookie in outcome.final.set_cookies)
    return None if opened == expected else opened


def at(outcome: StepAnswers, expected: str) -> object:
    path = _path(outcome.final.url)
    return None if re.fullmatch(expected, path) else path


def asked(outcome: StepAnswers, expected: bool) -> object:
    return None if outcome.asked_or_asking == expected else outcome.asked_or_asking


def trail(outcome: StepAnswers, expected: list[str]) -> object:
    walked = [f"{_path(hop.url)} {hop.status}" for hop in outcome.hops]
    return None if walked == expected else walked


def fields(outcome: StepAnswers, expected: list[str]) -> object:
    if any(set(expected) <= set(form.fields) for form in outcome.final.forms):
        return None
    return [sorted(form.fields) for form in outcome.final.forms] or "no form"


def action(outcome: StepAnswers, expected: str) -> object:
    paths = [_path(form.action) for form in outcome.final.forms]
    return None if expected in paths else paths or "no form"


def body(outcome: StepAnswers, expected: list[str]) -> object:
    missing = [pattern for pattern in expected if not re.search(pattern, outcome.final.text)]
    return [f"no {pattern}" for pattern in missing] or None


def empty(outcome: StepAnswers, expected: bool) -> object:
    text = outcome.final.text.strip()
    return None if (not text) == expected else text[:60] or "nothing"


def lacks(outcome: StepAnswers, expected: str) -> object:
    """Expect that the page's SAMLRequest does not have this attribute."""
    form = outcome.final.form("SAMLRequest")
    if form is None:
        return "no SAMLRequest"
    message = saml_text(form.fields["SAMLRequest"])
    return None if "AuthnRequest" in message and expected not in message else message[:200]


def saml_text(encoded: str) -> str:
    """Return the XML of a SAML message in base64, with or without URL encoding and deflation (all occur); "" when it is not base64."""
    try:
        raw = base64.b64decode(unquote(encoded) if "%" in encoded else encoded)
    except binascii.Error:
        return ""
    for window in (-15, 15):
        try:
            return zlib.decompress(raw, window).decode("utf-8", "replace")
        except zlib.error:
            continue
    return raw.decode("utf-8", "replace")


def cookies(outcome: StepAnswers, expected: dict[str, dict[str, Any]]) -> object:
    """Expect that at least one cookie of each name (or name@path) was set during the step, and that all of them have these attributes."""
    wrong = []
    for name, attributes in expected.items():
        live = [pair for pair in _set_cookies(outcome) if not pair[0].expired]
        found = [pair for pair in live if name in (pair[0].name, f"{pair[0].name}@{pair[0].path}")]
        if not found:
            wrong.append(f"{name} is not set")
        for cookie, raw in found:
            for key, value in attributes.items():
                observed = ATTRIBUTES[key](cookie, raw)
                if not _meets(key, value, observed):
                    seen = f"{len(observed)} characters" if key == "value" else observed
                    wrong.append(f"{name}: {key} is {seen!r}")
    return wrong or None


def _meets(key: str, expected: Any, observed: Any) -> bool:
    if isinstance(observed, str):
        return re.fullmatch(expected, observed) is not None
    if key == "lifetime" and None not in (expected, observed):
        return abs(observed - expected) <= TOLERANCE
    return bool(observed == expected)


def _set_cookies(outcome: StepAnswers) -> list[tuple[Cookie, str]]:
    return [
        (parse_set_cookie(value, urlsplit(hop.url).hostname or "", urlsplit(hop.url).path, moment(hop.header("date"))), value)
        for hop in outcome.hops
        for name, value in hop.headers
        if name.lower() == "set-cookie"
    ]


TOLERANCE = 5.0  # seconds by which a lifetime (Expires minus the response's Date, or this machine's clock) may differ
ATTRIBUTES: dict[str, Callable[[Cookie, str], Any]] = {
    "value": lambda cookie, raw: cookie.value,
    "path": lambda cookie, raw: cookie.path,
    "path_attribute": lambda cookie, raw: "path=" in raw.lower(),
    "secure": lambda cookie, raw: cookie.secure,
    "http_only": lambda cookie, raw: cookie.http_only,
    "same_site": lambda cookie, raw: cookie.same_site,
    "host_only": lambda cookie, raw: not cookie.domain,
    "session": lambda cookie, raw: cookie.max_age is None and "expires=" not in raw.lower(),
    "max_age": lambda cookie, raw: cookie.max_age,
    "lifetime": lambda cookie, raw: cookie.lifetime,
}
EXPECTATIONS: dict[str, Callable[[StepAnswers, Any], object]] = {
    function.__name__: function
    for function in (status, location, location_host, content_type, opens_session, at, asked, trail, fields, action, body, empty, lacks, cookies)
}
