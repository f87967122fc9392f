"""Wait for something that comes about by itself: a machine, a lock, a page. The library's only poll loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_result, stop_after_delay, wait_exponential

T = TypeVar("T")
GROWTH = 1.5  # each pause is so many times as long as the one before it


def wait_until(
    look: Callable[[], T],
    seconds: float,
    *,
    pause: float,
    longest: float | None = None,
    enough: Callable[[T], object] = bool,
    again_after: Callable[[BaseException], bool] = lambda error: False,
) -> T:
    """Call `look` until `enough` holds of what it returned, for at most `seconds`; the last call is made when they are over.

    Returns what the last call returned, enough or not: who waits says what was awaited, how long, and what to do now. An error of
    `look` ends the waiting, unless `again_after` says of it that it may pass; when the time is over the last error is raised.
    `pause`: seconds between two calls, at first; they grow up to `longest`, or stay the same without it.
    """
    pauses = wait_exponential(multiplier=pause, max=longest or pause, exp_base=GROWTH)

    def rest(state: RetryCallState) -> float:
        return min(pauses(state), max(0.0, seconds - (state.seconds_since_start or 0.0)))

    return Retrying(
        stop=stop_after_delay(seconds),
        wait=rest,
        retry=retry_if_result(lambda found: not enough(found)) | retry_if_exception(again_after),
        retry_error_callback=lambda state: state.outcome.result(),  # type: ignore[union-attr]
    )(look)
