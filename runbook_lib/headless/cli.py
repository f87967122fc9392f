"""The command line: the arguments and exit statuses (in `COMMANDS`) that other programs rely on. Other modules do the work."""

from __future__ import annotations

import argparse
import difflib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from runbook_lib import __version__
from runbook_lib.errors import RunbookError
from runbook_lib.files import ROOT, make_workspace

DEFAULT_PARAMS = "params/greg-separated.lab.yaml"
COMMANDS = {  # name: (what it does, exit status)
    "rehearse": ("install what is missing, bring the lab up, build and prove a pattern", "0 all verified"),
    "run": ("execute the chapters of a pattern headless", "0 all verified, 1 not"),
    "plan": ("show every pending change, change nothing", "0 none, 2 some, 1 error"),
    "verify": ("run the checks only", "0 all passed, 1 not"),
    "status": ("machines and chapters, as the cloud knows them now", "0"),
    "destroy": ("ordered teardown, then prove that nothing tagged is left", "0 gone, 1 not"),
    "new": ("a folder with the notebooks, params and docs of this installation, to work in", "0 made, 1 not"),
    "open": ("JupyterLab at 00_start_here", "0"),
    "verify-evidence": ("whether a run's files are as they were signed, and by whose key", "0 they are, 1 not"),
    "site": ("a static site from the executed chapters", "0"),
    "doctor": ("what this machine, this account and these params lack, each with the fix", "0 nothing, 1 something"),
    "test": ("every test that this machine can run", "pytest's"),
    "lab": ("up, down, status, env, ssh, hosts, browser: EC2 on one's own machine", "0, 1"),
}
OF_CHAPTERS = "a parameter that a chapter has of its own, as with papermill: -p war app.war"


class Parser(argparse.ArgumentParser):
    """A parser that exits with 1 on a wrong option. argparse exits with 2, which means pending changes here."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def parser() -> Parser:
    top = Parser(prog="runbook", description="WSO2 clusters on EC2, from nothing to verified.")
    top.add_argument("--version", action="version", version=f"runbook {__version__}")
    verbs = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def verb(name: str, params: str = "PARAMS") -> Parser:
        text, status = COMMANDS[name]
        made: Parser = verbs.add_parser(name, help=text, description=f"{text}. Exit: {status}.")
        if params == "PARAMS":
            made.add_argument("params", metavar="PARAMS", help="a params file, such as params/greg-separated.lab.yaml")
        elif params:
            made.add_argument("params", metavar="PARAMS", nargs="?", default=DEFAULT_PARAMS if params == "default" else None)
        made.set_defaults(set=[])
        if params and name != "open":  # a chapter in JupyterLab has its own cell for overrides
            made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key (dotted)")
        return made

    agree: dict[str, Any] = {"action": "store_true", "help": "the proof may make its test users where it asks (on AWS)"}
    for name in ("rehearse", "run"):
        made = verb(name, "default" if name == "rehearse" else "PARAMS")
        if name == "run":
            made.add_argument("also", metavar="PARAMS", nargs="*", help="further ones, run after it, with one table in the end")
        made.add_argument("--from", dest="first", metavar="NN", help="first chapter")
        made.add_argument("--to", dest="last", metavar="NN", help="last chapter")
        made.add_argument("--resume", action="store_true", help="leave out what is proven and still holds")
        made.add_argument("-p", dest="parameters", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"), help=OF_CHAPTERS)
        made.add_argument("--yes", **agree)
    for name in ("plan", "verify", "status"):
        made = verb(name)
        if name == "verify":
            made.add_argument("--yes", **agree)
    destroy = verb("destroy")
    destroy.add_argument("--yes", action="store_true", help="do not ask for the deployment's name")
    verb("open", "optional").add_argument("--no-browser", action="store_true")
    verb("doctor", "optional")
    verb("new", "").add_argument("folder", metavar="DIR")
    evidence = verb("verify-evidence", "")
    evidence.add_argument("run", metavar="RUN", help="a run's folder, such as runs/greg-separated/latest")
    evidence.add_argument("params", metavar="PARAMS", nargs="?", help="the deployment whose key it must be (default: as the run names it)")
    evidence.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key (dotted)")
    site = verb("site", "")
    site.add_argument("runs", nargs="*", metavar="RUN", help="folders of runs (default: the newest of each deployment)")
    site.add_argument("--out", default="site/_build", help="where to (default site/_build)")
    test = verb("test", "")
    test.add_argument("--fast", action="store_true", help="no root, under a minute")
    test.add_argument("--full", action="store_true", help="the long sequences too")
    test.add_argument("rest", nargs="*", help="for pytest, as are unknown options")
    verb("lab", "").add_argument("rest", nargs=argparse.REMAINDER)
    return top


def main(argv: Sequence[str] | None = None, more: dict[str, Callable[[argparse.Namespace], int]] | None = None) -> int:
    """Run the command and return its exit status. `more`: commands defined outside of this package (the lab's), by name."""
    args, unknown = parser().parse_known_args(_spelled(list(sys.argv[1:] if argv is None else argv)))
    if unknown and args.command != "test":
        parser().error(f"{args.command or ''}: unknown {' '.join(unknown)}")
    args.unknown = unknown
    if not args.command:
        parser().print_help()
        return 1
    try:
        return ({**VERBS, **(more or {})}).get(args.command, _elsewhere)(args)
    except RunbookError as error:
        print(_redacted(error), file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if not error.filename:
            raise
        place = f"{error.filename} on this machine"  # a folder that may not be written, a disk that is full
        print(RunbookError(f"{error.strerror}", place, "make it possible to write there, then run this again"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing is half-done that the next run does not finish", file=sys.stderr)
        return 1


def _spelled(argv: list[str]) -> list[str]:
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(COMMANDS)}"
        print(f"runbook: no command {argv[0]!r}; {hint}", file=sys.stderr)
        raise SystemExit(1)
    return argv


def _redacted(error: RunbookError) -> str:
    from runbook_lib.redaction import redactor

    return redactor.redact(str(error))


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    from runbook_lib.spec.loader import parse_overrides

    return parse_overrides(args.set)


def _run(args: argparse.Namespace) -> int:
    from runbook_lib.headless import batch, runner
    from runbook_lib.spec.loader import typed

    parameters = {name: typed(f"-p {name}", value) for name, value in args.parameters}
    options = {"first": args.first, "last": args.last, "resume": args.resume, "agreed": args.yes, "parameters": parameters}
    if also := getattr(args, "also", ()):
        return batch.run_all([args.params, *also], _overrides(args), _say, **options)
    return runner.run(args.params, _overrides(args), say=_say, **options)


def _plan(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner

    return runner.plan(args.params, _overrides(args), _say)


def _verify(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner

    return runner.verify(args.params, _overrides(args), args.yes, _say)


def _status(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner

    with runner.opened(args.params, _overrides(args)) as deployment:
        _say(str(deployment.status()))
    return 0


def _destroy(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner
    from runbook_lib.spec.loader import load_spec

    spec = load_spec(args.params, _overrides(args))
    name = spec.deployment
    confirm = name if args.yes else ""
    if not args.yes and sys.stdin and sys.stdin.isatty():  # sys.stdin is None where it was closed
        with suppress(EOFError):
            confirm = input(f"Everything of {name} will be removed. Type its name to go on: ").strip()
    if confirm != name:
        raise RunbookError(f"{name} was not destroyed: not confirmed", args.params, "type its name, or add --yes")
    return runner.destroy(spec, confirm, _say)


def _new(args: argparse.Namespace) -> int:
    """Create a folder to work in, for those who installed the package, and return 0. Existing files are not changed."""
    folder = Path(args.folder)
    made = make_workspace(folder)
    _say(f"{folder}: {len(made)} files made" if made else f"{folder}: nothing to make, it has every file")
    _say(f"next: cd {folder} && runbook open")
    return 0


def _open(args: argparse.Namespace) -> int:
    """Run JupyterLab in the foreground until Ctrl-C and return its exit status. Without a display it prints its address and opens no browser."""
    from runbook_lib.spec.loader import find_params

    if not (ROOT / "notebooks").is_dir():
        raise RunbookError("there are no notebooks here", str(ROOT), "runbook new DIR makes a folder with them; go there, then runbook open")
    display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")) or sys.platform == "darwin"
    command = [sys.executable, "-m", "jupyterlab", "notebooks/00_start_here.ipynb", f"--notebook-dir={ROOT}"]
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--no-browser"] if args.no_browser or not display else []
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    environment = os.environ | ({"RUNBOOK_PARAMS": str(find_params(args.params))} if args.params else {})
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def _doctor(args: argparse.Namespace) -> int:
    from runbook_lib.headless.doctor import examine

    return examine(args.params, _overrides(args), _say)


def _verify_evidence(args: argparse.Namespace) -> int:
    from runbook_lib.headless.evidence_check import verify_evidence

    return verify_evidence(Path(args.run), args.params, _overrides(args), _say)


def _site(args: argparse.Namespace) -> int:
    from runbook_lib.evidence.site import build_site

    _say(f"site: {os.path.relpath(build_site([Path(run) for run in args.runs], Path(args.out)) / 'index.html')}")
    return 0


def _test(args: argparse.Namespace) -> int:
    """Run pytest over all tests, or over those that need no root, and return its exit status. pytest reports what was skipped and why (-ra)."""
    if not (ROOT / "tests").is_dir():
        raise RunbookError("there are no tests here", str(ROOT), "they come with a clone of the repository")
    rest = [*args.unknown, *args.rest]
    chosen = ["--full"] if args.full else []
    if args.fast:  # the other folders are not collected; the end of the output names them
        chosen = ["--fast", "-n", "auto", *([] if args.rest else ["tests/unit", "tests/repository"])]
    environment = {name: value for name, value in os.environ.items() if name != "RUNBOOK_HOME"}  # tests make folders of their own
    return subprocess.run([sys.executable, "-m", "pytest", *chosen, *rest], cwd=ROOT, env=environment).returncode


def _elsewhere(args: argparse.Namespace) -> int:
    raise RunbookError(f"{args.command} belongs to the lab, which is not part of this installation", None, "use ./runbook")


def _say(text: str) -> None:
    from runbook_lib.redaction import redactor

    print(redactor.redact(text), flush=True)


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": _new, "run": _run, "plan": _plan, "verify": _verify, "status": _status, "destroy": _destroy, "open": _open,
    "doctor": _doctor, "verify-evidence": _verify_evidence, "site": _site, "test": _test,
}  # fmt: skip
