"""The YAML of params files: mappings, lists and single values within limits, each key with its line, each mistake an error with its place."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml

from runbook_lib.errors import ParamsError

Key = tuple[str | int, ...]
LONGEST = 256 * 1024  # characters of a file; the largest params file has 3,000
DEEPEST = 10  # levels; the model has four
# The plain values of YAML 1.2's core schema. A date, 1:30 or 0x1F is a word here: no parameter is any of these.
SCALARS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("null", re.compile(r"~|null|Null|NULL|")),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE|yes|Yes|no|No|on|On|off|Off")),
    ("int", re.compile(r"[-+]?[0-9]{1,18}")),
    ("float", re.compile(r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}\.[0-9]{0,18})([eE][-+]?[0-9]{1,3})?")),
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Loader(yaml.SafeLoader):
    """A loader without aliases: a file of 1 KiB can name more values by them than there is memory for."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if self.check_event(yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(None, None, "anchors (&) and aliases (*) are not taken: write the value out, or quote it", event.start_mark)
        return super().compose_node(parent, index)


def read(text: str, where: str, lines: dict[Key, int] | None = None) -> Any:
    """Return the value of a YAML text: a mapping, a list, a string, a number, true, false or None.

    `where` is the file or the option that the text comes from, for messages; `lines` is filled with the line of each key.
    Raises ParamsError, with the line, for what is not YAML, a key that is given twice or is no word, a tag, an anchor or an alias,
    control characters, and texts that are larger than `LONGEST` or deeper than `DEEPEST`.
    """
    if len(text) > LONGEST:
        raise ParamsError(f"{len(text)} characters are too many for parameters: at most {LONGEST}", where, "start from one of the files in params/")
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise ParamsError(f"not YAML: {problem}", f"{where}:{mark.line + 1}" if mark else where, "mind the indentation and the colons") from None
    except RecursionError:
        raise ParamsError("brackets or lists are nested too deeply", where, f"at most {DEEPEST} levels: see docs/parameters.md") from None
    return None if node is None else _value(node, (), where, {} if lines is None else lines)


def _value(node: yaml.Node, above: Key, where: str, lines: dict[Key, int]) -> Any:
    if len(above) > DEEPEST:
        _refuse(node, where, f"{'.'.join(map(str, above[:3]))}… is nested too deeply", f"at most {DEEPEST} levels: see docs/parameters.md")
    if isinstance(node, yaml.SequenceNode):
        values = []
        for number, one in enumerate(node.value):
            lines[(*above, number)] = one.start_mark.line + 1
            values.append(_value(one, (*above, number), where, lines))
        return values
    if isinstance(node, yaml.MappingNode):
        mapping = {}
        for name, one in node.value:
            if not isinstance(name, yaml.ScalarNode) or name.value == "<<":
                _refuse(name, where, "a key is not a word", "write KEY: VALUE")
            key = (*above, name.value)
            dotted, line = ".".join(map(str, key)), name.start_mark.line + 1
            if key in lines:
                raise ParamsError(f"{dotted} is given twice", f"{where}:{line}", f"first on line {lines[key]}: keep one")
            lines[key] = line
            mapping[name.value] = _value(one, key, where, lines)
        return mapping
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node, where)


def _scalar(node: yaml.ScalarNode, where: str) -> Any:
    if CONTROL.search(node.value):
        _refuse(node, where, "the value has a control character", "write it without")
    if node.style is not None:  # quoted, or a block of text
        return node.value
    if not node.tag.startswith("tag:yaml.org,2002:"):
        _refuse(node, where, f"the tag {node.tag} is not taken", "write the value alone")
    kind = next((kind for kind, pattern in SCALARS if pattern.fullmatch(node.value)), "str")
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() in ("true", "yes", "on")
    return {"int": int, "float": float, "str": str}[kind](node.value)


def _refuse(node: yaml.Node, where: str, what: str, next_step: str) -> NoReturn:
    raise ParamsError(what, f"{where}:{node.start_mark.line + 1}", next_step)
