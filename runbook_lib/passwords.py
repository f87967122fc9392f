"""Passwords of one's own choice: stored in SSM before chapter 01 would make them at random, and nowhere else.

A value goes from the field to SSM and into the redactor in the same step; nothing here keeps, returns or prints it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import ui
from .databases import databases_of
from .deployment_secrets import ADMIN_PASSWORD, PASSWORD_CHARACTERS, own_passwords
from .errors import RunbookError
from .tables import Table
from .vault import redactor

if TYPE_CHECKING:
    from .deployment import Deployment

# The product's own rule is 5 to 30 characters without blanks (user-mgt.xml, PasswordJavaRegEx); the least length is ours.
SHORTEST, LONGEST = 12, 30
ALLOWED = f"{SHORTEST} to {LONGEST} letters and digits, with a small letter, a capital and a digit"
COLUMNS = ("Secret", "State", "Used by")


@dataclass(frozen=True)
class Secret:
    """One password that a person may choose. `users`: where it stands once it is in use."""

    name: str
    users: str
    is_set: bool
    in_use: bool

    @property
    def state(self) -> str:
        if self.is_set:
            return "● set, in use" if self.in_use else "● set"
        return "○ not set: chapter 01 makes one at random"


def secrets_of(deployment: Deployment) -> tuple[Secret, ...]:
    """The passwords that may be chosen, and which are set. Values are not read."""
    stored, machines = deployment.vault.names(), bool(deployment.instances())
    accounts = {f"db/{db.account}": f"database account {db.account}" for db in databases_of(deployment.spec.pattern)}
    users = {ADMIN_PASSWORD: "the product's administrator, admin"} | accounts
    names = own_passwords(deployment.topology)
    return tuple(Secret(name, users.get(name, ""), name in stored, name in stored and machines) for name in names)


def check_password(name: str, value: str) -> None:
    """Raises RunbookError unless `value` is `ALLOWED`; the error never quotes it."""
    problem = ""
    if not SHORTEST <= len(value) <= LONGEST:
        problem = f"{len(value)} characters"
    elif strange := sum(character not in PASSWORD_CHARACTERS for character in value):
        problem = f"{strange} of its characters are neither letters a to z nor digits"
    elif not all(re.search(kind, value) for kind in ("[a-z]", "[A-Z]", "[0-9]")):
        problem = "a small letter, a capital or a digit is missing"
    if problem:
        why = "It stands in XML, JSON, SQL and a URL, the same everywhere"
        raise RunbookError(f"{name}: {problem}", "password", f"allowed: {ALLOWED}. {why}")


def set_password(deployment: Deployment, name: str, value: str) -> None:
    """Store `value` as a SecureString below /runbook/<deployment>/. Raises RunbookError: not allowed, or in use already."""
    redactor.add(name, value)  # before anything can fail with the value in its words
    check_password(name, value)
    with deployment.writing():
        secret = next((one for one in secrets_of(deployment) if one.name == name), None)
        if secret is None:
            raise RunbookError(f"{name} is no password that one may choose", deployment.spec.deployment, "see the table for those that are")
        if secret.in_use:
            raise RunbookError(
                f"{name} is in use: {secret.users} has it on machines that exist",
                f"{deployment.vault.prefix}{name}",
                "passwords are chosen before chapter 01. To choose one now, tear the deployment down (chapter 99) and begin again",
            )
        deployment.vault.put(name, value)


def passwords_table(deployment: Deployment) -> Table:
    """Names and whether they are set; never a value."""
    rows = [(secret.name, secret.state, secret.users) for secret in secrets_of(deployment)]
    return Table(COLUMNS, rows, f"Passwords of {deployment.spec.deployment}", f"Your own: {ALLOWED}.")


def choose_passwords(deployment: Deployment) -> Any:
    """Password fields for those that are not in use yet; headless the table of names and states."""
    if not ui.interactive():
        return passwords_table(deployment)
    from .widgets import PasswordForm

    return PasswordForm(deployment)
