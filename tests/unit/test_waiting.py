"""The one wait loop: what it returns, when it gives up, which errors it bears; and that no module has another of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.waiting import wait_until

LIBRARY = Path(__file__).resolve().parents[2] / "runbook_lib"
# The loop itself, and what does not wait for something: a clock. Programs that run on a host have only the standard library.
PAUSES = {"waiting.py", "notebook/progress.py"}
ON_HOSTS = {"operations/startup_watch.py", "converge/agent/system.py", "converge/agent/config_tree.py", "converge/agent/mysql.py"}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.pauses = 1000.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


def after(tries: int, then: object, before: object = None) -> Callable[[], object]:
    """A look that meets `before` so many times, then `then`; exceptions are raised."""
    left = [before] * tries

    def look() -> object:
        found = left.pop() if left else then
        if isinstance(found, BaseException):
            raise found
        return found

    return look


def test_what_is_there_at_once_is_returned_without_a_pause(clock: Clock) -> None:
    assert wait_until(lambda: "here", 5, pause=1) == "here"
    assert clock.pauses == []


@pytest.mark.parametrize(
    ("options", "pauses"),
    [
        ({"pause": 2.0}, [2, 2, 2, 2, 1]),
        ({"pause": 1.0, "longest": 3.0}, [1, 1.5, 2.25, 3, 1.25]),
        ({"pause": 60.0}, [9]),
    ],
)
def test_the_pauses_grow_to_the_longest_and_the_last_look_is_when_time_is_up(clock: Clock, options: dict[str, float], pauses: list[float]) -> None:
    assert wait_until(lambda: "", 9, **options) == ""
    assert clock.pauses == pauses and clock.now == 1009.0


def test_without_time_it_looks_once(clock: Clock) -> None:
    assert wait_until(after(1, "too late"), 0, pause=1) is None
    assert clock.pauses == []


def test_what_is_enough_can_be_said(clock: Clock) -> None:
    assert wait_until(after(3, [], ["late"]), 60, pause=1, enough=lambda late: not late) == []
    assert clock.now == 1003.0


def test_an_error_ends_the_waiting_at_once(clock: Clock) -> None:
    with pytest.raises(ValueError, match="broken"):
        wait_until(after(0, ValueError("broken")), 60, pause=1)
    assert clock.pauses == []


def test_an_error_that_may_pass_is_borne_until_time_is_up(clock: Clock) -> None:
    busy: Callable[[BaseException], bool] = lambda error: isinstance(error, OSError)  # noqa: E731
    assert wait_until(after(2, "here", OSError("busy")), 60, pause=1, again_after=busy) == "here"
    with pytest.raises(OSError, match="busy"):
        wait_until(after(9, "here", OSError("busy")), 5, pause=1, again_after=busy)
    assert clock.now == 1007.0


def test_no_module_has_a_wait_loop_of_its_own() -> None:
    sleepers = {str(path.relative_to(LIBRARY)) for path in LIBRARY.rglob("*.py") if re.search(r"\btime\.sleep\(", path.read_text())}
    assert sleepers == PAUSES | ON_HOSTS
