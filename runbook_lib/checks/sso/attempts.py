"""The attempts of the proof: each a row of `attempts.yaml`, whose head explains every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from runbook_lib.checks.sso.environment import Scene
from runbook_lib.checks.sso.pages import Catalogue
from runbook_lib.evidence.statement import CLASSES
from runbook_lib.files import read_table

MATRIX = files(__package__) / "attempts.yaml"
# Why an attempt is left out whose need cannot be said by its word
NEEDS = {"neighbour-left-out": "it is made from a machine of the deployment's network, which parameter publisher_allow_cidr lets in"}


@dataclass(frozen=True)
class Attempt:
    """One row of the matrix; the head of `attempts.yaml` explains every field."""

    id: str
    title: str
    who: str
    place: str
    steps: tuple[Mapping[str, Any], ...]
    held: frozenset[str]
    leak: frozenset[str]
    why: str
    kind: str = "attempt"
    class_: str = ""
    harm: str = ""
    at: str = ""
    leaks_in: frozenset[str] = frozenset()
    either_in: frozenset[str] = frozenset()
    only_in: frozenset[str] = frozenset()
    needs: str = ""
    decided_by: str = "all"
    writes: bool = False
    alone: bool = False
    closed_by: str = ""
    golden: Any = "page"

    @property
    def severity(self) -> str:
        """How severe it is when the attempt succeeds: critical, high, medium or low; "" for a control."""
        return harms()[self.harm]["severity"] if self.harm else ""

    @property
    def severity_reason(self) -> str:
        return harms()[self.harm]["reason"] if self.harm else ""

    @property
    def knocks(self) -> bool:
        """Whether it only opens connections, over which nothing is sent."""
        return {verb for step in self.steps for verb in step} == {"ports"}

    def applies(self, scene: Scene) -> bool:
        """Return whether the attempt has a meaning in this scene."""
        return not self.left_out_of(scene)

    def left_out_of(self, scene: Scene) -> str:
        """Return why the attempt has no meaning in this scene; "" when it has one."""
        if self.only_in and scene.configuration not in self.only_in:
            return f"it is about {', '.join(sorted(self.only_in))}; this deployment is {scene.configuration}"
        return "" if self.needs in ("", *scene.traits) else NEEDS.get(self.needs, f"it needs {self.needs}, which this deployment has not")

    def foretold(self, configuration: str) -> str:
        """Return leak or held as the table foretells it of a configuration, `either` where it does not say, "" where the attempt has no meaning."""
        if self.only_in and configuration not in self.only_in:
            return ""
        return "either" if configuration in self.either_in else "leak" if configuration in self.leaks_in else "held"

    def expected(self, scene: Scene) -> frozenset[str]:
        """Return the states that pass: `leak` where this configuration is expected to leak, both where either is accepted, else `held`.

        Both are accepted for a limit of the product, and in the configurations of `either_in`.
        """
        if self.kind == "limit":
            return frozenset(["held", "leak"])
        if scene.expect == "separated":
            return frozenset(["held"])
        if scene.configuration in self.either_in:
            return frozenset(["held", "leak"])
        return frozenset(["leak" if scene.configuration in self.leaks_in else "held"])


@cache
def settings() -> Mapping[str, str]:
    """Return the settings that close an attempt, by the word used in `closed_by`."""
    return _table()["settings"]


@cache
def harms() -> Mapping[str, Mapping[str, str]]:
    """Return severity and reason by the word used in `harm`."""
    return _table()["harms"]


def untried() -> dict[str, list[str]]:
    """Return what no attempt tries (`not_tested`), and what stays (`risks`), in words."""
    return {name: list(_table()[name]) for name in ("not_tested", "risks")}


@cache
def _table() -> Mapping[str, Any]:
    return read_table(MATRIX)


@cache
def matrix() -> tuple[tuple[Attempt, ...], Catalogue]:
    """Return the attempts and the pages of `attempts.yaml`.

    Raises `ValueError` when an attempt names an unknown page, setting, class or harm, or has one page in both `held` and `leak`.
    """
    table = _table()
    catalogue = Catalogue(table["pages"], table["findings"])
    attempts = tuple(_attempt(row) for row in table["attempts"])
    for attempt in attempts:
        if unknown := (attempt.held | attempt.leak) - catalogue.names:
            raise ValueError(f"{attempt.id}: no such page: {', '.join(sorted(unknown))}")
        if attempt.closed_by not in ("", *settings()):
            raise ValueError(f"{attempt.id}: no such setting: {attempt.closed_by}")
        known = attempt.class_ in CLASSES and attempt.harm in harms() if attempt.kind != "control" else not (attempt.class_ or attempt.harm)
        if not known:
            raise ValueError(f"{attempt.id}: no such class or harm, or a control that has one: {attempt.class_} {attempt.harm}")
        if both := attempt.held & attempt.leak:
            raise ValueError(f"{attempt.id}: both held and leak: {', '.join(sorted(both))}")
    return attempts, catalogue


def _attempt(row: Mapping[str, Any]) -> Attempt:
    fields = dict(row)
    fields["place"] = fields.pop("from")
    fields["class_"] = fields.pop("class", "")
    fields["steps"] = tuple(fields["steps"])
    for name in ("held", "leak", "leaks_in", "either_in", "only_in"):
        fields[name] = frozenset(fields.get(name, ()))
    return Attempt(**fields)
