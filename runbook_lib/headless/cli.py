"""The command line: the arguments and exit statuses (in `COMMANDS`) that other programs rely on. Other modules do the work."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from runbook_lib import __version__
from runbook_lib.errors import RunbookError
from runbook_lib.files import ROOT, make_workspace
from runbook_lib.headless.terminal import Essential, Terminal
from runbook_lib.tables import counted

if TYPE_CHECKING:
    from runbook_lib.spec.model import Spec

DEFAULT_PARAMS = "params/greg-separated.lab.yaml"
COMMANDS = {  # name: (what it does, exit status)
    "rehearse": ("install what is missing, bring the lab up, build and prove a pattern", "0 all verified"),
    "run": ("execute the chapters of a pattern headless", "0 all verified, 1 not"),
    "batch": ("do a sweep of parameters: many deployments, some at once", "0 all ended well, 1 not"),
    "plan": ("show every pending change, change nothing", "0 none, 2 some, 1 error"),
    "verify": ("run the checks only", "0 all passed, 1 not"),
    "status": ("machines and chapters, as the cloud knows them now", "0"),
    "exercise": ("exercises on a deployment: list, start, check, hint, solve, reset", "0 done or passed, 1 not"),
    "destroy": ("ordered teardown, then prove that nothing tagged is left", "0 gone, 1 not"),
    "new": ("a folder with the notebooks, params and docs of this installation, to work in", "0 made, 1 not"),
    "open": ("JupyterLab at 00_start_here", "0"),
    "verify-evidence": ("whether a run's files are as they were signed, and by whose key", "0 they are, 1 not"),
    "site": ("the book: executed chapters, proof, course and documents, to be read in a browser without a network", "0"),
    "doctor": ("what this machine, this account and these params lack, each with the fix", "0 nothing, 1 something"),
    "papermill": ("papermill in the runbook's environment: NOTEBOOK OUT -p NAME VALUE …", "0 executed, 1 not"),
    "completion": ('completion of the shell; for bash: eval "$(./runbook completion bash)"', "0"),
    "test": ("every test that this machine can run", "pytest's"),
    "lab": ("up, down, status, env, ssh, hosts, browser: EC2 on one's own machine", "0, 1"),
    "classroom": ("up, status, down: JupyterHub with a login and a lab for each learner", "0, 1"),
}
WITH_DOCUMENT = ("run", "plan", "verify", "status", "destroy", "exercise")
# JupyterLab asks each new reader whether it may fetch news: defaults of its settings, which a person's own settings override
NO_NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
SHELLS = ("bash", "zsh", "fish")
LAB_VERBS = ("up", "down", "status", "env", "ssh", "hosts", "browser")
EXERCISE_VERBS = ("list", "start", "check", "hint", "solve", "reset")
CLASSROOM_VERBS = ("up", "status", "down")
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
        if name == "run":
            made.add_argument("several", metavar="PARAMS", nargs="+", help="params files; several are run one after the other, with one table in the end")
        elif params == "PARAMS":
            made.add_argument("params", metavar="PARAMS", help="a params file, such as params/greg-separated.lab.yaml")
        elif params:
            made.add_argument("params", metavar="PARAMS", nargs="?", default=DEFAULT_PARAMS if params == "default" else None)
        made.set_defaults(set=[])
        if params and name != "open":  # a chapter in JupyterLab has its own cell for overrides
            made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key (dotted)")
        if name in WITH_DOCUMENT:
            made.add_argument("--json", action="store_true", help="print one JSON document (docs/command-line.md); everything else goes to standard error")
        if name in (*WITH_DOCUMENT, "rehearse"):
            much = made.add_mutually_exclusive_group()
            much.add_argument("-q", "--quiet", action="store_true", help="results and failures only")
            much.add_argument("-v", "--verbose", action="store_true", help="also each step of each host, with its time")
        return made

    agree: dict[str, Any] = {"action": "store_true", "help": "the proof may make its test users where it asks (on AWS)"}
    for name in ("rehearse", "run"):
        made = verb(name, "default" if name == "rehearse" else "PARAMS")
        made.add_argument("--from", dest="first", metavar="NN", help="first chapter")
        made.add_argument("--to", dest="last", metavar="NN", help="last chapter")
        made.add_argument("--resume", action="store_true", help="leave out what is proven and still holds")
        made.add_argument("-p", dest="parameters", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"), help=OF_CHAPTERS)
        made.add_argument("--yes", **agree)
        if name == "run":
            made.add_argument("--jobs", type=_at_once, default=1, metavar="N", help="of several params files this many at once")
    batch = verb("batch", "")
    batch.add_argument("sweep", metavar="SWEEP", help="a sweep file (docs/batch.md)")
    batch.add_argument("--jobs", type=_at_once, metavar="N", help="deployments at once (default: what this machine has room for)")
    batch.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, such as tls://10.0.0.5:8786: its workers do the deployments")
    batch.add_argument("--evidence", metavar="S3-ADDRESS", help="where every run's folder goes as well")
    batch.add_argument("--dry-run", action="store_true", help="list the deployments, machines and cost, and do nothing")
    batch.add_argument("--resume", action="store_true", help="leave out what the sweep's newest batch did")
    batch.add_argument("--yes", action="store_true", help="the proofs may make their test users on AWS, and do: destroy may destroy")
    batch.add_argument("-q", "--quiet", action="store_true", help="results and failures only")
    batch.add_argument("--json", action="store_true", help="print batch.json; everything else goes to standard error")
    for name in ("plan", "verify", "status"):
        made = verb(name)
        if name == "verify":
            made.add_argument("--yes", **agree)
    task = verb("exercise", "")
    task.add_argument("action", choices=EXERCISE_VERBS, metavar="ACTION", help=", ".join(EXERCISE_VERBS))
    task.add_argument("params", metavar="PARAMS", help="a params file: the exercise is done on its deployment")
    named: Any = task.add_argument("id", nargs="?", metavar="ID", help="such as nginx-2; without it the one that is started")
    named.completer = lambda **_: [*import_module("runbook_lib.chapters.exercises.table").exercises()]
    task.add_argument("--answer", help="the answer of a check, where one is asked for")
    task.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key (dotted)")
    task.add_argument("--yes", action="store_true", help="the deployment may be broken for the exercise where it asks (on AWS)")
    destroy = verb("destroy")
    destroy.add_argument("--yes", action="store_true", help="do not ask for the deployment's name")
    opens = verb("open", "optional")
    opens.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    opens.add_argument("--port", type=int, help="JupyterLab's port (default: the first free one from 8888 on)")
    verb("doctor", "optional")
    verb("new", "").add_argument("folder", metavar="DIR")
    evidence = verb("verify-evidence", "")
    evidence.add_argument("run", metavar="RUN", help="a run's folder, such as runs/greg-separated/latest")
    evidence.add_argument("params", metavar="PARAMS", nargs="?", help="the deployment whose key it must be (default: as the run names it)")
    evidence.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key (dotted)")
    site = verb("site", "")
    site.add_argument("runs", nargs="*", metavar="RUN", help="folders of runs (default: the newest of each deployment)")
    site.add_argument("--out", default="site/_build", help="where to (default site/_build); another book there is replaced")
    site.add_argument("--edition", choices=("learner", "instructor"), default="learner", help="instructor: with hints, solutions and what usually goes wrong")
    site.add_argument("--slides", action="store_true", help="with slides of chapters 06 and 07, for a lecture")
    test = verb("test", "")
    test.add_argument("--fast", action="store_true", help="no root, under a minute")
    test.add_argument("--full", action="store_true", help="the long sequences too")
    test.add_argument("rest", nargs="*", help="for pytest, as are unknown options")
    verb("papermill", "").add_argument("rest", nargs=argparse.REMAINDER)
    verb("completion", "").add_argument("shell", choices=SHELLS)
    for name, words in (("lab", LAB_VERBS), ("classroom", CLASSROOM_VERBS)):  # their options are those of programs of their own
        rest: Any = verb(name, "").add_argument("rest", nargs=argparse.REMAINDER)
        rest.completer = lambda words=words, **_: words
    return top


def main(argv: Sequence[str] | None = None, more: dict[str, Callable[[argparse.Namespace], int]] | None = None) -> int:
    """Run the command and return its exit status. `more`: commands defined outside of this package (the lab's), by name."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may follow
        import argcomplete

        argcomplete.autocomplete(parser())
    argv = _spelled(list(sys.argv[1:] if argv is None else argv))
    if argv[:1] == ["papermill"]:  # its options are its own
        return _papermill(argv[1:])
    args, unknown = parser().parse_known_args(argv)
    if unknown and args.command != "test":
        parser().error(f"{args.command or ''}: unknown {' '.join(unknown)}")
    args.unknown = unknown
    if not args.command:
        parser().print_help()
        return 1
    if args.command == "run":
        args.params, *args.also = args.several
    try:
        with _terminal(args).fitted():
            return ({**VERBS, **(more or {})}).get(args.command, _elsewhere)(args)
    except RunbookError as error:
        _failed(args, error)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if not error.filename:
            raise
        place = f"{error.filename} on this machine"  # a folder that may not be written, a disk that is full
        _failed(args, RunbookError(f"{error.strerror}", place, "make it possible to write there, then run this again"))
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing is half-done that the next run does not finish", file=sys.stderr)
        return 1


def _failed(args: argparse.Namespace, error: RunbookError) -> None:
    """Print the error on standard error, and as a document on standard output where one is asked for."""
    Terminal(stream=sys.stderr)(error)
    if getattr(args, "json", False):
        from runbook_lib.headless import documents

        print(documents.written(documents.of_error(error)))


def _spelled(argv: list[str]) -> list[str]:
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(COMMANDS)}"
        print(f"runbook: no command {argv[0]!r}; {hint}", file=sys.stderr)
        raise SystemExit(1)
    return argv


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    from runbook_lib.spec.loader import parse_overrides

    return parse_overrides(args.set)


def _run(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner
    from runbook_lib.spec.loader import load_spec, typed

    parameters = {name: typed(f"-p {name}", value) for name, value in args.parameters}
    options = {"first": args.first, "last": args.last, "resume": args.resume, "agreed": args.yes, "parameters": parameters}
    say, overrides = _terminal(args), _overrides(args)
    params = [args.params, *getattr(args, "also", ())]
    with _documented(args, [load_spec(each, overrides) for each in params] if getattr(args, "json", False) else []), say.watching():
        if len(params) == 1:
            return runner.run(args.params, overrides, say=say, **options)
    from runbook_lib.headless.batch import command

    return command.run_files(params, overrides, say, args.jobs, **options)


def _batch(args: argparse.Namespace) -> int:
    from runbook_lib.headless.batch import command, sweep

    found = sweep.load_sweep(args.sweep)
    say = _terminal(args)
    if args.dry_run:
        return command.dry_run(found, say)
    if found.options.do == "destroy" and not args.yes:
        words = f"{counted(len(found.rows), 'deployment')} would be destroyed: not confirmed"
        raise RunbookError(words, args.sweep, "look at --dry-run, then add --yes")
    status, folder = command.run(found, say, jobs=args.jobs, resume=args.resume, agreed=args.yes, scheduler=args.scheduler, evidence=args.evidence)
    if args.json:
        print((folder / "batch.json").read_text(encoding="utf-8"))
    return status


def _at_once(text: str) -> int:
    """Return the number of --jobs. Raises what argparse takes for a wrong value."""
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)


def _plan(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner

    if not args.json:
        return runner.plan(args.params, _overrides(args), _terminal(args))
    from runbook_lib.headless import documents
    from runbook_lib.spec.loader import load_spec

    spec = load_spec(args.params, _overrides(args))
    found = documents.of_plans(spec, runner.plans(spec))
    print(documents.written(found))
    return 2 if found["changes"] else 0


def _verify(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner
    from runbook_lib.spec.loader import load_spec

    say, overrides = _terminal(args), _overrides(args)
    with _documented(args, [load_spec(args.params, overrides)] if args.json else []), say.watching():
        return runner.verify(args.params, overrides, args.yes, say)


def _status(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner

    with runner.opened(args.params, _overrides(args)) as deployment:
        board = deployment.status()
    if args.json:
        from runbook_lib.headless import documents

        print(documents.written(documents.of_status(board)))
    else:
        _terminal(args)(Essential(board.headline) if args.quiet else board)
    return 0


@contextmanager
def _documented(args: argparse.Namespace, specs: Sequence[Spec]) -> Iterator[None]:
    """After the block, print the results of the runs that it began, one for each of `specs`; nothing when there are none."""
    from runbook_lib.evidence import runs

    before = [runs.latest(spec.deployment) for spec in specs]
    yield
    if specs:
        from runbook_lib.headless import documents

        found = [documents.of_run(spec, run) for spec, run in zip(specs, before, strict=True)]
        print(documents.written(found[0] if len(found) == 1 else {"schema": runs.SCHEMA, "ok": all(each["ok"] for each in found), "deployments": found}))


def _destroy(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner
    from runbook_lib.spec.loader import load_spec

    spec = load_spec(args.params, _overrides(args))
    name = spec.deployment
    confirm = name if args.yes else ""
    if not args.yes and not args.json and sys.stdin and sys.stdin.isatty():  # sys.stdin is None where it was closed
        with suppress(EOFError):
            confirm = input(f"Everything of {name} will be removed. Type its name to go on: ").strip()
    if confirm != name:
        raise RunbookError(f"{name} was not destroyed: not confirmed", args.params, "type its name, or add --yes")
    say = _terminal(args)
    with _documented(args, [spec] if args.json else []), say.watching():
        return runner.destroy(spec, confirm, say)


def _exercise(args: argparse.Namespace) -> int:
    """Do a verb of an exercise and print what it says. A check that is not passed exits with 1."""
    from runbook_lib.chapters.exercises import card, engine
    from runbook_lib.headless import documents, runner

    with runner.opened(args.params, _overrides(args)) as deployment:
        if args.action == "list":
            found = card.course(deployment)
            print(documents.written(documents.of_course(found))) if args.json else _terminal(args)(Essential(found))
            return 0
        task = card.exercise(deployment, args.id) if args.id else engine.running(deployment)
        given = {"start": {"agreed": args.yes}, "check": {"answer": args.answer}}.get(args.action, {})
        said = getattr(task, args.action)(**given)
        if args.json:
            print(documents.written(documents.of_exercise(task, said)))
        else:
            _terminal(args)(Essential(f"{task.text(task.row.story)}\n{said}" if args.action == "start" else said))
    return 0 if said.passed or args.action != "check" else 1


def _new(args: argparse.Namespace) -> int:
    """Create a folder to work in, for those who installed the package, and return 0. Existing files are not changed."""
    folder = Path(args.folder)
    made = make_workspace(folder)
    say = _terminal(args)
    say(f"{folder}: {len(made)} files made" if made else f"{folder}: nothing to make, it has every file")
    say(f"next: cd {folder} && runbook open")
    return 0


def _open(args: argparse.Namespace) -> int:
    """Run JupyterLab in the foreground until Ctrl-C and return its exit status: at the first of the deployment's own chapters.

    Without a display it prints its address and opens no browser.
    """
    from runbook_lib.notebook.work_copies import work_copies
    from runbook_lib.spec.loader import find_params, load_spec

    if not (ROOT / "notebooks").is_dir():
        raise RunbookError("there are no notebooks here", str(ROOT), "runbook new DIR makes a folder with them; go there, then runbook open")
    display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")) or sys.platform == "darwin"
    params = find_params(args.params or DEFAULT_PARAMS)
    spec = load_spec(params)
    chapters = os.path.relpath(work_copies(params, spec.deployment, spec.pattern, ROOT), ROOT)
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={ROOT}", f"--LabApp.default_url=/lab/tree/{chapters}/00_start_here.ipynb"]
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += [f"--port={args.port}", "--ServerApp.port_retries=0"] if args.port else []
    command += ["--no-browser"] if args.no_browser or not display else []
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="runbook-jupyter-") as folder:
        settings = Path(folder, "labconfig", "default_setting_overrides.json")
        settings.parent.mkdir()
        settings.write_text(json.dumps(NO_NEWS), encoding="utf-8")
        before = os.environ.get("JUPYTER_CONFIG_PATH")
        environment = os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, [folder, before]))}
        return subprocess.run(command, cwd=ROOT, env=environment).returncode


def _doctor(args: argparse.Namespace) -> int:
    from runbook_lib.headless.doctor import examine

    return examine(args.params, _overrides(args), _terminal(args))


def _verify_evidence(args: argparse.Namespace) -> int:
    from runbook_lib.headless.evidence_check import verify_evidence

    return verify_evidence(Path(args.run), args.params, _overrides(args), _terminal(args))


def _site(args: argparse.Namespace) -> int:
    from runbook_lib.headless.book.builder import build_book

    _terminal(args)(f"site: {os.path.relpath(build_book(list(map(Path, args.runs)), Path(args.out), args.edition, args.slides) / 'index.html')}")
    return 0


def _test(args: argparse.Namespace) -> int:
    """Run pytest over all tests, or over those that need no root, and return its exit status. pytest reports what was skipped and why (-ra).

    Tests that need no machine are run on every processor, and first: they fail soonest. The others share machines, one lab at a time.
    """
    tests = ROOT / "tests"
    if not tests.is_dir():
        raise RunbookError("there are no tests here", str(ROOT), "they come with a clone of the repository")
    options = [*(["--full"] if args.full else []), *(["--fast"] if args.fast else [])]
    parallel, without_machines = ["-n", "auto"], ["tests/unit", "tests/repository"]
    if args.rest:
        runs = [[*(parallel if args.fast else []), *args.unknown, *args.rest]]
    else:
        with_machines = sorted({f"tests/{each.parent.name}" for each in tests.glob("*/test_*.py")} - {*without_machines})
        runs = [[*parallel, *args.unknown, *without_machines], *([] if args.fast else [[*args.unknown, *with_machines]])]
    environment = {name: value for name, value in os.environ.items() if name != "RUNBOOK_HOME"}  # tests make folders of their own
    ended = [subprocess.run([sys.executable, "-m", "pytest", *options, *run], cwd=ROOT, env=environment).returncode for run in runs]
    return next((status for status in ended if status), 0)


def _elsewhere(args: argparse.Namespace) -> int:
    raise RunbookError(f"{args.command} belongs to the lab, which is not part of this installation", None, "use ./runbook")


def _papermill(words: Sequence[str]) -> int:
    from runbook_lib.headless.by_papermill import papermill

    return papermill(words)


def _completion(args: argparse.Namespace) -> int:
    import argcomplete

    print(argcomplete.shellcode(["runbook"], shell=args.shell))
    return 0


def _terminal(args: argparse.Namespace) -> Terminal:
    stream = sys.stderr if getattr(args, "json", False) else None
    return Terminal(getattr(args, "quiet", False), getattr(args, "verbose", False), stream)


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": _new, "run": _run, "batch": _batch, "plan": _plan, "verify": _verify, "status": _status, "exercise": _exercise, "destroy": _destroy,
    "open": _open,
    "doctor": _doctor, "verify-evidence": _verify_evidence, "site": _site, "test": _test, "completion": _completion,
}  # fmt: skip
