"""What the command line prints: as wide as the terminal, coloured where that is wanted, with the live progress of a chapter.

Into a pipe or a file goes plain text, and no line is broken, so that `grep` finds it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from runbook_lib.changes import Event, Plan
from runbook_lib.check import CheckTable
from runbook_lib.redaction import redactor
from runbook_lib.tables import counted, fitted_to

STYLES = (  # the first pattern that is found in a line gives the style of what it matches
    (r"^ {6}\+.*", "green"),
    (r"^ {6}-.*", "red"),
    (r"^ {6}@@.*", "cyan"),
    (r"✔( pass| verified)?", "green"),
    (r"✘( fail(ed)?| stopped)?", "bold red"),
    (r"△|\? undecided", "yellow"),
    (r"(?<= )\+ [a-z]+", "green"),
    (r"(?<= )- (delete|remove)", "red"),
    (r"(?<= )[~±▸] [a-z]+", "yellow"),
)
HANGING = 4  # columns by which a broken line goes on further to the right
POLL = 0.2  # seconds between two looks at the progress


class Essential(str):
    """A text that is printed with --quiet as well: a result or a failure."""


class Terminal:
    """Prints texts and results. `quiet`: results and failures only; `verbose`: also each step of a host, with its time."""

    def __init__(self, quiet: bool = False, verbose: bool = False, stream: TextIO | None = None):
        self.quiet, self.verbose = quiet, verbose
        self.console = Console(file=stream or sys.stdout, highlight=False, markup=False, emoji=False)
        self._said = time.monotonic()
        self._standing: dict[str, Event] = {}
        self._spinner = Spinner("line")

    @property
    def width(self) -> int | None:
        """The columns that a line may take, None in a pipe or a file."""
        return self.console.width if self.console.is_terminal else None

    def __call__(self, thing: Any) -> None:
        """Print a text or a result (a plan, a table of checks), redacted; with --quiet shortened, or not at all."""
        self._said, self._standing = time.monotonic(), {}
        if not self.quiet or isinstance(thing, Essential):
            self._print(str(thing))
        elif isinstance(thing, Plan):
            self._print(thing.summary())
        elif isinstance(thing, CheckTable):
            self._print(str(thing).splitlines()[0])

    def fitted(self) -> Any:
        """Return a context in which text tables take no more columns than there are."""
        return fitted_to(self.width)

    def _print(self, text: str) -> None:
        for line in redactor.redact(text).splitlines() or [""]:
            for part in _broken(line, self.width):
                if self.console.is_terminal:
                    self.console.print(_styled(part), soft_wrap=True)
                else:
                    print(part, file=self.console.file, flush=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Show what the hosts are at while the block runs: below the text at a terminal, with --verbose as a line per step.

        The chapters' kernels append their steps to the file $RUNBOOK_PROGRESS.
        """
        live = self.console.is_terminal and not self.quiet
        if not (live or self.verbose):
            yield
            return
        with tempfile.TemporaryDirectory(prefix="runbook-progress-") as folder:
            path, ended = Path(folder, "steps.jsonl"), threading.Event()
            path.touch()
            before = os.environ.get("RUNBOOK_PROGRESS")
            os.environ["RUNBOOK_PROGRESS"] = str(path)
            reader = threading.Thread(target=self._follow, args=(path, ended), daemon=True)
            reader.start()
            try:
                if live:
                    with Live(get_renderable=self._picture, console=self.console, refresh_per_second=5, transient=True, redirect_stderr=False):
                        yield
                else:
                    yield
            finally:
                ended.set()
                reader.join()
                os.environ.pop("RUNBOOK_PROGRESS") if before is None else os.environ.update(RUNBOOK_PROGRESS=before)

    def _follow(self, path: Path, ended: threading.Event) -> None:
        with open(path, encoding="utf-8") as steps:
            last = False
            while not last:
                last = ended.wait(POLL)  # what was written before the end is read once more
                for line in steps:
                    self._step(Event(**json.loads(line)))

    def _step(self, event: Event) -> None:
        self._standing = {**self._standing, event.host: event}
        if self.verbose:
            self._print(f"  {time.monotonic() - self._said:6.1f} s  {event}")

    def _picture(self) -> Any:
        """Return the lines below the text: the seconds since the last text, and where each host stands."""
        rows = [Text(f"  {event}", no_wrap=True, overflow="ellipsis") for event in self._standing.values()]
        hosts = f"  {counted(len(rows), 'host')}" if rows else ""
        self._spinner.update(text=Text(f"{time.monotonic() - self._said:.0f} s{hosts}"))
        return Group(self._spinner, *rows)


def _broken(line: str, width: int | None) -> list[str]:
    """Return the line in parts of at most `width` characters, broken between words where there are any."""
    if width is None or len(line) <= width:
        return [line]
    indent = min(len(line) - len(line.lstrip()) + HANGING, width // 2)
    return textwrap.wrap(line, width, subsequent_indent=" " * indent, replace_whitespace=False, break_on_hyphens=False) or [""]


def _styled(line: str) -> Text:
    text = Text(line)
    for pattern, style in STYLES:
        if found := re.search(pattern, line):
            text.stylize(style, *found.span())
            break
    return text
