"""Headless execution: papermill runs the chapters in order up to the first failure; `plan`, `verify` and `destroy` run without notebooks."""

from __future__ import annotations

import getpass
import hashlib
import itertools
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib import errors, files
from runbook_lib.aws.lock import owner_here
from runbook_lib.changes import Plan
from runbook_lib.chapters import status_board
from runbook_lib.errors import RunbookError
from runbook_lib.evidence import journal as journals
from runbook_lib.evidence import manifest, provenance, report
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.statement import Tally
from runbook_lib.headless.terminal import Essential
from runbook_lib.notebook.parameters_cell import shared_out
from runbook_lib.pki import ssh_fingerprint
from runbook_lib.spec.chapters import NOTEBOOKS, Chapter, chapters_of
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.model import Spec
from runbook_lib.topology.diagram import draw
from runbook_lib.topology.model import topology_of

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager
    from papermill.exceptions import PapermillExecutionError

    from runbook_lib.chapters.deployment import Deployment

Say = Callable[[Any], None]
Made = Callable[[Path], None]  # is called with the folder of the run that was begun: the newest one may be somebody else's by the end


def _nobody(folder: Path) -> None:
    """Tell nobody of the folder."""


PACKAGES = ("boto3", "paramiko", "pydantic", "papermill", "jupyterlab")


def run(
    params: str | Spec,
    overrides: Mapping[str, Any] | None = None,
    first: str | None = None,
    last: str | None = None,
    resume: bool = False,
    agreed: bool = False,
    say: Say = print,
    parameters: Mapping[str, Any] | None = None,
    began: Callable[[str], None] = lambda chapter: None,
    made: Made = _nobody,
    since: str = "",
) -> int:
    """Execute the pattern's chapters and return 0 when all are verified and as the parameters expect, else 1 (the reason was printed).

    `params`: a params file, or the parameters read from it with the same `overrides`; the chapters' kernels read both again.
    `first`, `last`: chapter numbers. `resume` leaves out the chapters that are recorded as verified, at `since` (UTC) or later, whose plan is empty now;
    chapters that only verify are always run. `agreed`: the proof may create its test users where it would ask.
    `parameters`: parameters that single chapters have, such as `war`. `began` is called with the name of each chapter that begins.

    The deployment's lock is held from the first chapter to the last, so that a second run at the same time is refused
    before it changes anything. Raises ParamsError, LockHeld, CloudError, or on AWS RunbookError for a proof that nobody agreed to, before anything starts.
    """
    spec = params if isinstance(params, Spec) else load_spec(params, overrides)
    chosen = chapters_of(spec.pattern, first, last)
    given = shared_out(parameters or {}, chosen)
    proofs = [chapter.name for chapter in chosen if chapter.attribute == "sso"]
    given |= {name: {**given.get(name, {}), "agreed": True} for name in proofs if agreed}
    with opened(spec) as deployment:
        if deployment.on_aws:
            _before_it_costs(deployment, all(given.get(name, {}).get("agreed") for name in proofs), say)
        with _alone(deployment):
            journal = begin(deployment, "run", made)
            try:
                with _environment(RUNBOOK_RUN=str(journal.folder.resolve())):
                    _chapters(deployment, overrides or {}, chosen, resume, since, given, say, began)
            except BaseException:  # the reader closed the pipe (`| head`), or an interrupt between two chapters
                report.finish(journal)
                raise
        _scrub_all(deployment)
    found = report.finish(journal)
    done = {c["name"] for c in found["chapters"] if c["ok"]} >= {c.name for c in chosen}
    _summary(found, journal, done, say)
    return 0 if found["ok"] and done else 1


def _before_it_costs(deployment: Deployment, agreed: bool, say: Say) -> None:
    """Say what the deployment costs on AWS. Raise RunbookError where its proof would stop later, with machines launched: nobody agreed to test users."""
    from runbook_lib.checks.sso.environment import refuse_unagreed

    refuse_unagreed(True, agreed)
    say(f"{deployment.spec.deployment}: {deployment.cost().words}")


def _chapters(
    deployment: Deployment,
    overrides: Mapping[str, Any],
    chosen: tuple[Chapter, ...],
    resume: bool,
    since: str,
    given: Mapping[str, Mapping[str, Any]],
    say: Say,
    began: Callable[[str], None],
) -> None:
    """Execute the chapters in order, up to the first that fails. `given`: parameters by chapter; a chapter that has any is not left out."""
    from runbook_lib.headless.kernels import kernels

    idle = tuple(itertools.takewhile(lambda chapter: not given.get(chapter.name), chosen))
    skipped = _still_holding(deployment, idle, since, say) if resume else set()
    chosen = tuple(chapter for chapter in chosen if chapter.name not in skipped)
    with kernels([("runbook_lib.chapters.deployment", chapter.module) for chapter in chosen]) as warm:
        for chapter in chosen:
            began(chapter.name)
            with warm.one() as kernel:
                if not execute(chapter, deployment.spec, overrides, deployment.journal, say, given.get(chapter.name, {}), kernel):
                    return


@contextmanager
def _alone(deployment: Deployment) -> Any:
    """Hold the deployment's lock for the block. The kernels of this run act as the same owner, and without interaction."""
    with _environment(RUNBOOK_HEADLESS="1", RUNBOOK_OWNER=owner_here()), deployment.writing():
        yield


def begin(deployment: Deployment, what: str, made: Made = _nobody) -> Journal:
    """Begin a new run of the deployment and return its journal. Its first lines say who runs what; the topology picture is kept beside them."""
    spec = deployment.spec
    journal = deployment.adopt(Journal.begin(spec, new=True)).open()
    journals.point_latest(journal.folder)  # already now: people watch a run that is under way
    made(journal.folder)
    versions = {"runbook": provenance.code_words(provenance.code()), "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    journal.write("", what, who=f"{getpass.getuser()}@{socket.gethostname()}", versions=versions, params=_reference(spec.source), machine=platform.platform())
    journal.keep("topology.svg", draw(topology_of(spec)))
    return journal


def execute(chapter: Chapter, spec: Spec, overrides: Mapping[str, Any], journal: Journal, say: Say, given: Mapping[str, Any], kernel: KernelManager) -> bool:
    """Execute one notebook in a kernel with papermill and keep it beside the journal. Return whether it succeeded; its error is printed with `say`."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from runbook_lib.headless.kernels import interrupt

    began, executed = time.monotonic(), journal.folder / f"{chapter.name}.ipynb"
    say(f"{chapter.name}  {chapter.title} …")
    error = kind = ""
    try:
        papermill.execute_notebook(
            os.path.relpath(chapter.notebook),
            os.path.relpath(executed),
            parameters={"params_file": _reference(spec.source, NOTEBOOKS), "overrides": dict(overrides), **given},
            kernel_name="python3",
            progress_bar=False,
            cwd=str(NOTEBOOKS),
            km=kernel,
        )
    except PapermillExecutionError as problem:
        error, kind = words_of(problem), problem.ename
    except KeyboardInterrupt:
        error = "interrupted: run again, it goes on where it stopped"
        say(f"{chapter.name}  comes to a safe point; once more ends it at once")
        with suppress(KeyboardInterrupt):
            interrupt(kernel)
    except Exception as problem:  # a kernel that died, a disk that is full, a notebook that is none
        kind = type(problem).__name__
        what = "the chapter's kernel died: it was killed, or memory is short (dmesg tells)" if kind == "DeadKernelError" else f"{kind}: {problem}"
        error = f"{what}\n  next:  put that right, then run again with --resume, which goes on where it stopped"
    seconds = time.monotonic() - began
    try:
        sha256 = hashlib.sha256(_scrub(executed)).hexdigest() if executed.exists() else ""
    except (OSError, ValueError) as problem:  # a disk that is full leaves half a notebook, or an empty file
        executed.unlink(missing_ok=True)
        sha256, error = "", error or f"the executed notebook could not be kept: {problem}"
    transient = kind in (known := errors.by_name()) and known[kind].transient
    journal.write(chapter.name, "chapter", seconds=seconds, ok=not error, error=error, kind=kind, transient=transient, sha256=sha256)
    counted = journal.result()["chapters"]
    changed = next((c["changed"] for c in counted if c["name"] == chapter.name), 0)
    leaks = chapter.attribute == "sso" and (journal.result()["statement"] or {}).get("kind") == "leak"
    mark = "✘ stopped" if error else "✘ the system LEAKS, as expected," if leaks else "✔ verified"
    say(f"{chapter.name}  {mark} after {seconds:.1f} s, {changed} resources changed")
    if error:
        say(Essential(journals.redact(error)))
    return not error


def words_of(problem: PapermillExecutionError) -> str:
    """Return the error of a notebook's cell in words: the three parts of one of ours, else its type and message."""
    return str(problem.evalue) if problem.ename in errors.by_name() else f"{problem.ename}: {problem.evalue}"


def _still_holding(deployment: Deployment, chosen: tuple[Chapter, ...], since: str, say: Say) -> set[str]:
    """Return the names of the first chapters that are verified and whose plan is empty now; they are left out.

    Whether a chapter is verified is read from its record in Parameter Store, whoever made it on whichever machine. The first chapter that
    is not left out is named with the reason; it and all after it are run.
    """
    records = status_board.proofs_of(deployment)
    held: set[str] = set()
    for chapter in chosen:
        began, record = time.monotonic(), records.get(chapter.name)
        if reason := _why_run(deployment, chapter, record, since):
            say(f"{chapter.name}  is run: {reason}")
            break
        held.add(chapter.name)
        why = f"verified {record.utc} by {record.by}, nothing to change" if record else ""
        deployment.journal.write(chapter.name, "chapter", seconds=time.monotonic() - began, skipped=why)
        say(f"{chapter.name}  ✔ left out: {why}")
    deployment.close()  # the kernels open their own connections
    return held


def _why_run(deployment: Deployment, chapter: Chapter, record: status_board.Record | None, since: str) -> str:
    """Return why a chapter cannot be left out of a run that is resumed; "" when it can."""
    if not chapter.converges:
        return "it changes nothing and verifies, which is always done"
    if record is None:
        return "no record says that it was verified"
    if record.applied:
        return f"it was changed {record.utc} by {record.by}, and not verified since"
    if not record.ok:
        return f"its last attempt failed, {record.utc}, by {record.by}"
    if record.utc < since:
        return f"it was verified {record.utc} by {record.by}, before this batch began"
    plan = getattr(deployment, chapter.attribute).plan()
    return f"it was verified {record.utc} by {record.by}, but there is something to change now" if plan else ""


def plan(params: str | Spec, overrides: Mapping[str, Any] | None = None, say: Say = print) -> int:
    """Print every pending change of every chapter, without changing anything. Return 0 when there is none, else 2."""
    pending = False
    for _, found in plans(params, overrides):
        say(found)
        pending |= bool(found)
    return 2 if pending else 0


def plans(params: str | Spec, overrides: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Plan]]:
    """Yield the plan of every chapter that has one, with the chapter's name. They are made at the same time."""
    with opened(params, overrides) as deployment, deployment.one_look(), ThreadPoolExecutor() as pool:
        machines, *others = (chapter for chapter in chapters_of(deployment.spec.pattern) if chapter.converges)
        looked = pool.submit(deployment.look)

        def planned(chapter: Chapter) -> tuple[str, Plan]:
            if chapter is not machines:  # it asks the cloud only, and has its own questions
                looked.result()
            return chapter.name, getattr(deployment, chapter.attribute).plan()

        yield from pool.map(planned, (machines, *others))


def verify(params: str | Spec, overrides: Mapping[str, Any] | None = None, agreed: bool = False, say: Say = print, made: Made = _nobody) -> int:
    """Run the checks of every chapter, also after one failed. Return 0 when all passed and the result is as expected, else 1."""
    with opened(params, overrides) as deployment:
        journal = begin(deployment, "verify-only", made)
        with _environment(RUNBOOK_RUN=str(journal.folder.resolve()), RUNBOOK_HEADLESS="1", RUNBOOK_QUIET="1"):
            try:
                for chapter in chapters_of(deployment.spec.pattern):
                    _verify_chapter(deployment, chapter, agreed, say)
            finally:
                found = report.finish(journal)
    _summary(found, journal, True, say)
    return 0 if found["ok"] else 1


def _verify_chapter(deployment: Deployment, chapter: Chapter, agreed: bool, say: Say) -> None:
    part = getattr(deployment, chapter.attribute)
    try:
        if chapter.attribute == "sso":
            proof = part.prove(agreed=agreed)
            say(proof)
            part.verify(proof)
            say(part.works(agreed=agreed))
        else:
            say(part.verify())
    except RunbookError as error:
        say(Essential(f"{chapter.name}: {error}"))


def destroy(spec: Spec, confirm: str, say: Say = print, backups: bool = False, made: Made = _nobody) -> int:
    """Remove everything that carries the deployment's tag, check that nothing is left, and return 0. Raises LockHeld before anything is written."""
    with opened(spec) as deployment, one_verb(deployment, "destroy-run", say, made):  # the key goes: its fingerprint is kept by whoever reads this
        say(deployment.destroy(confirm, backups))
    return 0


@contextmanager
def one_verb(deployment: Deployment, what: str, say: Say, made: Made = _nobody) -> Iterator[None]:
    """Hold the deployment's lock for the block, which is a run of its own without chapters, with a report. Raises LockHeld before anything is written."""
    with _alone(deployment):
        journal = begin(deployment, what, made)
        with _environment(RUNBOOK_RUN=str(journal.folder.resolve()), RUNBOOK_QUIET="1"):
            try:
                yield
            finally:
                report.finish(journal)
        _say_signed(journal, say)


@contextmanager
def opened(params: str | Spec, overrides: Mapping[str, Any] | None = None) -> Any:
    """Yield the deployment, and close it after the block."""
    from runbook_lib.chapters.deployment import open_deployment

    deployment = open_deployment(params, dict(overrides or {}))
    try:
        yield deployment
    finally:
        deployment.close()


@contextmanager
def _environment(**new: str) -> Any:
    """Set environment variables for the block and the kernels started in it; restore them afterwards."""
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _scrub(path: Path) -> bytes:
    """Remove secrets and paths of this machine from an executed notebook, write it back, and return its bytes."""
    import nbformat

    book = nbformat.read(path, as_version=4)
    for name in ("input_path", "output_path", "environment_variables"):
        book.metadata.get("papermill", {}).pop(name, None)
    text = nbformat.writes(nbformat.from_dict(_redacted(book)))
    files.write_whole(path, text)
    return text.encode()


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(inner) for inner in value]
    return journals.redact(value) if isinstance(value, str) else value


def _scrub_all(deployment: Deployment) -> None:
    """Redact the run's notebooks and JSON files again with every secret of the deployment: a kernel may have read secrets that this process had not."""
    try:
        deployment.vault.read_all()
    except RunbookError:
        return  # the cloud does not answer: only the first redaction applies
    folder = deployment.journal.folder
    for path in folder.glob("*.ipynb"):
        _scrub(path)
    for path in folder.glob("*.json*"):
        files.write_whole(path, journals.redact(path.read_text(encoding="utf-8")))
    manifest.rechain(deployment.journal.path)


def _reference(path: Path | None, start: Path = journals.ROOT) -> str:
    """Return a params file's path relative to `start`, so that it means the same on a colleague's machine; "" for None."""
    return os.path.relpath(path, start) if path else ""


def _summary(found: Mapping[str, Any], journal: Journal, done: bool, say: Say) -> None:
    """Say what was found. `done`: every chapter that was asked for succeeded; only a run of all of the pattern's is "all verified"."""
    checks = found["checks"]
    passed = sum(check["status"] == "pass" for check in checks)
    words = ("all verified" if found["complete"] else found["covered"]) if found["ok"] and done else f"NOT verified ({found['covered']})"
    changed = sum(chapter["changed"] for chapter in found["chapters"])
    say("")
    say(provenance.banner(found["provenance"]))
    skipped = sum(check["status"] == "skipped" for check in checks)
    left_out = f", {skipped} skipped (the report says why; for want of a browser: apt-get install chromium-headless-shell)" if skipped else ""
    say(Essential(f"{found['deployment']}: {words}; {passed} of {len(checks)} checks passed{left_out}; {changed} resources changed"))
    if found["verdict"]:
        say(Essential(f"System: {found['statement']['system']}\nAs expected: {found['statement']['as_expected']}"))
        say(str(Tally(**found["counts"])))
    for row in found["standing"]:
        if row["outdated"] and not found["verdict"]:
            say(Essential(f"{row['chapter']}: {row['outdated']}"))
    say(Essential(f"report: {os.path.relpath(journal.folder / 'report.html')}"))
    _say_signed(journal, say)


def _say_signed(journal: Journal, say: Say) -> None:
    if key := journal.signing_key():
        say(f"signed by key {ssh_fingerprint(key)}; ./runbook verify-evidence {os.path.relpath(journal.folder)}")
