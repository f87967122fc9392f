"""The verbs of the matrix: each makes one step of an attempt and records the page or finding at which it ends.

A `Walk` is one attempt in progress, with a client, a user and a place. Each verb is a method `do_…`; its name in
`attempts.yaml` has hyphens instead of underscores.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

from runbook_lib.checks.sso.environment import NEIGHBOUR, NODE, OUTSIDE, ROUTE, Login, Pins, ProductNode, Scene
from runbook_lib.checks.sso.generated import generate, scan
from runbook_lib.checks.sso.pages import Catalogue, Seen
from runbook_lib.checks.sso.proof_users import Logins, UserStore
from runbook_lib.spec.front_doors import examples
from runbook_lib.ssh import knock
from runbook_lib.webclient.client import TOO_MANY, Client, Flow, holds_assertion
from runbook_lib.webclient.forgery import forged, naming
from runbook_lib.webclient.response import Answer, Exchange, Form, shortened
from runbook_lib.webclient.transport import Closed, Refused, Timeout, TlsRefused

# What a stranger is refused: the Store's first page shows itself to all, and may have the user's name as a word of an asset's
OWN_PAGE = {"store": "/store/pages/my-items", "publisher": "/publisher/"}
SIGNED_IN = {"store": "store-signed-in", "publisher": "publisher-landing"}
TOLD = 50  # most generated requests that the report lists one by one
ENDINGS = {Closed: "closed", Refused: "refused", Timeout: "timeout", TlsRefused: "tls-refused"}


class CannotTell(Exception):
    """A step that had to succeed failed; the attempt is undecided, with this reason."""


@dataclass
class Walk:
    """One attempt in progress. `seen`: the pages and findings at which its steps ended; `exchanges`: the requests of all its clients;
    `notes`: texts for the report besides the requests; `pins`: the nodes that have to answer it from outside."""

    scene: Scene
    catalogue: Catalogue
    place: str = OUTSIDE
    node: ProductNode | None = None
    login: Login | None = None
    logins: Mapping[str, Login] = field(default_factory=dict)
    pins: Pins = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    visitor: Client = field(init=False)
    assertion: Form | None = None

    def __post_init__(self) -> None:
        self.visitor = self._fresh()

    def step(self, step: Mapping[str, Any]) -> None:
        """Do one step. `must`: it has to end at one of these pages; `any`: the page at which it ends does not count.

        A connection error is recorded as a finding. Raises `CannotTell` when the step did not end at a page of `must`, when its verb
        raises it and `any` is not set, and when another node answered than the pinned one.
        """
        verb, argument = next(iter(step.items()))
        options = {key: value for key, value in step.items() if key not in (verb, "must", "any")}
        before = len(self.seen)
        try:
            getattr(self, "do_" + verb.replace("-", "_"))(argument, **options)
        except CannotTell:
            if not step.get("any"):
                raise
        except OSError as error:
            self._find(next((name for kind, name in ENDINGS.items() if isinstance(error, kind)), "closed"), str(error))
        self._expect_pinned()
        if "must" in step or step.get("any"):
            ended = self.seen[before:]
            del self.seen[before:]
            if "must" in step and not (ended and ended[-1].page in step["must"]):
                raise CannotTell(f"{verb} {argument} had to end at {', '.join(step['must'])}: {ended[-1] if ended else 'it ended nowhere'}")

    # requests
    def do_get(self, where: str, **options: Any) -> None:
        """Send one GET with the target as written; redirects are not followed. `plain`: over HTTP; `host`, `sni`: other names to send."""
        self._request("GET", where, **options)

    def do_post(self, where: str, login: bool = False, **options: Any) -> None:
        """Send one POST, empty or with name and password (`login`)."""
        self._request("POST", where, form=self._credentials() if login else {}, **options)

    def do_open(self, where: str) -> None:
        """Open a page as a browser does: follow redirects and forms that post themselves."""
        self._arrive(self.visitor.open(self._url(where)))

    def do_follow(self, where: str) -> None:
        """Follow redirects up to the SAML form that posts itself; do not send it."""
        self._arrive(self.visitor.open(self._url(where), hold=lambda answer: answer.saml_form is not None))

    # signing in
    def do_sign_in(self, app: str) -> None:
        """Sign in without recording a page. Raises `CannotTell` when the user does not get in."""
        flow = self._sign_in(app)
        page = self._page(flow)
        if page.page != SIGNED_IN[app]:
            raise CannotTell(f"could not sign in at the {app.title()} first: {page}")

    def do_try_sign_in(self, app: str) -> None:
        """Sign in and record the page at which that ends."""
        self._arrive(self._sign_in(app))

    def do_authenticate(self, app: str, via: str | None = None) -> None:
        """Send name and password to the application's basic authentication API, on its own host or on the host `via`."""
        self._request("POST", f"{via or app} /{app}/apis/authenticate", form=self._credentials())

    def do_basic_page(self, app: str, via: str | None = None) -> None:
        """Send name and password to the application's page for basic authentication, on its own host or on the host `via`."""
        self._request("POST", f"{via or app} /{app}/pages/basic-authenticator", form=self._credentials())

    def do_register(self, where: str) -> None:
        """Register an account as the form does, and record whether the user store has it. It is removed together with the test users.

        Raises `CannotTell` when there is none because nobody did anything with the request: it was one too many, or ended in an error (5xx).
        """
        name = f"proof-newcomer-{secrets.token_hex(3)}"
        if isinstance(self.logins, Logins):  # before it is sent: an answer that never came may have made the account
            self.logins.also.append(name)
        password = "Pw1-" + secrets.token_urlsafe(15)
        form = {"action": "register", "reg-username": name, "reg-password": password, "reg-claims": "{}", "secret-question": "q", "secret-answer": "a"}
        answer = self.visitor.request("POST", self._url(where), form=form)
        made = name in UserStore(self.scene, self.scene.machines[0]).users(name)
        told = f"{where.split()[1]} answered {answer.status}"
        if not made and (answer.status == TOO_MANY or answer.status >= 500):
            raise CannotTell(f"{told}: that there is no account proves nothing")
        self._find("account-made" if made else "no-account", told)

    # generated requests, and the front doors
    def do_generated(self, app: str) -> None:
        """Send the generated requests of an application and record whether Nginx refused every one.

        Raises `CannotTell` when the pack cannot be read or has nothing to ask for, and when none came through but not all were refused: some
        got no answer, or time ran out before all were sent.
        """
        if self.scene.pack is None or not self.scene.doors:
            raise CannotTell("the pack could not be looked into")
        chosen = generate(self.scene.pack, *(self.scene.doors[key] for key in ("store", "publisher")))[app]
        if not chosen.requests:
            raise CannotTell("no request was made out of the pack, so that none was refused")
        found = scan(self.scene, chosen, self.logins)
        self.notes += [str(one) for one in found.passed[:TOLD]] or [str(found)]
        if (found.unanswered or found.made < found.wanted) and not found.passed:
            raise CannotTell(str(found))
        self._find("came-through" if found.passed else "all-refused", str(found))

    def do_doors(self, host: str) -> None:
        """Send requests for every row of the front doors as a browser makes them, and record whether Nginx lets all of them through."""
        shut = []
        for door in self.scene.doors[host]:
            for path in examples(door):
                answer = self.visitor.request(door.methods[0], f"https://{self.scene.hosts[host]}{path}", form={} if door.methods[0] != "GET" else None)
                if self.catalogue.recognise(answer, (), self.scene.words()).page in ("nginx-404", "nginx-403", "nginx-other"):
                    shut.append(path)
        self._find("doors-shut" if shut else "doors-open", ", ".join(shut) or f"{len(self.scene.doors[host])} rows on the {host.title()} host")

    def do_forget(self, what: str) -> None:
        """Continue with a new client without cookies."""
        self.visitor = self._fresh()

    # replay
    def do_carry(self, names: str | list[str], to: str, **source: str) -> None:
        """Continue with a new client that has the cookies of one host, as if the other host had set them for its application.

        `names`: names of the cookies, or `all`. Raises `CannotTell` when the first host did not set one of them.
        """
        source_host, target_host = self.scene.hosts[source["from"]], self.scene.hosts[to]
        thief = self._fresh()
        taken = [c for c in self.visitor.jar if c.host == source_host and c.name != ROUTE and (names == "all" or c.name in names)]
        if missing := set() if names == "all" else set(names) - {cookie.name for cookie in taken}:
            raise CannotTell(f"{source_host} never set {', '.join(sorted(missing))}")
        for cookie in taken:
            path = f"/{to}/" if cookie.path.strip("/") == source["from"] else cookie.path
            thief.jar.keep(replace(cookie, host=target_host, domain="", path=path))
        self.visitor = thief

    def do_replay(self, app: str, of: str = "", alter: str = "") -> None:
        """Post an assertion to an application from a new client, and record whether the application opened.

        `of`: it is a new one, given out for this application and not used yet; without it, it is the last that was seen. `alter`: how it is forged, a
        word of `forgery.FORGERIES`. Raises `CannotTell` when there is no assertion, when it did not reach the application, and when the application fails
        (500) at one that was not altered: its refusal is an empty page (golden run 4).
        """
        form, thief = self._unused(of) if of else self.assertion, self._fresh()
        if form is None:
            raise CannotTell("no assertion was seen to replay")
        if alter:
            try:
                form = forged(form, alter)
            except ValueError as error:
                raise CannotTell(str(error)) from error
        answer = thief.submit(form, action=f"https://{self.scene.hosts[app]}/{app}/acs")
        if answer.status == 401:
            self._arrive(Flow((answer,)))
            return
        if answer.by_nginx or answer.status == TOO_MANY:
            raise CannotTell(f"/{app}/acs was not reached: {answer.status}")
        if answer.status >= 500 and not alter:
            raise CannotTell(f"/{app}/acs failed, which is no refusal: {answer.status}")
        landing = self._page(thief.open(self._url(f"{app} {OWN_PAGE[app]}")))
        empty = ", empty" if not answer.text.strip() and answer.status == 200 else ""
        self.seen.append(replace(landing, detail=f"/{app}/acs answered {answer.status}{empty}; then {landing.detail}"))

    def do_entity(self, where: str) -> None:
        """Post two unsigned messages to an ACS, one that names an empty file and one a file that does not exist, and record whether the file is opened.

        It is where only the second ends in an error (500); what resolves nothing, or takes no such message, answers both alike. Raises `CannotTell` when
        a message did not reach the application, and when only the first ends in an error.
        """
        met = [self.visitor.request("POST", self._url(where), form=naming(file)) for file in ("file:///dev/null", "file:///runbook-no-such-file")]
        told = f"{where.split()[1]} answered {met[0].status} and {met[1].status}"
        failed = [answer.status >= 500 for answer in met]
        if any(answer.by_nginx or answer.status == TOO_MANY for answer in met) or failed == [True, False]:
            raise CannotTell(f"{told}, which says nothing of the file")
        self._find("entities-resolved" if failed == [False, True] else "entities-ignored", told)

    def do_ask_idp(self, at: str, password: bool = False, **options: str) -> None:
        """Send an application's sign-in request to the identity provider of the host `at`; record the page and send no form that posts itself.

        `password`: also fill in the login form. Raises `CannotTell` when the application shows no sign-in form.
        """
        app = options["as"]
        asking = self._fresh().open(self._url(f"{app} /{app}/login"), hold=lambda a: a.form("SAMLRequest") is not None)
        request = asking.final.form("SAMLRequest")
        if request is None:
            raise CannotTell(f"the {app.title()} shows no sign-in form: {self._page(asking)}")
        target = f"https://{self.scene.hosts[at]}/samlsso"
        answer = self.visitor.request("POST", target, form=request.fields, follow=True)
        hops = (*answer.hops, answer)
        form = answer.form("sessionDataKey")  # only the identity provider's login form has this field, the console's has not
        if password and form is not None:
            answer = self.visitor.request("POST", form.action, form=form.fields | self._credentials(), follow=True)
            hops += (*answer.hops, answer)
        self._arrive(Flow(hops))

    # inspection
    def do_assertion_went_to(self, app: str) -> None:
        """Record whether the last assertion was sent to the application's own ACS. Raises `CannotTell` when there was none."""
        action = self.assertion.action if self.assertion else ""
        own = re.fullmatch(rf"https://{re.escape(self.scene.hosts[app])}(:443)?/{app}/acs", action)
        if not action:
            raise CannotTell("no assertion was seen")
        self._find("own-acs" if own else "other-acs", action)

    def do_redirects(self, where: str) -> None:
        """Record whether every redirect leads to a public host without a port other than 443."""

        def enough(answer: Answer) -> bool:
            leads = urljoin(answer.url, answer.location) if answer.location else ""
            return answer.saml_form is not None or bool(leads and not self._public(leads))

        flow = self.visitor.open(self._url(where), hold=enough)
        places = [urljoin(hop.url, hop.location) for hop in flow.hops if hop.location]
        wrong = [place for place in places if not self._public(place)]
        if not places:
            self._arrive(flow)
            return
        self._find("private-redirects" if wrong else "public-redirects", shortened((wrong or places)[0]))

    def do_cookie_flags(self, names: list[str]) -> None:
        """Record whether these cookies are all Secure and HttpOnly. Raises `CannotTell` when one was never set."""
        cookies = [cookie for cookie in self.visitor.jar if cookie.name in names]
        if missing := set(names) - {cookie.name for cookie in cookies}:
            raise CannotTell(f"never set: {', '.join(sorted(missing))}")
        wrong = [f"{c.name} at {c.path}" for c in cookies if not (c.secure and c.http_only)]
        self._find("flags-missing" if wrong else "flags-set", ", ".join(wrong or sorted({c.name for c in cookies})))

    def do_hsts(self, where: str) -> None:
        """Record whether the response sets Strict-Transport-Security."""
        value = self.visitor.get(self._url(where)).header("strict-transport-security")
        age = re.search(r"max-age=(\d+)", value)
        self._find("hsts-set" if age and int(age[1]) > 0 else "hsts-missing", value or where)

    def do_ports(self, ports: list[int]) -> None:
        """Connect to these ports of every node in parallel, and record whether one answers.

        A refused connection is an answer too, because the packet reached the host. Raises `CannotTell` when not even Nginx can be reached.
        """
        connect = self.scene.neighbour[1] if self.place == NEIGHBOUR and self.scene.neighbour else self.scene.outside
        outside = self.scene.outside_nodes if self.place == OUTSIDE else {}
        doors = [(m.name, outside.get(m.name, m.address), port) for m in self.scene.machines for port in ports]
        fronts = self.scene.fronts if self.place == OUTSIDE else self.scene.inner_fronts
        address, _, front_port = fronts["store"].partition(":")
        known = ("Nginx", address, int(front_port or 443))
        with ThreadPoolExecutor(max_workers=len(doors) + 1) as pool:
            met = list(pool.map(lambda door: (door, knock(door[1], door[2], connect)), [known, *doors]))
        if met.pop(0)[1] != "open":
            raise CannotTell(f"not even Nginx answers from there ({address}): silence proves nothing")
        found = [f"{name}:{port} {what}" for (name, _address, port), what in met if what != "silent"]
        self._find("port-answers" if found else "no-answer", ", ".join(found) or f"{len(doors)} ports, 2 s each")

    # helpers
    def _fresh(self, verify: bool = True) -> Client:
        client = self.scene.visitor(self.place, self.node, verify, self.pins)
        client.exchanges = self.exchanges
        return client

    def _unused(self, app: str) -> Form:
        """Return an assertion for an application that nobody has posted yet: a new client signs in and stops before it."""
        login = self._who()
        flow = self._fresh().sign_in(self._url(f"{app} /{app}/login"), login.user, login.password, hold=holds_assertion)
        if flow.saml_response is None:
            raise CannotTell(f"no assertion was given out for the {app.title()}: {self._page(flow)}")
        return flow.saml_response

    def met(self) -> set[str]:
        """Return the names of the nodes that answered, where Nginx was asked to name them."""
        return {exchange.node for exchange in self.exchanges} - {""}

    def _expect_pinned(self) -> None:
        """Raise `CannotTell` when a host was answered by another node of its tier than the pinned one, or by one that Nginx did not name."""
        for exchange in self.exchanges if self.pins else ():
            pin = self.pins.get(urlsplit(exchange.url).hostname or "")
            nobody = not exchange.node and (exchange.status is None or exchange.by_nginx or 300 <= exchange.status < 400)  # nobody, or Nginx itself
            if pin and not nobody and exchange.node != pin.node and exchange.node in ("", *pin.tier):
                raise CannotTell(f"{exchange.node or 'a node that Nginx did not name'} answered in place of {pin.node}")

    def _url(self, where: str, plain: bool = False) -> str:
        """Return the URL: `store /path` is on the public host, `node /path` on the node from which the attempt is made."""
        place, _, target = where.partition(" ")
        if place == NODE:
            if self.node is None:
                raise CannotTell("no node to stand at")
            return self.node.origin + target
        return f"{'http' if plain else 'https'}://{self.scene.hosts[place]}{target}"

    def _request(
        self,
        method: str,
        where: str,
        form: Mapping[str, str] | None = None,
        plain: bool = False,
        host: str | None = None,
        sni: str | None = None,
        verify: bool = True,
    ) -> None:
        words = self.scene.words()
        visitor = self.visitor if verify else self._fresh(verify=False)
        host, sni = (value.format_map(words) if value else None for value in (host, sni))
        self._arrive(Flow((visitor.request(method, self._url(where, plain), form=form, host=host, sni=sni),)))

    def _sign_in(self, app: str) -> Flow:
        """Sign in, keep the assertion, and return the responses."""
        login = self._who()
        flow = self.visitor.sign_in_at(self.scene.hosts[app], app, login.user, login.password)
        if flow.saml_response is not None:
            self.assertion = flow.saml_response
        return flow

    def _who(self) -> Login:
        if self.login is None:
            raise CannotTell("nobody to sign in")
        return self.login

    def _credentials(self) -> dict[str, str]:
        login = self._who()
        return {"username": login.user, "password": login.password}

    def _page(self, flow: Flow) -> Seen:
        """Return the page at which the flow ended."""
        words = self.scene.words(self.login.user if self.login else "")
        return self.catalogue.recognise(flow.final, flow.hops[:-1], words)

    def _arrive(self, flow: Flow) -> None:
        self.seen.append(self._page(flow))

    def _find(self, name: str, detail: str) -> None:
        self.seen.append(self.catalogue.finding(name, detail))

    def _public(self, url: str) -> bool:
        """Return whether the URL is on a public host, by name, at the standard port 443."""
        parts = urlsplit(url)
        try:
            ipaddress.ip_address(parts.hostname or "")
            return False
        except ValueError:
            return parts.hostname in self.scene.hosts.values() and parts.port in (None, 443)
