"""Repeat a call until it is answered, the patience is over, or the run ends."""

from __future__ import annotations

import logging
import math
import threading
import time
import typing as t

import backoff

from target_altcraft.errors import Fatal, Halted

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from target_altcraft.errors import ApiError

logger = logging.getLogger(__name__)

_T = t.TypeVar("_T")

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_FIRST_NOTICE_SECONDS = 30.0
_QUIET_SECONDS = 120.0
_MINUTE = 60
_SHORT_SECONDS = 100


class Notices:
    """Warns that calls are made again: of the first of a run, then at growing intervals.

    It is shared by the workers: one host that is away is one warning, not one for each of them. The
    intervals are 30 seconds, a minute, two and so on; after two minutes without a failure they
    begin anew. The lock guards what was said when.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = self._last = -math.inf
        self._interval = _FIRST_NOTICE_SECONDS

    def failed(self, who: str, error: ApiError, left: float) -> None:
        """Note a failure after which the call is made again; warn if it is time.

        Args:
            who: Whose call it is, for the message.
            error: How it failed.
            left: Seconds from now after which it is not made again.
        """
        now = time.monotonic()
        with self._lock:
            if now - self._last > _QUIET_SECONDS:
                self._next, self._interval = now, _FIRST_NOTICE_SECONDS
            self._last = now
            if now < self._next:
                return
            self._next, self._interval = now + self._interval, self._interval * 2
        logger.warning(
            "%s: %s. It is tried again for %s (retry_max_seconds)", who, error, _words(left)
        )


def _words(seconds: float) -> str:
    """Return a time in words: seconds, or minutes if there are more than a few."""
    if seconds < _SHORT_SECONDS:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} minutes"


def retry(
    attempt: Callable[[], _T],
    kinds: tuple[type[ApiError], ...],
    patience: float,
    halt: threading.Event,
    waiting: Callable[[ApiError, float], None] | None = None,
) -> _T:
    """Make a call again and again while it fails in one of these ways.

    The waits grow from half a second to 30 seconds, at random, unless the server says how long to
    wait. A server that keeps saying "at once" is believed once only.

    Example::

        retry(lambda: client.submit(body), (NotAccepted,), settings.retry_max_seconds, halt)

    Args:
        attempt: Makes the call once.
        kinds: The errors after which it is made again; any other is raised as it is.
        patience: Seconds from the first attempt after which no new one is made.
        halt: Set when the run is ending; it ends a wait at once.
        waiting: Called before each wait with the error and the seconds that are left.

    Returns:
        What the attempt that succeeded returned.

    Raises:
        Fatal: If the patience is over; made from the last error.
        Halted: If `halt` is set; the last attempt failed in one of these ways, or none was made.
    """
    waits = backoff.expo(factor=_FIRST_SECONDS, max_value=_LONGEST_SECONDS)
    next(waits)  # backoff's generators wait for a first `send`
    started = time.monotonic()
    least = 0.0
    while not halt.is_set():
        try:
            return attempt()
        except kinds as error:
            now = time.monotonic()
            grown = backoff.full_jitter(next(waits))
            wait = grown
            if error.retry_after is not None:
                wait = max(error.retry_after, min(grown, least))
            if now + wait > started + patience:
                raise Fatal(
                    error.endpoint,
                    f"{error.text}; not accepted within retry_max_seconds ({patience:g})",
                    code=error.code,
                ) from error
            if waiting is not None:
                waiting(error, started + patience - now)
            least = _FIRST_SECONDS
        halt.wait(wait)
    raise Halted
