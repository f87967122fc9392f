"""How a run's process is followed: what it says of itself, and who is told."""

from __future__ import annotations

import threading
from multiprocessing import Pipe

import pytest

from runbook_lib.headless.batch.job import VERIFIED, Job, JobResult, _followed


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_a_run_of_whose_chapters_nobody_can_be_told_is_followed_to_its_end(error: Exception) -> None:
    told: list[str] = []

    def tell(name: str, chapter: str) -> None:
        told.append(chapter)
        raise error

    ours, theirs = Pipe()
    for said in ("01_launch_ec2", "02_install_mysql", JobResult("a", VERIFIED)):
        theirs.send(said)
    assert _followed(Job("a", ""), ours, None, tell, threading.Event()) == (JobResult("a", VERIFIED), None)
    assert told == ["01_launch_ec2", "02_install_mysql"]
