"""The commands backup, backups, restore and drill: the verbs of `chapters/second_day`, with a run's folder and a document of JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from typing import Any

from runbook_lib.aws.lock import PATIENCE, holder
from runbook_lib.aws.s3.backup_store import Backup
from runbook_lib.chapters.second_day.backups import as_table
from runbook_lib.errors import RunbookError
from runbook_lib.headless import documents, runner
from runbook_lib.headless.schedule import Repeated, interval
from runbook_lib.headless.terminal import Essential, Terminal
from runbook_lib.spec.loader import find_params
from runbook_lib.spec.model import Spec

Say = Callable[[Any], None]


def backup(spec: Spec, say: Say, as_json: bool = False) -> int:
    """Make a backup, print it, and return 0. Whoever works on the deployment is waited for: a timer's batch may. Raises what `Backups.make` raises."""
    with runner.opened(spec) as deployment, redirect_stdout(sys.stderr) if as_json else nullcontext():
        if (held := holder(deployment.vault)) and not held.expired:
            say(f"{held.words} has been working on {spec.deployment} since {held.since}: waits {PATIENCE / 60:.0f} minutes at most")
        made = deployment.backups.make(wait=PATIENCE)
        place = deployment.backups.store.place
    say(Essential(as_table([made], place)))
    if as_json:
        print(documents.written({"schema": documents.SCHEMA, "deployment": spec.deployment, "place": place, "backup": documents.of_backup(made)}))
    return 0


def repeated(spec: Spec, given: argparse.Namespace) -> Repeated:
    """Return the backup as something that is done every so often. Raises RunbookError for options that do not go together."""
    if given.every is None:
        raise RunbookError(f"--as {given.timer} says how, and nothing says how often", "--as", "add --every, such as --every 24h")
    if given.json:
        raise RunbookError("--every does not go with --json", "--every", "take --json away: ./runbook backups PARAMS --json lists what there is")
    words = [word for text in given.set for word in ("--set", text)]
    file = str(find_params(given.params).resolve())
    words += ["--quiet"] if given.quiet else []
    return Repeated(f"runbook-backup-{spec.deployment}", f"The runbook backs {spec.deployment} up", ("backup", file, *words), interval(given.every))


def backups(spec: Spec, say: Say, as_json: bool = False) -> int:
    """Print the deployment's backups, which may be gone itself, and return 0. Raises CloudError."""
    with runner.opened(spec) as deployment:
        store = deployment.backups.store
        found, place = store.backups(), store.place
    if as_json:
        print(documents.written(documents.of_backups(spec.deployment, place, found)))
    else:
        say(Essential(as_table(found, place, store.unreadable)))
    return 0


def restore(spec: Spec, at: str, source: str, confirmed: Callable[[str], str], say: Say, as_json: bool = False) -> int:
    """Restore a backup, print what it holds, and return 0. `confirmed` is asked with the backup in words, and returns the deployment's name.

    Raises what `Backups.restore` raises, before `confirmed` is asked where the backup does not fit.
    """
    with runner.opened(spec) as deployment:
        chosen: Backup = deployment.backups.choose(at, source)
        confirm = confirmed(f"{chosen.deployment}, {chosen.time}")
        with runner.one_verb(deployment, "restore-run", say):
            say(Essential(deployment.backups.restore(chosen.time, chosen.deployment, confirm)))
            folder = deployment.journal.folder
    if as_json:
        print(documents.written(documents.of_restore(spec.deployment, chosen, folder)))
    return 0


def begin_anew(spec: Spec, confirmed: Callable[[], str], say: Say, as_json: bool = False) -> int:
    """Forget the data that is gone, and return 0: the next run boots the nodes on empty databases."""
    confirm = confirmed()
    with runner.opened(spec) as deployment, runner.one_verb(deployment, "restore-run", say):
        deployment.backups.begin_anew(confirm)
        folder = deployment.journal.folder
    say(Essential(f"{spec.deployment} begins anew: ./runbook run PARAMS boots its nodes on empty databases"))
    if as_json:
        print(documents.written(documents.of_restore(spec.deployment, None, folder)))
    return 0


def drill(spec: Spec, lose: str, agreed: bool, confirmed: Callable[[], str], say: Terminal, made: runner.Made) -> int:
    """Make a disaster drill, print what was measured, and return 0 when every check passed, else 1.

    What it will do is printed before `confirmed` is asked, which returns the deployment's name. `made` is called with the folder of its run.
    Raises what `DisasterDrill.drill` raises.
    """
    with runner.opened(spec) as deployment:
        deployment.disaster.refuse(lose, agreed)
        say(Essential(deployment.disaster.announcement(lose)))
        confirm = confirmed()
        with say.watching(), runner.one_verb(deployment, "drill-run", say, made):
            found = deployment.disaster.drill(lose, confirm, agreed)
            say(Essential(found))
            folder = deployment.journal.folder
    say(Essential(f"report: {os.path.relpath(folder / 'report.html')}"))
    return 0 if found.checks.ok else 1
