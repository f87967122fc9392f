"""The answers of a server, the forms in them, and a record of each exchange without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import lxml.html

from runbook_lib.webclient.cookies import Cookie

SAML_FIELDS = ("SAMLRequest", "SAMLResponse")
PASSWORD = "password"
NGINX_PAGE = "<center>nginx"  # stands in every error page that Nginx makes itself


@dataclass(frozen=True)
class Form:
    """A form of a page: its action (absolute), its method and its fields."""

    action: str
    method: str
    fields: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.fields


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, fit for a report: cookies by name, long values cut, nothing that was typed in.

    `sent` and `set`: names of the cookies that went along and that the answer gave. `note`: what happened where `status` is None.
    `at`: when it was sent, in UTC as ISO 8601. `posted`: names of the form fields that went along. `offers`: what the page's form holds,
    SAMLRequest, SAMLResponse or password. `by_nginx`: the answer is an error page of Nginx itself. `node`: who answered, where Nginx was asked
    to name it. Records of older runs have none of the five.
    """

    method: str
    url: str
    status: int | None
    location: str
    sent: Sequence[str]
    set: Sequence[str]
    seconds: float
    note: str = ""
    at: str = ""
    posted: Sequence[str] = ()
    offers: Sequence[str] = ()
    by_nginx: bool = False
    node: str = ""

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Exchange:
        """Return the exchange of a record; fields that only a newer version knows are left out."""
        return cls(**{field.name: recorded[field.name] for field in fields(cls) if field.name in recorded})

    @property
    def outcome(self) -> str:
        """Status and where it leads, or what happened instead of an answer."""
        return " ".join(filter(None, (str(self.status) if self.status else self.note, self.location)))

    def __str__(self) -> str:
        sent = f"   [with {', '.join(self.sent)}]" if self.sent else ""
        given = f"   [sets {', '.join(self.set)}]" if self.set else ""
        return f"{self.method} {self.url} -> {self.outcome}{sent}{given}"


@dataclass(frozen=True)
class Answer:
    """One answer. `url`: the address asked; `set_cookies`: the cookies that it set; `seconds`: duration; `hops`: the answers before it."""

    status: int
    url: str
    headers: list[tuple[str, str]]
    text: str
    set_cookies: list[Cookie]
    seconds: float
    hops: tuple[Answer, ...] = ()

    def header(self, name: str) -> str:
        """Return the first header of that name, or an empty string."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def location(self) -> str:
        """The Location header exactly as received; an empty string without one."""
        return self.header("location")

    @property
    def forms(self) -> list[Form]:
        """The page's forms; actions are resolved against the address asked."""
        if "<form" not in self.text.lower():
            return []
        page: Any = lxml.html.document_fromstring(self.text.encode("utf-8"))
        return [
            Form(
                urljoin(self.url, form.get("action") or self.url),
                (form.get("method") or "get").upper(),
                {key: value or "" for key, value in form.form_values()} | _inputs(form),
            )
            for form in page.forms
        ]

    def form(self, *names: str) -> Form | None:
        """Return the first form with a field of one of these names, or None."""
        return next((form for form in self.forms if any(name in form for name in names)), None)

    @property
    def saml_form(self) -> Form | None:
        """The form that the page posts by itself (SAMLRequest or SAMLResponse), or None."""
        return self.form(*SAML_FIELDS)

    @property
    def login_form(self) -> Form | None:
        """The identity provider's form for name and password, or None. Other pages have password fields, too (facts 12.3)."""
        return next((form for form in self.forms if "password" in form and _signs_in(form)), None)

    @property
    def offers(self) -> tuple[str, ...]:
        """What the page's form holds: SAMLRequest or SAMLResponse, which it posts by itself, or password, which is asked for. Empty for another page."""
        if self.status != 200:
            return ()
        if saml := self.saml_form:
            return tuple(name for name in SAML_FIELDS if name in saml)
        return (PASSWORD,) if self.login_form else ()

    @property
    def by_nginx(self) -> bool:
        """Whether it is an error page of Nginx itself."""
        return self.status >= 400 and NGINX_PAGE in self.text


def _signs_in(form: Form) -> bool:
    return "sessionDataKey" in form or urlsplit(form.action).path.endswith("/commonauth")


def _inputs(form: Any) -> dict[str, str]:
    """Return the input fields of a form by name. lxml leaves out those without a value; a person or a script fills them in."""
    skipped = ("submit", "button", "image", "reset", "checkbox", "radio")
    fields = [field for field in form.iter("input") if field.get("name") and field.get("type") not in skipped]
    return {field.get("name"): field.get("value") or "" for field in fields}


def shortened(url: str, longest: int = 12) -> str:
    """Return a URL for the record: query values longer than `longest` characters (SAML messages, session keys) and a session in the path are cut."""
    base, mark, query = url.partition("?")
    base = re.sub(r";jsessionid=[0-9A-Za-z.]+", ";jsessionid=…", base)
    pairs = [(key, value if len(value) <= longest else value[:longest] + "…") for key, value in parse_qsl(query, True)]
    return base + mark + "&".join(f"{key}={value}" for key, value in pairs)
