"""Chosen passwords: stored in SSM, and nowhere else, before chapter 01 generates those that are missing.

A value is passed from the field to the redactor and to SSM in the same step; this module never keeps, returns or prints it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook_lib.errors import RunbookError
from runbook_lib.launch.secrets import ADMIN_PASSWORD, PASSWORD_CHARACTERS, own_passwords
from runbook_lib.notebook import display
from runbook_lib.notebook.display import Shown, heard_while_busy, show, toolkit
from runbook_lib.notebook.error_card import error_card
from runbook_lib.redaction import redactor
from runbook_lib.tables import Table
from runbook_lib.topology.databases import databases_of

if TYPE_CHECKING:
    from runbook_lib.session import Session

# The product's own rule is 5 to 30 characters without blanks (user-mgt.xml, PasswordJavaRegEx); the minimum length is our choice.
SHORTEST, LONGEST = 12, 30
ALLOWED = f"{SHORTEST} to {LONGEST} letters and digits, with a small letter, a capital and a digit"
COLUMNS = ("Secret", "State", "Used by")


@dataclass(frozen=True)
class Secret:
    """One password that a person may choose. `users`: the account that it belongs to, in words."""

    name: str
    users: str
    is_set: bool
    in_use: bool

    @property
    def state(self) -> str:
        if self.is_set:
            return "● set, in use" if self.in_use else "● set"
        return "○ not set: chapter 01 makes one at random"


def secrets_of(deployment: Session) -> tuple[Secret, ...]:
    """Return the passwords that may be chosen, with whether each is set and in use. Their values are not read."""
    stored, machines = deployment.vault.names(), bool(deployment.instances())
    accounts = {f"db/{db.account}": f"database account {db.account}" for db in databases_of(deployment.spec.pattern)}
    users = {ADMIN_PASSWORD: "the product's administrator, admin"} | accounts
    names = own_passwords(deployment.topology)
    return tuple(Secret(name, users.get(name, ""), name in stored, name in stored and machines) for name in names)


def check_password(name: str, value: str) -> None:
    """Raise RunbookError unless `value` is as `ALLOWED` says. The error never contains the value."""
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


def set_password(deployment: Session, name: str, value: str) -> None:
    """Store `value` as a SecureString below /runbook/<deployment>/.

    Raises RunbookError when the value is not allowed, the name is unknown, or the password is in use already.
    """
    redactor.add(name, value)  # first, so that no error message can show the value
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


def passwords_table(deployment: Session) -> Table:
    """Return a table of the passwords' names and states, without values."""
    rows = [(secret.name, secret.state, secret.users) for secret in secrets_of(deployment)]
    return Table(COLUMNS, rows, f"Passwords of {deployment.spec.deployment}", f"Your own: {ALLOWED}.")


def choose_passwords(deployment: Session) -> Any:
    """Return a form with a field per password; headless, the table of names and states."""
    if not display.interactive():
        return passwords_table(deployment)

    return PasswordForm(deployment)


class PasswordForm:
    """A field per password, disabled for those in use. Enter stores the value in SSM and empties the field.

    `continuous_update=False` sends a value to the kernel when it is entered, not letter by letter. The field is emptied
    afterwards, so that no widget state holds the value (JupyterLab can save widget state into the notebook).
    """

    def __init__(self, deployment: Session):
        w = toolkit()
        self._w, self.deployment = w, deployment
        self.fields: dict[str, Any] = {}
        self.states: dict[str, Any] = {}
        self.answer = Shown(w)
        rows = [self._row(secret) for secret in secrets_of(deployment)]
        note = w.HTML(f"<p>Enter stores a value in SSM. Allowed: {html.escape(ALLOWED)}. An empty field is left to chapter 01.</p>")
        self.box = w.VBox([note, *rows, self.answer.box])

    def _ipython_display_(self) -> None:
        show(self.box)
        for field in self.fields.values():
            heard_while_busy(field)  # otherwise an entered value stays in the page until the running cell ends

    def _row(self, secret: Secret) -> Any:
        style = {"description_width": "16em"}
        field = self._w.Password(
            description=secret.name, placeholder="your own", continuous_update=False, disabled=secret.in_use, style=style, layout={"width": "34em"}
        )
        field.tooltip = f"{secret.users}; {ALLOWED}"
        field.observe(lambda change: self._entered(secret.name, change["new"]), "value")
        self.fields[secret.name], self.states[secret.name] = field, self._w.HTML()
        self._tell(secret)
        return self._w.HBox([field, self.states[secret.name]])

    def _entered(self, name: str, value: str) -> None:
        """Store the entered value. The field is emptied whether or not this succeeds."""
        if not value:
            return
        try:
            set_password(self.deployment, name, value)
            self.answer.value = f'<p role="status">✔ {html.escape(name)} is stored in SSM</p>'
        except RunbookError as error:
            self.answer.value = error_card(error)
        finally:
            self.fields[name].value = ""
        for secret in secrets_of(self.deployment):
            self._tell(secret)

    def _tell(self, secret: Secret) -> None:
        self.states[secret.name].value = f"{html.escape(secret.state)} <small>({html.escape(secret.users)})</small>"
        self.fields[secret.name].disabled = secret.in_use
