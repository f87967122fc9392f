"""A batch as a notebook holds it (notebooks/10_batch.ipynb): what it would do, doing it, watching it wherever it runs, and what it found.

write_sweep("levels", params=["params/greg-separated.lab.yaml"], matrix={"hardening": ["hosts", "full"]}, networks="10.213.64.0/20")
batch = open_batch("work/sweeps/levels.yaml")
batch.run()          # with the scheduler of the command line
batch.watch()        # this sweep's newest batch, also where another process does it
"""

from __future__ import annotations

import html
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from runbook_lib.errors import ChecksFailed, RunbookError
from runbook_lib.evidence import runs
from runbook_lib.files import ROOT, write_whole
from runbook_lib.headless.batch import command, record
from runbook_lib.headless.batch.job import SKIPPED, JobResult
from runbook_lib.headless.batch.live import COLUMNS, LiveTable
from runbook_lib.headless.batch.page import matrix_html
from runbook_lib.headless.batch.sweep import Sweep, load_sweep
from runbook_lib.headless.terminal import Terminal
from runbook_lib.notebook import display
from runbook_lib.redaction import redactor
from runbook_lib.tables import html_table

FOLDER = Path("work", "sweeps")  # of the workspace, where sweeps of a notebook lie
TICK = 1.0  # seconds between two pictures of the table
CUT_OFF = "its process ended before the batch did"
GOES_ON = "no longer watched; the batch itself goes on, and watch() shows it again"


class SweepText:
    """The text of a sweep file, with the file's place."""

    def __init__(self, file: Path):
        self.file, self.text = file, file.read_text(encoding="utf-8")

    def __fspath__(self) -> str:
        return str(self.file)

    def __str__(self) -> str:
        return f"# {os.path.relpath(self.file)}\n{self.text}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def write_sweep(name: str, **keys: Any) -> SweepText:
    """Write the sweep file work/sweeps/NAME.yaml of these keys (docs/batch.md) and return it. A file that is there is replaced.

    `params` are found from the current folder, or as every command finds them. Raises ParamsError for what is no sweep; nothing is written then.
    """
    file = ROOT / FOLDER / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    given = [keys["params"]] if isinstance(keys.get("params"), str) else list(keys.get("params", ()))
    keys["params"] = [os.path.relpath(each, file.parent) if Path(each).is_file() else str(each) for each in given]
    draft = file.with_name(f".{name}.{os.getpid()}.yaml")
    text = yaml.safe_dump({"sweep": name, **{key: value for key, value in keys.items() if value}}, sort_keys=False, allow_unicode=True)
    draft.write_text(text, encoding="utf-8")
    try:
        load_sweep(draft)
    finally:
        draft.unlink()
    write_whole(file, text)
    return SweepText(file)


def open_batch(sweep: str | os.PathLike[str]) -> Batch:
    """Return the batch of a sweep file. A path is tried from the current folder, then from the workspace. Raises ParamsError where the sweep is wrong."""
    display.install()
    path = Path(sweep)
    batch = Batch(path if path.is_file() else ROOT / path)
    load_sweep(batch.file)
    return batch


@dataclass(frozen=True)
class Batch:
    """A sweep that can be run and watched. Its value is the list of deployments, machines and cost; the file is read anew each time."""

    file: Path

    @property
    def sweep(self) -> Sweep:
        return load_sweep(self.file)

    def __str__(self) -> str:
        return str(command.dry_run(self.sweep))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return command.dry_run(self.sweep)._repr_html_()

    def run(self, resume: bool = False, agreed: bool = False, jobs: int | None = None, scheduler: str | None = None) -> BatchResult:
        """Do the sweep as `./runbook batch` does, show it while it runs, and return what was found. A row that fails is part of that and no error.

        `resume`: leave out what was done well; `agreed`: the proofs may make their test users on AWS; `jobs`: deployments at once; `scheduler`: of Dask.
        Stop, or an interrupt of the cell, brings each deployment to a safe point. Raises RunbookError, before anything is begun, for what cannot be done.
        """
        sweep = self.sweep
        if sweep.options.do == "destroy" and not agreed:
            raise RunbookError(f"{len(sweep.rows)} deployments would be destroyed: not confirmed", str(self.file), "look at the list, then run(agreed=True)")
        found, folder = command.run(
            sweep, Terminal(quiet=display.interactive()), slots=jobs, resume=resume, agreed=agreed, scheduler=scheduler, table=NotebookTable
        )
        return BatchResult(found, folder)

    def watch(self) -> BatchResult:
        """Show the newest batch of this sweep until it has ended, whichever process does it, and return what was found up to then.

        An interrupt of the cell ends the watching and not the batch. Raises RunbookError when there is none.
        """
        sweep = self.sweep
        folder, note, ended = self._newest(sweep), "", {}
        first = runs.lines(folder / record.EVENTS)[0]
        shown = NotebookTable(Terminal(quiet=display.interactive()), len(first["rows"]))
        try:
            with shown.shown():
                for event in record.follow(folder):
                    if heard := _told(shown, event):
                        ended[heard.name] = heard
        except KeyboardInterrupt:
            note = GOES_ON
        if record.ended(folder):
            return BatchResult(record.read(folder), folder)
        note = note or f"{CUT_OFF}; run(resume=True) goes on"
        return BatchResult(record.result(sweep, first["verb"], first["utc"], _since(first), ended), folder, note)

    def verify(self) -> BatchResult:
        """Return what the newest batch found. Raises ChecksFailed when a row of it, or itself, did not end well; RunbookError when none has, or it goes on."""
        sweep = self.sweep
        folder = self._newest(sweep)
        if not record.ended(folder):
            if record.under_way(folder):
                raise RunbookError(f"the newest batch of {sweep.name} is under way", str(self.file), "batch.watch() shows it until it has ended")
            raise ChecksFailed(f"the newest batch of {sweep.name}: {CUT_OFF}", str(self.file), "batch.run(resume=True) goes on")
        newest = record.read(folder)
        if failed := [row["name"] for row in newest["rows"] if not row["ok"]]:
            words = f"{len(failed)} of {len(newest['rows'])} deployments of {sweep.name} did not end well: {', '.join(failed)}"
            raise ChecksFailed(words, str(self.file), "put right what each failure names, then batch.run(resume=True)")
        return BatchResult(newest, folder)

    def _newest(self, sweep: Sweep) -> Path:
        if folders := record.batches(sweep.name):
            return folders[-1]
        step = "batch.run() begins one, as ./runbook batch in a terminal does"
        raise RunbookError(f"{sweep.name} has no batch on this machine yet", str(self.file), step)


def _told(table: LiveTable, event: dict[str, Any]) -> JobResult | None:
    """Show an event of a record, and return the outcome that it holds."""
    kind, ago = event["event"], _since(event)
    if kind == "row":
        table.began(event["name"], ago)
    elif kind == "chapter":
        table.chapter(event["name"], event["chapter"], ago)
    elif kind == "outcome":
        outcome = record.outcome_in(event)
        table.ended(outcome, ago)
        return outcome
    return None


def _since(event: dict[str, Any]) -> float:
    """Return the seconds since an event."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(event["utc"])).total_seconds())


class BatchResult:
    """What a batch found: the matrix with how each deployment ended, and each failure with what to do next. `note`: why it is not all."""

    def __init__(self, found: dict[str, Any], folder: Path, note: str = ""):
        self.found, self.folder, self.note = found, folder, note

    @property
    def ok(self) -> bool:
        return bool(self.found["ok"])

    def __str__(self) -> str:
        cards = [
            "\n".join([f"{row['name']}: {row['error']['what']}", *(f"  {name}:  {text}" for name in ("where", "next") if (text := row["error"].get(name)))])
            for row in self.found["rows"]
            if row["error"]
        ]
        return redactor.redact("\n\n".join(filter(None, [command.as_text(self.found), *cards, self.note, f"batch: {self._page}"])))

    __repr__ = __str__

    @property
    def _page(self) -> str:
        return os.path.relpath(self.folder / "batch.html")

    def _repr_html_(self) -> str:
        page = f'<p><a href="{html.escape(self._page)}">The page of this batch</a></p>' if (self.folder / "batch.html").is_file() else ""
        note = display.Notice(self.note)._repr_html_() if self.note else ""
        done = "done" if self.found["verb"] in ("plan", "destroy") else "verified"
        words = f"{'✔' if self.ok else '✘'} {self.found['verified']} of {len(self.found['rows'])} deployments {done}"
        headline = f'<p class="rb-headline"><strong>{words}</strong></p>'
        return redactor.redact(f'<div class="rb-batch">{headline}{matrix_html(self.found, Path.cwd())}{note}{page}</div>')


class NotebookTable(LiveTable):
    """The table of a batch on its way: in JupyterLab a table that changes, with a button that stops the batch where it is ours; else a line per event."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while the block runs; what the cell returns takes its place."""
        if not display.interactive():
            yield
            return
        w = display.toolkit()
        picture, ended = display.Shown(w), threading.Event()
        box = w.VBox([*([self._button(w)] if self.stop else []), picture.box])
        box.add_class("rb-batch")
        display.show(box)
        for button in box.children[:-1]:
            display.heard_while_busy(button)

        def draw() -> None:
            while not ended.is_set():
                picture.value = self.markup()
                ended.wait(TICK)

        drawing = threading.Thread(target=draw, daemon=True)
        drawing.start()
        try:
            yield
        finally:
            ended.set()
            drawing.join()
            box.close()

    def ended_line(self, text: str) -> None:
        """Say how a row ended; in JupyterLab the table does."""
        if not display.interactive():
            super().ended_line(text)

    def _button(self, w: Any) -> Any:
        button = w.Button(description="Stop", tooltip="stop each deployment at its next safe point", icon="stop")

        def stopped(_: Any) -> None:
            if self.stop:
                self.stop.set()
            button.description, button.disabled = "Stopping …", True

        button.on_click(stopped)
        return button

    def markup(self) -> str:
        """Return the table as HTML."""
        title, lines = self.lines()
        classes = ["" if ended is None else "rb-pass" if ended.ok else "rb-skipped" if ended.state == SKIPPED else "rb-fail" for _, ended in lines]
        return html_table(COLUMNS, [cells for cells, _ in lines], title, row_classes=classes)
