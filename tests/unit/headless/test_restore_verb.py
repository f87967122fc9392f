"""`./runbook restore` and `backup`: what was shown and confirmed is what is restored, and a backup waits for its turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from runbook_lib.aws.lock import Held, Lock
from runbook_lib.aws.s3.backup_store import Backup
from runbook_lib.chapters.second_day import backups as chapter
from runbook_lib.errors import LockHeld
from runbook_lib.evidence.journal import Journal
from runbook_lib.headless import cli, runner
from runbook_lib.headless.second_day import backups
from runbook_lib.launch.cloud import Cloud
from runbook_lib.notebook import display
from runbook_lib.session import Session

pytest_plugins = ["tests.support.aws_endpoint"]


def test_a_backup_that_is_made_while_a_person_confirms_is_not_the_one_that_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = MagicMock()
    deployment.backups.choose.return_value = SimpleNamespace(deployment="source", time="2026-11-26T10:00:00Z")
    monkeypatch.setattr(runner, "opened", lambda _: nullcontext(deployment))
    monkeypatch.setattr(runner, "one_verb", lambda *_: nullcontext())
    shown: list[str] = []
    assert backups.restore(MagicMock(), "", "", lambda found: shown.append(found) or "demo", lambda _: None) == 0  # type: ignore[func-returns-value]
    assert shown == ["source, 2026-11-26T10:00:00Z"]
    deployment.backups.restore.assert_called_once_with("2026-11-26T10:00:00Z", "source", "demo")


def test_a_deployment_that_begins_anew_is_one_document_of_a_restore_without_a_backup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment: Any = MagicMock()
    deployment.journal.folder = tmp_path
    monkeypatch.setattr(runner, "opened", lambda _: nullcontext(deployment))
    monkeypatch.setattr(runner, "one_verb", lambda *_: nullcontext())
    assert cli.main(["restore", "params/greg-single.lab.yaml", "--empty", "--yes", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"schema": 1, "deployment": "greg-single", "ok": True, "backup": None, "run": str(tmp_path)}
    assert "begins anew" in said.err
    deployment.backups.begin_anew.assert_called_once_with("greg-single")


def test_what_a_backup_announces_is_no_part_of_its_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    deployment, made = MagicMock(), Backup("shop", "greg-single", "greg", "5.1.0", "", "MariaDB 10.11.6", "2026-11-26T10:00:00Z", "me", "backup", ())
    deployment.backups.make.side_effect = lambda wait: display.show("REHEARSAL: shop") or made  # type: ignore[func-returns-value]
    deployment.backups.store.place = "s3://backups/shop/"
    deployment.vault.find.return_value = None
    monkeypatch.setattr(runner, "opened", lambda _: nullcontext(deployment))
    assert cli.main(["backup", "params/greg-single.lab.yaml", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["place"] == "s3://backups/shop/" and "REHEARSAL: shop" in said.err


def test_the_command_waits_for_a_lock_and_says_for_whom_and_a_notebook_is_refused(make_cloud: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = make_cloud()
    deployment: Any = Session(cloud.spec, Journal.begin(cloud.spec))
    deployment.backups = chapter.Backups(deployment)
    deployment.context = lambda: SimpleNamespace(in_use=True)
    made = Backup("shop", "greg-single", "greg", "5.1.0", "", "MariaDB 10.11.6", "2026-11-26T10:00:00Z", "me", "backup", ())
    for name, stub in (("refuse_lost_data", None), ("_make", made), ("banner", None), ("announce", None)):
        monkeypatch.setattr(chapter, name, lambda *_, stub=stub: stub)
    monkeypatch.setattr(runner, "opened", lambda _: nullcontext(deployment))
    said: list[str] = []
    with ExitStack() as colleague:
        colleague.enter_context(Lock(cloud.vault, "berta@office"))
        with pytest.raises(LockHeld):
            deployment.backups.make()

        def refused_once(lock: Lock) -> Held | None:
            found = attempt(lock)
            colleague.close()
            return found

        attempt = Lock._acquire
        monkeypatch.setattr(Lock, "_acquire", refused_once)
        assert backups.backup(cloud.spec, lambda words: said.append(str(words))) == 0
    assert said[0].startswith(f"berta@office has been working on {cloud.spec.deployment} since 20") and "2026-11-26T10:00:00Z" in said[1]
