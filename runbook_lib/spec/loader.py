"""Read the parameters: a YAML file and overrides become one `Spec`; a mistake becomes an error with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from runbook_lib.errors import ParamsError
from runbook_lib.files import ROOT
from runbook_lib.spec import params_yaml
from runbook_lib.spec.model import Spec
from runbook_lib.spec.params_yaml import Key
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.spec.reference import describe, strip_none

LONGEST_LINE = 400  # characters of a message's line; the longest list of allowed values has 350
MOST_MISTAKES = 5  # that one message names
SEE_PARAMETERS = "docs/parameters.md says what each key takes"


def load_spec(params: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Spec:
    """Return the parameters of a file, or those in a (nested) mapping, with `overrides` (dotted keys, such as {"nodes.store": 3}) laid over them.

    A relative path is tried from the current folder, then from the repository's root. Raises ParamsError with the key, its
    value, what is allowed, the nearest valid name, and the file and line of the key.
    """
    path = None if isinstance(params, Mapping) else find_params(params)
    values, lines = read_params(path) if path else (deepcopy(dict(params)), {})  # type: ignore[arg-type]
    for dotted, value in (overrides or {}).items():
        override(values, str(dotted), value)
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        raise _params_error(error, path, lines, set(overrides or {})) from None
    spec._source = path
    return spec


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Return `["nodes.store=3"]` (as `--set` gives them) as overrides, each value read as YAML. Raises ParamsError."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        if not sign or not key.strip():
            raise ParamsError(f"{assignment!r} is not an assignment", "--set", "write it as KEY=VALUE, such as nodes.store=3")
        found[key.strip()] = typed(f"--set {key}", text)
    return found


def typed(option: str, text: str) -> Any:
    """Return a value from the command line, read as YAML: 3 is a number, true is true. Raises ParamsError."""
    try:
        return params_yaml.read(text, option)
    except ParamsError as error:
        raise ParamsError(f"{error.what}: {shortened(text)}", option, "quote it for the shell and for YAML") from None


def find_params(params_file: str | Path) -> Path:
    """Return the file itself, or the same path from the repository's root. Raises ParamsError, listing the files there are."""
    try:
        path = Path(params_file).expanduser()
    except RuntimeError as error:
        raise ParamsError(f"no params file {params_file}: {error}", None, "name a path that exists") from None
    for candidate in (path, ROOT / path, ROOT / "params" / path):
        if candidate.is_file():
            return candidate.resolve()
    there = sorted(file.name for file in (ROOT / "params").glob("*.yaml"))
    near = difflib.get_close_matches(path.name, there, 1)
    hint = f"nearest: params/{near[0]}" if near else f"there is: {', '.join(there) or 'nothing in params/'}"
    tried = " and ".join(dict.fromkeys(str(folder) for folder in (Path.cwd(), ROOT)))
    raise ParamsError(f"no params file {params_file}", f"tried from {tried}", hint)


def read_params(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """Return the mapping of a params file, and the line of each key. Raises ParamsError."""
    try:
        if path.stat().st_size > params_yaml.LONGEST * 4:
            raise ParamsError("the params file is too large", str(path), "start from one of the files in params/")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ParamsError("the params file is not UTF-8 text", str(path), "save it as UTF-8") from None
    except OSError as error:
        raise ParamsError(f"the params file cannot be read: {error.strerror}", str(path), "name a file that you may read") from None
    lines: dict[Key, int] = {}
    values = params_yaml.read(text, str(path), lines)
    if not isinstance(values, dict):
        raise ParamsError("the params file has no keys", str(path), "start from one of the files in params/")
    return values, lines


def shortened(text: str) -> str:
    """Return the text, without its middle when it is longer than a message's line may be."""
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 60]} … {text[-50:]}"


def override(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set one dotted key in the nested mapping. Raises ParamsError where a key above it is a single value."""
    *parents, last = dotted.split(".")
    for number, name in enumerate(parents):
        inner = values.get(name)
        if inner is None or (isinstance(inner, bool) and _takes_mapping(tuple(parents[: number + 1]))):
            inner = values[name] = {}
        if not isinstance(inner, dict):
            above = ".".join(parents[: number + 1])
            raise ParamsError(f"{dotted}: {above} is a single value, it has nothing below it", "overrides", f"set {above}, or a key that has others below it")
        values = inner
    values[last] = value


def _params_error(error: ValidationError, path: Path | None, lines: dict[Key, int], overridden: set[str]) -> ParamsError:
    """Return all mistakes that pydantic found as one error, with the line of the first."""
    found = [_problem(problem) for problem in error.errors(include_url=False)]
    keys = [key for key, _, _ in found]
    first = keys[0]
    laid_over = next((key for key in overridden if f"{_dotted(first)}.".startswith(f"{key}.")), None)
    if laid_over:
        where: str | None = f"overrides: {laid_over}"
    else:
        line = next((lines[first[:depth]] for depth in range(len(first), 0, -1) if first[:depth] in lines), None)
        where = f"{path}:{line}" if line else str(path or "") or None
    more = [f"and {len(found) - MOST_MISTAKES} more mistakes"] if len(found) > MOST_MISTAKES else []
    whats = [shortened(what) for _, what, _ in found[:MOST_MISTAKES]]
    steps = [shortened(step) for _, _, step in found[:MOST_MISTAKES] if step]
    return ParamsError("\n".join(whats + more), where and shortened(where), "; ".join(steps) or SEE_PARAMETERS, ".".join(map(str, first)))


def _problem(problem: Any) -> tuple[Key, str, str]:
    """Return (key, what is wrong, what is allowed) of one of pydantic's errors."""
    context, kind = problem.get("ctx") or {}, problem["type"]
    key: Key = tuple(context["key"].split(".")) if kind == "together" else problem["loc"]
    name, value = _dotted(key), problem.get("input")
    if kind == "together":
        shown = "" if context["value"] is None else f" = {context['value']!r}"
        allowed = ", ".join(map(str, context["allowed"]))
        near = _nearest(str(key[-1]), context["allowed"]) or _nearest(str(context["value"]), context["allowed"])
        return key, f"{name}{shown}: {context['why']}", _allowed(name, allowed, near)
    if kind == "extra_forbidden":
        siblings = _names_beside(key)
        return (
            key,
            f"{name} = {value!r}: there is no such key",
            _allowed("", ", ".join(siblings), _nearest(str(key[-1]), siblings)),
        )
    if kind == "missing" or (value is None and (field := _field_of(key)) and field.is_required()):
        return key, f"{name} is missing", _allowed(name, _allowed_text(key), "")
    if kind == "literal_error":
        choices = [str(choice) for choice in get_args(strip_none(_annotation(key)))]
        return (
            key,
            f"{name} = {value!r}: not one of the values",
            _allowed(name, ", ".join(choices), _nearest(str(value), choices)),
        )
    return (
        key,
        f"{name} = {value!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}",
        _allowed(name, _allowed_text(key), ""),
    )


def _allowed(name: str, allowed: str, near: str) -> str:
    text = f"allowed{f' for {name}' if name else ''}: {allowed}" if allowed else ""
    return f"{text} (nearest: {near})" if near and text else text


def _nearest(name: str, names: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(map(str, names)), 1, 0.6)), "")


def _dotted(key: Key) -> str:
    return ".".join(map(str, key)) or "the parameters"


def _names_beside(key: Key) -> list[str]:
    model = Spec if len(key) == 1 else strip_none(_annotation(key[:-1]))
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _field_of(key: Key) -> FieldInfo | None:
    model: Any = Spec
    field = None
    for name in key:
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or name not in model.model_fields:
            return field
        field = model.model_fields[str(name)]
        model = strip_none(field.annotation)
    return field


def _annotation(key: Key) -> Any:
    field = _field_of(key)
    return field.annotation if field else None


def _takes_mapping(key: Key) -> bool:
    """Return whether a key takes a mapping as well as true or false (`drill`)."""
    return any(get_origin(kind) is dict for kind in get_args(_annotation(key)))


def _allowed_text(key: Key) -> str:
    """Return what a key may be, in words; for a count of nodes, of all patterns that have such nodes."""
    if counts := [pattern.nodes[str(key[-1])] for pattern in PATTERNS.values() if key[:-1] == ("nodes",) and key[-1] in pattern.nodes]:
        return f"{min(least for least, _, _ in counts)} to {max(most for _, most, _ in counts)}"
    field = _field_of(key)
    return describe(field) if field else ""


def sample(pattern: str) -> Spec:
    """Return the smallest parameters of a pattern: for a diagram, or as the start of a form."""
    design = PATTERNS[pattern]
    hosts = {name: f"{name}.lab.test" for name in design.hosts}
    pack = "s3://runbook-packs/wso2as-5.3.0.zip" if design.product == "as" else "s3://runbook-packs/wso2greg-5.1.0.zip"
    return Spec.model_validate({"deployment": pattern, "pattern": pattern, "hosts": hosts, "product": {"pack": pack}})
