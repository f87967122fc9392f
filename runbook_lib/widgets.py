"""The forms of chapter 00 as widgets: the parameters, and passwords of one's own. Their static forms: `form.py`, `passwords.py`."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from .cost import monthly_cost
from .errors import RunbookError
from .passwords import ALLOWED, Secret, secrets_of, set_password
from .patterns import PATTERNS
from .topology import topology_of
from .ui import ROOT, error_card, show

if TYPE_CHECKING:
    from .deployment import Deployment
    from .form import Fields
    from .spec_reference import KeyReference


class Form:
    """The parameters as widgets: what is typed is checked at once; picture and cost follow."""

    def __init__(self, fields: Fields):
        import ipywidgets as w

        self._w, self.fields = w, fields
        self.pattern = w.Dropdown(options=list(PATTERNS), value=fields.values["pattern"], description="Pattern")
        self.pattern.observe(lambda change: self._chosen(change["new"]), "value")
        self.keys = w.Accordion()
        self.answer = w.HTML()
        self.picture = w.HTML()
        self.save = w.Button(description="Save", icon="save", tooltip="write a params file", button_style="primary")
        self.save.on_click(lambda _: self._save())
        self.saved = w.HTML()
        left = w.VBox([self.pattern, self.answer, self.keys, w.HBox([self.save, self.saved])])
        self.box = w.VBox([left, self.picture])
        self._fill()

    def _ipython_display_(self) -> None:
        show(self.box)

    def _chosen(self, pattern: str) -> None:
        self.fields.choose(pattern)
        self._fill()

    def _fill(self) -> None:
        groups = self.fields.groups()
        self.keys.children = [self._w.VBox([self._field(row) for row in rows]) for rows in groups.values()]
        self.keys.titles = tuple(groups)
        self._check()

    def _field(self, row: KeyReference) -> Any:
        """One key: choices, a check box or a line of YAML, and beside it what it means and what is allowed."""
        value, style = self.fields.values[row.key], {"description_width": "16em"}
        common = {"description": row.key, "style": style, "layout": {"width": "34em"}}
        if row.type == "choice":
            options = [*([] if row.required else [("default", None)]), *row.allowed.split(", ")]
            box = self._w.Dropdown(options=options, value=value, disabled=row.key == "pattern", **common)
        elif row.type == "yes or no":
            box = self._w.Checkbox(value=bool(value), indent=True, **common)
        else:
            box = self._w.Text(
                value="" if value is None else self.fields.text(row.key), continuous_update=False, **common
            )
        box.tooltip = row.description
        box.observe(lambda change: self._typed(row.key, change["new"]), "value")
        allowed = (
            f" <small>({html.escape(row.allowed)}{f', {row.unit}' if row.unit else ''})</small>" if row.allowed else ""
        )
        return self._w.HBox([box, self._w.HTML(f"{html.escape(row.description)}{allowed}")])

    def _typed(self, key: str, value: Any) -> None:
        try:
            self.fields.set(key, value if isinstance(value, str) else str(value).lower() if value is not None else "")
        except RunbookError as error:
            self.answer.value = error_card(error)
            return
        self._check()

    def _check(self) -> None:
        try:
            topology = topology_of(self.fields.spec())
        except RunbookError as error:
            self.answer.value, self.save.disabled = error_card(error), True
            return
        total = monthly_cost(topology)
        words = f"✔ {len(topology.nodes)} machines, {total.total:,.2f} US$ per month if they run all month on AWS"
        self.answer.value, self.save.disabled = f'<p role="status">{words}</p>', False
        self.picture.value = f'<figure class="rb-picture">{topology.svg()}</figure>'

    def _save(self) -> None:
        path = self.fields.save().relative_to(ROOT)
        line = f'params_file = "../{path}"'
        self.saved.value = f"saved. In the parameters cell of the chapters: <code>{html.escape(line)}</code>"


class PasswordForm:
    """A password field per secret that is not in use. Enter stores the value in SSM and empties the field.

    `continuous_update=False`: a value is sent to the kernel when it is entered, not letter by letter, and the answer
    is the empty field, so that no widget state holds it (JupyterLab can save widget state into the notebook).
    """

    def __init__(self, deployment: Deployment):
        import ipywidgets as w

        self._w, self.deployment = w, deployment
        self.fields: dict[str, Any] = {}
        self.states: dict[str, Any] = {}
        self.answer = w.HTML()
        rows = [self._row(secret) for secret in secrets_of(deployment)]
        note = w.HTML(f"<p>Enter stores a value in SSM. Allowed: {html.escape(ALLOWED)}. An empty field is left to chapter 01.</p>")
        self.box = w.VBox([note, *rows, self.answer])

    def _ipython_display_(self) -> None:
        show(self.box)

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
        """Take what was entered; the field is empty again whatever comes of it."""
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
