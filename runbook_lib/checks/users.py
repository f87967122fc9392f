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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from xml.sax.saxutils import escape

from lxml import etree

from runbook_lib.checks.scene import NODE, Login, Machine, Scene
from runbook_lib.errors import RunbookError
from runbook_lib.redact import redactor

T = TypeVar("T")
SERVICE = "/services/RemoteUserStoreManagerService"
NAMESPACE = "http://service.ws.um.carbon.wso2.org"
ROLES = {
    "store-only": ("Internal/store",),
    "publisher-only": ("Internal/publisher",),
    "neither": (),
    "newcomer": ("Internal/publisher",),
}
SHORT = {"store-only": "store", "publisher-only": "publisher", "neither": "neither", "newcomer": "newcomer"}
OURS = re.compile(rf"proof-({'|'.join(SHORT.values())})-[0-9a-f]{{6}}")
PRIVATE = "Internal/private_"


class UserStore:
    """The user store as one node offers it to the administrator."""

    def __init__(self, scene: Scene, node: Machine):
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
            raise self._failed(operation, f"HTTP {answer.status} {_fault(answer.text)}".strip())
        if not answer.text.strip():
            return []
        root = etree.fromstring(answer.text.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
        return [found.text or "" for found in root.iter(f"{{{NAMESPACE}}}return", f"{{{NAMESPACE}}}Return")]

    def _failed(self, operation: str, why: str) -> RunbookError:
        return RunbookError(
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

    def roles_of(self, user: str) -> list[str]:
        return self.call("getRoleListOfUser", userName=user)

    def roles(self) -> list[str]:
        return self.call("getRoleNames")

    def remove(self, *users: str) -> None:
        """These test users, as far as they are there, and the roles that exist for them alone."""
        there = set(self.users("proof-*")) & set(users)
        private = set(self.roles()) & {PRIVATE + user for user in users}
        at_once(lambda user: self.call("deleteUser", userName=user), there)
        at_once(lambda role: self.call("deleteRole", roleName=role), private)


def at_once(work: Callable[[T], object], things: Iterable[T]) -> None:
    """`work` on all of them side by side: each is a connection of its own, and they do not depend on each other."""
    if wanted := list(things):
        with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
            list(pool.map(work, wanted))


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


@contextlib.contextmanager
def test_users(scene: Scene) -> Iterator[dict[str, Login]]:
    """One user per role for the time of a proof, by kind; the administrator is among them.

    Removed whatever happens, and looked for afterwards: `RunbookError` when a user or role of ours is still there.
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
    logins = {kind: _fresh(kind) for kind in ROLES}
    try:
        at_once(lambda kind: store.add(logins[kind], ROLES[kind]), logins)
        yield {**logins, "admin": scene.admin}
    finally:
        store.remove(*(login.user for login in logins.values()))
    names = {login.user for login in logins.values()}
    left = names & set(store.users("proof-*")) | {role for role in store.roles() if role.removeprefix(PRIVATE) in names}
    if left:
        raise RunbookError(f"still there after the proof: {', '.join(sorted(left))}", "user database", "remove them in the console")


test_users.__test__ = False  # type: ignore[attr-defined]  # a name for readers, not a test for pytest


def _fresh(kind: str) -> Login:
    login = Login(f"proof-{SHORT[kind]}-{secrets.token_hex(3)}", "Pw1-" + secrets.token_urlsafe(15))
    redactor.add(f"proof/{kind}", login.password)
    return login
