"""The command line: what each command of `arguments` does. Other modules do the work."""

from __future__ import annotations

import argparse
import atexit
import difflib
import errno
import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from runbook_lib.errors import ParamsError, RunbookError
from runbook_lib.files import ROOT, make_workspace
from runbook_lib.headless.arguments import COMMANDS, DEFAULT_PARAMS, parser
from runbook_lib.headless.invocation import confirmed, documented, every_so_often, overrides, terminal
from runbook_lib.headless.second_day import verbs as second_day
from runbook_lib.headless.terminal import Essential, Terminal
from runbook_lib.tables import counted

SELDOM = 50_000  # objects made and kept between two looks for garbage
FULL = (errno.ENOSPC, errno.EDQUOT)
TOGETHER = 2.0  # seconds
# JupyterLab asks each new reader whether it may fetch news: defaults of its settings, which a person's own settings override
NO_NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def main(argv: Sequence[str] | None = None, more: dict[str, Callable[[argparse.Namespace], int]] | None = None) -> int:
    """Run the command and return its exit status. `more`: commands defined outside of this package (the lab's), by name."""
    _leave_garbage()
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
        with _as_interrupts(), terminal(args).fitted():
            return ({**VERBS, **(more or {})}).get(args.command, _elsewhere)(args)
    except RunbookError as error:
        _failed(args, error)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if not error.filename and error.errno not in FULL:
            raise
        place = f"{error.filename or 'a disk'} on this machine"  # a folder that may not be written, a disk that is full: what is open there has no name
        _failed(args, RunbookError(f"{error.strerror}", place, "make it possible to write there, then run this again"))
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing is half-done that the next run does not finish", file=sys.stderr)
        return 1


@contextmanager
def _as_interrupts() -> Iterator[None]:
    """Do in the block at SIGTERM and SIGHUP, where nobody said otherwise, what Ctrl-C does then: what is under way comes to a safe point.

    Several within `TOGETHER` seconds are one: `timeout`, and shells that lose their terminal, signal a process and also its group.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    terminals, heard_at = [stream for stream in (1, 2) if os.isatty(stream)], -math.inf

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal heard_at
        if number == signal.SIGHUP:  # the terminal is gone, and writing to it is an error
            for stream in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        if time.monotonic() - heard_at < TOGETHER:
            return
        heard_at = time.monotonic()
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)
        else:  # in a shell's background Ctrl-C is ignored
            signal.default_int_handler(number, frame)

    former = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _leave_garbage() -> None:
    """Let Python look for garbage seldom, and at its end not at all: to go through what a command imports took 0.6 s of its 1.3 s of processor."""
    gc.set_threshold(SELDOM)
    atexit.register(gc.freeze)


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


def _run(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner
    from runbook_lib.headless.batch import command
    from runbook_lib.spec.loader import load_spec, typed

    parameters = {name: typed(f"-p {name}", value) for name, value in args.parameters}
    options = {"first": args.first, "last": args.last, "resume": args.resume, "agreed": args.yes, "parameters": parameters}
    say, changed = terminal(args), overrides(args)
    params = [args.params, *getattr(args, "also", ())]
    with documented([load_spec(each, changed) for each in params] if getattr(args, "json", False) else []) as made:
        if len(params) > 1:
            return command.run_files(params, changed, say, args.jobs, made, **options)
        with say.watching():
            return runner.run(args.params, changed, say=say, made=made, **options)


def _batch(args: argparse.Namespace) -> int:
    from runbook_lib.headless.batch import command, sweep

    found = sweep.load_sweep(args.sweep)
    say = terminal(args)
    if args.every or args.timer:
        return every_so_often(args, command.repeated(found, args))
    if args.dry_run:
        say(Essential(command.dry_run(found)))
        return 0
    if found.options.do == "destroy" and not args.yes:
        words = f"{counted(len(found.rows), 'deployment')} would be destroyed: not confirmed"
        raise RunbookError(words, args.sweep, "look at --dry-run, then add --yes")
    done = command.run(found, say, slots=args.jobs, resume=args.resume, agreed=args.yes, scheduler=args.scheduler, evidence=args.evidence)
    status = command.say_result(*done, say)
    if args.json:
        print((done[1] / "batch.json").read_text(encoding="utf-8"))
    return status


def _workers(args: argparse.Namespace) -> int:
    from runbook_lib.headless.batch import sweep, workers

    return (workers.up if args.action == "up" else workers.down)(sweep.load_sweep(args.sweep), terminal(args))


def _plan(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner

    if not args.json:
        return runner.plan(args.params, overrides(args), terminal(args))
    from runbook_lib.headless import documents
    from runbook_lib.spec.loader import load_spec

    spec = load_spec(args.params, overrides(args))
    found = documents.of_plans(spec, runner.plans(spec))
    print(documents.written(found))
    return 2 if found["changes"] else 0


def _verify(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner
    from runbook_lib.spec.loader import load_spec

    say, changed = terminal(args), overrides(args)
    with documented([load_spec(args.params, changed)] if args.json else []) as made, say.watching():
        return runner.verify(args.params, changed, args.yes, say=say, made=made)


def _watch(args: argparse.Namespace) -> int:
    from runbook_lib.headless.watch import command

    return command.watch(args, overrides(args), terminal(args), partial(every_so_often, args))


def _status(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner

    with runner.opened(args.params, overrides(args)) as deployment:
        board = deployment.status()
    if args.json:
        from runbook_lib.headless import documents

        print(documents.written(documents.of_status(board)))
    else:
        terminal(args)(Essential(board.headline) if args.quiet else board)
    return 0


def _destroy(args: argparse.Namespace) -> int:
    from runbook_lib.headless import runner
    from runbook_lib.spec.loader import load_spec

    spec = load_spec(args.params, overrides(args))
    with_backups = ", its backups too," if args.backups else ""
    confirm = confirmed(args, spec.deployment, f"Everything of {spec.deployment}{with_backups} will be removed", "destroyed")
    say = terminal(args)
    with documented([spec] if args.json else []) as made, say.watching():
        return runner.destroy(spec, confirm, say=say, backups=args.backups, made=made)


def _exercise(args: argparse.Namespace) -> int:
    """Do a verb of an exercise and print what it says. A check that is not passed exits with 1."""
    from runbook_lib.chapters.exercises import card, engine
    from runbook_lib.headless import documents, runner

    with runner.opened(args.params, overrides(args)) as deployment:
        if args.action == "list":
            found = card.course(deployment)
            print(documents.written(documents.of_course(found))) if args.json else terminal(args)(Essential(found))
            return 0
        task = card.exercise(deployment, args.id) if args.id else engine.running(deployment)
        given = {"start": {"agreed": args.yes}, "check": {"answer": args.answer}}.get(args.action, {})
        said = getattr(task, args.action)(**given)
        if args.json:
            print(documents.written(documents.of_exercise(task, said)))
        else:
            terminal(args)(Essential(f"{task.text(task.row.story)}\n{said}" if args.action == "start" else said))
    return 0 if said.passed or args.action != "check" else 1


def _new(args: argparse.Namespace) -> int:
    """Create a folder to work in, for those who installed the package, and return 0. Existing files are not changed."""
    folder = Path(args.folder)
    made = make_workspace(folder)
    say = terminal(args)
    say(f"{folder}: {len(made)} files made" if made else f"{folder}: nothing to make, it has every file")
    say(f"next: cd {folder} && runbook open")
    return 0


def _open(args: argparse.Namespace) -> int:
    """Run JupyterLab in the foreground until Ctrl-C and return its exit status: at the first of the deployment's own chapters.

    Without a display it prints its address and opens no browser.
    """
    from runbook_lib.chapters.forms.params_form import Fields
    from runbook_lib.notebook.work_copies import work_copies
    from runbook_lib.spec.loader import find_params

    if not (ROOT / "notebooks").is_dir():
        raise RunbookError("there are no notebooks here", str(ROOT), "runbook new DIR makes a folder with them; go there, then runbook open")
    display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")) or sys.platform == "darwin"
    params = find_params(args.params or DEFAULT_PARAMS)
    fields = Fields(params)
    try:
        fields.spec()
    except ParamsError as error:
        terminal(args)(f"{params.name} is not complete: {'; '.join(error.what.splitlines())}. The form of chapter 00 asks for it")
    chapters = os.path.relpath(work_copies(params, fields.given["deployment"], fields.given["pattern"], ROOT), ROOT)
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
        with subprocess.Popen(command, cwd=ROOT, env=environment) as jupyterlab, _answering_for(jupyterlab):
            return jupyterlab.wait()


@contextmanager
def _answering_for(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass SIGTERM on to the process during the block, and leave Ctrl-C to it: the terminal sends it that as well, and JupyterLab asks first."""
    terminated = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminated)
        signal.signal(signal.SIGINT, interrupted)


def _doctor(args: argparse.Namespace) -> int:
    from runbook_lib.headless.doctor.machine import examine

    return examine(args.params, overrides(args), terminal(args))


def _verify_evidence(args: argparse.Namespace) -> int:
    from runbook_lib.headless.evidence_check import verify_evidence

    return verify_evidence(Path(args.run), args.params, overrides(args), terminal(args))


def _site(args: argparse.Namespace) -> int:
    from runbook_lib.headless.book.builder import build_book

    terminal(args)(f"site: {os.path.relpath(build_book(list(map(Path, args.runs)), Path(args.out), args.edition, args.slides) / 'index.html')}")
    return 0


def _test(args: argparse.Namespace) -> int:
    from runbook_lib.headless.programs.own_tests import run_tests

    return run_tests(args.rest, args.unknown, fast=args.fast, full=args.full)


def _elsewhere(args: argparse.Namespace) -> int:
    raise RunbookError(f"{args.command} belongs to the lab, which is not part of this installation", None, "use ./runbook")


def _papermill(words: Sequence[str]) -> int:
    from runbook_lib.headless.programs.by_papermill import papermill

    return papermill(words)


def _completion(args: argparse.Namespace) -> int:
    import argcomplete

    print(argcomplete.shellcode(["runbook"], shell=args.shell))
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": _new, "run": _run, "batch": _batch, "workers": _workers, "plan": _plan, "verify": _verify, "watch": _watch, "status": _status, "exercise": _exercise,
    "destroy": _destroy, "open": _open,
    "doctor": _doctor, "verify-evidence": _verify_evidence, "site": _site, "test": _test, "completion": _completion, **second_day.VERBS,
}  # fmt: skip
