"""A batch while it runs: a table that changes at a terminal, a line per event in a pipe or a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.live import Live
from rich.table import Table

from runbook_lib.headless.batch.job import SKIPPED, JobResult
from runbook_lib.headless.terminal import Essential, Terminal

COLUMNS = ("Deployment", "Chapter", "Seconds", "State", "Worker")
LONGEST = 30  # rows that the table shows: those under way first, then the newest that ended


@dataclass
class RowState:
    """Where one row stands. `since`: of its chapter, or of its end, by the monotonic clock."""

    name: str
    began: float
    since: float
    chapter: str = ""
    outcome: JobResult | None = None


class LiveTable:
    """Hears of rows that begin, of their chapters and of their ends, from any thread, and shows them.

    `stop`: the event that stops the batch, None where that is not ours to do. `ago`: how many seconds ago it happened that is told now.
    """

    def __init__(self, say: Terminal, rows: int, stop: threading.Event | None = None):
        self.say, self.rows, self.stop = say, rows, stop
        self._standing: dict[str, RowState] = {}
        self._lock = threading.Lock()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table below the text while the block runs; only at a terminal, and not with --quiet."""
        if not self.say.console.is_terminal or self.say.quiet:
            yield
            return
        with Live(get_renderable=self.table, console=self.say.console, refresh_per_second=4, transient=True):
            yield

    def began(self, name: str, ago: float = 0.0) -> None:
        """A row begins, or begins again."""
        now = time.monotonic() - ago
        with self._lock:
            self._standing[name] = RowState(name, now, now)
        self._line(f"… {name}")

    def chapter(self, name: str, chapter: str, ago: float = 0.0) -> None:
        """A chapter of a row begins."""
        now = time.monotonic() - ago
        with self._lock:
            standing = self._standing.setdefault(name, RowState(name, now, now))
            standing.chapter, standing.since = chapter, now
        self._line(f"  {name}  {chapter}")

    def ended(self, outcome: JobResult, ago: float = 0.0) -> None:
        """A row ended."""
        now = time.monotonic() - ago
        with self._lock:
            standing = self._standing.setdefault(outcome.name, RowState(outcome.name, now, now))
            standing.outcome, standing.since = outcome, now
        mark = "✔" if outcome.ok else "○" if outcome.state == SKIPPED else "✘"
        again = f", attempt {outcome.attempts}" if outcome.attempts > 1 else ""
        state = "left out, verified" if outcome.left_out else outcome.state
        line = f"{mark} {outcome.name}  {state}{again} after {outcome.seconds:.1f} s: {outcome.words}"
        self.ended_line(line if outcome.ok else Essential(line))

    def ended_line(self, text: str) -> None:
        """Say how a row ended, at a terminal above the table."""
        self.say(text)

    def _line(self, text: str) -> None:
        if not self.say.console.is_terminal:  # a terminal has the table
            self.say(text)

    def lines(self) -> tuple[str, list[tuple[tuple[str, ...], JobResult | None]]]:
        """Return how many ended, and a line for each row under way and for the newest that ended: its cells by `COLUMNS`, and how it ended."""
        now = time.monotonic()
        with self._lock:
            rows = sorted(self._standing.values(), key=lambda each: (each.outcome is not None, -each.since))
        ended = sum(each.outcome is not None for each in rows)
        found: list[tuple[tuple[str, ...], JobResult | None]] = []
        for each in rows[:LONGEST]:
            outcome = each.outcome
            seconds = f"{outcome.seconds if outcome else now - each.began:.0f}"
            found.append(((each.name, each.chapter, seconds, outcome.state if outcome else "running", outcome.worker if outcome else ""), outcome))
        return f"{ended} of {self.rows} ended", found

    def table(self) -> Table:
        """Return the table: row, chapter, seconds, state and worker of those under way, and of the newest that ended."""
        title, lines = self.lines()
        shown = Table(*COLUMNS, title=title, title_justify="left")
        for cells, outcome in lines:
            style = "" if outcome is None else "green" if outcome.ok else "yellow" if outcome.state == SKIPPED else "red"
            shown.add_row(*cells, style=style)
        return shown
