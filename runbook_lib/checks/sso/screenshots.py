"""The proof in a browser: Chromium tries the Publisher's side door, and signs in at the Store and opens the Publisher, with a screenshot of each page.

The certificate of each host is first fetched and verified against the deployment's CA; the browser accepts exactly these
keys. Host names are mapped to addresses on its command line, and no other name resolves. Each user gets a browser context
of its own, so that no cookies are shared.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.util
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runbook_lib.check import Check, CheckTable, Status
from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.environment import Login, Scene, refuse_unagreed
from runbook_lib.checks.sso.pages import Seen
from runbook_lib.checks.sso.proof import CHAPTER
from runbook_lib.checks.sso.proof_users import test_users
from runbook_lib.errors import RunbookError
from runbook_lib.redaction import redactor
from runbook_lib.webclient.response import Answer
from runbook_lib.webclient.transport import tls_context

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Response

T = TypeVar("T")
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the first draws no windows, and takes half the processor
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage",
)  # fmt: skip
SIZE = {"width": 1000, "height": 640}
PATIENCE = 10_000  # timeout of one page in milliseconds
SETTLED = "() => document.readyState == 'complete' && !document.querySelector('[name=SAMLRequest],[name=SAMLResponse]')"
WALKED = 3  # times at most that a walk is made, where the browser fails
# Chromium's messages when another navigation replaced this one, or an interface of this machine came or went
CROSSED = ("interrupted by another navigation", "net::ERR_ABORTED", "net::ERR_NETWORK_CHANGED")
# id of the check, kind of user, user in the check's title, the walks of one kind together. The first is the decisive one: it takes nothing but an account.
SIDE_DOOR = "browser-side-door"
WALKS = (
    (SIDE_DOOR, "store-only", "a Store user"),
    ("browser-store-only", "store-only", "a Store user"),
    ("browser-admin", "admin", "the administrator"),
)
SEPARATE, LEAK = frozenset(["login-form"]), frozenset(["publisher-landing", "acs-401"])
API = "/publisher/apis/authenticate"  # the side door: it asks for name and password, and not for the role (facts 10.2)
# What a form with these fields sends, as any page can have one.
SEND = """([action, fields]) => {
  const form = Object.assign(document.createElement('form'), {method: 'post', action});
  for (const [name, value] of Object.entries(fields)) form.append(Object.assign(document.createElement('input'), {type: 'hidden', name, value}));
  document.documentElement.append(form); form.submit();
}"""
# The lowest edge of what a page shows, so that the picture ends there.
BOTTOM = """() => Math.max(0, ...[...document.body.querySelectorAll('*')].filter(e => e.children.length == 0 || e.tagName == 'A')
  .map(e => e.getBoundingClientRect()).filter(r => r.width && r.height).map(r => r.bottom))"""
# A session's id is no picture's business: long runs of hex digits in what a page says are cut.
MASK = """() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replace(/([0-9a-f]{6})[0-9a-f]{14,}/gi, '$1…');
}"""
MARGIN, LEAST = 24, 160  # pixels below the last content; the least height of a picture
FRAME = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; width: {width}px; background: #fff; }}
p {{ font: 15px/22px system-ui, sans-serif; margin: 0; padding: 8px 12px; background: #e9ebee; border-bottom: 1px solid #b9bec5; color: #1c2128; }}
span {{ display: block; background: #fff; border: 1px solid #b9bec5; border-radius: 14px; padding: 2px 14px; overflow-wrap: anywhere; }}
img {{ display: block; width: {width}px; }}</style><p><span>{address}</span></p><img src="data:image/png;base64,{png}">"""
SHORT = 110  # characters of an address that a picture shows


@dataclass(frozen=True)
class Shot:
    """A screenshot (PNG) with its caption; `id` names the user and the application, `page` is the page's name in `attempts.yaml`."""

    id: str
    title: str
    png: bytes
    caption: str
    page: str

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.png).decode()
        words = f"<figcaption><strong>{html.escape(self.title)}</strong>. {html.escape(self.caption)}</figcaption>"
        alt = html.escape(f"{self.title}: {self.caption}")
        image = f'<img src="data:image/png;base64,{picture}" alt="{alt}" style="max-width:100%;border:1px solid #888">'
        return f'<figure class="rb-shot">{image}{words}</figure>'

    def __str__(self) -> str:
        return f"{self.title}: {self.caption}"

    __repr__ = __str__


class Shots(list[Shot]):
    """The screenshots in the order in which they were taken, and their checks. Without a browser it is empty and the checks are `skipped`."""

    def __init__(self, shots: Iterable[Shot], checks: CheckTable):
        super().__init__(shots)
        self.checks = checks

    def _repr_html_(self) -> str:
        pictures = "".join(shot._repr_html_() for shot in self)
        grid = f'<div class="rb-shots">{pictures}</div>'
        return grid + self.checks._repr_html_()

    def __str__(self) -> str:
        return "\n".join([*map(str, self), str(self.checks)])

    __repr__ = __str__


def missing() -> str:
    """Return why no browser can be used here; empty when one can."""
    if importlib.util.find_spec("playwright") is None:
        return "the Python package playwright is not installed (pip install playwright)"
    if not program():
        return f"no browser is installed (looked for {', '.join(PROGRAMS)}); on Debian: apt-get install chromium-headless-shell"
    return ""


def program() -> str | None:
    """Return the path of the browser that is used, or None when none is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def prove_in_browser(scene: Scene, *, agreed: bool = False) -> Shots:
    """Sign in at the Store as a Store user and as the administrator, open the Publisher, and return the screenshots with their checks.

    Before that the Store user tries the Publisher's side door. There are up to six screenshots, each with its address above it. It also works
    inside a notebook's event loop. Without a browser the checks are `skipped` with the reason. Raises `RunbookError` when nobody agreed to
    test users, or when a certificate is not of our CA.
    """
    if reason := missing():
        return Shots([], CheckTable(_row(scene, id_, who, "skipped", reason) for id_, _kind, who in WALKS))
    lanes = [[walk for walk in WALKS if walk[1] == kind] for kind in dict.fromkeys(kind for _id, kind, _who in WALKS)]
    found, cleaned_up = with_test_users(scene, agreed, "the browser", [partial(_lane, scene, lane) for lane in lanes])
    walked = [one for lane in found for one in lane]
    return Shots((shot for taken, _check in walked for shot in taken), CheckTable([*(check for _taken, check in walked), cleaned_up]))


def with_test_users(scene: Scene, agreed: bool, after: str, works: Sequence[Callable[[Browser, Mapping[str, Login]], T]]) -> tuple[list[T], Check]:
    """Call each of `works` with a browser of its own and with test users, all at the same time; return their results and the check that the users are removed.

    The browsers start while the users are made, and have ended when these are removed. `after`: what the users were used for, as text in the
    check. It also works inside a notebook's event loop. Raises `RunbookError` when nobody agreed to test users, or when a certificate is not of
    our CA.
    """
    refuse_unagreed(scene.ask_first, agreed)
    users: Future[Mapping[str, Login]] = Future()
    with ThreadPoolExecutor(max_workers=len(works)) as pool:  # playwright needs threads without an event loop
        begun = [pool.submit(_launched, scene, work, users) for work in works]
        try:
            with test_users(scene) as logins:
                users.set_result(logins)
                try:
                    wait(begun)
                finally:  # after an interrupt too, no user goes before the browsers have ended
                    pool.shutdown()
        except BaseException as error:
            if not users.done():
                users.set_exception(error)
            raise
    return [one.result() for one in begun], logins.check(CHAPTER, after)


def _launched(scene: Scene, work: Callable[[Browser, Mapping[str, Login]], T], users: Future[Mapping[str, Login]]) -> T:
    """Start Chromium, return what `work` returns once there are `users`, and close Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), headless=True, args=arguments(scene))
        try:
            return work(browser, users.result())
        finally:
            browser.close()


def _lane(scene: Scene, walks: Sequence[tuple[str, str, str]], browser: Browser, logins: Mapping[str, Login]) -> list[tuple[list[Shot], Check]]:
    """Make some walks one after the other in one browser; return the screenshots and the check of each."""
    return [_walked(browser, scene, id_, who, logins[kind]) for id_, kind, who in walks]


def arguments(scene: Scene) -> list[str]:
    """Return Chromium's arguments: only our host names resolve, and only our keys are accepted. Raises `RunbookError` as `key_of` does."""
    rules = [f"MAP {scene.hosts[key]} {address}" for key, address in scene.fronts.items()]
    keys = {key_of(scene, key) for key in scene.fronts}
    return [
        *FLAGS,
        f"--host-resolver-rules={', '.join([*rules, 'MAP * ~NOTFOUND'])}",
        f"--ignore-certificate-errors-spki-list={','.join(sorted(keys))}",
    ]


def key_of(scene: Scene, key: str) -> str:
    """Return the SHA-256 of a host's public key in base64. Raises `RunbookError` when the host shows no certificate of our CA."""
    host = scene.hosts[key]
    address, _, port = scene.fronts[key].partition(":")
    try:
        with (
            socket.create_connection((address, int(port or 443)), timeout=10) as wire,
            tls_context(scene.ca).wrap_socket(wire, server_hostname=host) as tls,
        ):
            shown = tls.getpeercert(binary_form=True) or b""
    except OSError as error:
        raise RunbookError(
            f"{host} does not show a certificate of this deployment: {error}",
            f"{address}:{port or 443}",
            "run chapter 05 again",
        ) from error
    public = x509.load_der_x509_certificate(shown).public_key()
    return base64.b64encode(hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()).decode()


def _walked(browser: Browser, scene: Scene, id_: str, who: str, login: Login) -> tuple[list[Shot], Check]:
    """Make one walk of `WALKS` in a browser context of its own; return its screenshots and its check.

    An error of the browser is not a refusal, and a page is lost whenever an interface of this machine comes or goes: the walk is then made
    again, at most `WALKED` times in all.
    """
    failures, shots = list[str](), list[Shot]()
    for _ in range(WALKED):
        with ExitStack() as ending:
            shots = []
            try:
                context = browser.new_context(viewport=SIZE, locale="en-GB")  # type: ignore[arg-type]
                ending.callback(_close, context)
                page = context.new_page()
                page.set_default_timeout(PATIENCE)
                statuses: dict[str, int] = {}
                page.on("response", partial(_keep_status, statuses))
                return shots, (_side_door if id_ == SIDE_DOOR else _one_sign_in)(page, statuses, scene, id_, who, login, shots)
            except Exception as error:
                failures.append(redactor.redact(first_line(error)))
    words = "; then: ".join(dict.fromkeys(failures))
    return shots, _row(scene, id_, who, "undecided", f"the browser failed {WALKED} times: {words}")


def _close(context: BrowserContext) -> None:
    with suppress(Exception):  # of a browser that has ended
        context.close()


def _keep_status(statuses: dict[str, int], response: Response) -> None:
    statuses[response.url] = response.status


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or the name of its kind."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _one_sign_in(page: Page, statuses: Mapping[str, int], scene: Scene, id_: str, who: str, login: Login, shots: list[Shot]) -> Check:
    """Sign in at the Store, then open the Publisher, as one user; return the check, and put the screenshots into `shots`."""
    store, publisher = (f"https://{scene.hosts[key]}/{key}" for key in ("store", "publisher"))
    user = who[0].upper() + who[1:]
    sign_in(page, f"{store}/login", login)
    seen = seen_in(scene, page, statuses, login)
    shots.append(Shot(f"{id_}-at-store", f"{user} at the Store", pictured(page), _caption(seen), seen.page))
    if seen.page != "store-signed-in":
        return _row(scene, id_, who, "undecided", f"could not sign in at the Store: {seen}")
    go(page, f"{publisher}/")
    seen = seen_in(scene, page, statuses, login)
    shots.append(Shot(f"{id_}-opens-publisher", f"{user} opens the Publisher", pictured(page), _caption(seen), seen.page))
    return _decided(scene, id_, who, seen, _leaks(scene))


def _side_door(page: Page, statuses: Mapping[str, int], scene: Scene, id_: str, who: str, login: Login, shots: list[Shot]) -> Check:
    """Send name and password to the Publisher's API from a form, then open the Publisher, as a user without its role; as `_one_sign_in`."""
    publisher = f"https://{scene.hosts['publisher']}"
    go(page, f"{publisher}/publisher/")
    with page.expect_navigation():
        page.evaluate(SEND, [f"{publisher}{API}", {"username": login.user, "password": login.password}])
    page.wait_for_load_state()
    seen = seen_in(scene, page, statuses, login)
    title = "The side door: a Store user sends name and password to the Publisher's API"
    shots.append(Shot(f"{id_}-asked", title, pictured(page), _caption(seen), seen.page))
    go(page, f"{publisher}/publisher/pages/gc-landing")
    seen = seen_in(scene, page, statuses, login)
    shots.insert(0, Shot(f"{id_}-opens-publisher", "A Store user at the Publisher, by the side door", pictured(page), _caption(seen), seen.page))
    return _decided(scene, id_, who, seen, _door_is_open(scene))


def _decided(scene: Scene, id_: str, who: str, seen: Seen, leaks: bool) -> Check:
    """Return the check of a walk that ended at the page `seen`; `leaks`: whether it is expected to get through."""
    state = "leak" if seen.page in LEAK else "held" if seen.page in SEPARATE else "undecided"
    status: Status = "undecided" if state == "undecided" else "pass" if (state == "leak") == leaks else "fail"
    return _row(scene, id_, who, status, f"{state}: {_caption(seen)}", state)


def pictured(page: Page) -> bytes:
    """Return a PNG of what a page shows, cut below its content, with its address above it as a browser's window has it."""
    page.evaluate(MASK)
    height = min(max(int(page.evaluate(BOTTOM)) + MARGIN, LEAST), SIZE["height"])
    png = page.screenshot(clip={"x": 0, "y": 0, "width": SIZE["width"], "height": height})
    address = re.split(r"[;?#]", page.url)  # what follows names a session, and is long
    shown = redactor.redact(address[0])[:SHORT] + ("…" if address[1:] else "")
    frame = page.context.new_page()
    try:
        frame.set_content(FRAME.format(width=SIZE["width"], address=html.escape(shown), png=base64.b64encode(png).decode()), wait_until="load")
        return frame.locator("body").screenshot()
    finally:
        frame.close()


def sign_in(page: Page, url: str, login: Login) -> None:
    """Open an application's login page, submit its form, and wait for the page at which all redirects and SAML forms end."""
    go(page, url)
    page.fill("input[name=username]", login.user)
    page.fill("input[name=password]", login.password)
    with page.expect_navigation():
        page.press("input[name=password]", "Enter")
    settled(page)


def go(page: Page, url: str, timeout: float | None = None) -> None:
    """Open a URL and wait until no SAML form is left to be sent; `timeout` in milliseconds applies to each step.

    When a script of the previous page replaces the navigation by its own, or this machine's network changes, the URL is opened
    again, at most three times in all.
    """
    for last in (False, False, True):
        try:
            page.goto(url, wait_until="load", timeout=timeout)
            break
        except Exception as error:
            if last or not any(words in str(error) for words in CROSSED):
                raise
            page.wait_for_load_state()
    settled(page, timeout)


def settled(page: Page, timeout: float | None = None) -> None:
    """Wait until the page is loaded and no SAML form is left to be sent; `timeout` in milliseconds.

    It is asked first: to wait, playwright puts a large script of its own into each page, which the browser compiles anew.
    """
    with suppress(Exception):  # a script opens another page at this moment
        if page.evaluate(SETTLED):
            return
    page.wait_for_function(SETTLED, timeout=timeout)


def seen_in(scene: Scene, page: Page, statuses: Mapping[str, int], login: Login) -> Seen:
    """Return the page that the browser shows, recognised by the conditions of the matrix."""
    answer = Answer(statuses.get(page.url, 200), page.url, [], page.content(), [], 0.0)
    return matrix()[1].recognise(answer, (), scene.words(login.user))


def _caption(seen: Seen) -> str:
    return redactor.redact(str(seen))


def _leaks(scene: Scene) -> bool:
    """Return whether one sign-in is expected to open both applications in this scene."""
    return scene.expect == "leak" and scene.configuration in ("bare", "single", "original")


def _door_is_open(scene: Scene) -> bool:
    """Return whether the side door is expected to be open in this scene: where the same attempt without a browser is."""
    same = next(attempt for attempt in matrix()[0] if attempt.id == "basic-api-without-role")
    return "leak" in same.expected(scene)


def _row(scene: Scene, id_: str, who: str, status: Status, observed: str, state: str = "undecided") -> Check:
    leaks = _door_is_open(scene) if id_ == SIDE_DOOR else _leaks(scene)
    expected = "leak: the Publisher opens" if leaks else "a password is asked for"
    way = "sends name and password to the Publisher's API" if id_ == SIDE_DOOR else "signs in at the Store"
    title = f"In the browser: {who} {way}, then opens the Publisher"
    return Check(f"sso.{id_}", title, status, expected, observed, "Chromium, from outside", CHAPTER, "browser", state)
