"""Records every request of a browser's page to our hosts, which page made it, and whether Nginx refused it.

Nginx refuses with error pages of its own (nginx-404 and others in `attempts.yaml`); every other error is the product's.
Only the bodies of errors are read, after the page has loaded.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request, Response

NETWORK_CHANGED = "ERR_NETWORK_CHANGED"  # Chromium's word when an interface of this machine comes or goes
QUIET = 3.0  # most seconds to wait for what a page still loads after its load event
NGINX = re.compile("<center>nginx|runbook-refused")
BY_ITSELF = {"/favicon.ico": "asked by the browser for the tab's picture, whatever the page says; the product has none there"}
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
AGAIN = "url => fetch(url, {signal: AbortSignal.timeout(5000)}).then(answer => answer.text())"
TYPED = "the address bar"  # opener of a page that no page links


class Recorder:
    """Listens to the requests of one page.

    `opener`: the page that links the next URL to be opened; set it before each `goto`. `asked`: requests, with the page that
    made each. `refused`: refused requests in words, with the page that made each first. `by_product`: number of errors of the
    product itself by status. `unclear`: errors that may be of Nginx or of the product. `statuses`: last status by URL.
    """

    def __init__(self, page: Page, hosts: Collection[str]):
        self._page, self._hosts = page, hosts
        self.opener = TYPED
        self.asked: dict[Request, str] = {}
        self.refused: dict[str, str] = {}
        self.by_product: Counter[int] = Counter()
        self.unclear: list[str] = []
        self.statuses: dict[str, int] = {}
        self.disturbed = False  # the network of this machine changed meanwhile, and Chromium gave requests up: that is no refusal
        self._asking_again = False
        self._pending: set[Request] = set()
        self._unread: list[Response] = []
        page.on("request", self._on_request)
        page.on("response", self._on_response)
        page.on("requestfinished", self._on_end)
        page.on("requestfailed", self._on_failure)

    def settle(self) -> None:
        """Wait up to `QUIET` seconds for what the page still loads, then sort its errors into `refused`, `by_product` and `unclear`."""
        until = time.monotonic() + QUIET
        self._page.wait_for_timeout(20)
        while self._pending and time.monotonic() < until:
            self._page.wait_for_timeout(20)
        self._pending.clear()
        unread, self._unread = self._unread, []
        for response in unread:
            if self._named(response.request, response.status) in self.refused:
                continue
            body = self._body(response)
            if response.status == 421 or (body and NGINX.search(body)):
                self._refuse(response.request, response.status)
            elif body is None:
                self.unclear.append(f"{response.status} at {shown(response.url)}, and who said so could not be read")
            else:
                self.by_product[response.status] += 1

    def _body(self, response: Response) -> str | None:
        """Return the body of an error response, or None when it cannot be read.

        The browser discards the body for a style sheet or a script; then the URL is requested again.
        """
        body = text_of(response)
        if body or response.headers.get("content-length") == "0" or response.request.method != "GET":
            return body
        self._asking_again = True
        try:
            return self._page.evaluate(AGAIN, response.url)
        except Exception:
            return None
        finally:
            self._asking_again = False

    def _ours(self, url: str) -> bool:
        return urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc in self._hosts

    def _on_request(self, request: Request) -> None:
        frame = request.frame
        if not request.is_navigation_request():
            by = shown(frame.url)
        elif frame.parent_frame:
            by = shown(frame.parent_frame.url)
        elif request.redirected_from:
            by = self.asked.get(request.redirected_from, TYPED)
        else:  # the first navigation is the crawler's own, later ones are the page's, such as a form that posts itself
            by, self.opener = self.opener or shown(frame.url), ""
        if self._ours(request.url) and not self._asking_again:
            self.asked[request] = by
            self._pending.add(request)

    def _on_response(self, response: Response) -> None:
        self.statuses[response.url] = response.status
        if response.status >= 400 and response.request in self.asked:
            self._unread.append(response)

    def _on_end(self, request: Request) -> None:
        self._pending.discard(request)

    def _on_failure(self, request: Request) -> None:
        """Record a request without a response. Aborted requests are left out: the browser gave them up to open another page."""
        self._pending.discard(request)
        word = (request.failure or "").removeprefix("net::")
        self.disturbed |= word.startswith(NETWORK_CHANGED)
        if request in self.asked and not word.startswith(("ERR_ABORTED", "ERR_BLOCKED", NETWORK_CHANGED)):
            self._refuse(request, word)

    def _refuse(self, request: Request, word: object) -> None:
        if urlsplit(request.url).path not in BY_ITSELF:
            self.refused.setdefault(self._named(request, word), self.asked[request])

    @staticmethod
    def _named(request: Request, word: object) -> str:
        """Return the request in words; `word` is the status or the error."""
        return f"{request.method} {pattern(request.url)} {word}"


def text_of(response: Response) -> str | None:
    """Return the body of a response, or None when the browser no longer has it."""
    try:
        return response.text()
    except Exception:
        return None


def shown(url: str) -> str:
    """Return the path of a URL without query and session id, for display."""
    return re.sub(r";[^/]*", "", urlsplit(url).path)


def pattern(url: str) -> str:
    """Return the path with ids replaced, so that pages that differ only by an id have the same pattern."""
    return ID.sub("<id>", shown(url)).rstrip("/") or "/"
