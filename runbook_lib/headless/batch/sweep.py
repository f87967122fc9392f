"""A sweep: params files and a matrix of keys become rows, each a deployment with a name and a network that no other row has.

Networks are handed out once and kept in a file beside the sweep's, which belongs under version control: a row that is added moves no other.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runbook_lib.errors import ParamsError
from runbook_lib.evidence import runs
from runbook_lib.files import ROOT, write_whole
from runbook_lib.spec import params_yaml
from runbook_lib.spec.loader import find_params, load_spec, override
from runbook_lib.spec.model import Spec
from runbook_lib.tables import counted
from runbook_lib.topology.workers import MOST, WORKERS

MOST_ROWS = 5_000
LONGEST_NAME = 40  # characters of a deployment's name
DIGEST = 6  # hexadecimal digits that tell apart rows whose names had to be cut
TAKEN = ("params", "name", "after")  # of a row of `include`: what is no key of the parameters
MINUTE = 60.0
DOCUMENT = "docs/batch.md says what a sweep takes"


class SweepFile(BaseModel):
    """The keys of a sweep file; docs/batch.md describes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sweep: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$")
    params: tuple[str, ...] = Field(min_length=1)
    networks: str | None = None
    set: dict[str, Any] = {}
    matrix: dict[str, list[Any]] = {}
    include: tuple[dict[str, Any], ...] = ()
    exclude: tuple[dict[str, Any], ...] = ()
    do: Literal["run", "plan", "verify", "destroy"] = "run"
    chapters: str = Field(default="", pattern=r"^(\d\d?(-\d\d?)?)?$")
    agreed: bool = False
    after: dict[str, tuple[str, ...]] = {}
    workers: int | None = Field(default=None, ge=1, le=MOST)
    max_parallel: int | None = Field(default=None, ge=1, le=64)
    max_errors: int | None = Field(default=None, ge=1)
    retries: int = Field(default=1, ge=0, le=10)
    timeout: float | None = Field(default=None, gt=0)
    chapter_timeout: float | None = Field(default=None, gt=0)
    webhook: str | None = Field(default=None, pattern=r"^https?://\S+$")
    mail: str | None = Field(default=None, pattern=r"^\S+@\S+$")


@dataclass(frozen=True)
class Row:
    """One deployment of a sweep. `values`: its parameters, as a params file has them; `cells`: what the matrix or `include` set; `after`: names of rows."""

    name: str
    params: str
    cells: Mapping[str, Any]
    values: Mapping[str, Any]
    after: tuple[str, ...] = ()

    @property
    def spec(self) -> Spec:
        """The parameters, checked."""
        return load_spec(self.values)

    @cached_property
    def text(self) -> str:
        """The parameters as YAML, as they travel."""
        return yaml.safe_dump(dict(self.values), sort_keys=False, allow_unicode=True)

    @property
    def digest(self) -> str:
        """The parameters' SHA-256: whether they are those of an earlier batch."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def sets(self) -> str:
        """The cells in words."""
        return ", ".join(f"{key} = {value if isinstance(value, str) else json.dumps(value)}" for key, value in self.cells.items())


@dataclass(frozen=True)
class Sweep:
    """What is to be done with which deployments. `source`: the sweep file, None for plain params files; `networks`: those that it gave to rows.

    `former`: names that have a network of an earlier form of this sweep, and no row now.
    """

    name: str
    rows: tuple[Row, ...]
    options: SweepFile
    source: Path | None = None
    networks: Mapping[str, str] = field(default_factory=dict)
    former: tuple[str, ...] = ()

    @property
    def workers(self) -> str:
        """The deployment of its worker machines."""
        return f"{self.name}-{WORKERS}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The matrix's keys in their order."""
        return tuple(self.options.matrix)


def load_sweep(path: str | Path) -> Sweep:
    """Return the sweep of a file: every row's parameters are read and checked, nothing is written.

    Raises ParamsError for a wrong key of the sweep or of a row's parameters, a matrix without rows, two rows of one name, an unknown or
    circular `after`, and networks that do not suffice or overlap.
    """
    file = Path(path)
    if not file.is_file():
        raise ParamsError(f"there is no sweep file {path}", str(path), DOCUMENT)
    given = params_yaml.read(file.read_text(encoding="utf-8"), str(file))
    try:
        options = SweepFile.model_validate(given)
    except ValidationError as error:
        raise _mistake(error, file) from None
    bases = {name: params_yaml.read((base := _beside(file, name)).read_text(encoding="utf-8"), str(base)) for name in options.params}
    cells = list(_cells(options, file))
    if not cells:
        raise ParamsError("the sweep has no row: `exclude` leaves nothing", str(file), "shorten `exclude`, or name more values")
    names = list(_names(options, cells))
    _refuse_twice(names, file)
    placed = [name for name, row in zip(names, cells, strict=True) if _own(row) and not _in_vpc(options, bases[row["params"]], row)]
    kept = _networks(file)
    networks = _allocated(options, placed, file, kept)
    rows = [_row(options, bases[row["params"]], name, row, networks, file) for name, row in zip(names, cells, strict=True)]
    _refuse_twice([row.name for row in rows], file)  # two params files may be of one deployment
    _refuse_overlaps(rows, file)
    _refuse_circles(rows, options, file)
    former = tuple(sorted(kept.keys() - {row.name for row in rows}))
    return Sweep(options.sweep, tuple(rows), options, file, networks, former)


def keep_networks(sweep: Sweep) -> None:
    """Write which network each row has, beside the sweep file; what was handed out before stays, also to rows that are gone."""
    if sweep.source is None or not sweep.networks:
        return
    found = _networks(sweep.source) | dict(sweep.networks)
    head = f"# Which network each deployment of {sweep.source.name} has. Kept so that a new row moves no other; belongs under version control.\n"
    write_whole(_networks_file(sweep.source), head + yaml.safe_dump(dict(sorted(found.items()))))


def _networks_file(sweep: Path) -> Path:
    return sweep.with_name(f"{sweep.stem}.networks{sweep.suffix}")


def _networks(sweep: Path) -> dict[str, str]:
    file = _networks_file(sweep)
    found = params_yaml.read(file.read_text(encoding="utf-8"), str(file)) if file.is_file() else {}
    if not isinstance(found, dict):
        raise ParamsError("the networks of the sweep cannot be read", str(file), "it has a line NAME: NETWORK per deployment; take it from version control")
    return {str(name): str(network) for name, network in found.items()}


def former_words(sweep: Sweep) -> str:
    """Return a sentence about the deployments that this sweep had and has no more, which may still cost, with the command that removes one; "" without any.

    A name is that of its values, so another value renames rows. Those whose newest run on this machine is a teardown that ended well are left out.
    """
    standing = [name for name in sweep.former if not _torn_down(name)]
    if not standing or sweep.source is None:
        return ""
    file = params_place(standing[0])
    of = os.path.relpath(file) if file.is_file() else f"{os.path.relpath(_beside(sweep.source, sweep.options.params[0]))} --set deployment={standing[0]}"
    return (
        f"{counted(len(standing), 'deployment')} that this sweep had may still stand: {', '.join(standing)}; "
        f"./runbook destroy {of} --yes removes the first. One that is gone: take its line out of {_networks_file(sweep.source).name}"
    )


def params_place(name: str) -> Path:
    """Return where the parameters of a deployment lie once a batch of this machine did it."""
    return ROOT / "work" / "batch" / f"{name}.yaml"


def _torn_down(name: str) -> bool:
    folder = runs.latest(name)
    return folder is not None and any(entry["verb"] == "destroy" and entry.get("ok") for entry in runs.read(folder))


def _beside(sweep: Path, name: str) -> Path:
    """Return a params file that is named relative to the sweep file, or as `find_params` knows it."""
    beside = sweep.parent / name
    return beside.resolve() if beside.is_file() else find_params(name)


def _cells(options: SweepFile, file: Path) -> Iterator[dict[str, Any]]:
    """Yield what each row sets: `params`, and for rows of `include` perhaps `name` and `after`, beside keys of the parameters."""
    if empty := [key for key, values in options.matrix.items() if not values]:
        raise ParamsError(f"matrix.{empty[0]} has no value, so the sweep has no row", str(file), "name at least one value for each key")
    size = len(options.params)
    for choices in options.matrix.values():
        size *= len(choices)
    if size + len(options.include) > MOST_ROWS:
        raise ParamsError(
            f"the sweep has {size + len(options.include)} rows: at most {MOST_ROWS}", str(file), "shorten the matrix, or make several sweeps of it"
        )
    idle = list(options.exclude)
    for name in options.params if options.matrix or not options.include else ():  # `include` alone lists every row
        for values in itertools.product(*options.matrix.values()):
            cells = {"params": name, **dict(zip(options.matrix, values, strict=True))}
            matching = [rule for rule in options.exclude if all(key in cells and cells[key] == value for key, value in rule.items())]
            idle = [rule for rule in idle if rule not in matching]
            if not matching:
                yield cells
    if idle:
        raise _excludes_nothing(idle[0], options, file)
    for number, row in enumerate(options.include):
        if row.get("params", options.params[0]) not in options.params:
            raise ParamsError(f"include[{number}].params = {row['params']}: it is not among `params`", str(file), f"there is: {', '.join(options.params)}")
        yield {"params": options.params[0], **row}


def _excludes_nothing(rule: Mapping[str, Any], options: SweepFile, file: Path) -> ParamsError:
    """Return the error for an entry of `exclude` that no combination matches."""
    values = {"params": list(options.params), **options.matrix}
    where = f"exclude[{options.exclude.index(rule)}]"
    for key in [each for each in rule if each not in values]:
        near = difflib.get_close_matches(key, values, 1)
        step = f"did you mean {near[0]}?" if near else f"there is: {', '.join(values)}"
        return ParamsError(f"{where}.{key}: the matrix has no such key", str(file), step, f"{where}.{key}")
    there = "; ".join(f"{key}: {json.dumps(values[key], default=str)}" for key in rule)
    return ParamsError(
        f"{where} = {json.dumps(rule, default=str)} leaves no combination out", str(file), f"take it away, or write values that the sweep has: {there}", where
    )


def _row(options: SweepFile, base: Any, name: str, cells: Mapping[str, Any], networks: Mapping[str, str], file: Path) -> Row:
    """Return one row, its parameters checked. `base`: the values of its params file."""
    values, sets = deepcopy(base), {key: value for key, value in cells.items() if key not in TAKEN}
    for key, value in (options.set | sets).items():
        override(values, key, value)
    if _own(cells):
        override(values, "deployment", name)
    else:
        name = str(values.get("deployment", name))
    if name in networks:
        override(values, "cloud.network", networks[name])
    try:
        load_spec(values)
    except ParamsError as error:
        raise ParamsError(error.what, f"{file}: row {name}" + (f" ({error.key})" if error.key else ""), error.next_step, error.key) from None
    after = cells.get("after", ())
    return Row(name, cells["params"], sets, values, (*([after] if isinstance(after, str) else after), *options.after.get(name, ())))


def _own(row: Mapping[str, Any]) -> bool:
    """Return whether a row has a name and a network of its own: one that sets nothing is its params file's deployment."""
    return bool(row.keys() - {"params", "after"})


def _in_vpc(options: SweepFile, base: Any, row: Mapping[str, Any]) -> bool:
    """Return whether a row stands in an existing VPC, whose range its network is."""
    given = base.get("cloud") if isinstance(base, dict) else None
    return any("cloud.vpc" in mapping for mapping in (options.set, row)) or (isinstance(given, dict) and "vpc" in given)


def _names(options: SweepFile, cells: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the name of each row: the sweep's, and the values that the row sets; cut, with a digest of all, where that is too long."""
    several = len(options.params) > 1
    for row in cells:
        if "name" in row:
            yield f"{options.sweep}-{row['name']}"
            continue
        words = [Path(row["params"]).name.split(".")[0]] if several else []
        words += [_word(key, value) for key, value in row.items() if key not in TAKEN and len(options.matrix.get(key, (1, 2))) > 1]
        name = "-".join(word for word in (options.sweep, *words) if word)
        if len(name) > LONGEST_NAME:
            told = hashlib.sha256(json.dumps(row, sort_keys=True, default=str).encode()).hexdigest()[:DIGEST]
            name = f"{name[: LONGEST_NAME - DIGEST - 1].rstrip('-')}-{told}"
        yield name


def _word(key: str, value: Any) -> str:
    """Return a value as part of a name: a number and a truth with the key's last part, of an address the last part, and letters and digits only."""
    name = key.rpartition(".")[2]
    text = str(value).rstrip("/").rpartition("/")[2].lower()
    if isinstance(value, bool):
        text = name if value else f"no-{name}"
    elif isinstance(value, int | float):
        text = f"{name}-{value}"
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def _allocated(options: SweepFile, names: Sequence[str], file: Path, kept: Mapping[str, str]) -> dict[str, str]:
    """Return the network of each row of these names: the one that it had before, or the first that nobody ever had."""
    if options.networks is None:
        if len(names) > 1:
            raise ParamsError(
                "the rows of a sweep need a network each", str(file), "add `networks`, such as networks: 10.213.64.0/18; each row gets a /24 of it"
            )
        return {}
    try:
        whole = ipaddress.IPv4Network(options.networks)
        places = [str(each) for each in whole.subnets(new_prefix=24)]
    except ValueError as error:
        raise ParamsError(f"networks = {options.networks}: {error}", str(file), "write a private IPv4 range as ADDRESS/LENGTH, /8 to /24") from None
    free = iter([place for place in places if place not in set(kept.values())])
    found = {name: kept[name] for name in names if name in kept}
    for name in names:
        if name not in found and (place := next(free, None)):
            found[name] = place
    if len(found) < len(names):
        step = f"make it larger, or take names of former rows out of {_networks_file(file).name} once these deployments are destroyed"
        raise ParamsError(f"networks = {options.networks} has {len(places)} networks of /24, and {len(names)} rows and former rows need more", str(file), step)
    return found


def _refuse_twice(names: Sequence[str], file: Path) -> None:
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ParamsError(f"two rows are named {twice[0]}", str(file), "give one of them a `name`, or take one away")


def _refuse_overlaps(rows: Sequence[Row], file: Path) -> None:
    placed = sorted((ipaddress.IPv4Network(row.spec.cloud.network), row.name) for row in rows if not row.spec.cloud.vpc)
    for (one, first), (other, second) in itertools.pairwise(placed):
        if one.overlaps(other):
            raise ParamsError(
                f"{first} and {second} have networks that overlap: {one}, {other}", str(file), "give the sweep `networks`, or the files other ones"
            )


def _refuse_circles(rows: Sequence[Row], options: SweepFile, file: Path) -> None:
    """Raise ParamsError where `after` names no row, or rows wait for each other."""
    names = {row.name for row in rows}
    for name in [*options.after, *(each for row in rows for each in row.after)]:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise ParamsError(f"after: there is no row {name}", str(file), f"did you mean {near[0]}?" if near else "--dry-run lists the names")
    done: set[str] = set()
    left = list(rows)
    while left:
        ready = [row for row in left if done.issuperset(row.after)]
        if not ready:
            raise ParamsError(f"after: these rows wait for each other: {', '.join(row.name for row in left)}", str(file), "take one of these conditions out")
        done |= {row.name for row in ready}
        left = [row for row in left if row.name not in done]


def _mistake(error: ValidationError, file: Path) -> ParamsError:
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    known = ", ".join(SweepFile.model_fields)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, SweepFile.model_fields, 1)
        return ParamsError(f"{key}: a sweep has no such key", str(file), f"did you mean {near[0]}?" if near else f"there is: {known}", key)
    return ParamsError(f"{key or 'the sweep'}: {first['msg']}", str(file), DOCUMENT, key)
