"""The commands and their options, which other programs rely on. `cli` has what each does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from runbook_lib import __version__

DEFAULT_PARAMS = "params/greg-separated.lab.yaml"
COMMANDS = {  # name: (what it does, exit status)
    "rehearse": ("install what is missing, bring the lab up, build and prove a pattern", "0 all verified"),
    "run": ("execute the chapters of a pattern headless", "0 all verified, 1 not"),
    "batch": ("do a sweep of parameters: many deployments, some at once", "0 all ended well, 1 not"),
    "workers": ("up, down: machines in EC2 that do a sweep's deployments", "0 done, 1 not"),
    "plan": ("show every pending change, change nothing", "0 none, 2 some, 1 error"),
    "verify": ("run the checks only", "0 all passed, 1 not"),
    "watch": ("plan and quiet checks, once or every so often: what drifted is told, nothing is changed", "0 as declared, 2 drift or a failed check, 1 error"),
    "status": ("machines and chapters, as the cloud knows them now", "0"),
    "exercise": ("exercises on a deployment: list, start, check, hint, solve, reset", "0 done or passed, 1 not"),
    "backup": ("databases and deployed archives into S3, while the product runs", "0 made, 1 not"),
    "backups": ("the backups of a deployment, the newest first", "0"),
    "restore": ("a backup into a deployment: after a lost database machine, or as a copy of another", "0 restored, 1 not"),
    "drill": ("disaster: lose the database's machine or all of them under load, restore, and measure what was lost", "0 all of it passed, 1 not"),
    "rotate": ("passwords, keys, certificates replaced while the cluster serves, the old values proven refused", "0 rotated, 1 not"),
    "patch": ("the operating system's security updates: what is pending; with --yes, one machine after the other", "0 none or done, 2 some, 1 error"),
    "replace": ("other machines for nodes that serve: what would be done; with --yes, one after the other", "0 done, 2 listed, 1 error"),
    "destroy": ("ordered teardown, then prove that nothing tagged is left", "0 gone, 1 not"),
    "new": ("a folder with the notebooks, params and docs of this installation, to work in", "0 made, 1 not"),
    "open": ("JupyterLab at 00_start_here", "0"),
    "verify-evidence": ("whether a run's files are as they were signed, and by which key", "0 they are, 1 not"),
    "site": ("the book: executed chapters, proof, course and documents, to be read in a browser without a network", "0"),
    "doctor": ("what this machine, this account and these params lack, each with the fix", "0 nothing, 1 something"),
    "papermill": ("papermill in the runbook's environment: NOTEBOOK OUT -p NAME VALUE …", "0 executed, 1 not"),
    "completion": ('completion of the shell; for bash: eval "$(./runbook completion bash)"', "0"),
    "test": ("every test that this machine can run", "pytest's"),
    "lab": ("up, down, status, env, ssh, hosts, browser: EC2 on one's own machine", "0, 1"),
    "classroom": ("up, status, down: JupyterHub with a login and a lab for each learner", "0, 1"),
}
WITH_DOCUMENT = ("run", "plan", "verify", "watch", "status", "destroy", "exercise", "backup", "backups", "restore", "rotate", "patch", "replace", "drill")
SHELLS = ("bash", "zsh", "fish")
LAB_VERBS = ("up", "down", "status", "env", "ssh", "hosts", "browser")
EXERCISE_VERBS = ("list", "start", "check", "hint", "solve", "reset")
DRILLS, LOSSES = ("disaster",), ("database", "everything")
WORKERS_VERBS = ("up", "down")
CLASSROOM_VERBS = ("up", "status", "down")
AGREED = "the proof may make its test users where it asks (on AWS)"
OF_CHAPTERS = "a parameter that a chapter has of its own, as with papermill: -p war app.war"


class Parser(argparse.ArgumentParser):
    """A parser that exits with 1 on a wrong option. argparse exits with 2, which means pending changes here."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


Verb = Callable[..., Parser]


def parser() -> Parser:
    """Return the parser of every command."""
    top = Parser(prog="runbook", description="WSO2 clusters on EC2, from nothing to verified.")
    top.add_argument("--version", action="version", version=f"runbook {__version__}")
    verbs = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    verb: Verb = partial(_verb, verbs)
    for add in (_runs, _batch, _looks, _backups, _upkeep, _exercise, _evidence, _programs):
        add(verb)
    return top


def _verb(verbs: Any, name: str, params: str = "PARAMS") -> Parser:
    """Add a command and return its parser. `params`: whether it takes a params file: PARAMS, default, optional, or not at all."""
    text, status = COMMANDS[name]
    made: Parser = verbs.add_parser(name, help=text, description=f"{text}. Exit: {status}.")
    if name in ("run", "watch"):
        made.add_argument("several", metavar="PARAMS", nargs="+", help="params files; of several, what fails does not keep the others from it")
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


def _runs(verb: Verb) -> None:
    """Add what executes chapters."""
    for name in ("rehearse", "run"):
        made = verb(name, "default" if name == "rehearse" else "PARAMS")
        made.add_argument("--from", dest="first", metavar="NN", help="first chapter")
        made.add_argument("--to", dest="last", metavar="NN", help="last chapter")
        made.add_argument("--resume", action="store_true", help="leave out what is proven and still holds")
        made.add_argument("-p", dest="parameters", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"), help=OF_CHAPTERS)
        made.add_argument("--yes", action="store_true", help=AGREED)
        if name == "run":
            made.add_argument("--jobs", type=_at_once, default=1, metavar="N", help="of several params files this many at once")


def _batch(verb: Verb) -> None:
    made = verb("batch", "")
    made.add_argument("sweep", metavar="SWEEP", help="a sweep file (docs/batch.md)")
    made.add_argument("--jobs", type=_at_once, metavar="N", help="deployments at once (default: what this machine has room for)")
    made.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, such as tls://10.0.0.5:8786: its workers do the deployments")
    made.add_argument("--evidence", metavar="S3-ADDRESS", help="where every run's folder goes as well")
    made.add_argument("--dry-run", action="store_true", help="list the deployments, machines and cost, and do nothing")
    made.add_argument("--resume", action="store_true", help="leave out what the sweep's newest batch did")
    made.add_argument(
        "--yes", action="store_true", help="the proofs may make their test users on AWS, do: destroy may destroy, and --every may write its timer"
    )
    made.add_argument("-q", "--quiet", action="store_true", help="results and failures only")
    made.add_argument("--json", action="store_true", help="print batch.json; everything else goes to standard error")
    _every(made, dag=True)
    workers = verb("workers", "")
    workers.add_argument("action", choices=WORKERS_VERBS, help="make them or put them right; remove them")
    workers.add_argument("sweep", metavar="SWEEP", help="a sweep file with the key `workers`")
    workers.add_argument("-v", "--verbose", action="store_true", help="also each step of each machine")


def _every(made: Parser, *, dag: bool = False) -> None:
    """Add what has a command done again and again (`schedule`). `dag`: whether a notebook does it, which Airflow can execute."""
    made.add_argument("--every", metavar="INTERVAL", help="do it every 30m, 6h, 1d …: show a timer of systemd for that, and write it with --yes or when asked")
    forms, words = (("systemd", "cron", "airflow"), ", or a DAG for Airflow,") if dag else (("systemd", "cron"), "")
    made.add_argument("--as", dest="timer", choices=forms, help=f"with --every: print the line for cron{words} instead")


def _looks(verb: Verb) -> None:
    """Add what looks at a deployment, and what removes it."""
    for name in ("plan", "verify", "status"):
        made = verb(name)
        if name == "verify":
            made.add_argument("--yes", action="store_true", help=AGREED)
    watch = verb("watch")
    watch.add_argument("--foreground", action="store_true", help="with --every: stay and do it here, instead of a timer")
    watch.add_argument("--mail", metavar="ADDRESS", help="who is told what drifted, and when it is well again; a webhook's address is in $RUNBOOK_WEBHOOK")
    watch.add_argument("--again", default="1d", metavar="INTERVAL", help="tell it again when it is still so after 1d (default), 12h …")
    watch.add_argument("--metrics", metavar="FILE", help="a file .prom for node_exporter's textfile collector")
    watch.add_argument("--yes", action="store_true", help="--every may write its timer")
    _every(watch)
    destroy = verb("destroy")
    destroy.add_argument("--yes", action="store_true", help="do not ask for the deployment's name")
    destroy.add_argument("--backups", action="store_true", help="its backups in S3 go too; without this they stay, and are named")
    opens = verb("open", "optional")
    opens.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    opens.add_argument("--port", type=int, help="JupyterLab's port (default: the first free one from 8888 on)")
    verb("doctor", "optional")
    verb("new", "").add_argument("folder", metavar="DIR")


def _backups(verb: Verb) -> None:
    """Add what keeps a deployment's data and brings it back."""
    backup = verb("backup")
    backup.add_argument("--yes", action="store_true", help="--every may write its timer")
    _every(backup)
    verb("backups")
    restore = verb("restore")
    restore.add_argument("--at", default="", metavar="TIME", help="the newest backup of then or before, such as 2026-11-26T15:00 (UTC); default: the newest")
    restore.add_argument("--from", dest="source", default="", metavar="DEPLOYMENT", help="a backup of another deployment, of which this one becomes a copy")
    restore.add_argument("--empty", action="store_true", help="restore nothing: the data is meant to be gone, and the next run begins anew")
    restore.add_argument("--yes", action="store_true", help="do not ask for the deployment's name")
    drill = verb("drill", "")
    drill.add_argument("kind", choices=DRILLS, metavar="KIND", help=", ".join(DRILLS))
    drill.add_argument("params", metavar="PARAMS", help="a params file: its deployment loses machines")
    drill.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key (dotted)")
    drill.add_argument("--lose", choices=LOSSES, default=LOSSES[0], help="the machine of the database (default), or every machine")
    drill.add_argument("--agreed", action="store_true", help="on AWS: it may be done")
    drill.add_argument("--yes", action="store_true", help="do not ask for the deployment's name")
    rotated: Any = verb("rotate").add_argument(
        "what", nargs="+", metavar="WHAT", help="administrator, databases, ssh-key, tier-keys, host-certificates, ca; all"
    )
    rotated.completer = lambda **_: [*import_module("runbook_lib.launch.secrets").ROTATED, "all"]


def _upkeep(verb: Verb) -> None:
    """Add what is done to machines that serve."""
    verb("patch").add_argument("--yes", action="store_true", help="patch; without this only what is pending is listed")
    replace = verb("replace")
    replace.add_argument("nodes", metavar="NODE", nargs="+", help="such as lb-1; the disk of its machine is lost, its address stays")
    replace.add_argument("--yes", action="store_true", help="replace; without this only what would be done is listed")


def _exercise(verb: Verb) -> None:
    made = verb("exercise", "")
    made.add_argument("action", choices=EXERCISE_VERBS, metavar="ACTION", help=", ".join(EXERCISE_VERBS))
    made.add_argument("params", metavar="PARAMS", help="a params file: the exercise is done on its deployment")
    named: Any = made.add_argument("id", nargs="?", metavar="ID", help="such as nginx-2; without it the one that is started")
    named.completer = lambda **_: [*import_module("runbook_lib.chapters.exercises.table").exercises()]
    made.add_argument("--answer", help="the answer of a check, where one is asked for")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key (dotted)")
    made.add_argument("--yes", action="store_true", help="the deployment may be broken for the exercise where it asks (on AWS)")


def _evidence(verb: Verb) -> None:
    """Add what reads runs."""
    made = verb("verify-evidence", "")
    made.add_argument("run", metavar="RUN", help="a run's folder, such as runs/greg-separated/latest")
    made.add_argument("params", metavar="PARAMS", nargs="?", help="a params file of your own, whose deployment is asked for the key (default: none is)")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key (dotted)")
    site = verb("site", "")
    site.add_argument("runs", nargs="*", metavar="RUN", help="folders of runs (default: the newest of each deployment)")
    site.add_argument("--out", default="site/_build", help="where to (default site/_build); another book there is replaced")
    site.add_argument("--edition", choices=("learner", "instructor"), default="learner", help="instructor: with hints, solutions and what usually goes wrong")
    site.add_argument("--slides", action="store_true", help="with slides of chapters 06 and 07, for a lecture")


def _programs(verb: Verb) -> None:
    """Add what starts other programs, whose options are their own."""
    test = verb("test", "")
    test.add_argument("--fast", action="store_true", help="no root, under a minute")
    test.add_argument("--full", action="store_true", help="the long sequences too")
    test.add_argument("rest", nargs="*", help="for pytest, as are unknown options")
    verb("papermill", "").add_argument("rest", nargs=argparse.REMAINDER)
    verb("completion", "").add_argument("shell", choices=SHELLS)
    for name, words in (("lab", LAB_VERBS), ("classroom", CLASSROOM_VERBS)):
        rest: Any = verb(name, "").add_argument("rest", nargs=argparse.REMAINDER)
        rest.completer = lambda words=words, **_: words


def _at_once(text: str) -> int:
    """Return the number of --jobs. Raises what argparse takes for a wrong value."""
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)
