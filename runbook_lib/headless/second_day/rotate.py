"""The command rotate: the verb of `chapters/rotation`, with a run's folder and a document of JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from runbook_lib.chapters.second_day.rotate import Rotated, chosen
from runbook_lib.headless import documents, runner
from runbook_lib.headless.terminal import Essential
from runbook_lib.spec.model import Spec


def rotate(spec: Spec, what: Sequence[str], say: Callable[[Any], None], as_json: bool = False) -> int:
    """Rotate what is named, print what was proven, and return 0. Raises what `Deployment.rotate` raises; an unknown name before AWS is asked anything."""
    chosen(what)
    with runner.opened(spec) as deployment, runner.one_verb(deployment, "rotate-run", say):
        done: Rotated = deployment.rotate(*what)
        folder = deployment.journal.folder
    say(Essential(done.table()))
    if as_json:
        found = {"rotated": list(done.what), "restarted": list(done.restarted), "checks": [asdict(check) for check in done.checks]}
        print(documents.written({"schema": documents.SCHEMA, "deployment": spec.deployment, "ok": True, **found, "run": str(folder)}))
    return 0
