"""The parameters as one closed model: the source of the YAML keys, of the form and of the reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, model_validator

from runbook_lib.spec.patterns import DEFAULT_TYPES
from runbook_lib.spec.reference import KeyReference, as_table, reference
from runbook_lib.spec.sections import (
    Parameters,
)
from runbook_lib.spec.validators import check_together, with_pattern_defaults
from runbook_lib.tables import Table


class Spec(Parameters):
    """The parameters of a deployment. Read them with `load_spec`; they do not change afterwards."""

    _source: Path | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_pattern(cls, given: Any) -> Any:
        return with_pattern_defaults(given)

    @model_validator(mode="after")
    def _together(self) -> Spec:
        check_together(self)
        return self

    @property
    def source(self) -> Path | None:
        """The file that they were read from, or None."""
        return self._source

    @property
    def drill_rate(self) -> float | None:
        """Requests per second of a drill; None: the rate is found by measuring."""
        return float(self.drill["rate"]) if isinstance(self.drill, dict) else None

    def type_of(self, role: str) -> str:
        """Return the instance type of the machines of `role`."""
        chosen = self.cloud.instance_type
        return chosen.get(role) or chosen.get("default") or DEFAULT_TYPES[role]

    def as_table(self) -> Table:
        """Return every key with its value; values that differ from the default are marked."""
        return as_table(self, f"{self.deployment} ({self.source.name if self.source else 'made in code'})")

    @classmethod
    def reference(cls) -> list[KeyReference]:
        """Return one row per key, for the form and the reference page."""
        return reference(cls)
