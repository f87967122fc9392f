"""Test users of a proof: made for each proof, recognisable by name, and removed with the roles made for them.

They are managed by SOAP (`checks/secrets/user_store.py`), and the connection starts on the node itself. Names are
`proof-<kind>-<six hex digits>`, at most 22 characters, because the product makes a role `private_<user>` and a role's name has
at most 30 characters.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping

from lxml import etree
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from runbook_lib.check import Check, Status
from runbook_lib.checks.secrets import user_store
from runbook_lib.checks.secrets.user_store import GREG
from runbook_lib.checks.sso.environment import NODE, Login, ProductNode, Scene
from runbook_lib.errors import RunbookError
from runbook_lib.redaction import redactor

ROLES = {
    "store-only": ("Internal/store",),
    "publisher-only": ("Internal/publisher",),
    "neither": (),
    "newcomer": ("Internal/publisher",),
}
SHORT = {"store-only": "store", "publisher-only": "publisher", "neither": "neither", "newcomer": "newcomer"}
CLEAN_UP = "sso.clean-up"  # id of the check that the users are removed
OURS = re.compile(rf"proof-({'|'.join(SHORT.values())})-[0-9a-f]{{6}}")
PRIVATE = "Internal/private_"
TRIES, PAUSE = 5, 0.2  # attempts of an operation with a deadlock; seconds before the first retry, doubled each time


class Deadlock(RunbookError):
    """The database rolled back a transaction because of a deadlock: nothing was changed, and the operation may be retried."""


class UserStore:
    """The user store, used through one node as the administrator."""

    def __init__(self, scene: Scene, node: ProductNode):
        self.scene, self.node = scene, node

    def call(self, operation: str, **arguments: object) -> list[str]:
        """Call one SOAP operation and return the texts of its `return` elements. A list is sent as a repeated element.

        Raises `Deadlock` when the database reports one, and `RunbookError` for another error or when there is no response.
        """
        visitor = self.scene.visitor(NODE, self.node)
        try:
            answer = user_store.ask(GREG, visitor, self.node.origin, self.scene.admin.user, self.scene.admin.password, operation, **arguments)
        except OSError as error:
            raise self._failed(operation, f"no answer: {error}") from error
        if answer.status not in user_store.DONE:
            kind = Deadlock if answer.status == 500 and "deadlock" in answer.text.lower() else RunbookError
            raise self._failed(operation, f"HTTP {answer.status} {_fault(answer.text)}".strip(), kind)
        if not answer.text.strip():
            return []
        root = etree.fromstring(answer.text.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
        return [found.text or "" for found in root.iter(f"{{{GREG.namespace}}}return", f"{{{GREG.namespace}}}Return")]

    def _failed(self, operation: str, why: str, kind: type[RunbookError] = RunbookError) -> RunbookError:
        """Return the error of a failed operation; the caller raises it."""
        return kind(
            f"the user store refuses {operation}: {why}",
            f"{self.node.name}: {self.node.origin}{GREG.path}",
            "is the node up (chapter 04), and is the administrator's password that of the user database?",
        )

    def add(self, login: Login, roles: tuple[str, ...]) -> None:
        """Make a user with these roles."""
        self.call(
            "addUser",
            userName=login.user,
            credential=login.password,
            roleList=roles,
            requirePasswordChange="false",
        )

    def users(self, like: str = "*") -> list[str]:
        """Return the names of the users that match a pattern with `*`."""
        return self.call("listUsers", filter=like, maxItemLimit="-1")

    def roles(self) -> list[str]:
        """Return the names of all roles."""
        return self.call("getRoleNames")

    def remove(self, *users: str) -> None:
        """Remove these test users, if they exist, and their private roles.

        They are removed one after the other, because parallel deletions deadlock in the product's database (facts 12.3).
        Raises `RunbookError` for the first deletion that failed, after all were tried.
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
        """Return which of these users still exist, and their private roles that still exist."""
        there = [user for user in self.users("proof-*") if user in users]
        return there + [role for role in self.roles() if role.startswith(PRIVATE) and role.removeprefix(PRIVATE) in users]


def patiently(work: Callable[[], object]) -> None:
    """Call `work`, and retry it after a deadlock. Raises the `Deadlock` when the last of `TRIES` attempts has one too."""
    Retrying(stop=stop_after_attempt(TRIES), wait=wait_exponential(PAUSE), retry=retry_if_exception_type(Deadlock), reraise=True)(work)


def _fault(text: str) -> str:
    """Return the fault string of a SOAP response, or an empty string."""
    found = re.search(r"<(?:\w+:)?faultstring[^>]*>([^<]*)<", text)
    return found[1] if found else ""


def sweep(store: UserStore) -> list[str]:
    """Remove the test users and private roles that an interrupted proof left; return the names of these users.

    Only names that match `OURS` are removed. Raises `RunbookError` when one cannot be removed.
    """
    left = [user for user in store.users("proof-*") if OURS.fullmatch(user)]
    orphans = [role.removeprefix(PRIVATE) for role in store.roles() if role.startswith(PRIVATE)]
    if names := {*left, *(name for name in orphans if OURS.fullmatch(name))}:
        store.remove(*names)
    return left


class Logins(dict[str, Login]):
    """The users of a proof by kind, with the administrator as `admin`.

    `also`: names of accounts that an attempt may have made, to be removed with them. After the proof, `left` has the names of its users and roles
    that still exist, and `why` the error of their removal.
    """

    left: tuple[str, ...] = ()
    why: str = ""

    def __init__(self, *users: Mapping[str, Login], **more: Login):
        super().__init__(*users, **more)
        self.also: list[str] = []

    def clean_up(self, store: UserStore) -> None:
        """Remove the test users and set `left` and `why`. It raises nothing, so that the result of the proof is not lost."""
        names = [*(login.user for login in self.values() if OURS.fullmatch(login.user)), *self.also]
        try:
            store.remove(*names)
        except Exception as error:
            self.why = str(error).splitlines()[0]
        try:
            self.left = tuple(store.of(*names))
        except Exception as error:
            self.left, self.why = tuple(names), f"nobody could look whether they are gone: {str(error).splitlines()[0]}"

    def check(self, chapter: str, after: str) -> Check:
        """Return the check that no test user is left; otherwise it says what is left and how to remove it. `after`: what they were used for."""
        seen = "nothing is left"
        if self.left:
            seen = f"still there: {', '.join(self.left)}{f' ({self.why})' if self.why else ''}; remove them in the console "
            seen += "(Configure > Users and Roles), or prove again: the next proof begins by removing them"
        status: Status = "fail" if self.left else "pass"
        where = f"user database, after {after}"
        return Check(CLEAN_UP, "The test users are removed again", status, "nothing is left", redactor.redact(seen), where, chapter)


def make(store: UserStore) -> Logins:
    """Make one test user of each kind in `ROLES`, and return them with the administrator; what an interrupted proof left is removed first.

    Raises `RunbookError` when they cannot be made; those that were made until then are removed.
    """
    sweep(store)
    missing = {role for roles in ROLES.values() for role in roles} - set(store.roles())
    if missing:
        raise RunbookError(
            f"the roles {', '.join(sorted(missing))} do not exist yet",
            f"{store.node.name}: user database",
            "each application makes its roles at its first boot: finish chapter 04",
        )
    logins = Logins({kind: _fresh(kind) for kind in ROLES}, admin=store.scene.admin)
    try:
        # They are made one after the other too: a creation that a deadlock interrupts may be incomplete and cannot be retried.
        for kind, roles in ROLES.items():
            store.add(logins[kind], roles)
    except BaseException:
        logins.clean_up(store)
        raise
    return logins


@contextlib.contextmanager
def test_users(scene: Scene) -> Iterator[Logins]:
    """Make one test user of each kind in `ROLES` for the time of a `with` block; yield them with the administrator.

    They are removed in any case at the end; `.left` and `.check()` then tell whether that succeeded. Raises `RunbookError`
    when they cannot be made, or when the users of an earlier proof cannot be removed.
    """
    store = UserStore(scene, scene.machines[0])
    logins = make(store)
    try:
        yield logins
    finally:
        logins.clean_up(store)


test_users.__test__ = False  # type: ignore[attr-defined]  # pytest must not collect it as a test


def _fresh(kind: str) -> Login:
    """Return a new name and password for this kind of user; the password is redacted from now on."""
    login = Login(f"proof-{SHORT[kind]}-{secrets.token_hex(3)}", "Pw1-" + secrets.token_urlsafe(15))
    redactor.add(f"proof/{kind}", login.password)
    return login
