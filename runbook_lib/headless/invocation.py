"""What the verbs of the command line share: the terminal, overridden parameters, a person's consent, documents of JSON, timers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.errors import RunbookError
from runbook_lib.headless.terminal import Terminal

if TYPE_CHECKING:
    from runbook_lib.headless.runner import Made
    from runbook_lib.headless.schedule import Repeated
    from runbook_lib.spec.model import Spec


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    from runbook_lib.spec.loader import parse_overrides

    return parse_overrides(args.set)


def every_so_often(args: argparse.Namespace, task: Repeated) -> int:
    """Show how a command is done every so often, write what is to be written once that is agreed, and return 0."""
    from runbook_lib.headless import schedule

    def agreed(question: str) -> bool:
        if args.yes or not sys.stdin or not sys.stdin.isatty():  # sys.stdin is None where it was closed
            return bool(args.yes)
        with suppress(EOFError):
            return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        return False

    return schedule.offer(task, args.timer or schedule.FORMS[0], terminal(args), agreed)


@contextmanager
def documented(specs: Sequence[Spec]) -> Iterator[Made]:
    """After the block, print the results of the runs that it began, one for each of `specs`; nothing when there are none.

    Gives the block what is to be called with the folder of each run: the newest one of a deployment may be somebody else's by the end.
    """
    folders: dict[str, Path] = {}
    yield lambda folder: folders.update({folder.parent.name: folder})
    if specs:
        from runbook_lib.headless import documents

        found = [documents.of_run(spec, folders.get(spec.deployment)) for spec in specs]
        print(documents.written(found[0] if len(found) == 1 else {"schema": documents.SCHEMA, "ok": all(each["ok"] for each in found), "deployments": found}))


def confirmed(args: argparse.Namespace, name: str, what: str, done: str) -> str:
    """Return the deployment's name once a person typed it or --yes was given. Raises RunbookError otherwise."""
    confirm = name if args.yes else ""
    if not args.yes and not args.json and sys.stdin and sys.stdin.isatty():  # sys.stdin is None where it was closed
        with suppress(EOFError):
            confirm = input(f"{what}. Type its name to go on: ").strip()
    if confirm != name:
        raise RunbookError(f"{name} was not {done}: not confirmed", args.params, "type its name, or add --yes")
    return confirm


def terminal(args: argparse.Namespace) -> Terminal:
    stream = sys.stderr if getattr(args, "json", False) else None
    return Terminal(getattr(args, "quiet", False), getattr(args, "verbose", False), stream)
