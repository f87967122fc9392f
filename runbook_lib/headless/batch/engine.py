"""Where a batch's jobs are done: in processes of this machine, or on Dask's workers. Both are a `concurrent.futures.Executor`.

Another executor, such as Parsl's, fits by one line: an `Engine` with it (docs/batch.md).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runbook_lib.headless.batch.job import Tell, kill_all, perform
from runbook_lib.headless.batch.scheduler import Work

MEMORY_OF_ONE = 512  # MiB that one run takes at most: its process and a chapter's kernel (docs/performance.md)
PER_PROCESSOR = 2  # runs: most of a chapter is waiting
MOST = 64


@dataclass(frozen=True)
class Engine:
    """Where jobs are done. `work`: what is submitted; `at_once`: how many there is room for; `words`: why that many.

    `kill`: handles a second interrupt, which does not wait for safe points; the default ends the program.
    """

    executor: Executor
    work: Work
    at_once: int
    words: str
    kill: Callable[..., Any] = signal.default_int_handler


def room() -> tuple[int, str]:
    """Return how many runs this machine has room for at once, and why: by its processors, and by the memory that is free."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = _free_memory()
    by_memory = max(1, free // MEMORY_OF_ONE) if free else MOST
    count = max(1, min(processors * PER_PROCESSOR, by_memory, MOST))
    memory = f", {free} MiB of memory free at {MEMORY_OF_ONE} MiB per run" if free else ""
    return count, f"{processors} processors at {PER_PROCESSOR} runs each{memory}"


def _free_memory() -> int:
    """Return the MiB of memory that new processes can have, 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), 0)


@contextmanager
def local(slots: int | None, tell: Tell, stop: threading.Event) -> Iterator[Engine]:
    """Give an engine of this machine: a thread per run, which follows the run's own process. `slots`: at once; None: as many as there is room for."""
    count, words = (slots, "as asked for") if slots else room()
    with ThreadPoolExecutor(count, thread_name_prefix="batch") as executor:
        try:
            yield Engine(executor, partial(perform, tell=tell, stop=stop), count, words, kill_all)
        except BaseException:
            stop.set()  # leaving the block waits for the threads, and these for their processes
            raise
