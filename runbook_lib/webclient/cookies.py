"""Cookies as a browser keeps them (RFC 6265): by host, path and Secure; the port does not matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Cookie:
    """One cookie. `host` set it; `domain` is empty for a host-only cookie.

    `max_age` is that attribute in seconds, None without it. `lifetime`: the seconds that a browser keeps the cookie, by
    Max-Age or else by Expires; None for a session cookie.
    """

    name: str
    value: str
    host: str
    path: str = "/"
    secure: bool = False
    http_only: bool = False
    domain: str = ""
    same_site: str = ""
    expired: bool = False
    max_age: int | None = None
    lifetime: float | None = None

    def goes_to(self, host: str, path: str, secure: bool) -> bool:
        """Return whether a browser sends this cookie with a request for `path` at `host`."""
        reaches = host == self.host or (self.domain and (host == self.domain or host.endswith("." + self.domain)))
        under = path == self.path or path.startswith(self.path if self.path.endswith("/") else self.path + "/")
        return bool(reaches) and under and (secure or not self.secure)


def parse_set_cookie(header: str, host: str, request_path: str, now: datetime | None = None) -> Cookie:
    """Return the cookie of one Set-Cookie header, received for `request_path` from `host` at `now` (Expires counts from then)."""
    first, *rest = header.split(";")
    name, _, value = first.strip().partition("=")
    attributes = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in rest)}
    path = attributes.get("path", "")
    domain = attributes.get("domain", "").lstrip(".").lower()
    max_age = int(attributes["max-age"]) if attributes.get("max-age", "").lstrip("-").isdigit() else None
    ends = moment(attributes.get("expires", ""))
    lifetime = max_age if max_age is not None or ends is None else (ends - (now or datetime.now(UTC))).total_seconds()
    return Cookie(
        name.strip(),
        value.strip(),
        host,
        path if path.startswith("/") else _default_path(request_path),
        "secure" in attributes,
        "httponly" in attributes,
        domain if domain and (host == domain or host.endswith("." + domain)) else "",
        attributes.get("samesite", ""),
        ("max-age" in attributes and max_age is None) or (lifetime is not None and lifetime <= 0),
        max_age,
        lifetime,
    )


def moment(text: str) -> datetime | None:
    """Return the time that a header names, or None when it is not a time."""
    try:
        found = parsedate_to_datetime(text.replace("-", " "))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _default_path(request_path: str) -> str:
    folder = request_path.split("?")[0].rpartition("/")[0]
    return folder if folder.startswith("/") else "/"


class Jar:
    """The cookies of one browser. Iterate over it, search with `named`, or `copy` some to another host as an attacker would."""

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str, str], Cookie] = {}

    def __iter__(self) -> Iterator[Cookie]:
        return iter(list(self._cookies.values()))

    def keep(self, cookie: Cookie) -> None:
        """Store a cookie in the place of one with the same host, path and name; an expired one only removes that one."""
        key = (cookie.domain or cookie.host, cookie.path, cookie.name)
        self._cookies.pop(key, None)
        if not cookie.expired:
            self._cookies[key] = cookie

    def header(self, host: str, path: str, secure: bool) -> str:
        """Return the Cookie header for a request, longest paths first; an empty string when no cookie applies."""
        fitting = [cookie for cookie in self if cookie.goes_to(host, path, secure)]
        return "; ".join(f"{c.name}={c.value}" for c in sorted(fitting, key=lambda c: -len(c.path)))
