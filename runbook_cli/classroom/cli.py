"""`./runbook classroom …`: the arguments, the questions, and what is printed."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from ec2lab.cli import LabParser
from ec2lab.errors import LabError

from runbook_cli.classroom import request
from runbook_cli.classroom.room import DEFAULT_RANGE, ROOM, Room
from runbook_lib.errors import RunbookError
from runbook_lib.tables import text_table

COLUMNS = ("Learner", "Lab", "Chapters verified", "Exercises passed", "Machines", "Takes", "Last error")


def parser() -> LabParser:
    top = LabParser(prog="runbook classroom", description="JupyterHub on this machine: a login, a lab and limits for each learner.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=LabParser)
    up = verbs.add_parser("up", help="make the classroom and print the logins")
    up.add_argument("--learners", type=int, metavar="N", help=f"how many: 1 to {request.MOST} (default 8, or as many as --names has)")
    up.add_argument("--names", metavar="NAME,...", help="their names (default learner1, learner2 …)")
    up.add_argument("--port", type=int, default=8443, help="where browsers reach it (default 8443)")
    up.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="a name of this machine that browsers use, for the certificate; the first is printed"
    )
    up.add_argument("--range", help=f"private addresses for the labs, a /20 for each (default {DEFAULT_RANGE})")
    up.add_argument("--memory", type=int, metavar="MB", help="what each learner may take, machines included (default: an equal share)")
    up.add_argument("--processes", type=int, default=request.PROCESSES, metavar="N", help=f"processes and threads of each (default {request.PROCESSES})")
    up.add_argument("--logins", type=Path, metavar="FILE", help="also write the logins into this new file, which you alone can read")
    up.add_argument("--yes", action="store_true", help="install missing Debian packages without asking")
    verbs.add_parser("status", help="how far each learner is").add_argument("--json", action="store_true")
    down = verbs.add_parser("down", help="remove the classroom: processes, labs, users, homes")
    down.add_argument("--yes", action="store_true", help="do not ask")
    down.add_argument("--keep-runs", type=Path, metavar="FILE", help="keep the learners' runs in this new tar archive (.tar.gz)")
    return top


def main(argv: list[str]) -> int:
    """Return the exit status: 0, or 1 after an error."""
    args = parser().parse_args(argv)
    try:
        from runbook_cli.classroom import lifecycle

        if args.verb == "up":
            learners = 8 if args.learners is None and args.names is None else args.learners
            names = request.names(learners, args.names)
            files = args.logins and args.logins.absolute()
            wanted = lifecycle.Wanted(names, args.port, args.range, args.memory, args.processes, request.hosts(args.host), files, args.yes)
            lifecycle.up(wanted, lambda text: print(text, flush=True))
        elif args.verb == "down":
            _agree(args.yes)
            lifecycle.down(print, args.keep_runs and args.keep_runs.absolute())
        else:
            status(args.json)
    except (LabError, RunbookError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _agree(yes: bool) -> None:
    """Raise RunbookError unless the person at the terminal agrees that the learners' work goes."""
    if yes:
        return
    question = "The learners' homes, with their notebooks and runs, will be removed. Type yes to go on: "
    if not sys.stdin or not sys.stdin.isatty() or input(question).strip().lower() != "yes":
        raise RunbookError("the classroom was not removed: not confirmed", "./runbook classroom down", "answer yes, or add --yes")


def status(as_json: bool) -> None:
    """Print how far each learner is. Raises RunbookError when no classroom is up."""
    from runbook_cli.classroom.page import progress

    if not ROOM.exists():
        raise RunbookError("no classroom is up on this machine", str(ROOM.parent), "./runbook classroom up")
    room = Room.read(ROOM)
    with ThreadPoolExecutor(len(room.learners)) as pool:
        found = list(pool.map(progress.of, room.learners))
    if as_json:
        print(
            json.dumps({"schema": 1, "url": room.url, "memory_mb": room.memory_mb, "learners": [asdict(each) for each in found]}, indent=2, ensure_ascii=False)
        )
        return
    rows = [_row(room, each) for each in found]
    print(f"{room.url}, {room.memory_mb} MB and {room.processes} processes and threads each\n{text_table(COLUMNS, rows)}")


def _row(room: Room, each: object) -> tuple[str, ...]:
    from runbook_cli.classroom.page.progress import LearnerProgress

    assert isinstance(each, LearnerProgress)
    chapters = ", ".join(f"{found.name} {found.verified}/{len(found.chapters)}" for found in each.deployments)
    exercises = sum(found.exercises.get("passed", 0) for found in each.deployments)
    machines = each.trouble or f"{each.running} of {len(each.machines)} run"
    error = f"{each.error.get('utc')} {each.error.get('chapter')}: {each.error.get('what')}" if each.error else ""
    return each.name, f"class{each.number}", chapters or "-", str(exercises), machines, f"{each.memory_mb} MB", error[:70]
