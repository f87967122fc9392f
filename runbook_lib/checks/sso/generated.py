"""Attempts that nobody wrote down: every file of the pack's applications, every URL mapping, by every spelling, method and user.

    requests = generate(contents, doors)                 # what no browser needs, by application
    found = scan(scene, requests["publisher"], logins)   # which of them Nginx passed on

A table of attempts knows the holes that somebody thought of. These are made from what is really there: whatever the front
doors do not name must be refused, by Nginx itself, or it is named here.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

from runbook_lib.checks.sso.contents import Contents
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.spec.front_doors import METHODS, Door, find
from runbook_lib.webclient.cookies import Jar
from runbook_lib.webclient.transport import Closed, Timeout, Wire

MOST = 6000  # requests for all applications together
SECONDS = 60.0  # for one application; where Nginx answers by itself it is done in a few
THREADS = 6
REFUSED = "refused"
SCRIPT = ".jag"
REST = "product"  # what belongs to none of the four applications
KNOWN = ("store", "publisher", "sso", "social")
# Contexts of the product that lie in no folder of the pack (facts 5.3, 12.3)
ROOTS = (
    "/carbon/", "/carbon/admin/login.jsp", "/services/", "/services/RemoteUserStoreManagerService", "/services/RemoteUserStoreManagerService?wsdl",
    "/registry", "/registry/atom", "/registry/resource/_system", "/governance/", "/resource/1.0.0/", "/cmis", "/fileupload/", "/filedownload",
    "/authenticationendpoint/login.do", "/authenticationendpoint/samlsso_notification.do", "/t/carbon.super/store/", "/t/carbon.super/publisher/",
    "/openid", "/openidserver", "/passivests", "/oauth2/token", "/oauth/request-token", "/wso2registry/", "/uddi/",
)  # fmt: skip
HOSTS = ("store", "publisher")
# By whom: nobody, or a user signed in at his own application, whose cookies go to the other host as well
ANYBODY, STORE_USER, PUBLISHER_USER = "", "store-only", "publisher-only"
USERS = (ANYBODY, STORE_USER, PUBLISHER_USER)
HOME = {STORE_USER: "store", PUBLISHER_USER: "publisher"}
# How a path may be written that the application server takes for the plain one, or that a careless rule takes for a harmless one
SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "an encoded letter": lambda path: path[:-1] + f"%{ord(path[-1]):02x}",
    "an encoded dot": lambda path: "%2e".join(path.rsplit(".", 1)),
    "an encoded first letter": lambda path: f"/%{ord(path[1]):02x}{path[2:]}",
    "an encoded slash": lambda path: path[:1] + path[1:].replace("/", "%2f", 1),
    "a doubled slash": lambda path: "//".join(path.rsplit("/", 1)),
    "two slashes first": lambda path: "/" + path,
    "a detour": lambda path: "/x/../".join(path.rsplit("/", 1)),
    "an encoded detour": lambda path: "/x/%2e%2e/".join(path.rsplit("/", 1)),
    "a detour with a parameter": lambda path: "/x/..;a/".join(path.rsplit("/", 1)),
    "a dot segment": lambda path: "/./".join(path.rsplit("/", 1)),
    "a parameter inside": lambda path: ";a/".join(path.rsplit("/", 1)),
    "a parameter at the end": lambda path: path + ";a=.css",
    "a session's parameter": lambda path: path + ";jsessionid=0123456789ABCDEF",
    "something behind it": lambda path: path + "/x.css",
    "a slash behind it": lambda path: path + "/",
    "an encoded end": lambda path: path + "%00.css",
    "an encoded space": lambda path: path + "%20",
    "capitals": lambda path: path.rsplit(".", 1)[0] + "." + path.rsplit(".", 1)[-1].upper(),
    "a backslash": lambda path: "\\".join(path.rsplit("/", 1)),
    "a query that looks like a file": lambda path: path + "?x=/a.css",
    "out of a file that is served": lambda path: "/sso/views/css/../../.." + path,
    "out of the sign-on": lambda path: "/sso/login/..;/.." + path,
}


@dataclass(frozen=True)
class Request:
    """One attempt: `host` is a key of the public hosts, `target` goes out as it is written."""

    host: str
    method: str
    target: str
    who: str = ANYBODY

    def __str__(self) -> str:
        return f"{self.method} {self.target} on the {self.host.title()} host as {self.who or 'no one'}"


@dataclass(frozen=True)
class Found:
    """A request that Nginx passed on, and what the answer was."""

    request: Request
    answer: str

    def __str__(self) -> str:
        return f"{self.request} -> {self.answer}"


@dataclass(frozen=True)
class Scan:
    """What came of it. `made` of `wanted` requests were sent in `seconds`; `passed` are those that Nginx did not refuse."""

    wanted: int
    made: int
    seconds: float
    passed: tuple[Found, ...]

    def __str__(self) -> str:
        counted = f"{self.made:,} requests in {self.seconds:.1f} s" + (f" of {self.wanted:,} before the time was up" if self.made < self.wanted else "")
        if not self.passed:
            return f"{counted}, every one refused by Nginx"
        shown = "; ".join(str(one) for one in self.passed[:5])
        return f"{len(self.passed):,} of {counted} came through: {shown}" + ("; …" if len(self.passed) > 5 else "")


@lru_cache(maxsize=4)
def generate(contents: Contents, store: tuple[Door, ...], publisher: tuple[Door, ...], most: int = MOST) -> Mapping[str, tuple[Request, ...]]:
    """The requests that no front door of their host lets in, by application; `product` is all that belongs to none.

    Each kind in its turn until `most` are made, so that a large pack loses spellings, not files. The same for the same pack.
    """
    doors = {"store": store, "publisher": publisher}
    every = itertools.chain(_plain(contents), _by_users(contents), _mapped(contents), _addressed(contents), _rest(contents), _spelt(contents))
    outside = (request for request in every if find(doors[request.host], request.method, request.target) is None)
    by_app: dict[str, list[Request]] = {app: [] for app in (*KNOWN, REST)}
    for request in itertools.islice(dict.fromkeys(itertools.islice(outside, 2 * most)), most):
        by_app[_app_of(request.target)].append(request)
    return {app: tuple(sorted(found, key=lambda request: "logout" in request.target)) for app, found in by_app.items()}  # who is signed out sees less


def _app_of(target: str) -> str:
    """Whose path it is; a trick in front of it counts for the application that it leads to."""
    plain = re.sub(r"%([0-9a-fA-F]{2})", lambda code: chr(int(code[1], 16)), target.split("?")[0]).lower()
    for trick in ("/sso/views/css/../../..", "/sso/login/..;/.."):
        plain = plain.removeprefix(trick)
    found = re.match(r"/*([a-z]+)(?![^/;\\])", plain)
    return found[1] if found and found[1] in KNOWN else REST


def _scripts(contents: Contents) -> list[str]:
    return [path for path in contents.files if path.endswith(SCRIPT)]


def _plain(contents: Contents) -> Iterator[Request]:
    """Every file as it lies there, on both hosts."""
    return (Request(host, "GET", _written(path)) for path in contents.files for host in HOSTS)


def _by_users(contents: Contents) -> Iterator[Request]:
    """Every script by each user, read and posted to."""
    return (Request(host, method, _written(path), who) for path in _scripts(contents) for host in HOSTS for method in ("POST", "GET") for who in USERS)


def _mapped(contents: Contents) -> Iterator[Request]:
    """Every URL mapping with every method; for a star, something."""
    targets = [mapping.replace("*", rest) for mapping in contents.mappings for rest in (("x", "") if "*" in mapping else ("",))]
    return (Request(host, method, target) for target in targets for host in HOSTS for method in METHODS)


def _addressed(contents: Contents) -> Iterator[Request]:
    """The address that an extension's script answers at, besides its own path: apis/x and pages/x of the application or of a type of assets."""
    for path in _scripts(contents):
        if found := re.fullmatch(r"/(\w+)/extensions/(app|assets)/([^/]+)/(apis|pages)/(.+)\.jag", path):
            app, kind, name, folder, script = found.groups()
            at = f"/{app}/{folder}" if kind == "app" else f"/{app}/assets/{name}" + ("/apis" if folder == "apis" else "")
            for spelt in dict.fromkeys((script, script.replace("_", "-"), re.sub(r"-(auth-)?(login|logout)-controller$", r"-\1\2", script))):
                yield from (Request(host, method, f"{at}/{spelt}", who) for host in HOSTS for method in ("GET", "POST") for who in USERS)


def _rest(contents: Contents) -> Iterator[Request]:
    """What else the product serves."""
    return (Request(host, method, target) for target in (*ROOTS, *contents.roots) for host in HOSTS for method in ("GET", "POST"))


def _spelt(contents: Contents) -> Iterator[Request]:
    """Every script by every spelling: at the host that serves it, then at the other one; method and user take turns."""
    turns = itertools.cycle(itertools.product(("POST", "GET"), USERS))
    for own in (True, False):
        for spell in SPELLINGS.values():
            for path in _scripts(contents):
                serving = {"publisher"} if path.startswith("/publisher/") else {"store", "publisher"} if path.startswith("/sso/") else {"store"}
                for host in (host for host in HOSTS if (host in serving) == own):
                    method, who = next(turns)
                    yield Request(host, method, spell(_written(path)), who)
            next(turns)  # so that the next spelling meets other users


def _written(path: str) -> str:
    """A file's path as a request target."""
    return re.sub(r"[^\w/.~!&'()*+,=:@-]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), path, flags=re.ASCII)


def scan(scene: Scene, requests: tuple[Request, ...], logins: Mapping[str, Login]) -> Scan:
    """Send them, several at a time; Nginx's own refusals (and a connection that it closes) are what is expected of all of them."""
    jars = {who: _signed_in(scene, logins[who], HOME[who]) for who in HOME if who in logins and any(request.who == who for request in requests)}
    began = time.monotonic()
    turns = [requests[first::THREADS] for first in range(THREADS)]
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        results = list(pool.map(lambda some: _send(scene, some, jars, began + SECONDS), turns))
    made = sum(count for count, _ in results)
    order = {request: place for place, request in enumerate(requests)}
    passed = sorted((found for _, some in results for found in some), key=lambda found: order[found.request])
    return Scan(len(requests), made, time.monotonic() - began, tuple(passed))


def _send(scene: Scene, requests: Iterable[Request], jars: Mapping[str, Jar], deadline: float) -> tuple[int, list[Found]]:
    """How many were sent before the deadline, and which came through."""
    wire, made, passed = _wire(scene), 0, []
    try:
        for request in requests:
            if time.monotonic() > deadline:
                break
            if (answer := _ask(wire, scene, request, jars)) is None:  # a kept connection ends some time: once more on a fresh one
                wire.close()
                wire = _wire(scene)
                answer = _ask(wire, scene, request, jars)
            made += 1
            if answer != REFUSED:
                passed.append(Found(request, answer or "closed without an answer"))
    finally:
        wire.close()
    return made, passed


def _wire(scene: Scene) -> Wire:
    return Wire({scene.hosts[key]: address for key, address in scene.fronts.items()}, scene.ca, scene.outside, SECONDS + 10, keep=True)


def _ask(wire: Wire, scene: Scene, request: Request, jars: Mapping[str, Jar]) -> str | None:
    """What was answered: `REFUSED` by Nginx, or status and Location; None where the connection was closed without an answer."""
    name = scene.hosts[request.host]
    cookies = jars[request.who].header(name, request.target.split("?")[0], True) if request.who in jars else ""
    headers = {"Host": name, "Accept": "*/*"} | ({"Cookie": cookies} if cookies else {})
    try:
        answer = wire.send(request.method, f"https://{name}", request.target, headers, b"")
    except Timeout:
        return "no answer in time"
    except (Closed, OSError):
        return None
    refused = 400 <= answer.status_code < 500 and "<center>nginx" in answer.text
    return REFUSED if refused else " ".join(filter(None, (str(answer.status_code), answer.headers.get("location", "").split("?")[0])))


def _signed_in(scene: Scene, login: Login, app: str) -> Jar:
    """The cookies of a user at his own host, and the same as if the other host had set them for its application."""
    visitor = scene.visitor()
    visitor.sign_in_at(scene.hosts[app], app, login.user, login.password)
    other = "publisher" if app == "store" else "store"
    for cookie in list(visitor.jar):
        path = f"/{other}/" if cookie.path.strip("/") == app else cookie.path
        visitor.jar.keep(replace(cookie, host=scene.hosts[other], domain="", path=path))
    return visitor.jar
