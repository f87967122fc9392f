"""Polling until a condition is met, such as a running machine, a free lock or a page. It is the library's only poll loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
GROWTH = 1.5  # each pause is this many times as long as the one before it


def wait_until(
    look: Callable[[], T],
    seconds: float,
    *,
    pause: float,
    longest: float | None = None,
    enough: Callable[[T], object] = bool,
    again_after: Callable[[BaseException], bool] = lambda error: False,
) -> T:
    """Call `look` until `enough` is true of its result, for at most `seconds`, and return the last result.

    The last call is made when the time is over. The result is returned whether it is enough or not, so the caller must check it
    and raise an error that says what was awaited. An error of `look` is raised at once, unless `again_after` returns true for it;
    then it is raised only when the time is over. `pause` is the first pause between two calls in seconds; the pauses grow up to
    `longest`, or stay the same without it.
    """
    began, rest = time.monotonic(), pause
    while True:
        try:
            found = look()
        except BaseException as error:
            if not again_after(error) or time.monotonic() - began >= seconds:
                raise
        else:
            if enough(found) or time.monotonic() - began >= seconds:
                return found
        time.sleep(min(rest, max(0.0, began + seconds - time.monotonic())))
        rest = min(rest * GROWTH, longest or pause)
