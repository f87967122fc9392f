"""Checks that the applications work behind Nginx: a browser opens the linked pages and records which requests Nginx refuses.

Nginx lets through a list of requests and refuses all others. A list that is too short shows only when the applications are
used. Each kind of user therefore signs in, follows the links of an application, sends one form that makes an asset, and
signs out. Certificates, host names and signing in are handled by `screenshots.py`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from runbook_lib.check import Check, CheckTable, Status
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.checks.sso.proof import CHAPTER
from runbook_lib.checks.sso.publishing import made_id
from runbook_lib.checks.sso.recorder import TYPED, Recorder, pattern, shown, text_of
from runbook_lib.checks.sso.screenshots import PATIENCE, SIZE, WALKED, first_line, go, missing, seen_in, settled, sign_in, with_test_users
from runbook_lib.redaction import redactor
from runbook_lib.webclient.response import Answer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGES, SECONDS = 25, 20.0  # most pages, and most seconds, per user and application
LAST = 6.0  # of these seconds, reserved for the form and for signing out
KEEPING = 3_000  # milliseconds that a form's script has to read its response
NAMED = 20  # most refused requests that a check names
# user in the check's id, kind of user, application, user in the check's title
_Way = tuple[str, str, str, str]
WALKS: tuple[_Way, ...] = (
    ("visitor", "", "store", "a visitor"),
    ("store-only", "store-only", "store", "a Store user"),
    ("publisher-only", "publisher-only", "publisher", "a Publisher user"),
    ("admin", "admin", "store", "the administrator"),
    ("admin", "admin", "publisher", "the administrator"),
)
SIGNED_IN = {"store": "store-signed-in", "publisher": "publisher-landing"}
# Returns the links of a page, and whether it has the form that makes an asset.
CONTENTS = """() => [[...document.querySelectorAll('a[href], area[href]')].map(link => String(link.href)),
  Boolean(document.querySelector('form [name=overview_name]'))]"""
PREFERRED = "/restservice/"  # of several forms this one is sent, because its fields are known
FORM = "form:has([name=overview_name])"
# Keeps the response that a form's script gets: the browser discards it when the script opens another page.
KEEP = """() => {
  const keep = text => sessionStorage.setItem('runbook-answer', text);
  sessionStorage.removeItem('runbook-answer');
  const plain = window.fetch;
  window.fetch = async (...asked) => {
    const answer = await plain(...asked);
    if ((asked[1]?.method || asked[0]?.method) === 'POST') await answer.clone().text().then(keep, () => 0);
    return answer;
  };
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, ...more) {
    if (method.toUpperCase() === 'POST') this.addEventListener('load', () => keep(this.responseText));
    return open.call(this, method, ...more);
  };
}"""
KEPT = "() => sessionStorage.getItem('runbook-answer')"
# Removes every asset of that name, and the one that the response named. Returns their number and the ones that are left.
REMOVE = """async ([assets, type, name, made]) => {
  const ask = (url, method) => fetch(url, {method, signal: AbortSignal.timeout(10000)});
  const ids = new Set(made ? [made] : []), left = [];
  const listed = await ask(`${assets}?type=${type}`, 'GET');
  const found = listed.ok ? (await listed.json().catch(() => ({}))).data || [] : [];
  found.filter(one => [one.name, one.overview_name, one.attributes?.overview_name].includes(name)).forEach(one => ids.add(one.id));
  for (const id of ids) {
    const gone = await ask(`${assets}/${id}?type=${type}`, 'DELETE');
    if (!gone.ok && gone.status !== 404) left.push(`${id} (DELETE: ${gone.status})`);
  }
  return [ids.size, left];
}"""


def crawl(scene: Scene, *, agreed: bool = False) -> CheckTable:
    """Return one check per user and application, with the pages opened and each request that Nginx refused.

    `fail`: a request was refused, or the asset that the form made could not be removed. `undecided`: signing in or
    opening pages failed. `skipped`: there is no browser. Two browsers walk at a time, and the administrator's walks are in one: nobody is signed in
    twice at once. Each walk has at most `PAGES` pages and `SECONDS` seconds. Raises
    `RunbookError` when nobody agreed to test users, or when a certificate is not of our CA.
    """
    if reason := missing():
        return CheckTable(_row(scene, walk, "skipped", reason) for walk in WALKS)
    lanes = [lane for admin in (False, True) if (lane := [walk for walk in WALKS if (walk[1] == "admin") == admin])]
    found, cleaned_up = with_test_users(scene, agreed, "the walk", [partial(_lane, scene, lane) for lane in lanes])
    rows = {walk: row for lane in found for walk, row in lane.items()}
    return CheckTable([*(rows[walk] for walk in WALKS), cleaned_up])


def _lane(scene: Scene, walks: Sequence[_Way], browser: Browser, logins: Mapping[str, Login]) -> dict[_Way, Check]:
    """Make some walks one after the other in one browser, and return the check of each."""
    return {walk: _walked(browser, scene, walk, logins) for walk in walks}


def _walked(browser: Browser, scene: Scene, walk: _Way, logins: Mapping[str, Login]) -> Check:
    """Make one walk in a browser context of its own and return its check. A walk during which this machine's network changed is made again."""
    for _ in range(WALKED):
        status, observed, disturbed = _walked_once(browser, scene, walk, logins)
        if not disturbed:
            return _row(scene, walk, status, observed)
    return _row(scene, walk, "undecided", f"the network of this machine changed during each of {WALKED} walks; {observed}")


def _walked_once(browser: Browser, scene: Scene, walk: _Way, logins: Mapping[str, Login]) -> tuple[Status, str, bool]:
    """Return the status and the text of one walk, and whether this machine's network changed meanwhile."""
    _who, kind, app, _words = walk
    context = browser.new_context(viewport=SIZE, locale="en-GB", accept_downloads=False)  # type: ignore[arg-type]
    try:
        crawler = Crawler(context.new_page(), scene, app)
        try:
            crawler.all_of_it(logins.get(kind))
        except Exception as error:  # an error of the browser is not a refusal by Nginx
            crawler.troubles.append(first_line(error))
            with suppress(Exception):
                crawler.record.settle()
        return *crawler.result(), crawler.record.disturbed
    finally:
        context.close()


def _row(scene: Scene, walk: _Way, status: Status, observed: str) -> Check:
    who, _kind, app, words = walk
    title = f"The {app.capitalize()} works for {words}: every page and what it loads passes Nginx"
    where = f"Chromium at https://{scene.hosts[app]}"
    return Check(f"sso.works-{who}-{app}", title, status, "no request of a page is refused", redactor.redact(observed), where, CHAPTER)


class Crawler:
    """One user's walk through one application; `record` has the requests of its page."""

    def __init__(self, page: Page, scene: Scene, app: str):
        self.page, self.scene, self.app = page, scene, app
        self.record = Recorder(page, tuple(scene.hosts.values()))
        self.origin = f"https://{scene.hosts[app]}"
        self.walked: list[str] = []  # paths, in the order in which they were opened
        self.troubles: list[str] = []
        self.left_behind: list[str] = []
        self.form = ""  # the result of the form, in words
        self._form_at = ""
        self._not_walked = 0
        self._until = time.monotonic() + SECONDS
        page.set_default_timeout(PATIENCE)
        page.on("dialog", lambda dialog: dialog.accept())

    def all_of_it(self, login: Login | None) -> None:
        """Sign in when there is a `login`, follow links, send one form when one was found, and sign out."""
        start = f"{self.origin}/{self.app}/"
        if login:
            sign_in(self.page, f"{start}login", login)
            self.record.settle()
            seen = seen_in(self.scene, self.page, self.record.statuses, login)
            if seen.page != SIGNED_IN[self.app]:
                self.troubles.append(f"could not sign in: {seen}")
                return
        self._until = time.monotonic() + SECONDS  # signing in has a timeout of its own and does not count
        self.walk(start, bool(login))
        if self._form_at:
            self.send_form(f"proof-asset-{secrets.token_hex(4)}")
        if login:
            self.open(f"{start}logout", TYPED)

    def walk(self, start: str, signed_in: bool) -> None:
        """Open the application's own links breadth first, each URL pattern once. One page of `PAGES` is reserved for signing out."""
        queue, seen = deque([(start, TYPED)]), {pattern(start)}
        while queue and len(self.walked) < PAGES - 1 and self._left() > LAST:
            self.open(*queue.popleft())
            here = shown(self.page.url)
            if signed_in and here.startswith("/sso/login"):
                self.troubles.append(f"{self.walked[-1]} asks for a password again")
            if not self._own(self.page.url):
                continue
            seen.add(pattern(self.page.url))
            links, has_form = self._contents()
            for link in links:
                if self._own(link) and not shown(link).endswith("/logout") and pattern(link) not in seen:
                    seen.add(pattern(link))
                    queue.append((link, here))
            if PREFERRED in here or not self._form_at:
                self._form_at = self.page.url if has_form else self._form_at
        self._not_walked = len(queue)

    def _contents(self) -> tuple[list[str], bool]:
        """Return the result of `CONTENTS`; it is read once more when a script opened another page meanwhile."""
        try:
            links, has_form = self.page.evaluate(CONTENTS)
        except Exception:
            settled(self.page, self._patience())
            links, has_form = self.page.evaluate(CONTENTS)
        return links, has_form

    def open(self, url: str, opener: str) -> None:
        """Open one page and wait for what it loads; `opener` is the page that links it. Errors are recorded, not raised."""
        self.walked.append(shown(url))
        self.record.opener = opener
        try:
            go(self.page, url, timeout=self._patience())
        except Exception as error:
            words = first_line(error)  # a download, or a request without a response, is no trouble here: the recorder has it
            if self._left() > 0 and "Download is starting" not in words and "net::ERR_" not in words:
                self.troubles.append(f"{shown(url)}: {words}")
        self.record.settle()

    def send_form(self, name: str) -> None:
        """Fill in the form that makes an asset, send it once, and remove the asset. `name`: the name of the asset."""
        self.record.opener = TYPED
        go(self.page, self._form_at, timeout=self._patience())
        form = self.page.locator(FORM).first
        for field, value in {"overview_name": name, "overview_context": f"/{name}", "overview_version": "1.0.0"}.items():
            if (found := form.locator(f"[name={field}]")).count():
                found.first.fill(value, force=True)
        if (choice := form.locator("select[name=type]:has(option[value=restservice])")).count():
            choice.first.select_option("restservice", force=True)
        self.page.evaluate(KEEP)
        self.form = f"the form of {shown(self._form_at)} was sent and got no answer"
        kinds, made, count = [*re.findall(r"/assets/(\w+)/", self._form_at), "restservice"], None, 0
        try:
            with self.page.expect_response(lambda answer: answer.request.method == "POST", timeout=self._patience()) as posted:
                button = form.locator("[type=submit]")
                button.first.click() if button.count() else form.evaluate("form => form.requestSubmit()")
            answer = posted.value
            self.form = f"the form of {shown(self._form_at)} was answered {answer.status}"
            kinds = parse_qs(urlsplit(answer.url).query).get("type", kinds)
            text = self._kept() if answer.request.resource_type in ("fetch", "xhr") else text_of(answer)
            made = made_id(Answer(answer.status, answer.url, [], text or "", [], 0.0))
        finally:
            self.record.settle()
            count = self.remove(kinds[0], name, made)
        if answer.status < 400 and not count:
            self.troubles.append(f"whether {name} was made is not known: the answer names no id")

    def _kept(self) -> str:
        """Return the body of the response that the form's script got; empty when the script did not read it within `KEEPING` ms."""
        with suppress(Exception):  # a wait survives a navigation, a plain evaluation does not
            return str(self.page.wait_for_function(KEPT, timeout=KEEPING).json_value())
        return ""

    def remove(self, kind: str, name: str, made: str | None) -> int:
        """Remove the assets with this name, and the one with the id `made` when there is one; return how many there were."""
        tab = self.page.context.new_page()  # a tab of its own, because the form's script may open another page at any moment
        try:
            go(tab, f"{self.origin}/{self.app}/", timeout=PATIENCE)
            count, self.left_behind = tab.evaluate(REMOVE, [f"{self.origin}/{self.app}/apis/assets", kind, name, made])
        finally:
            tab.close()
        self.form += f", {count - len(self.left_behind)} of its assets removed" if count else ", no asset of its making found"
        return count

    def result(self) -> tuple[Status, str]:
        """Return the status and the text of the check."""
        bound = f"{self._not_walked} more linked" if self._not_walked else "all that are linked"
        pages = f"{len(self.walked)} pages ({bound}; at most {PAGES} and {SECONDS:.0f} s)" if self.walked else "no page walked"
        parts = [f"{pages}, {len(self.record.asked)} requests"]
        named = [f"{request} (asked by {by})" for request, by in self.record.refused.items()]
        more = [f"and {len(named) - NAMED} more"] if len(named) > NAMED else []
        if named:
            parts.insert(0, "refused: " + "; ".join([*named[:NAMED], *more]))
        else:
            parts[0] += ", none refused"
        if self.record.by_product:
            parts.append("the product itself answered " + ", ".join(f"{status} to {count}" for status, count in sorted(self.record.by_product.items())))
        parts += [self.form] if self.form else []
        troubles = self.troubles + self.record.unclear
        parts += [f"left behind: {one}" for one in self.left_behind] + troubles
        status: Status = "fail" if self.record.refused or self.left_behind else "undecided" if troubles or not self.walked else "pass"
        return status, "; ".join(parts)

    def _own(self, url: str) -> bool:
        """Return whether a URL belongs to the application of this walk."""
        return url.startswith(self.origin + "/") and urlsplit(url).path.split("/")[1] == self.app

    def _left(self) -> float:
        """Return the seconds that are left; negative after the time limit."""
        return self._until - time.monotonic()

    def _patience(self) -> float:
        """Return the timeout of the next step in milliseconds: the time that is left, at least one second and at most `PATIENCE`."""
        return min(max(self._left(), 1.0) * 1000, PATIENCE)
