"""Test users of a proof: made fresh, named as such, removed with every role that they caused.

By SOAP at a node's /services/RemoteUserStoreManagerService (facts 10.6), which is never public: the connection starts
on the node itself. Names are `proof-<kind>-<six hex digits>`, at most 22 characters, because the product makes a role
`private_<user>` and a role's name ends at 30.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from xml.sax.saxutils import escape

from lxml import etree
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from runbook_lib.check import Check, Status
from runbook_lib.checks.sso.environment import NODE, Login, ProductNode, Scene
from runbook_lib.errors import RunbookError
from runbook_lib.redaction import redactor

SERVICE = "/services/RemoteUserStoreManagerService"
NAMESPACE = "http://service.ws.um.carbon.wso2.org"
ROLES = {
    "store-only": ("Internal/store",),
    "publisher-only": ("Internal/publisher",),
    "neither": (),
    "newcomer": ("Internal/publisher",),
}
SHORT = {"store-only": "store", "publisher-only": "publisher", "neither": "neither", "newcomer": "newcomer"}
CLEAN_UP = "sso.clean-up"  # the id of the row about it
OURS = re.compile(rf"proof-({'|'.join(SHORT.values())})-[0-9a-f]{{6}}")
PRIVATE = "Internal/private_"
TRIES, PAUSE = 5, 0.2  # a deletion that met a deadlock; seconds before the second try, doubled each time


class Deadlock(RunbookError):
    """The database gave up a transaction because of another one: nothing was done, and it may be asked again."""


class UserStore:
    """The user store as one node offers it to the administrator."""

    def __init__(self, scene: Scene, node: ProductNode):
        self._scene, self._node = scene, node

    def call(self, operation: str, **arguments: object) -> list[str]:
        """One SOAP operation; the texts of its `return` elements. A list is sent as a repeated element."""
        url = self._node.origin + SERVICE
        visitor = self._scene.visitor(NODE, self._node)
        try:
            answer = visitor.request(
                "POST",
                url,
                data=_envelope(operation, arguments),
                headers={
                    "Content-Type": "text/xml; charset=UTF-8",
                    "SOAPAction": f"urn:{operation}",
                    "Authorization": _basic(self._scene.admin),
                },
            )
        except OSError as error:
            raise self._failed(operation, f"no answer: {error}") from error
        if answer.status not in (200, 202):
            kind = Deadlock if answer.status == 500 and "deadlock" in answer.text.lower() else RunbookError
            raise self._failed(operation, f"HTTP {answer.status} {_fault(answer.text)}".strip(), kind)
        if not answer.text.strip():
            return []
        root = etree.fromstring(answer.text.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
        return [found.text or "" for found in root.iter(f"{{{NAMESPACE}}}return", f"{{{NAMESPACE}}}Return")]

    def _failed(self, operation: str, why: str, kind: type[RunbookError] = RunbookError) -> RunbookError:
        return kind(
            f"the user store refuses {operation}: {why}",
            f"{self._node.name}: {self._node.origin}{SERVICE}",
            "is the node up (chapter 04), and is the administrator's password that of the user database?",
        )

    def add(self, login: Login, roles: tuple[str, ...]) -> None:
        self.call(
            "addUser",
            userName=login.user,
            credential=login.password,
            roleList=roles,
            requirePasswordChange="false",
        )

    def users(self, like: str = "*") -> list[str]:
        return self.call("listUsers", filter=like, maxItemLimit="-1")

    def roles(self) -> list[str]:
        return self.call("getRoleNames")

    def remove(self, *users: str) -> None:
        """These test users, as far as they are there, and the roles that exist for them alone.

        One after the other: two deletions at once deadlock in the product's database (facts 12.3). Raises `RunbookError`
        for the first that failed, after all were tried.
        """
        there = set(self.users("proof-*")) & set(users)
        private = set(self.roles()) & {PRIVATE + user for user in users}
        jobs = [("deleteUser", {"userName": user}) for user in sorted(there)] + [("deleteRole", {"roleName": role}) for role in sorted(private)]
        failures = []
        for operation, arguments in jobs:
            try:
                patiently(lambda: self.call(operation, **arguments))  # noqa: B023 (called at once)
            except RunbookError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def of(self, *users: str) -> list[str]:
        """What is there of these users: their names, and the roles that exist for them alone."""
        there = [user for user in self.users("proof-*") if user in users]
        return there + [role for role in self.roles() if role.startswith(PRIVATE) and role.removeprefix(PRIVATE) in users]


def patiently(work: Callable[[], object]) -> None:
    """`work`, and again when it met a deadlock: a few times, then the `Deadlock` is raised."""
    Retrying(stop=stop_after_attempt(TRIES), wait=wait_exponential(PAUSE), retry=retry_if_exception_type(Deadlock), reraise=True)(work)


def _basic(login: Login) -> str:
    return "Basic " + b64encode(f"{login.user}:{login.password}".encode()).decode()


def _envelope(operation: str, arguments: Mapping[str, object]) -> str:
    """The order of the arguments is the order of the elements: Axis2 wants that of the WSDL."""
    fields = "".join(
        f"<ser:{name}>{escape(str(one))}</ser:{name}>" for name, value in arguments.items() for one in (value if isinstance(value, tuple | list) else (value,))
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ser="{NAMESPACE}">'
        f"<soapenv:Body><ser:{operation}>{fields}</ser:{operation}></soapenv:Body></soapenv:Envelope>"
    )


def _fault(text: str) -> str:
    found = re.search(r"<(?:\w+:)?faultstring[^>]*>([^<]*)<", text)
    return found[1] if found else ""


def sweep(store: UserStore) -> list[str]:
    """Remove what an earlier proof left behind when it was cut short. Only names of our own making are touched."""
    left = [user for user in store.users("proof-*") if OURS.fullmatch(user)]
    orphans = [role.removeprefix(PRIVATE) for role in store.roles() if role.startswith(PRIVATE)]
    if names := {*left, *(name for name in orphans if OURS.fullmatch(name))}:
        store.remove(*names)
    return left


class Logins(dict[str, Login]):
    """The users of a proof by kind, the administrator among them.

    `left`, once the proof is over: names of the users and roles of it that are still there; `why`: what their removal met.
    """

    left: tuple[str, ...] = ()
    why: str = ""

    def clean_up(self, store: UserStore) -> None:
        """Remove them and look whether they are gone. Raises nothing: a proof that is done is not lost to its clean-up."""
        names = [login.user for login in self.values() if OURS.fullmatch(login.user)]
        try:
            store.remove(*names)
        except Exception as error:
            self.why = str(error).splitlines()[0]
        try:
            self.left = tuple(store.of(*names))
        except Exception as error:
            self.left, self.why = tuple(names), f"nobody could look whether they are gone: {str(error).splitlines()[0]}"

    def check(self, chapter: str, after: str) -> Check:
        """The row that says whether anything is left, what, and how it is removed. `after`: whose users they were."""
        seen = "nothing is left"
        if self.left:
            seen = f"still there: {', '.join(self.left)}{f' ({self.why})' if self.why else ''}; remove them in the console "
            seen += "(Configure > Users and Roles), or prove again: the next proof begins by removing them"
        status: Status = "fail" if self.left else "pass"
        where = f"user database, after {after}"
        return Check(CLEAN_UP, "The test users are removed again", status, "nothing is left", redactor.redact(seen), where, chapter)


@contextlib.contextmanager
def test_users(scene: Scene) -> Iterator[Logins]:
    """One user per role for the time of a proof, by kind; the administrator is among them.

    Removed whatever happens, and looked for afterwards: `.left` and `.check()` say what came of it. Raises `RunbookError`
    where they cannot be made, or where an earlier proof's cannot be removed.
    """
    store = UserStore(scene, scene.machines[0])
    sweep(store)
    missing = {role for roles in ROLES.values() for role in roles} - set(store.roles())
    if missing:
        raise RunbookError(
            f"the roles {', '.join(sorted(missing))} do not exist yet",
            f"{scene.machines[0].name}: user database",
            "each application makes its roles at its first boot: finish chapter 04",
        )
    logins = Logins({kind: _fresh(kind) for kind in ROLES}, admin=scene.admin)
    try:
        # One after the other as well: a creation that a deadlock broke off could be half done, and not be made again.
        for kind, roles in ROLES.items():
            store.add(logins[kind], roles)
        yield logins
    finally:
        logins.clean_up(store)


test_users.__test__ = False  # type: ignore[attr-defined]  # a name for readers, not a test for pytest


def _fresh(kind: str) -> Login:
    login = Login(f"proof-{SHORT[kind]}-{secrets.token_hex(3)}", "Pw1-" + secrets.token_urlsafe(15))
    redactor.add(f"proof/{kind}", login.password)
    return login
