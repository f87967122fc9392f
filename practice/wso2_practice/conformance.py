"""Does a G-Reg answer as the measured one did? One row per request of facts 10 and 12 and of the golden table's column a.

    python -m wso2_practice.conformance https://HOST:9443 --admin-password-file FILE --ca CA.pem

It is meant for one bare node that serves Store and Publisher without a proxy, a practice server or a real one: it makes
its own users (fresh names, removed afterwards) and knows nothing of what is behind the address. Exit 0: no difference.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import yaml
from rich.console import Console
from rich.table import Table

from runbook_lib.checks.sso.environment import Login, ProductNode, Scene
from runbook_lib.checks.sso.proof_users import test_users
from runbook_lib.errors import RunbookError
from runbook_lib.webclient.client import Client, Flow, holds_assertion
from runbook_lib.webclient.cookies import Jar
from runbook_lib.webclient.forgery import forged
from runbook_lib.webclient.response import Form
from wso2_practice.expectations import EXPECTATIONS, StepAnswers

TABLE = Path(__file__).with_name("conformance.yaml")
SCRIPTS = Path(__file__).with_name("direct_scripts.yaml")
TYPES = {"": "text/html", "json": "application/json", "empty": ""}
ABOUT = ("id", "who", "do", "golden", "says")
ANONYMOUS = Login("", "")


@dataclass(frozen=True)
class ServerUnderTest:
    """The server under test: its origin, its administrator, the CA that its certificate is verified against (None: not verified), its other names."""

    origin: str
    admin: Login
    ca: str | Path | None = None
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.origin).hostname or ""

    def visitor(self, *_place: object) -> Client:
        """Return a new client, without cookies, that resolves this server's name and its other names."""
        return Client({self.host: self.host, **self.addresses}, self.ca, timeout=30)

    @property
    def machines(self) -> tuple[ProductNode, ...]:
        return (ProductNode("the server", self.host, lambda *_: _never(), urlsplit(self.origin).port or 443),)

    def users(self) -> Any:
        """Return a context manager that yields test users and removes them. The administrator's password is sent to the server."""
        return test_users(cast(Scene, self))


def _never() -> Any:
    raise AssertionError("a bare server is asked from here only")


class Browser:
    """The browser of one row. Each verb of the table is one method; the outcome of the last step that has one is compared."""

    def __init__(self, target: ServerUnderTest, login: Login):
        self.target, self.login = target, login
        self.visitor = target.visitor()
        self.assertion: Form | None = None

    def run(self, steps: list[dict[str, Any]]) -> StepAnswers:
        outcome = StepAnswers()
        for step in steps:
            verb, argument = next(iter(step.items()))
            options = {key: value for key, value in step.items() if key != verb}
            outcome = VERBS[verb](self, argument, **options) or outcome
        return outcome

    def get(self, path: str, host: str | None = None) -> StepAnswers:
        return StepAnswers((self.visitor.request("GET", self.target.origin + path, host=host),))

    def post(self, path: str, form: dict[str, str]) -> StepAnswers:
        given = {"user": self.login.user, "password": self.login.password}
        fields = {name: value.format(**given) for name, value in form.items()}
        return StepAnswers((self.visitor.request("POST", self.target.origin + path, form=fields),))

    def open(self, path: str) -> StepAnswers:
        return _outcome(self.visitor.open(self.target.origin + path))

    def submit(self, path: str) -> StepAnswers:
        form = self.visitor.get(self.target.origin + path).saml_form
        return StepAnswers((self.visitor.submit(form),)) if form else StepAnswers()

    def sign_in(self, app: str) -> StepAnswers:
        return _outcome(self._sign_in(app))

    def sign_out(self, app: str) -> StepAnswers:
        return self.open(f"/{app}/logout")

    def hold(self, app: str) -> StepAnswers:
        flow = self._sign_in(app, holds_assertion)
        self.assertion = flow.saml_response
        return _outcome(flow)

    def replay(self, path: str) -> StepAnswers:
        if self.assertion is None:
            return StepAnswers()
        return StepAnswers((self.visitor.submit(self.assertion, action=self.target.origin + path),))

    def tamper(self, what: str) -> None:
        if self.assertion is not None:
            self.assertion = forged(self.assertion, what)

    def fresh(self, _: bool) -> None:
        self.visitor = self.visitor.fresh()

    def keep(self, names: list[str]) -> None:
        kept = Jar()
        for cookie in self.visitor.jar:
            if cookie.name in names or f"{cookie.name}@{cookie.path}" in names:
                kept.keep(cookie)
        self.visitor.jar = kept

    def _sign_in(self, app: str, hold: Callable | None = None) -> Flow:
        return self.visitor.sign_in(f"{self.target.origin}/{app}/login", *_pair(self.login), hold=hold)


VERBS: dict[str, Callable[..., StepAnswers | None]] = {
    name.replace("_", "-"): getattr(Browser, name)
    for name in ("get", "post", "open", "submit", "sign_in", "sign_out", "hold", "replay", "tamper", "fresh", "keep")
}


def _pair(login: Login) -> tuple[str, str]:
    return login.user, login.password


def _outcome(flow: Flow) -> StepAnswers:
    return StepAnswers(flow.hops, flow.asked)


@dataclass(frozen=True)
class Difference:
    """One expectation of a row that the server does not meet."""

    row: str
    what: str
    expected: object
    observed: object


def differences(target: ServerUnderTest, row: dict[str, Any], logins: dict[str, Login]) -> list[Difference]:
    """Run one row and return its differences; empty when the server responds as the table says."""
    browser = Browser(target, logins.get(row.get("who", ""), ANONYMOUS))
    try:
        outcome = browser.run(row["do"])
    except OSError as error:
        return [Difference(row["id"], "answer", "one", str(error))]
    if not outcome.hops:
        return [Difference(row["id"], "form", "a page with a SAML form", "none")]
    found = []
    for name, expected in row.items():
        if name not in ABOUT and (observed := EXPECTATIONS[name](outcome, expected)) is not None:
            found.append(Difference(row["id"], name, expected, observed))
    return found


def load(path: Path = TABLE) -> list[dict[str, Any]]:
    """Return the rows of the table. Raises RunbookError when a row has an unknown verb or expectation."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    for row in rows:
        unknown = {key for key in row if key not in ABOUT and key not in EXPECTATIONS}
        unknown |= {next(iter(step)) for step in row["do"]} - set(VERBS)
        if unknown:
            raise RunbookError(f"nobody understands {', '.join(sorted(unknown))}", f"{path}, row {row.get('id')}")
    return rows


def script_rows(path: Path = SCRIPTS) -> list[dict[str, Any]]:
    """Return two rows for every script that responds under its own path: one with a GET, one with an empty POST."""
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows = []
    for script, words in (table["measured"] | table["derived"]).items():
        each = words if isinstance(words, dict) else {"get": words, "post": words}
        steps = {"get": {"get": script}, "post": {"post": script, "form": {}}}
        rows += [{"id": f"{verb.upper()} {script}", "do": [steps[verb]], **_script(str(word))} for verb, word in each.items()]
    return rows


def _script(word: str) -> dict[str, Any]:
    status, _, rest = word.partition(" ")
    if status == "302":
        return {"status": 302, "location": re.escape(rest.split("?")[0]), "opens_session": True}
    return {"status": int(status), "content_type": TYPES[rest], "opens_session": True} | ({"empty": True} if rest == "empty" else {})


def with_other_names(target: ServerUnderTest) -> ServerUnderTest:
    """Return `target` with the name in its SAML form added to its names, because a server without HostName writes its address there."""
    form = target.visitor().get(target.origin + "/publisher/pages/sso-login").saml_form
    name = urlsplit(form.action).hostname if form else None
    if not name or name in (target.host, *target.addresses):
        return target
    return replace(target, addresses={**target.addresses, name: target.host})


def run(target: ServerUnderTest, rows: Iterable[dict[str, Any]]) -> list[Difference]:
    """Run every row against the server, with test users, and return the differences. Raises RunbookError when the users cannot be created."""
    target = with_other_names(target)
    with target.users() as logins:
        found = [difference for row in rows for difference in differences(target, row, logins)]
    return found + [Difference("clean-up", "left behind", "nothing", name) for name in logins.left]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m wso2_practice.conformance", description=__doc__)
    parser.add_argument("origin", metavar="https://HOST:PORT")
    parser.add_argument("--admin-user", default="admin")
    parser.add_argument("--admin-password-file", type=Path, required=True)
    trust = parser.add_mutually_exclusive_group(required=True)
    trust.add_argument("--ca", type=Path, help="PEM file that the server's certificate is verified against")
    trust.add_argument("--insecure", action="store_true", help="do not verify the certificate")
    parser.add_argument("--name", action="append", default=[], metavar="NAME=ADDRESS", help="instead of DNS")
    options = parser.parse_args(arguments)
    password = options.admin_password_file.read_text().strip()
    addresses = dict(pair.split("=", 1) for pair in options.name)
    target = ServerUnderTest(options.origin.rstrip("/"), Login(options.admin_user, password), options.ca, addresses)
    try:
        rows = load() + script_rows()
        found = run(target, rows)
    except (RunbookError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    show(found, len(rows))
    return 1 if found else 0


def show(found: list[Difference], rows: int) -> None:
    """Print the table of differences, and one line with the numbers of rows."""
    console = Console()
    if found:
        table = Table("row", "what", "expected", "observed")
        for difference in found:
            table.add_row(difference.row, difference.what, str(difference.expected), str(difference.observed))
        console.print(table)
    console.print(f"{rows} rows, {len({difference.row for difference in found})} differ")


if __name__ == "__main__":
    sys.exit(main())
