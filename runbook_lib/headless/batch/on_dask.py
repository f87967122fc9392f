"""A batch on Dask's workers. How to reach the scheduler, TLS included, is Dask's own configuration; docs/batch.md has an example.

Workers need this package of the same version and credentials of their own, and run without a nanny, or with its workers as no daemons: each run
is a process of its own, which a daemon may not have.
"""

from __future__ import annotations

import importlib.util
import secrets
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from runbook_lib import __version__
from runbook_lib.errors import RunbookError
from runbook_lib.headless.batch.engine import Engine
from runbook_lib.headless.batch.job import Job, JobResult, Tell, perform
from runbook_lib.waiting import wait_until

SECONDS = 20  # for the scheduler to answer
OTHER_PYTHON = r"Mismatched versions found\s+(\+[-+]+\s+\| (Package|python) [^\n]*\s+)+\+[-+]+\s*\Z"  # and nothing else: what is sent is the same for all
JOINING = 120.0  # seconds within which workers that were just started are with their scheduler
POLL = 2.0  # seconds after which a worker asks the scheduler again whether the batch was stopped


class StoppedThere:
    """Whether the batch was stopped, asked of the scheduler at most every `POLL` seconds."""

    def __init__(self, name: str):
        from distributed import Event, get_client

        self._event, self._said, self._ended = Event(name, client=get_client()), False, threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        with suppress(Exception):  # the scheduler is gone: nobody hears of this run, and it ends by itself
            while not self._said and not self._ended.wait(POLL):
                self._said = bool(self._event.is_set())

    def is_set(self) -> bool:
        return self._said

    def close(self) -> None:
        self._ended.set()


@dataclass(frozen=True)
class Keys:
    """What a batch shows its scheduler, as PEM: the authority, the certificate and its key."""

    ca: str
    certificate: str
    key: str = field(repr=False)


def await_workers(scheduler: str, keys: Keys, count: int) -> None:
    """Wait until `count` workers are with the scheduler, and no more: one that was lost stays for half a minute. Raises RunbookError when they are not."""

    def joined() -> int:
        with _client(scheduler, keys) as client:
            return len(client.nthreads())

    found = wait_until(joined, JOINING, pause=1.0, enough=lambda found: found == count, again_after=lambda error: isinstance(error, RunbookError))
    if found != count:
        raise RunbookError(f"{found} of {count} workers are with their scheduler", scheduler, "journalctl -u runbook-dask on the machines says why")


def require_dask(where: str) -> None:
    """Raise RunbookError where Dask is not installed: it is an extra."""
    if importlib.util.find_spec("distributed") is None:
        raise RunbookError("Dask is not installed here", where, "install the extra: .venv/bin/uv pip install distributed")


def _client(scheduler: str, keys: Keys | None) -> Any:
    """Return a client of the scheduler. Without `keys` it has those of Dask's own configuration. Raises RunbookError."""
    require_dask("--scheduler")
    from distributed import Client, Security

    warnings.filterwarnings("ignore", OTHER_PYTHON)
    shown = Security(tls_ca_file=keys.ca, tls_client_cert=keys.certificate, tls_client_key=keys.key, require_encryption=True) if keys else None
    try:
        return Client(scheduler, timeout=SECONDS, name="runbook-batch", security=shown)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:  # the last: Dask refuses an address without TLS
        step = "is it up, is the port open, and do Dask's TLS files (distributed.comm.tls) belong to it?"
        raise RunbookError(f"no Dask scheduler answers: {error}", scheduler, step) from None


@contextmanager
def dask(scheduler: str, tell: Tell, stop: threading.Event, keys: Keys | None = None) -> Iterator[Engine]:
    """Give an engine of the workers of a Dask scheduler, such as tls://10.0.0.5:8786. `keys`: those of a sweep's workers.

    Raises RunbookError when Dask is not installed, the scheduler does not answer, it has no workers, or one of them has another version of
    the package.
    """
    client = _client(scheduler, keys)
    topic, stopped = f"runbook-{secrets.token_hex(4)}", threading.Event()
    with client:
        _refuse_others(client, scheduler)
        client.subscribe_topic(topic, lambda event: tell(*event[1]))
        watcher = threading.Thread(target=_pass_on, args=(client, topic, stop, stopped), daemon=True)
        watcher.start()
        try:
            slots = sum(client.nthreads().values())
            workers = len(client.nthreads())
            yield Engine(client.get_executor(pure=False), partial(_there, topic=topic), slots, f"{workers} workers at {scheduler}")
        finally:
            stopped.set()
            watcher.join()


def _pass_on(client: Any, topic: str, stop: threading.Event, ended: threading.Event) -> None:
    """Tell the workers once `stop` is set, until the batch has ended."""
    from distributed import Event

    while not ended.wait(0.5):
        if stop.is_set():
            Event(topic, client=client).set()
            return


def _refuse_others(client: Any, scheduler: str) -> None:
    found: dict[str, tuple[str, bool]] = client.run(_version_and_daemon)
    if not found:
        raise RunbookError("the Dask scheduler has no workers", scheduler, "start some: dask worker ADDRESS --no-nanny")
    if others := {worker: version for worker, (version, _) in found.items() if version != __version__}:
        worker, version = next(iter(others.items()))
        words = f"{len(others)} of {len(found)} workers have another version: {worker} has {version}, this is {__version__}"
        raise RunbookError(words, scheduler, "install the same version of the package on all")
    if daemons := [worker for worker, (_, daemon) in found.items() if daemon]:
        words = f"{len(daemons)} of {len(found)} workers, such as {daemons[0]}, may not begin processes, which each run is"
        raise RunbookError(words, scheduler, "start them with --no-nanny, or set distributed.worker.daemon to false")


def _version_and_daemon() -> tuple[str, bool]:
    """Return the version of this package on a worker, and whether its process may not have children."""
    from multiprocessing import current_process

    from runbook_lib import __version__ as here

    return here, bool(current_process().daemon)


def _there(job: Job, topic: str) -> JobResult:
    """Do the job on this worker, telling the batch of chapters that begin."""
    from distributed import get_worker

    worker, stop = get_worker(), StoppedThere(topic)
    try:
        return perform(job, lambda name, chapter: worker.log_event(topic, (name, chapter)), stop)
    finally:
        stop.close()
