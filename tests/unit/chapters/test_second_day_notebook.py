"""Chapter 08 leaves the nodes as the params file wants them, whatever that says about the key that the chapter changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

import runbook_lib
from runbook_lib.spec.chapters import NOTEBOOKS, SECOND_DAY


def test_what_the_chapter_changes_is_taken_back_to_the_params_files_own_value(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[dict[str, Any]] = []

    class Opened:
        def __init__(self, _: str, overrides: dict[str, Any]):
            self.product, self.overrides = self, overrides

        def plan(self) -> dict[str, Any]:
            return self.overrides

        def apply(self, plan: dict[str, Any]) -> None:
            applied.append(plan)

        def verify(self) -> None: ...

    monkeypatch.setattr(runbook_lib, "open_deployment", Opened, raising=False)
    cells = json.loads((NOTEBOOKS / f"{SECOND_DAY}.ipynb").read_text())["cells"]
    code = {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}
    ids = list(code)
    said: dict[str, Any] = {}
    exec(code["08-03"], said)
    said["overrides"] = {"memory.heap": "2g"}
    for id in ids[1 : ids.index("08-14") + 1]:
        exec(code[id], said)
    assert applied == [{"memory.heap": "768m"}, {"memory.heap": "2g"}]
