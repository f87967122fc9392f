"""A form for the parameters: every key with its meaning, checked when it is entered; saves a commented params file."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.chapters.status_board import chapter_states
from runbook_lib.errors import ParamsError, RunbookError
from runbook_lib.files import ROOT, write_whole
from runbook_lib.notebook import display
from runbook_lib.notebook.display import Shown, show, toolkit
from runbook_lib.notebook.error_card import THE_FORM, error_card
from runbook_lib.notebook.parameters_cell import here
from runbook_lib.notebook.work_copies import work_copies
from runbook_lib.spec import params_yaml
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.glossary import as_html, used_in
from runbook_lib.spec.loader import find_params, load_spec, read_params, sample
from runbook_lib.spec.model import Spec
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.spec.reference import KeyReference, one_line
from runbook_lib.spec.sections import NAME
from runbook_lib.tables import Table
from runbook_lib.topology.cost import monthly_cost
from runbook_lib.topology.diagram import image
from runbook_lib.topology.model import topology_of
from runbook_lib.topology.tables import Gallery

OF_A_PATTERN = ("expect", "hardening", "nodes", "also_allow")  # keys that another pattern has otherwise
OF_A_PRODUCT = ("hosts", "product.", "publisher_allow_cidr", "self_registration", "account_recovery")  # and those of another product


@dataclass(frozen=True)
class Chosen:
    """The static form: the params file that was given, and the table of its keys."""

    params_file: str
    table: Table

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__


def choose_params(params_file: str | Path) -> Any:
    """Return a form that starts with `params_file`; headless, the table of the keys and their values.

    `.params_file` of either is the file in use: the given one, or the one that was saved last. A person is asked for what is missing in the file.
    """
    if not display.interactive():
        return Chosen(str(params_file), load_spec(params_file).as_table())
    return ParamsForm(Fields(params_file), str(params_file))


class Fields:
    """The form's data without widgets: the keys, their values, and the parameters that the values give.

    A file may lack values, as those for AWS do, or have wrong ones: they are entered here. Raises ParamsError, as `load_spec` does, where the file is
    wrong in what no field shows, or in its name or pattern.
    """

    def __init__(self, params_file: str | Path):
        self.rows: list[KeyReference] = Spec.reference()
        file = find_params(params_file)
        self.given = _given(file)
        named = re.fullmatch(NAME, str(self.given.get("deployment"))) and str(self.given.get("pattern")) in PATTERNS
        if not named or not self.given.keys() <= {row.key for row in self.rows}:
            load_spec(file)
        self._show_given()

    def _show_given(self) -> None:
        """Set the value of every key to what the parameters make of those that are given; while they are not whole, to the default of the rest."""
        try:
            spec = load_spec(nested(self.given))
        except ParamsError:  # the form says what is wrong
            self.values: dict[str, Any] = {row.key: self.given.get(row.key, row.default) for row in self.rows}
        else:
            self.values = {row.key: _value(spec, row.key) for row in self.rows}

    def groups(self) -> dict[str, list[KeyReference]]:
        """Return the keys by group, in the order of the model."""
        groups: dict[str, list[KeyReference]] = {}
        for row in self.rows:
            groups.setdefault(row.group, []).append(row)
        return groups

    def text(self, key: str) -> str:
        """Return a value as one line of YAML, as it is written to the file."""
        return one_line(self.values[key])

    def set(self, key: str, text: str) -> None:
        """Set a key from entered text. Raises ParamsError when the text is not YAML."""
        try:
            value = params_yaml.read(text, THE_FORM)
        except ParamsError as error:
            raise ParamsError(f"{key}: {error.what}", THE_FORM, "quote what holds a colon or a bracket", key) from None
        self.values[key] = value
        default = next(row.default for row in self.rows if row.key == key)
        if value is None or (value == default and not key.startswith(OF_A_PATTERN)):  # where a pattern has its own default, leaving it out is another value
            self.given.pop(key, None)
        else:
            self.given[key] = value

    def choose(self, pattern: str) -> None:
        """Take another pattern. The name, the cloud and all else that does not depend on it stay; a pack stays for the same product.

        What depends on it comes from that pattern's params file of the same place: the lab's where the parameters name an AWS config
        file, as for a lab, otherwise that for AWS, in which the reader's own host names and pack are missing: the form asks for them.
        """
        place = "lab" if self.given.get("cloud.aws_config") else "aws"
        file = ROOT / "params" / f"{pattern}.{place}.yaml"
        another = PATTERNS[pattern].product != PATTERNS[self.given["pattern"]].product
        theirs = OF_A_PATTERN + (OF_A_PRODUCT if another else ())
        kept = {key: value for key, value in self.given.items() if not key.startswith(theirs)}
        fresh = {key: value for key, value in _given(file if file.is_file() else None).items() if key.startswith(theirs)}
        known = [row.key for row in self.rows]
        self.given = dict(sorted({**kept, **fresh, "pattern": pattern}.items(), key=lambda item: known.index(item[0])))
        self._show_given()

    def spec(self) -> Spec:
        """Return the parameters as entered. Raises ParamsError, which names the key and what is allowed, when one is wrong."""
        try:
            return load_spec(nested(self.given))
        except ParamsError as error:
            raise ParamsError(error.what, THE_FORM, error.next_step, error.key) from None

    def yaml(self) -> str:
        """Return the text of the params file: only the keys that are given, each with its meaning as a comment."""
        meaning = {row.key: row.description for row in self.rows}
        head = f"# {self.given.get('deployment', '')}: {self.given.get('pattern', '')}"
        lines = [head, "# Keys that are not here have their defaults."]
        return "\n".join([*lines, *_lines(nested(self.given), meaning, "")]) + "\n"

    def save(self) -> Path:
        """Write params/<deployment>.yaml and return its path. Raises ParamsError, before anything is written, when a value is wrong."""
        path = ROOT / "params" / f"{self.spec().deployment}.yaml"
        write_whole(path, self.yaml())
        return path


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"cloud.region": x}` as `{"cloud": {"region": x}}`."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *above, last = key.split(".")
        branch = tree
        for name in above:
            branch = branch.setdefault(name, {})
        branch[last] = list(value) if isinstance(value, tuple) else value
    return tree


def _lines(tree: Mapping[str, Any], meaning: Mapping[str, str], prefix: str, indent: str = "") -> list[str]:
    lines = []
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in meaning:
            lines += [f"{indent}{name}:", *_lines(value, meaning, f"{key}.", indent + "  ")]
            continue
        text = f"{name}: {one_line(value)}"
        lines.append(f"{indent}{text}".ljust(60) + f"  # {meaning.get(key, '')}")
    return lines


def _value(spec: Spec, key: str) -> Any:
    value: Any = spec
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _given(source: Path | None) -> dict[str, Any]:
    """Return the keys that a params file sets, dotted as in the form, with their values."""
    keys = {row.key for row in Spec.reference()}
    flat: dict[str, Any] = {}

    def walk(tree: Mapping[str, Any], prefix: str) -> None:
        for name, value in tree.items():
            key = f"{prefix}{name}"
            if isinstance(value, dict) and key not in keys:
                walk(value, f"{key}.")
            else:
                flat[key] = value

    walk(read_params(source)[0] if source else {}, "")
    return flat


def show_patterns() -> Gallery:
    """Return the patterns that the runbook builds, each with picture, name and description."""
    display.install()
    return Gallery(tuple(topology_of(sample(name)) for name in PATTERNS))


class ParamsForm:
    """The parameters as widgets. Each entered value is checked at once; picture and cost are updated.

    `params_file` is the file that the form started with; after *Save*, the saved one.
    """

    def __init__(self, fields: Fields, params_file: str = ""):
        w = toolkit()
        self._w, self.fields, self.params_file = w, fields, params_file
        self.pattern = w.Dropdown(options=list(PATTERNS), value=fields.values["pattern"], description="Pattern")
        self.pattern.observe(lambda change: self._chosen(change["new"]), "value")
        self.keys = w.Tab()  # not an accordion: its headings cannot be reached by keyboard
        self.answer, self.saved = Shown(w), Shown(w)
        self.picture = w.HTML()
        self.words = w.HTML(as_html(used_in("\n".join(row.description for row in fields.rows))))
        self.save = w.Button(description="Save", icon="save", tooltip="write a params file", button_style="primary")
        self.save.on_click(lambda _: self._save())
        self.everywhere = w.Checkbox(value=True, indent=False, description="make this deployment's chapters, which name the file", layout={"width": "34em"})
        self.everywhere.tooltip = "in work/, with the line params_file = … in every chapter of this pattern"
        left = w.VBox([self.pattern, self.answer.box, self.keys, self.words, w.HBox([self.save, self.everywhere]), self.saved.box])
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
        """Return the widget of one key (choices, a check box or a line of YAML), with its meaning and its allowed values beside it."""
        value, style = self.fields.values[row.key], {"description_width": "14em"}
        common = {"description": row.key, "style": style, "layout": {"flex": "0 1 40em", "min_width": "0"}}
        if row.choices:
            wrong = [] if value is None or value in row.choices else [value]  # in the file: it can be seen here, and changed
            options = [*([] if row.required else [("default", None)]), *((str(each), each) for each in (*row.choices, *wrong))]
            box = self._w.Dropdown(options=options, value=value, disabled=row.key == "pattern", **common)
        elif row.is_flag:
            box = self._w.Checkbox(value=bool(value), indent=True, **common)
        else:
            box = self._w.Text(value="" if value is None else self.fields.text(row.key), continuous_update=False, **common)
        box.tooltip = row.description
        written = one_line if row.choices else lambda value: value  # a choice such as off is a word, and YAML takes it as one in quotes only
        box.observe(lambda change: self._typed(row.key, written(change["new"])), "value")
        allowed = f" <small>({html.escape(row.allowed)}{f', {row.unit}' if row.unit else ''})</small>" if row.allowed else ""
        words = self._w.HTML(f"{html.escape(row.description)}{allowed}", layout={"flex": "1 1 16em", "min_width": "0"})
        return self._w.HBox([box, words], layout={"flex_flow": "row wrap"})  # in a narrow window, the description is below the field

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
        self.picture.value = f'<figure class="rb-picture">{image(topology)}</figure>'

    def _save(self) -> None:
        """Save the params file, make the deployment's chapters when the box is checked, and show the chapters with their states."""
        try:
            path, spec = self.fields.save(), self.fields.spec()
            self.params_file = os.path.relpath(path)
            folder = work_copies(path, spec.deployment, spec.pattern, ROOT) if self.everywhere.value else here()
        except RunbookError as error:
            self.saved.value = error_card(error)
            return
        self.saved.value = f'<div role="status">{saved_words(path, folder, self.everywhere.value)}</div>{chapter_list(path, spec.pattern, folder)}'


def saved_words(path: Path, folder: Path, everywhere: bool) -> str:
    """Return, as HTML, what Save did and what remains to be done by hand."""
    name = html.escape(os.path.relpath(path, ROOT))
    if not everywhere:
        line = html.escape(f'params_file = "{os.path.relpath(path, here())}"')
        return f"<p>✔ <code>{name}</code> is saved. In the parameters cell of the chapters: <code>{line}</code></p>"
    again = "A chapter that is open already shows it after <i>File &gt; Reload Notebook from Disk</i>."
    words = f"The chapters of this deployment, which name it, are in <code>{html.escape(os.path.relpath(folder, ROOT))}</code>. {again}"
    return f"<p>✔ <code>{name}</code> is saved. {words}</p>"


def chapter_list(path: Path, pattern: str, folder: Path) -> str:
    """Return the chapters in `folder` in order as HTML links, each with its state in the cloud."""
    to = Path(os.path.relpath(folder)).as_posix() + "/"
    to = "" if to == "./" else to
    states = chapter_states(path)
    items = "".join(
        f'<li><a href="{html.escape(to)}{chapter.name}.ipynb">{chapter.number} {html.escape(chapter.title)}</a>: '
        f"{html.escape(states.get(chapter.name, '○ to do'))}</li>"
        for chapter in chapters_of(pattern)
    )
    return f'<ol class="rb-chapters" aria-label="chapters of {html.escape(pattern)}">{items}</ol>'
