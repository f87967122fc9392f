"""The forms of chapter 00 as widgets: the parameters, and passwords of one's own. Their static forms: `form.py`, `passwords.py`."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .board import chapter_states
from .cards import error_card
from .chapter_params import here, use_in_chapters
from .chapters import chapters_of
from .cost import monthly_cost
from .errors import RunbookError
from .passwords import ALLOWED, Secret, secrets_of, set_password
from .patterns import PATTERNS
from .topology import topology_of
from .ui import ROOT, heard_while_busy, show, toolkit
from .vault import redactor

if TYPE_CHECKING:
    from .deployment import Deployment
    from .form import Fields
    from .spec_reference import KeyReference


class Shown:
    """HTML that a form shows, as a cell's output would be: only there JupyterLab follows links to chapters and docs."""

    def __init__(self, w: Any):
        self.box = w.Output()
        self._markup = ""

    @property
    def value(self) -> str:
        return self._markup

    @value.setter
    def value(self, markup: str) -> None:
        self._markup = redactor.redact(markup)
        data = {"text/html": self._markup, "text/plain": ""}
        self.box.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},) if markup else ()


class Form:
    """The parameters as widgets: what is typed is checked at once; picture and cost follow.

    `params_file` is the file that the form began with, after *Save* the saved one.
    """

    def __init__(self, fields: Fields, params_file: str = ""):
        w = toolkit()
        self._w, self.fields, self.params_file = w, fields, params_file
        self.pattern = w.Dropdown(options=list(PATTERNS), value=fields.values["pattern"], description="Pattern")
        self.pattern.observe(lambda change: self._chosen(change["new"]), "value")
        self.keys = w.Tab()  # an accordion's headings cannot be reached by keyboard
        self.answer, self.saved = Shown(w), Shown(w)
        self.picture = w.HTML()
        self.save = w.Button(description="Save", icon="save", tooltip="write a params file", button_style="primary")
        self.save.on_click(lambda _: self._save())
        self.everywhere = w.Checkbox(
            value=True, indent=False, description="use it in the chapters: write its name into their parameters cells", layout={"width": "34em"}
        )
        self.everywhere.tooltip = "the line params_file = … of every chapter of this pattern"
        left = w.VBox([self.pattern, self.answer.box, self.keys, w.HBox([self.save, self.everywhere]), self.saved.box])
        self.box = w.VBox([left, self.picture])
        self.box.add_class("rb-form")
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
        value, style = self.fields.values[row.key], {"description_width": "14em"}
        common = {"description": row.key, "style": style, "layout": {"flex": "0 1 40em", "min_width": "0"}}
        if row.type == "choice":
            options = [*([] if row.required else [("default", None)]), *row.allowed.split(", ")]
            box = self._w.Dropdown(options=options, value=value, disabled=row.key == "pattern", **common)
        elif row.type == "yes or no":
            box = self._w.Checkbox(value=bool(value), indent=True, **common)
        else:
            box = self._w.Text(value="" if value is None else self.fields.text(row.key), continuous_update=False, **common)
        box.tooltip = row.description
        box.observe(lambda change: self._typed(row.key, change["new"]), "value")
        allowed = f" <small>({html.escape(row.allowed)}{f', {row.unit}' if row.unit else ''})</small>" if row.allowed else ""
        words = self._w.HTML(f"{html.escape(row.description)}{allowed}", layout={"flex": "1 1 16em", "min_width": "0"})
        return self._w.HBox([box, words], layout={"flex_flow": "row wrap"})  # where it is narrow, the words stand below

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
        """Write the file; into the chapters too when asked; then the chapters in order, each with its state."""
        try:
            path, pattern = self.fields.save(), self.fields.spec().pattern
            self.params_file = os.path.relpath(path)
            changed = use_in_chapters(path, pattern) if self.everywhere.value else ()
        except RunbookError as error:
            self.saved.value = error_card(error)
            return
        self.saved.value = f'<div role="status">{saved_words(path, changed, self.everywhere.value)}</div>{chapter_list(path, pattern)}'


def saved_words(path: Path, changed: Sequence[str], everywhere: bool) -> str:
    """What Save did, and what is left to the person."""
    name = html.escape(os.path.relpath(path, ROOT))
    if not everywhere:
        line = html.escape(f'params_file = "{os.path.relpath(path, here())}"')
        return f"<p>✔ <code>{name}</code> is saved. In the parameters cell of the chapters: <code>{line}</code></p>"
    again = "A chapter that is open already shows it after <i>File &gt; Reload Notebook from Disk</i>."
    words = f"The parameters cells of {len(changed)} chapters name it now. {again}" if changed else "The chapters name it already."
    return f"<p>✔ <code>{name}</code> is saved. {words}</p>"


def chapter_list(path: Path, pattern: str) -> str:
    """The chapters in order as links, each with its state in the cloud."""
    states = chapter_states(path)
    items = "".join(
        f'<li><a href="{chapter.name}.ipynb">{chapter.number} {html.escape(chapter.title)}</a>: {html.escape(states.get(chapter.name, "○ to do"))}</li>'
        for chapter in chapters_of(pattern)
    )
    return f'<ol class="rb-chapters" aria-label="chapters of {html.escape(pattern)}">{items}</ol>'


class PasswordForm:
    """A password field per secret that is not in use. Enter stores the value in SSM and empties the field.

    `continuous_update=False`: a value is sent to the kernel when it is entered, not letter by letter, and the answer
    is the empty field, so that no widget state holds it (JupyterLab can save widget state into the notebook).
    """

    def __init__(self, deployment: Deployment):
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
            heard_while_busy(field)  # a value does not lie in the page until some cell ends

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
