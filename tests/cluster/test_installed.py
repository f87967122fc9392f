"""The installed package, far from the clone, rehearses a pattern in the lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployments import in_lab
from tests.support.wheel import install, run

pytestmark = pytest.mark.full


def test_an_installed_package_rehearses_a_pattern(lab: Any, tmp_path: Path) -> None:
    bin_ = install(tmp_path, "[lab,browser]")
    work = tmp_path / "work"
    run(bin_ / "runbook", "new", work, cwd=tmp_path)
    deployed = in_lab(lab, "greg-single", "test-installed", 9)
    _, _, _, _, params, *settings = deployed.command("rehearse")
    try:
        said = run(bin_ / "runbook", "rehearse", params, *settings, cwd=work, seconds=800)
    finally:
        run(bin_ / "runbook", "destroy", params, *settings, "--yes", cwd=work)
    assert "s for the chapters" in said
    result = json.loads((work / "runs/test-installed/latest/result.json").read_text())
    assert result["chapters"] and all(chapter["ok"] for chapter in result["chapters"]), result["chapters"]
