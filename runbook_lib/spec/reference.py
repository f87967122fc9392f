"""What the model of the parameters says about itself: rows for the form and the reference page, a table of a spec."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from runbook_lib.tables import Table


@dataclass(frozen=True)
class KeyReference:
    """One key of the parameters, as the form and the reference page show it. `default` is None where there is none.

    `choices`: the values that it can have, where these are few; `is_flag`: it is true or false.
    """

    key: str
    choices: tuple[str, ...]
    is_flag: bool
    default: Any
    required: bool
    description: str
    allowed: str
    unit: str
    group: str

    @property
    def default_words(self) -> str:
        """The default as it is written in a params file; "" when there is none, or when it is empty."""
        return "required" if self.required else one_line(self.default) if self.default not in (None, {}, ()) else ""


def one_line(value: Any) -> str:
    """Return a value as one line of YAML."""
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.strip().removesuffix("...").strip()


def strip_none(annotation: Any) -> Any:
    if get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def choices(field: FieldInfo) -> tuple[str, ...]:
    kind = strip_none(field.annotation)
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()


def describe(field: FieldInfo) -> str:
    """Return what a field allows, in words."""
    if found := choices(field):
        return ", ".join(found)
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    bounds = [f"{word} {getattr(rule, name)}" for rule in field.metadata for name, word in (("ge", "from"), ("le", "to")) if hasattr(rule, name)]
    return str(extra.get("allowed") or "") or ("true, false" if strip_none(field.annotation) is bool else " ".join(bounds))


def reference(model: type[BaseModel], prefix: str = "", group: str = "") -> list[KeyReference]:
    """Return one row per key in the order of the model; keys of inner models have the dotted name and their group."""
    rows: list[KeyReference] = []
    for name, field in model.model_fields.items():
        inner = strip_none(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            rows += reference(inner, f"{prefix}{name}.", group or name)
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        default = None if field.default is PydanticUndefined else field.default
        rows.append(
            KeyReference(
                f"{prefix}{name}",
                choices(field),
                inner is bool,
                default,
                field.is_required(),
                field.description or "",
                describe(field),
                str(extra.get("unit") or ""),
                group or "deployment",
            )
        )
    return rows


def as_table(spec: BaseModel, caption: str) -> Table:
    """Return every key of the deployment with its value, where it differs from the default, and its description."""
    rows, marks = [], []
    for row in reference(type(spec)):
        value: Any = spec
        for name in row.key.split("."):
            value = getattr(value, name)
        own = value != row.default
        shown = ", ".join(f"{name}: {item}" for name, item in value.items()) if isinstance(value, dict) else value
        rows.append(
            (
                row.key,
                f"{shown} {row.unit}".strip() if row.unit else shown,
                "set" if own else "default",
                row.description,
            )
        )
        marks.append("rb-own" if own else "rb-default")
    return Table(("Key", "Value", "", "Meaning"), rows, caption, row_classes=marks)


def as_markdown(rows: list[KeyReference]) -> str:
    """Return the reference page docs/parameters.md: `python -m runbook_lib.spec > docs/parameters.md`."""
    lines = [
        "# Every parameter", "",
        "Made from the model by `python -m runbook_lib.spec`; a test compares. Keys are dotted here, as `--set` and `overrides` take them;",
        "in a params file they are nested. A key that is not in this table is refused. Words such as *tier* are explained in [the glossary](glossary.md).",
    ]  # fmt: skip
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", f"## {group}", "", "| key | meaning | default | allowed |", "|---|---|---|---|"]
        default = row.default_words if row.required or not row.default_words else f"`{row.default_words}`"
        allowed = " ".join(filter(None, [row.allowed, row.unit])).replace("|", "\\|")
        lines.append(f'| <a id="{row.key}"></a>`{row.key}` | {row.description} | {default} | {allowed} |')
    return "\n".join(lines) + "\n"
