"""The kernels of a run: while a chapter is executed, the next one's kernel starts, imports and reads what it needs, so that no chapter waits for it.

Each chapter has a kernel of its own, as in JupyterLab, and its evidence is its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.spec.chapters import NOTEBOOKS
from runbook_lib.waiting import wait_until

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager

REST = 50.0  # seconds for a cell that is interrupted; less than what a batch gives its runs


class Kernels:
    """Gives a kernel for each of these, one after the other. They see the environment variables of the moment in which the one before was given."""

    def __init__(self, sockets: str, imported: Sequence[Sequence[str]]):
        self._sockets, self._left = sockets, list(imported)
        self._spare: KernelManager | None = None

    @contextmanager
    def one(self) -> Iterator[KernelManager]:
        """Give a running kernel for the block, and start the next one meanwhile."""
        mine, self._spare = self._spare or self._start(), None
        try:
            if self._left:
                self._spare = self._start()
            yield mine
        finally:
            _end(mine)

    def close(self) -> None:
        """End the kernel that nobody took."""
        if self._spare:
            _end(self._spare)
            self._spare = None

    def _start(self) -> KernelManager:
        """Start a kernel that is reached by Unix sockets: by TCP every user of this machine could reach it."""
        from jupyter_client.manager import KernelManager

        modules = ["runbook_lib.aws.client", *self._left.pop(0)]
        kernel = KernelManager(kernel_name="python3", transport="ipc", ip=f"{self._sockets}/{len(self._left)}")
        kernel.client_class = "jupyter_client.asynchronous.AsyncKernelClient"  # nbclient awaits
        line = f"import runbook_lib; runbook_lib.load(*{modules}); runbook_lib.aws.client.read_descriptions(); del runbook_lib"
        kernel.start_kernel(cwd=str(NOTEBOOKS), extra_arguments=[f"--IPKernelApp.exec_lines={line}"])
        return kernel


@contextmanager
def kernels(imported: Sequence[Sequence[str]]) -> Iterator[Kernels]:
    """Give the kernels of a run, each with these modules imported. None of them is left after the block."""
    with _sockets() as sockets:
        given = Kernels(sockets, imported)
        try:
            yield given
        finally:
            given.close()


def interrupt(kernel: KernelManager) -> None:
    """Interrupt the cell that a kernel executes, and wait until it has undone what it must, for at most `REST` seconds.

    Raises KeyboardInterrupt at another interrupt.
    """
    from jupyter_client.blocking.client import BlockingKernelClient
    from jupyter_client.utils import run_sync

    run_sync(_cancel_others)()
    client = BlockingKernelClient()
    client.load_connection_info(kernel.get_connection_info())
    client.start_channels(iopub=False, stdin=False, hb=False, control=False)
    try:
        with suppress(RuntimeError):  # it has ended already
            kernel.interrupt_kernel()
            client.kernel_info()  # is answered after the cell
            wait_until(lambda: client.shell_channel.socket.poll(500) or not kernel.is_alive(), REST, pause=0)
    finally:
        client.stop_channels()


async def _cancel_others() -> None:
    """Cancel what the interrupted execution left in the event loop: it would tell of a kernel that died."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _end(kernel: KernelManager) -> None:
    """Kill a kernel: its chapter is done after its last cell, and one that is asked to shut down takes a second, and sometimes prints a traceback."""
    with suppress(RuntimeError):  # it has ended already
        kernel.shutdown_kernel(now=True)


@contextmanager
def _sockets() -> Iterator[str]:
    """Give a folder of this run's own for its kernels' sockets, gone with the block. Folders of runs that were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob("runbook-run-*-*"):
        with suppress(OSError, ValueError):  # another run has just removed it, or it is not of a run
            if left.stat().st_uid == os.getuid() and not _runs(int(left.name.split("-")[2])):
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"runbook-run-{os.getpid()}-") as folder:
        yield folder


def _runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
