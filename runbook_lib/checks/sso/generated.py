"""Generated attempts: every file and URL mapping of the pack's applications, in many spellings, with several methods and users.

    requests = generate(contents, doors)                 # requests that no browser needs, by application
    found = scan(scene, requests["publisher"], logins)   # which of them Nginx let through

The matrix of attempts covers only the holes that somebody thought of. These requests are made from the files of the pack:
Nginx itself must refuse each one that the front doors do not name, and the scan reports those that it let through.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

from runbook_lib.checks.sso.contents import Contents
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.spec.front_doors import METHODS, Door, find
from runbook_lib.webclient.client import TOO_MANY
from runbook_lib.webclient.cookies import Jar
from runbook_lib.webclient.transport import Closed, Timeout, Wire

MOST = 10_000  # requests for all applications together; a pack that has more of the dangerous kinds has more sent
SECONDS = 60.0  # time limit for one application; it takes a few seconds when Nginx refuses every request itself
THREADS = 6
REFUSED, CLOSED, LATE = "refused", "closed without an answer", "no answer in time"
# Nginx refuses before it counts requests, so what was one too many would have been passed on; but nobody has seen where to
LIMITED = "429, one too many"
UNANSWERED = (CLOSED, LATE, LIMITED)
SCRIPT = ".jag"
REST = "product"  # key for requests to none of the four applications
KNOWN = ("store", "publisher", "sso", "social")
# Paths of the product that have no folder in the pack (facts 5.3, 12.3)
ROOTS = (
    "/carbon/", "/carbon/admin/login.jsp", "/services/", "/services/RemoteUserStoreManagerService", "/services/RemoteUserStoreManagerService?wsdl",
    "/registry", "/registry/atom", "/registry/resource/_system", "/governance/", "/resource/1.0.0/", "/cmis", "/fileupload/", "/filedownload",
    "/authenticationendpoint/login.do", "/authenticationendpoint/samlsso_notification.do", "/t/carbon.super/store/", "/t/carbon.super/publisher/",
    "/openid", "/openidserver", "/passivests", "/oauth2/token", "/oauth/request-token", "/wso2registry/", "/uddi/",
)  # fmt: skip
HOSTS = ("store", "publisher")
# Who sends a request: nobody, or a user signed in at the own application, whose cookies are sent to the other host too
ANYBODY, STORE_USER, PUBLISHER_USER = "", "store-only", "publisher-only"
USERS = (ANYBODY, STORE_USER, PUBLISHER_USER)
HOME = {STORE_USER: "store", PUBLISHER_USER: "publisher"}
# Spellings of a path that the application server may read as the plain path, or that a careless rule may let through
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
    """One request: `host` is a key of the public hosts, `target` is sent exactly as written, `who` is the kind of user."""

    host: str
    method: str
    target: str
    who: str = ANYBODY

    def __str__(self) -> str:
        return f"{self.method} {self.target} on the {self.host.title()} host as {self.who or 'no one'}"


@dataclass(frozen=True)
class RequestList:
    """The requests of one application that are sent, and how many more were `left_out`: odd spellings, and public files asked of the other host."""

    requests: tuple[Request, ...]
    left_out: int = 0


@dataclass(frozen=True)
class Found:
    """A request that Nginx did not refuse, and the response to it in words."""

    request: Request
    answer: str

    def __str__(self) -> str:
        return f"{self.request} -> {self.answer}"


@dataclass(frozen=True)
class Scan:
    """The result of a scan: `made` of `wanted` requests were sent in `seconds`; `left_out` more were not to be sent.

    `passed`: those that Nginx did not refuse. `unanswered`: those that tell nothing, because no answer came or it was "one too many" (429).
    """

    wanted: int
    made: int
    seconds: float
    passed: tuple[Found, ...]
    unanswered: tuple[Found, ...] = ()
    left_out: int = 0

    def __str__(self) -> str:
        more = f"; {self.left_out:,} more were left out, because the pack is large: odd spellings, and public files of the other host" if self.left_out else ""
        return self._told() + more

    def _told(self) -> str:
        counted = f"{self.made:,} requests in {self.seconds:.1f} s" + (f" of {self.wanted:,} before the time was up" if self.made < self.wanted else "")
        if self.unanswered and not self.passed:
            return f"{len(self.unanswered):,} of {counted} got no answer, first: {self.unanswered[0]}"
        if not self.passed:
            return f"{counted}, every one refused by Nginx"
        shown = "; ".join(str(one) for one in self.passed[:5])
        return f"{len(self.passed):,} of {counted} came through: {shown}" + ("; …" if len(self.passed) > 5 else "")


@lru_cache(maxsize=4)
def generate(contents: Contents, store: tuple[Door, ...], publisher: tuple[Door, ...], most: int = MOST) -> Mapping[str, RequestList]:
    """Return the requests that no front door of their host names, by application (`product`: requests to none of them).

    `store`, `publisher`: the front doors of the two hosts. `most`: from this number of requests on, spellings are left out, and requests to one
    host for files that the other serves to everybody; these come last. No other kind is ever left out. The result is the same for the same pack.
    """
    doors = {"store": store, "publisher": publisher}
    public: list[Request] = []
    hidden: list[Request] = []
    for request in _plain(contents):
        (public if any(find(doors[host], request.method, request.target) for host in HOSTS) else hidden).append(request)
    dangerous = (*_rest(contents), *_mapped(contents), *_by_users(contents), *_addressed(contents), *hidden)
    kept, others = (
        dict.fromkeys(one for one in kinds if find(doors[one.host], one.method, one.target) is None) for kinds in (dangerous, (*_spelt(contents), *public))
    )
    every = list(kept | others)
    taken = max(most, len(kept))
    left_out = Counter(_app_of(request.target) for request in every[taken:])
    by_app: dict[str, list[Request]] = {app: [] for app in (*KNOWN, REST)}
    for request in every[:taken]:
        by_app[_app_of(request.target)].append(request)
    return {
        app: RequestList(tuple(sorted(found, key=lambda request: "logout" in request.target)), left_out[app]) for app, found in by_app.items()
    }  # sign-out last: a user who is signed out reaches less


def _app_of(target: str) -> str:
    """Return the application of a path. A path with a prefix that leads elsewhere belongs to the application it leads to."""
    plain = re.sub(r"%([0-9a-fA-F]{2})", lambda code: chr(int(code[1], 16)), target.split("?")[0]).lower()
    for trick in ("/sso/views/css/../../..", "/sso/login/..;/.."):
        plain = plain.removeprefix(trick)
    found = re.match(r"/*([a-z]+)(?![^/;\\])", plain)
    return found[1] if found and found[1] in KNOWN else REST


def _scripts(contents: Contents) -> list[str]:
    return [path for path in contents.files if path.endswith(SCRIPT)]


def _plain(contents: Contents) -> Iterator[Request]:
    """Return a GET of every file under its own path, on both hosts."""
    return (Request(host, "GET", _written(path)) for path in contents.files for host in HOSTS)


def _by_users(contents: Contents) -> Iterator[Request]:
    """Return a POST and a GET of every script, for each user and host."""
    return (Request(host, method, _written(path), who) for path in _scripts(contents) for host in HOSTS for method in ("POST", "GET") for who in USERS)


def _mapped(contents: Contents) -> Iterator[Request]:
    """Return every URL mapping with every method and host; `*` is replaced by `x` and by nothing."""
    targets = [mapping.replace("*", rest) for mapping in contents.mappings for rest in (("x", "") if "*" in mapping else ("",))]
    return (Request(host, method, target) for target in targets for host in HOSTS for method in METHODS)


def _addressed(contents: Contents) -> Iterator[Request]:
    """Yield requests for the URLs of extension scripts besides their own paths: apis/x and pages/x of the application or of an asset type."""
    for path in _scripts(contents):
        if found := re.fullmatch(r"/(\w+)/extensions/(app|assets)/([^/]+)/(apis|pages)/(.+)\.jag", path):
            app, kind, name, folder, script = found.groups()
            at = f"/{app}/{folder}" if kind == "app" else f"/{app}/assets/{name}" + ("/apis" if folder == "apis" else "")
            for spelt in dict.fromkeys((script, script.replace("_", "-"), re.sub(r"-(auth-)?(login|logout)-controller$", r"-\1\2", script))):
                yield from (Request(host, method, f"{at}/{spelt}", who) for host in HOSTS for method in ("GET", "POST") for who in USERS)


def _rest(contents: Contents) -> Iterator[Request]:
    """Return requests for the product's other paths: `ROOTS` and the web archives of the pack."""
    return (Request(host, method, target) for target in (*ROOTS, *contents.roots) for host in HOSTS for method in ("GET", "POST"))


def _spelt(contents: Contents) -> Iterator[Request]:
    """Yield every script in every spelling: first on the hosts that serve it, then on the other ones; method and user alternate."""
    turns = itertools.cycle(itertools.product(("POST", "GET"), USERS))
    for own in (True, False):
        for spell in SPELLINGS.values():
            for path in _scripts(contents):
                serving = {"publisher"} if path.startswith("/publisher/") else {"store", "publisher"} if path.startswith("/sso/") else {"store"}
                for host in (host for host in HOSTS if (host in serving) == own):
                    method, who = next(turns)
                    yield Request(host, method, spell(_written(path)), who)
            next(turns)  # so that the next spelling starts with another user


def _written(path: str) -> str:
    """Return a file's path as a request target, percent-encoded."""
    return re.sub(r"[^\w/.~!&'()*+,=:@-]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), path, flags=re.ASCII)


def scan(scene: Scene, chosen: RequestList, logins: Mapping[str, Login]) -> Scan:
    """Send the requests over `THREADS` connections, at most `SECONDS` seconds; return those that Nginx did not refuse with a page of its own."""
    requests = chosen.requests
    jars = {who: _signed_in(scene, logins[who], HOME[who]) for who in HOME if who in logins and any(request.who == who for request in requests)}
    began = time.monotonic()
    turns = [requests[first::THREADS] for first in range(THREADS)]
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        results = list(pool.map(lambda some: _send(scene, some, jars, began + SECONDS), turns))
    made = sum(count for count, _ in results)
    order = {request: place for place, request in enumerate(requests)}
    found = sorted((found for _, some in results for found in some), key=lambda found: order[found.request])
    passed, unanswered = (tuple(one for one in found if (one.answer in UNANSWERED) == silent) for silent in (False, True))
    return Scan(len(requests), made, time.monotonic() - began, passed, unanswered, chosen.left_out)


def _send(scene: Scene, requests: Iterable[Request], jars: Mapping[str, Jar], deadline: float) -> tuple[int, list[Found]]:
    """Send requests until the deadline; return how many were sent, and those that Nginx did not refuse."""
    wire, made, passed = _wire(scene), 0, []
    try:
        for request in requests:
            if time.monotonic() > deadline:
                break
            if (answer := _ask(wire, scene, request, jars)) is None:  # a kept connection may have been closed: retry once on a new one
                wire.close()
                wire = _wire(scene)
                answer = _ask(wire, scene, request, jars)
            made += 1
            if answer != REFUSED:
                passed.append(Found(request, answer or CLOSED))
    finally:
        wire.close()
    return made, passed


def _wire(scene: Scene) -> Wire:
    return Wire({scene.hosts[key]: address for key, address in scene.fronts.items()}, scene.ca, scene.outside, SECONDS + 10, keep=True)


def _ask(wire: Wire, scene: Scene, request: Request, jars: Mapping[str, Jar]) -> str | None:
    """Return the response: `REFUSED` by Nginx, or status and Location; None when the connection was closed without a response."""
    name = scene.hosts[request.host]
    cookies = jars[request.who].header(name, request.target.split("?")[0], True) if request.who in jars else ""
    headers = {"Host": name, "Accept": "*/*"} | ({"Cookie": cookies} if cookies else {})
    try:
        answer = wire.send(request.method, f"https://{name}", request.target, headers, b"")
    except Timeout:
        return LATE
    except (Closed, OSError):
        return None
    refused = 400 <= answer.status < 500 and "<center>nginx" in answer.text
    if answer.status == TOO_MANY:
        return LIMITED
    return REFUSED if refused else " ".join(filter(None, (str(answer.status), answer.header("location").split("?")[0])))


def _signed_in(scene: Scene, login: Login, app: str) -> Jar:
    """Sign in and return the user's cookies for the own host, with copies as if the other host had set them for its application."""
    visitor = scene.visitor()
    visitor.sign_in_at(scene.hosts[app], app, login.user, login.password)
    other = "publisher" if app == "store" else "store"
    for cookie in list(visitor.jar):
        path = f"/{other}/" if cookie.path.strip("/") == app else cookie.path
        visitor.jar.keep(replace(cookie, host=scene.hosts[other], domain="", path=path))
    return visitor.jar
