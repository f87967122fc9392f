"""What a verb by hand leaves in the journal when it came to its end and a check of it failed: an attempt that failed, and its rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.chapters import sso
from runbook_lib.chapters.cluster import Cluster
from runbook_lib.check import Check, CheckTable
from runbook_lib.checks import cluster
from runbook_lib.checks.drill import failover
from runbook_lib.checks.sso import publishing
from runbook_lib.errors import ChecksFailed
from runbook_lib.evidence.journal import Journal

FAILED = CheckTable([Check("x.lost", "Nothing is lost", "fail", "0", "3", "lb-1")])


VERBS = {"works": lambda d: sso.Sso(d).works(), "failover": lambda d: Cluster(d).failover()}


@pytest.mark.parametrize(("name", "verb"), VERBS.items(), ids=VERBS)
def test_failed_checks_are_a_failed_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, verb: Callable[[Any], Any]) -> None:
    monkeypatch.delenv("RUNBOOK_RUN", raising=False)
    monkeypatch.setattr(sso, "scene_of", lambda d: None)
    monkeypatch.setattr(publishing, "verify_published", lambda scene, agreed: FAILED)
    monkeypatch.setattr(cluster, "verify_membership", lambda d: CheckTable([]))
    monkeypatch.setattr(failover, "drill", lambda d: SimpleNamespace(checks=FAILED, kind="power-cut"))
    journal = Journal(tmp_path / "a" / "20260101T000000Z")
    deployment = SimpleNamespace(journal=journal, writing=nullcontext, spec=SimpleNamespace(deployment="a", design=SimpleNamespace(product="as")))
    with pytest.raises(ChecksFailed):
        verb(deployment)
    assert [(entry["verb"], entry["ok"]) for entry in journal.entries()[1:]] == [("check", False), (name, False)]
    assert not journal.result()["ok"]
