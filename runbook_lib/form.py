"""The parameters as a form: every key with its meaning, checked as it is typed; saves a commented params file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import ui
from .cards import THE_FORM
from .errors import ParamsError
from .journal import write_whole
from .spec import ROOT, Spec, load_spec
from .spec_reference import KeyReference, one_line
from .tables import Table


@dataclass(frozen=True)
class Chosen:
    """The form's static shape: the params file that was given, and the table of its keys."""

    params_file: str
    table: Table

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__


def params_form(params_file: str | Path) -> Any:
    """A form that begins with `params_file`; headless the table of the keys and their values.

    `.params_file` of either is the file in use: the given one, or the one that was saved last.
    """
    params_file = os.environ.get("RUNBOOK_PARAMS") or params_file
    spec = load_spec(params_file)
    if not ui.interactive():
        return Chosen(str(params_file), spec.as_table())
    from .widgets import Form

    return Form(Fields(spec), str(params_file))


class Fields:
    """What the form knows, without any widget: the keys, their values as text, and what the values amount to."""

    def __init__(self, spec: Spec):
        self.rows: list[KeyReference] = Spec.reference()
        self.source = spec.source
        self.values: dict[str, Any] = {row.key: _value(spec, row.key) for row in self.rows}
        self.given = _given(spec.source)

    def groups(self) -> dict[str, list[KeyReference]]:
        """The keys under the heading of their group, in the order of the model."""
        groups: dict[str, list[KeyReference]] = {}
        for row in self.rows:
            groups.setdefault(row.group, []).append(row)
        return groups

    def text(self, key: str) -> str:
        """A value as one line of YAML, as it would stand in the file."""
        return one_line(self.values[key])

    def set(self, key: str, text: str) -> None:
        """Take what was typed. Raises ParamsError when it is no YAML."""
        try:
            value = yaml.safe_load(text) if text.strip() else None
        except yaml.YAMLError:
            raise ParamsError(f"{key}: {text!r} is not YAML", THE_FORM, "quote what holds a colon or a bracket", key) from None
        self.values[key] = value
        if value is None or value == next(row.default for row in self.rows if row.key == key):
            self.given.pop(key, None)
        else:
            self.given[key] = value

    def choose(self, pattern: str) -> None:
        """Begin anew with the params file of another pattern."""
        self.__init__(load_spec(ROOT / "params" / f"{pattern}.lab.yaml"))  # type: ignore[misc]

    def spec(self) -> Spec:
        """The parameters as typed. Raises ParamsError that names the key and what is allowed."""
        path = ROOT / "params" / f".draft.{os.getpid()}.yaml"
        write_whole(path, self.yaml())
        try:
            return load_spec(path)
        except ParamsError as error:
            raise ParamsError(error.what, THE_FORM, error.next_step, error.key) from None
        finally:
            path.unlink(missing_ok=True)

    def yaml(self) -> str:
        """The params file: only what differs from the defaults, each key with its meaning as a comment."""
        meaning = {row.key: row.description for row in self.rows}
        head = f"# {self.given.get('deployment', '')}: {self.given.get('pattern', '')}"
        lines = [head, "# Keys that are not here have their defaults."]
        return "\n".join([*lines, *_lines(nested(self.given), meaning, "")]) + "\n"

    def save(self) -> Path:
        """Write params/<deployment>.yaml. ParamsError when the values are wrong; nothing is written then."""
        path = ROOT / "params" / f"{self.spec().deployment}.yaml"
        write_whole(path, self.yaml())
        return path


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"cloud.region": x}` as `{"cloud": {"region": x}}`."""
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
    """The keys that a params file sets, dotted as the form has them."""
    keys = {row.key for row in Spec.reference()}
    flat: dict[str, Any] = {}

    def walk(tree: Mapping[str, Any], prefix: str) -> None:
        for name, value in tree.items():
            key = f"{prefix}{name}"
            if isinstance(value, dict) and key not in keys:
                walk(value, f"{key}.")
            else:
                flat[key] = value

    walk(yaml.safe_load(source.read_text(encoding="utf-8")) if source else {}, "")
    return flat
