"""The verbs backup, backups, restore, rotate, patch, replace and drill of the command line: what they are given, put to the modules beside this one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from runbook_lib.errors import RunbookError
from runbook_lib.headless.invocation import confirmed, documented, every_so_often, overrides, terminal


def _backup(args: argparse.Namespace) -> int:
    from runbook_lib.headless.second_day import backups
    from runbook_lib.spec.loader import load_spec

    spec = load_spec(args.params, overrides(args))
    return every_so_often(args, backups.repeated(spec, args)) if args.every or args.timer else backups.backup(spec, terminal(args), args.json)


def _backups(args: argparse.Namespace) -> int:
    from runbook_lib.headless.second_day import backups
    from runbook_lib.spec.loader import load_spec

    return backups.backups(load_spec(args.params, overrides(args)), terminal(args), args.json)


def _restore(args: argparse.Namespace) -> int:
    from runbook_lib.headless.second_day import backups
    from runbook_lib.spec.loader import load_spec

    spec, say = load_spec(args.params, overrides(args)), terminal(args)
    if args.empty and (args.at or args.source):
        raise RunbookError("--empty restores nothing, so --at and --from mean nothing with it", args.params, "give one or the other")
    if args.empty:
        ask = partial(confirmed, args, spec.deployment, f"{spec.deployment} will begin anew, without its data", "touched")
        return backups.begin_anew(spec, ask, say, args.json)

    def agreed(found: str) -> str:
        return confirmed(args, spec.deployment, f"The databases of {spec.deployment} become those of {found}", "restored")

    return backups.restore(spec, args.at, args.source, agreed, say, args.json)


def _drill(args: argparse.Namespace) -> int:
    from runbook_lib.headless.second_day import backups
    from runbook_lib.spec.loader import load_spec

    spec, say = load_spec(args.params, overrides(args)), terminal(args)
    what = f"{spec.deployment} loses {'its database' if args.lose == 'database' else 'every machine'}"
    with documented([spec] if args.json else []) as made:
        return backups.drill(spec, args.lose, args.agreed, lambda: confirmed(args, spec.deployment, what, "touched"), say, made)


def _rotate(args: argparse.Namespace) -> int:
    from runbook_lib.headless.second_day import rotate
    from runbook_lib.spec.loader import load_spec

    return rotate.rotate(load_spec(args.params, overrides(args)), args.what, terminal(args), args.json)


def _upkeep(args: argparse.Namespace) -> int:
    """Patch or replace machines."""
    from runbook_lib.headless.second_day import upkeep
    from runbook_lib.spec.loader import load_spec

    say, spec = terminal(args), load_spec(args.params, overrides(args))
    with say.watching():
        if args.command == "patch":
            return upkeep.patch(spec, args.yes, say, args.json)
        return upkeep.replace(spec, args.nodes, args.yes, say, args.json)


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "backup": _backup, "backups": _backups, "restore": _restore, "rotate": _rotate, "patch": _upkeep, "replace": _upkeep, "drill": _drill,
}  # fmt: skip
