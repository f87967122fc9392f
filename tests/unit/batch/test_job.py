"""How a run's process is followed: what it says of itself, and who is told."""

from __future__ import annotations

import threading
from multiprocessing import Pipe

import pytest

from runbook_lib.headless.batch.job import STOPPED, VERIFIED, Job, JobResult, _followed


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


def test_a_process_that_ends_once_the_batch_is_stopped_was_stopped_though_nobody_had_told_it_yet() -> None:
    ours, theirs = Pipe()
    theirs.close()
    stop = threading.Event()
    assert _followed(Job("a", ""), ours, None, lambda name, chapter: None, stop) == (None, None)
    stop.set()
    found, reason = _followed(Job("a", ""), ours, None, lambda name, chapter: None, stop)
    assert found is None and reason and reason[0] == STOPPED
