"""The commands patch and replace: what is done to machines that serve, listed first, with a run's folder and a document of JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from runbook_lib.chapters.second_day.patch import as_table
from runbook_lib.chapters.second_day.rolling import rebuild
from runbook_lib.headless import documents, runner
from runbook_lib.headless.terminal import Essential
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.model import Spec

Say = Callable[[Any], None]


def patch(spec: Spec, agreed: bool, say: Say, as_json: bool = False) -> int:
    """Print what is pending on each machine and what a patch would do; return 0 when that is nothing, else 2. With `agreed`, patch and return 0.

    Raises what `Patch.apply` raises.
    """
    with runner.opened(spec) as deployment:
        found = deployment.patch.look()
        plan = deployment.patch.plan(found)
        say(Essential(as_table(found, spec.deployment)))
        say(plan)
        if agreed:
            with runner.one_verb(deployment, "patch-run", say):
                say(Essential(deployment.patch.apply(plan)))
    if as_json and agreed:
        print(documents.written(documents.of_run(spec, deployment.journal.folder)))
    elif as_json:
        machines = {name: {**asdict(each), "reboot": each.reboot, "restarts": each.restarts} for name, each in found.items()}
        print(documents.written({**documents.of_plans(spec, [("patch", plan)]), "machines": machines}))
    if plan and not agreed:
        say("nothing was changed: --yes patches the machines, in this order")
    return plan.exit_code if not agreed else 0


def replace(spec: Spec, nodes: Sequence[str], agreed: bool, say: Say, as_json: bool = False) -> int:
    """Print what chapter 01 would change when these nodes got other machines; return 2. With `agreed`, do it, verify, and return 0.

    Raises RunbookError for a node that there is not, and what the chapters' applies and verifications raise.
    """
    with runner.opened(spec) as deployment:
        plan = deployment.launch.plan(nodes)
        say(plan)
        if agreed:
            with runner.one_verb(deployment, "replace-run", say), deployment.writing():
                say(Essential(deployment.launch.apply(plan, nodes)))
                rebuild(deployment)
                for chapter in chapters_of(spec.pattern):
                    if chapter.converges:
                        say(getattr(deployment, chapter.attribute).verify())
    if as_json:
        print(documents.written(documents.of_run(spec, deployment.journal.folder) if agreed else documents.of_plans(spec, [("01_launch_ec2", plan)])))
    if not agreed:
        say("nothing was changed: --yes replaces the machines, in this order")
    return 0 if agreed else 2
