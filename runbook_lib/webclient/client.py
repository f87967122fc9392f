"""A client that behaves like a browser: cookies per host, redirects and SAML forms followed on request, every exchange recorded.

    visitor = Client({"store.lab.test": "10.213.1.10"}, ca=ca_pem)
    flow = visitor.sign_in("https://store.lab.test/store/login", user, password)
    visitor.get("https://store.lab.test/store/%2e%2e/publisher/").status      # the target is sent as it is written

It does what a browser does and what an attacker would: another TLS name or Host header, a SAMLResponse held back and
posted elsewhere, cookies copied to another host. It connects only to the hosts that it was given (a login that leads to
https://localhost:9443 ends there, and the caller sees that address), and every exchange has a deadline. A request that was refused as one too
many (429, Nginx's limit of passwords per address) is sent again until it is taken: nobody has done anything with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode, urljoin

from runbook_lib.waiting import wait_until
from runbook_lib.webclient.cookies import Jar, parse_set_cookie
from runbook_lib.webclient.response import Answer, Exchange, Form, shortened
from runbook_lib.webclient.transport import Connect, Wire

MAX_HOPS = 25
TOO_MANY = 429
AGENT = "Mozilla/5.0 (compatible; runbook-visitor)"


@dataclass(frozen=True)
class Flow:
    """Several requests in a row. `asked`: a login form was answered. `saml_response`: the last form with an assertion that was met."""

    hops: tuple[Answer, ...]
    asked: bool = False
    saml_response: Form | None = None

    @property
    def final(self) -> Answer:
        """The last answer."""
        return self.hops[-1]


@dataclass
class Client:
    """One browser with its own cookies.

    `addresses`: host name -> `address` or `address:port`, instead of DNS. `ca`: PEM text or file that certificates are
    verified against; None verifies nothing (only for a node's own port, behind our own SSH). `connect`: called with
    address and port, returns a connected object (socket, SSH channel) and raises OSError. `timeout`: seconds for one
    exchange; `patience`: seconds for which a request is sent again that is one too many; `headers`: sent with every request. Requests raise transport.Refused,
    Timeout, TlsRefused or Closed, all of them OSError.
    """

    addresses: Mapping[str, str] = field(default_factory=dict)
    ca: str | Path | None = None
    connect: Connect | None = None
    timeout: float = 10.0
    patience: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)
    jar: Jar = field(default_factory=Jar)
    exchanges: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._wire = Wire(self.addresses, self.ca, self.connect, self.timeout)

    def fresh(self) -> Client:
        """Return a client with the same network settings, without cookies and without recorded exchanges."""
        return Client(self.addresses, self.ca, self.connect, self.timeout, self.patience, self.headers)

    def request(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        data: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        sni: str | None = None,
        host: str | None = None,
        follow: bool = False,
    ) -> Answer:
        """Send one request and return its answer. Everything after the host in `url` is sent as written; `form` or `data` is the body.

        `sni` and `host` replace the name given to TLS and in the Host header. `follow` follows redirects, not forms.
        """
        answer = self._exchange(method, url, form, data, headers, sni, host)
        hops: tuple[Answer, ...] = ()
        while follow and (following := self._redirect(answer)) and len(hops) < MAX_HOPS:
            hops += (answer,)
            answer = self._exchange(self._method_after(answer.status, method), following)
        return replace(answer, hops=hops)

    def get(self, url: str, **options: object) -> Answer:
        """Send a GET request and return its answer; the options are those of `request`."""
        return self.request("GET", url, **options)  # type: ignore[arg-type]

    def open(self, url: str, *, hold: Callable[[Answer], bool] | None = None) -> Flow:
        """Open a page as a browser does and return every answer: redirects and self-posting SAML forms are followed up to a page.

        Stops early at an answer that `hold` accepts, at a redirect or form that leads to an unknown host, and after 25 requests.
        """
        return self._walk(self.request("GET", url), hold)

    def submit(self, form: Form, *, action: str | None = None, **values: str) -> Answer:
        """Send a form with `values` filled in and return the answer; `action` sends it elsewhere (an assertion replayed at another host)."""
        fields = form.fields | values
        url = action or form.action
        if form.method == "GET":
            return self.request("GET", url.split("?")[0] + "?" + urlencode(fields))
        return self.request("POST", url, form=fields)

    def sign_in(self, url: str, user: str, password: str, *, hold: Callable[[Answer], bool] | None = None) -> Flow:
        """Open `url`, answer the login form if one appears, and continue to the last page (facts 6.1, golden-run 3); return every answer.

        With `hold=holds_assertion` it stops before the assertion is posted: the flow's `saml_response` is that form.
        """
        flow = self.open(url, hold=hold)
        form = flow.final.login_form
        if form is None or flow.final.status != 200:
            return flow
        after = self._walk(self.submit(form, username=user, password=password), hold)
        return Flow(flow.hops + after.hops, True, after.saml_response or flow.saml_response)

    def sign_in_at(self, host: str, app: str, user: str, password: str) -> Flow:
        """Sign in to an application ("store", "publisher") by its login page; return every answer."""
        return self.sign_in(f"https://{host}/{app}/login", user, password)

    def _walk(self, answer: Answer, hold: Callable[[Answer], bool] | None) -> Flow:
        hops: tuple[Answer, ...] = (answer,)
        response = answer.form("SAMLResponse")
        while len(hops) < MAX_HOPS and not (hold and hold(answer)):
            form = answer.saml_form
            if following := self._redirect(answer):
                answer = self.request("GET", following)
            elif answer.status == 200 and form and self._known(form.action):
                answer = self.submit(form)
            else:
                break
            hops += (answer,)
            response = answer.form("SAMLResponse") or response
        return Flow(hops, False, response)

    def _redirect(self, answer: Answer) -> str | None:
        """Return the absolute address that a redirect leads to, or None when there is none or its host is unknown."""
        if answer.status not in (301, 302, 303, 307, 308) or not answer.location:
            return None
        url = urljoin(answer.url, quote(answer.location, safe="%/:=&?~#+!$,;'@()*[]"))
        return url if self._known(url) or _parts(url)[:3] == _parts(answer.url)[:3] else None

    def _known(self, url: str) -> bool:
        return _parts(url)[1] in self.addresses or not self.addresses

    @staticmethod
    def _method_after(status: int, method: str) -> str:
        return method if status in (307, 308) or method == "HEAD" else "GET"

    def _exchange(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        data: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        sni: str | None = None,
        host: str | None = None,
    ) -> Answer:
        scheme, name, port, target = _parts(url)
        path, secure = target.split("?")[0], scheme == "https"
        header = self.jar.header(name, path, secure)
        sent = {"Host": host or _host_header(scheme, name, port), "User-Agent": AGENT, "Accept": "*/*"}
        body = data.encode() if isinstance(data, str) else data or b""
        if form is not None:
            body, sent["Content-Type"] = urlencode(form).encode(), "application/x-www-form-urlencoded"
        if header:
            sent["Cookie"] = header
        sent |= {**self.headers, **(headers or {})}
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        started, names = time.monotonic(), tuple(part.split("=")[0].strip() for part in header.split(";") if part)
        try:
            raw = wait_until(
                lambda: self._wire.send(method, f"{scheme}://{name}:{port}", target, sent, body, sni),
                self.patience, pause=0.2, longest=2.0, enough=lambda answer: answer.status != TOO_MANY,
            )  # fmt: skip
        except OSError as error:
            spent = time.monotonic() - started
            self.exchanges.append(Exchange(method, shortened(url), None, "", names, (), spent, str(error), at, tuple(form or ())))
            raise
        seconds = time.monotonic() - started
        given = [parse_set_cookie(value, name, path) for value in raw.all("set-cookie")]
        for cookie in given:
            self.jar.keep(cookie)
        location = shortened(raw.header("location"))
        answer = Answer(raw.status, url, list(raw.headers), raw.text, given, seconds)
        took = tuple(cookie.name for cookie in given)
        told = answer.offers, answer.by_nginx, raw.header("x-served-by")
        done = Exchange(method, shortened(url), raw.status, location, names, took, seconds, "", at, tuple(form or ()), *told)
        self.exchanges.append(done)
        return answer


def holds_assertion(answer: Answer) -> bool:
    """Return whether the page has a form with a SAMLResponse, to be posted to an application. For `hold`."""
    return answer.form("SAMLResponse") is not None


def _parts(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and target of a URL; the target stays as written, without the fragment."""
    scheme, _, rest = url.partition("://")
    end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    authority, target = rest[:end], rest[end:].partition("#")[0]
    name, _, port = authority.partition(":")
    default = 443 if scheme == "https" else 80
    return scheme, name.lower(), int(port or default), target if target.startswith("/") else "/" + target


def _host_header(scheme: str, name: str, port: int) -> str:
    return name if port == (443 if scheme == "https" else 80) else f"{name}:{port}"
