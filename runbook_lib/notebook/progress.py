"""Progress of each host during an apply: bars in JupyterLab; headless, only a line for a waiting terminal."""

from __future__ import annotations

import html
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

from runbook_lib.changes import Event
from runbook_lib.errors import Stopped
from runbook_lib.notebook.display import Html, heard_while_busy, interactive, show, toolkit


class Progress:
    """Receiver of the events of an apply. `stop` is set by Cancel or an interrupt; hosts then stop before the next stage."""

    def __init__(self, title: str, hosts: Sequence[str]):
        self.title, self.stop, self.began = title, threading.Event(), time.monotonic()
        self.last: dict[str, Event] = {}
        self.tail: list[str] = []
        self.hosts = list(hosts)
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Record and show an event. Raises Stopped after a Cancel when `event.may_stop`: between two calls to the cloud, where no host is half-changed."""
        if self.stop.is_set() and event.may_stop:
            raise Stopped(f"stopped at {event.host} ({event.doing}), as asked", event.stage)
        with self._lock:
            self.last[event.host] = event
            self.tail = [*self.tail[-199:], f"{self.seconds():6.1f} s  {event.host:14} {event.stage}: {event.doing}"]
        self.draw(event)

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def draw(self, event: Event) -> None:
        """Show the event. Headless, it is only appended to the file $RUNBOOK_PROGRESS, for a terminal that waits."""
        if note := os.environ.get("RUNBOOK_PROGRESS"):
            with suppress(OSError), open(note, "ab", buffering=0) as steps:  # one write: lines of two processes never mix
                steps.write(f"{json.dumps(asdict(event))}\n".encode())

    def whole(self, doing: str) -> None:
        """Show that every host has done all of its steps, however many there were, and is at `doing`."""
        for event in list(self.last.values()):
            self(replace(event, doing=doing, done=max(event.of, 1), of=max(event.of, 1), may_stop=False))

    def close(self) -> None:
        """Remove the progress after a successful apply; the cell's value shows what changed."""

    def fail(self) -> None:
        """Show the last event of each host after a failed apply."""
        if self.last:
            rows = "".join(f"<li>{html.escape(str(event))}</li>" for event in self.last.values())
            show(Html(f'<ul class="rb-standing">{rows}</ul>', "\n".join(map(str, self.last.values()))))


def _bar(host: str, done: int, of: int) -> str:
    """Return a `<progress>` element as HTML; it only moves where nobody knows how much there is to do (`of` is 0).

    Unlike the widget's bar, it tells a screen reader what it is and how far it is.
    """
    far = f'max="{of}" value="{done}" ' if of else ""
    return f'<progress {far}aria-label="{html.escape(host)}" style="width:16em"></progress>'


class WidgetProgress(Progress):
    """Progress with a bar per host, the elapsed time, a Cancel button, and the last lines in a tab."""

    def __init__(self, title: str, hosts: Sequence[str]):
        super().__init__(title, hosts)
        w = toolkit()
        self.bars: dict[str, Any] = {}
        self.words: dict[str, Any] = {}
        self.clock = w.HTML()
        self.cancel = w.Button(description="Cancel", tooltip="stop at the next safe point", icon="stop")
        self.cancel.on_click(lambda _: self._cancelled())
        self.output = w.HTML()
        self.rows = w.VBox()
        self.log = w.Tab(children=[self.rows, self.output], titles=("Hosts", "Output"))  # a tab can be reached by keyboard
        self._w = w
        for host in hosts:
            self._row(host)
        head = w.HBox([w.HTML(f"<b>{html.escape(title)}</b>"), self.clock, self.cancel])
        self.box = w.VBox([head, self.log])
        self.box.add_class("rb-progress")
        show(self.box)
        heard_while_busy(self.cancel)
        threading.Thread(target=self._tick, daemon=True).start()

    def _row(self, host: str) -> None:
        name = self._w.Label(host, layout={"width": "9em"})
        self.bars[host] = self._w.HTML(_bar(host, 0, 1))
        self.words[host] = self._w.Label("waiting")
        self.rows.children = (*self.rows.children, self._w.HBox([name, self.bars[host], self.words[host]]))

    def draw(self, event: Event) -> None:
        if event.host not in self.bars:
            self._row(event.host)
        self.bars[event.host].value = _bar(event.host, event.done, event.of)
        self.words[event.host].value = f"{event.counted}{event.doing}"
        self.output.value = f"<pre>{html.escape(chr(10).join(self.tail[-40:]))}</pre>"

    def _cancelled(self) -> None:
        self.stop.set()
        self.cancel.description, self.cancel.disabled = "Stopping …", True

    def _tick(self) -> None:
        while self.box.comm is not None:
            self.clock.value = f"&nbsp;{self.seconds():.0f} s&nbsp;"
            time.sleep(1)

    def close(self) -> None:
        self.box.close()

    def fail(self) -> None:
        self.box.close()
        super().fail()


_shown: list[Progress] = []  # those whose block runs


def stop_all() -> None:
    """Stop every apply of this process before its next stage, as Cancel does."""
    for each in list(_shown):
        each.stop.set()


@contextmanager
def progress(title: str, hosts: Sequence[str]) -> Iterator[Progress]:
    """Yield the progress of an apply, shown while the block runs. An interrupt stops the apply at the next stage, as Cancel does.

    Raises Stopped for an interrupt of the block.
    """
    shown = WidgetProgress(title, hosts) if interactive() else Progress(title, hosts)
    with _interruptible(shown.stop):
        try:
            _shown.append(shown)
            yield shown
        except KeyboardInterrupt:
            shown.fail()
            raise Stopped(f"{title}: interrupted", ", ".join(map(str, shown.last.values())) or None) from None
        except BaseException:
            shown.fail()
            raise
        finally:
            _shown.remove(shown)
        shown.close()


@contextmanager
def _interruptible(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on SIGINT before the usual KeyboardInterrupt, so that the awaited threads end soon."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(number: int, frame: FrameType | None) -> None:
        stop.set()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
