"""The kernels of a run: while a chapter is executed, the next one's kernel starts and imports what it needs, so that no chapter waits for it.

Each chapter has a kernel of its own, as in JupyterLab, and its evidence is its own.
"""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.spec.chapters import NOTEBOOKS

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager


class Kernels:
    """Gives a kernel for each of these, one after the other. They see the environment variables of the moment in which the one before was given."""

    def __init__(self, sockets: str, imported: Sequence[str]):
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

        imported = self._left.pop(0)
        kernel = KernelManager(kernel_name="python3", transport="ipc", ip=f"{self._sockets}/{len(self._left)}")
        kernel.client_class = "jupyter_client.asynchronous.AsyncKernelClient"  # nbclient awaits
        line = f"import {imported}; del {imported.partition('.')[0]}"
        kernel.start_kernel(cwd=str(NOTEBOOKS), extra_arguments=[f"--IPKernelApp.exec_lines={line}"])
        return kernel


@contextmanager
def kernels(imported: Sequence[str]) -> Iterator[Kernels]:
    """Give the kernels of a run, each with one of these imported (modules of one package, with commas). None of them is left after the block."""
    with _sockets() as sockets:
        given = Kernels(sockets, imported)
        try:
            yield given
        finally:
            given.close()


def _end(kernel: KernelManager) -> None:
    """Kill a kernel: its chapter is done after its last cell, and one that is asked to shut down takes a second, and sometimes prints a traceback."""
    with suppress(RuntimeError):  # it has ended already
        kernel.shutdown_kernel(now=True)


@contextmanager
def _sockets() -> Iterator[str]:
    """Give a folder of this run's own for its kernels' sockets, gone with the block. Folders of runs that were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob("runbook-run-*-*"):
        owner = left.name.split("-")[2]
        if left.owner() == getpass.getuser() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"runbook-run-{os.getpid()}-") as folder:
        yield folder
